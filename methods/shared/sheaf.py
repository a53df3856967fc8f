"""Sheaf Laplacians (Hansen and Gebhart 2020; Bodnar et al. 2022): diffusion that agrees after restriction maps.

A cellular sheaf gives every node and edge a vector space of dimension d, its stalk, and every incidence v < e a linear
map F from the stalk of v to that of e. The Laplacian has blocks L_vv = sum over e at v of F_ve^T F_ve and
L_vu = -F_ve^T F_ue; X^T L X = sum over edges of |F_ve x_v - F_ue x_u|^2. All maps the identity: the graph Laplacian.

Maps are given per arc. `SheafIndex.arcs` holds each edge v < u twice, first all (v, u), then all (u, v) in the same
order: the map of arc (v, u) restricts v's stalk, and the map of the other end is m = E / 2 places away.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.utils import is_sparse

from methods.shared.checks import check_sizes
from methods.shared.graph import checked_edge_index
from methods.shared.kernels.laplacian import laplacian_product, matrix_inverse_sqrt, pairs
from methods.shared.kernels.linear import linear


class SheafIndex:
    """Where the blocks of a sheaf Laplacian go: made once per graph, on the device of `edge_index`.

    Args:
        edge_index: (2, A) int64, or what else `checked_edge_index` takes. Either arc of an edge will do; self loops and
            further copies are dropped, and the weights of arcs do not exist.
        num_nodes: N; needed where the last nodes have no edges.

    Attributes:
        edges: (2, m) int64, v < u, each edge once, sorted.
        arcs: (2, 2m) int64: `edges`, then the same edges reversed.
        degree: (N,) float, the number of neighbours.

    Raises:
        TypeError, ValueError, IndexError: as `checked_edge_index`, e.g. for a node outside 0 .. N - 1.
    """

    def __init__(self, edge_index: Tensor, num_nodes: int | None = None) -> None:
        if num_nodes is None:
            num_nodes = _nodes_named(edge_index)
        check_sizes("SheafIndex", least=0, num_nodes=num_nodes)
        self.num_nodes = num_nodes
        edge_index = checked_edge_index(edge_index, num_nodes)
        low, high = edge_index.amin(0), edge_index.amax(0)
        key = (low * self.num_nodes + high)[low < high].unique()
        self.edges = torch.stack([key // max(self.num_nodes, 1), key % max(self.num_nodes, 1)])
        self.arcs = torch.cat([self.edges, self.edges.flip(0)], dim=1)
        counts = torch.bincount(self.arcs[0], minlength=self.num_nodes)
        self.degree = counts.float()
        self._starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        self._by_source = self.arcs[0].argsort(stable=True)
        self._made: dict[Any, Any] = {}  # what depends on d or the dtype, when first asked for
        with warnings.catch_warnings():
            # torch calls this layout a beta once in every process; once here is cheaper than a filter in every product
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            self.incidence(torch.get_default_dtype())

    @property
    def num_edges(self) -> int:
        return self.edges.shape[1]

    def reverse(self, values: Tensor) -> Tensor:
        """(2m, ...) values of arcs -> those of the reversed arcs."""
        return torch.cat([values[self.num_edges :], values[: self.num_edges]])

    def sum(self, values: Tensor) -> Tensor:
        """(2m, ...) values of arcs (v, u) -> (N, ...) their sums over each v."""
        flat = values.unsqueeze(1) if values.dim() == 1 else values.flatten(1)
        # a product with the incidence matrix is several times faster than index_add
        incidence = self.incidence(wide(flat).dtype)
        total = linear(wide(flat), lambda x: incidence @ x, lambda gradient: gradient.index_select(0, self.arcs[0]))
        return total.to(values.dtype).reshape(self.num_nodes, *values.shape[1:])

    def pairs(self, own: Tensor, other: Tensor) -> Tensor:
        """own (N, P), other (N, P) -> (2m, P): own[v] + other[u] for every arc (v, u)."""
        return pairs(wide(own), wide(other), self).to(own.dtype)

    def incidence(self, dtype: torch.dtype) -> Tensor:
        """(N, 2m) sparse CSR: 1 where the arc starts at the node."""
        if dtype not in self._made:
            ones = torch.ones(self._by_source.shape[0], dtype=dtype, device=self.arcs.device)
            self._made[dtype] = _csr(self._starts, self._by_source, ones, (self.num_nodes, ones.shape[0]))
        return self._made[dtype]

    def pattern(self, dim: int, full_edges: bool, full_nodes: bool) -> Pattern:
        """Places of a Laplacian of stalks of dimension `dim`, with full or diagonal blocks for edges and nodes."""
        key = (dim, full_edges, full_nodes)
        if key not in self._made:
            self._made[key] = Pattern(self, *key)
        return self._made[key]


def _nodes_named(edge_index: Tensor) -> int:
    """How many nodes a graph has that has no others than its arcs name."""
    if not isinstance(edge_index, Tensor) or is_sparse(edge_index):
        return int(edge_index.size(0)) if is_sparse(edge_index) else 0
    return int(edge_index.max()) + 1 if edge_index.numel() else 0


class Pattern:
    """CSR places of a Laplacian on N d rows whose blocks are full (d, d) matrices or diagonals.

    take: entry of the CSR matrix -> place in [values of edges, values of nodes]. A value of an edge is there twice, at
    `edge_places` (2, m q), since L is symmetric; one of a node once, at `node_places` (N p,).
    """

    def __init__(self, index: SheafIndex, dim: int, full_edges: bool, full_nodes: bool) -> None:
        nodes = torch.arange(index.num_nodes, device=index.edges.device)
        edge_row, edge_column = self._block(index.edges[0], index.edges[1], dim, full_edges)
        node_row, node_column = self._block(nodes, nodes, dim, full_nodes)
        self.size = index.num_nodes * dim
        num_edge_values = edge_row.shape[0]
        row = torch.cat([edge_row, edge_column, node_row])
        column = torch.cat([edge_column, edge_row, node_column])
        order = (row * self.size + column).argsort()
        place = torch.empty_like(order)
        place[order] = torch.arange(order.shape[0], device=order.device)
        self.edge_places = place[: 2 * num_edge_values].reshape(2, -1)
        self.node_places = place[2 * num_edge_values :]
        self.take = torch.where(order < num_edge_values, order, order - num_edge_values)
        self.columns = column[order]
        counts = torch.bincount(row, minlength=self.size)
        self.starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    @staticmethod
    def _block(row: Tensor, column: Tensor, dim: int, full: bool) -> tuple[Tensor, Tensor]:
        k = torch.arange(dim, device=row.device)
        rows, columns = (row * dim).unsqueeze(1) + k, (column * dim).unsqueeze(1) + k
        if not full:
            return rows.flatten(), columns.flatten()
        shape = (row.shape[0], dim, dim)
        return rows.unsqueeze(2).expand(shape).flatten(), columns.unsqueeze(1).expand(shape).flatten()

    def matrix(self, edge_values: Tensor, node_values: Tensor) -> Tensor:
        """(N d, N d) sparse CSR of the values of blocks: of each edge v < u, and of each node."""
        return self.with_values(torch.cat([edge_values.flatten(), node_values.flatten()]).index_select(0, self.take))

    def with_values(self, values: Tensor) -> Tensor:
        """(N d, N d) sparse CSR of one value an entry."""
        return _csr(self.starts, self.columns, values, (self.size, self.size))


class SheafLaplacian:
    """Delta = (D + I)^-1/2 L (D + I)^-1/2 with D the diagonal blocks of L: symmetric, spectrum in [0, 2).

    `laplacian @ x` is differentiable in x and in the maps; its backward pass is written by hand: one product with the
    same symmetric matrix, and one that is only evaluated where the matrix has entries. A second derivative is refused.

    Args:
        index: of the graph.
        maps: per arc (v, u), the restriction of v's stalk: (2m,) scalars (d = 1), (2m, d) diagonals or (2m, d, d).
        orthogonal: the (2m, d, d) maps are orthogonal, so that D is a multiple of I at each node.
        weights: (m,) weight of each edge, which multiplies both of its maps.
        normalized: False: L itself.
        augmented: False: D instead of D + I, which must then be invertible.

    Attributes:
        edge_blocks: (m,), (m, d) or (m, d, d): L_vu for each edge v < u.
        node_blocks: (N,), (N, d) or (N, d, d): L_vv; (N,) for orthogonal maps, times I.
        scale: D^-1/2 in the shape of `node_blocks`, or None if not normalized.

    Raises:
        ValueError: the maps are not one per arc, the weights not one per edge, or orthogonal maps no matrices.
    """

    def __init__(
        self, index: SheafIndex, maps: Tensor, *, orthogonal: bool = False, weights: Tensor | None = None,
        normalized: bool = True, augmented: bool = True,
    ) -> None:  # fmt: skip
        if not 1 <= maps.dim() <= 3 or maps.shape[0] != 2 * index.num_edges or maps.shape[1:2] != maps.shape[2:] != ():
            raise ValueError(
                f"maps: needs one scalar, row (d,) or matrix (d, d) for each of the {2 * index.num_edges} arcs of the "
                f"index, got shape {tuple(maps.shape)}"
            )
        if weights is not None and weights.shape != (index.num_edges,):
            raise ValueError(f"weights: needs shape ({index.num_edges},), one an edge, got {tuple(weights.shape)}")
        if orthogonal and maps.dim() != 3:
            raise ValueError(f"orthogonal: needs maps of shape (2m, d, d), got {tuple(maps.shape)}")
        if not maps.is_floating_point():
            raise TypeError(f"maps: needs real numbers, got {maps.dtype}")
        self.index, self.full = index, maps.dim() == 3
        self.dim = 1 if maps.dim() == 1 else maps.shape[1]
        if weights is not None and not orthogonal:
            maps = maps * torch.cat([weights, weights]).reshape(-1, *[1] * (maps.dim() - 1))
        own, other = maps[: index.num_edges], maps[index.num_edges :]
        if self.full:
            self.edge_blocks = -(own.mT @ other)
        else:
            self.edge_blocks = -own * other
        if orthogonal:
            self.node_blocks = self._weigh(weights, maps.dtype)
        else:
            self.node_blocks = index.sum(maps.mT @ maps if self.full else maps.square())
        self.scale: Tensor | None = None
        if normalized:
            self.scale = inverse_sqrt(self.node_blocks, 1.0 if augmented else 0.0)

    def _weigh(self, weights: Tensor | None, dtype: torch.dtype) -> Tensor:
        if weights is None:
            return self.index.degree.to(dtype)
        square = weights.square()
        self.edge_blocks = self.edge_blocks * square.reshape(-1, 1, 1)
        return self.index.sum(torch.cat([square, square]))

    def __matmul__(self, x: Tensor) -> Tensor:
        """x (N, d, f), or (N, f) for scalar maps -> Delta x, of the same shape."""
        if x.shape[0] != self.index.num_nodes or (self.dim > 1 and x.shape[1:2] != (self.dim,)):
            raise ValueError(f"x: needs shape ({self.index.num_nodes}, {self.dim}, f), got {tuple(x.shape)}")
        nodes, full_nodes = self.node_blocks, self.node_blocks.dim() == 3
        if self.full and nodes.dim() == 1:
            nodes = nodes.unsqueeze(1).expand(-1, self.dim)
        pattern = self.index.pattern(self.dim, self.full, full_nodes)
        rows = self._scaled(x).reshape(pattern.size, -1)
        product = laplacian_product(wide(self.edge_blocks), wide(nodes), wide(rows), pattern)
        return self._scaled(product.to(x.dtype).reshape(x.shape))

    def _scaled(self, x: Tensor) -> Tensor:
        if self.scale is None:
            return x
        if self.scale.dim() == 3:
            return self.scale @ x
        return x * self.scale.reshape(*self.scale.shape, *[1] * (x.dim() - self.scale.dim()))

    def to_dense(self) -> Tensor:
        """(N d, N d); node v has the rows v d .. v d + d - 1."""
        size = self.index.num_nodes * self.dim
        eye = torch.eye(size, dtype=self.edge_blocks.dtype, device=self.edge_blocks.device)
        return (self @ eye.reshape(self.index.num_nodes, self.dim, size)).reshape(size, size)


class MapLearner(nn.Module):
    """tanh(V [x_v || x_u]) for every arc (v, u), in the order of `SheafIndex.arcs`.

    V = [V_1 V_2] is applied to nodes, not to arcs: V_1 x_v + V_2 x_u is the same, and no arc ever holds two nodes'
    features. Weights start as those of a linear layer on [x_v || x_u].

    Args:
        channels: c, features of a node.
        num_params: P, parameters of a map.
    """

    def __init__(self, channels: int, num_params: int) -> None:
        super().__init__()
        check_sizes("MapLearner", channels=channels)
        check_sizes("MapLearner", least=0, num_params=num_params)  # 0: an orthogonal map of dimension 1
        self.num_params = num_params
        self.weight = nn.Parameter(torch.empty(2 * num_params, channels))
        nn.init.uniform_(self.weight, -((2 * channels) ** -0.5), (2 * channels) ** -0.5)

    def scores(self, x: Tensor, index: SheafIndex) -> Tensor:
        """x (N, c) -> (2m, P), before the tanh."""
        own, other = (x @ self.weight.T).split(self.num_params, dim=1)
        return index.pairs(own, other)

    def forward(self, x: Tensor, index: SheafIndex) -> Tensor:
        """x (N, c) -> (2m, P) in (-1, 1)."""
        return self.scores(x, index).tanh()


def inverse_sqrt(blocks: Tensor, offset: float) -> Tensor:
    """(blocks + offset)^-1/2: elementwise for (N,) and (N, d), of symmetric positive matrices for (N, d, d).

    The gradient of the matrix function stays finite where eigenvalues coincide, where that of an eigenvalue or
    singular value decomposition is not.
    """
    if blocks.dim() < 3:
        return (blocks + offset).rsqrt()
    return matrix_inverse_sqrt(wide(blocks + offset * torch.eye(blocks.shape[-1]).to(blocks))).to(blocks.dtype)


def wide(x: Tensor) -> Tensor:
    """float32 for numbers of 16 bits, in which sparse products and decompositions do not exist."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _csr(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(starts, columns, values, size=size, check_invariants=False)

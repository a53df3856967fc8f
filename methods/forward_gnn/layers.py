"""One layer of ForwardGNN, and why an epoch of it costs no more than a matrix product.

    z = relu(conv(N(h)))        N(h) = h / (||h||_2 + 1e-8) row by row: only the direction of a state is passed on

The input h of a layer that learns by itself does not change while it learns. So everything that no parameter enters is
computed once (`ForwardLayer.fixed`): the normalised rows, the rows of the adjacency matrix that the loss reads and, for
a dense h, their product.

    GCN   z = relu((S h) W + b)              S = D^-1/2 (A + I) D^-1/2
    SAGE  z = relu((M h) W_l + b + h W_r)    M = D^-1 A, a self loop of the graph being an arc like any other
    GAT   z = relu(GAT(h))                   its attention depends on the parameters: nothing but N(h) is fixed

Where h is sparse the product S (h W) is taken from the right: (S h) would be nearly dense, since every training node
has a virtual node with dense features as its neighbour. The modules, and so parameters and initialisation, are
torch-geometric's own; only the order of their arithmetic is ours, and the tests hold one against the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, SAGEConv

from methods.shared.checks import check_option, check_sizes
from methods.shared.graph import checked_edge_index, mean_adjacency, normalized_adjacency
from methods.shared.metrics import require_finite
from methods.shared.sparse import SparseMatrix

Conv = Literal["gcn", "sage", "gat"]
Block = Tensor | SparseMatrix
Features = Block | tuple[Block, ...]  # (n, F), or blocks of columns side by side
Operator = SparseMatrix | Tensor  # what a convolution reads of the graph: S, M, or the arcs (2, A) themselves

HEADS = 4  # of GAT, concatenated
EPSILON = 1e-8


class ForwardLayer(nn.Module):
    """relu(conv(N(h))).

    Args:
        in_channels: width of h.
        out_channels: width of z; a multiple of 4 for "gat".
        conv: "gcn", "sage" (mean) or "gat" (4 heads).
        normalize: apply N; without it the rows are taken as they come (the caller has normalised them).
    """

    def __init__(self, in_channels: int, out_channels: int, conv: Conv = "gcn", *, normalize: bool = True) -> None:
        super().__init__()
        check_sizes("ForwardLayer", in_channels=in_channels, out_channels=out_channels)
        check_option("ForwardLayer", "conv", conv, get_args(Conv))
        self.kind, self.normalize, self.out_channels = conv, normalize, out_channels
        if conv == "gcn":
            self.conv: nn.Module = GCNConv(in_channels, out_channels)
        elif conv == "sage":
            self.conv = SAGEConv(in_channels, out_channels)
        elif out_channels % HEADS == 0:
            self.conv = GATConv(in_channels, out_channels // HEADS, heads=HEADS)
        else:
            raise ValueError(f"hidden_channels: 'gat' needs a width that {HEADS} divides; got {out_channels}")

    def reset_parameters(self) -> None:
        self.conv.reset_parameters()

    def operator(self, edge_index: Tensor, num_nodes: int) -> Operator:
        """What this convolution reads of a graph: made once, for all epochs.

        Raises:
            TypeError, ValueError, IndexError: as `checked_edge_index`.
        """
        edge_index = checked_edge_index(edge_index, num_nodes)
        if self.kind == "gat":
            return edge_index
        build = normalized_adjacency if self.kind == "gcn" else mean_adjacency
        return SparseMatrix(build(edge_index, num_nodes, self.dtype))

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return self.conv.bias.dtype if self.kind != "sage" else self.conv.lin_l.bias.dtype

    def forward(self, h: Features, operator: Operator) -> Tensor:
        """h (n, in_channels) -> z (n, out_channels), for all nodes."""
        return self.fixed(h, operator)()

    def fixed(self, h: Features, operator: Operator, rows: Tensor | None = None) -> Callable[[], Tensor]:
        """The layer on an input that stays as it is: a function of the parameters alone.

        Args:
            h: (n, in_channels); no gradient reaches it.
            operator: of the graph.
            rows: (r,) the nodes that are asked for; all of them without it.

        Returns:
            a function without arguments that gives z (r, out_channels).
        """
        h = detach(unit_rows(h) if self.normalize else h)
        if self.kind == "gat":
            dense = to_dense(h)
            return lambda: torch.relu(at(self.conv(dense, operator), rows))
        received = _product(operator if rows is None else rows_of(operator, rows), h)
        if self.kind == "gcn":
            return lambda: torch.relu_(received(self.conv.lin.weight) + self.conv.bias)
        own = h if rows is None else rows_of(h, rows)
        to, of = self.conv.lin_l, self.conv.lin_r
        return lambda: torch.relu_(received(to.weight) + to.bias + times(own, of.weight))


def unit_rows(h: Features) -> Features:
    """N(h). Blocks side by side are one row, with one norm."""
    square = sum(_square_norms(block) for block in blocks_of(h))
    scale = 1 / (square.sqrt() + EPSILON)
    return _like(h, [_scale_rows(block, scale) for block in blocks_of(h)])


def times(h: Features, weight: Tensor) -> Tensor:
    """h (n, F) times the transpose of weight (d, F), as `nn.Linear` has it -> (n, d)."""
    blocks = blocks_of(h)
    parts = weight.split([block.shape[1] for block in blocks], dim=1)
    return sum(block @ part.T for block, part in zip(blocks, parts, strict=True))


def rows_of(h: Features, rows: Tensor) -> Features:
    """The rows (r,) of h (n, F) -> (r, F)."""
    return _like(h, [_rows(block, rows) for block in blocks_of(h)])


def features_of(x: Tensor, num_nodes: int, channels: int, dtype: torch.dtype) -> Block:
    """What a user gives as x (n, F), checked once before training, by `sparse_or_dense`.

    Raises:
        TypeError: no real numbers, or of another dtype than the parameters.
        ValueError: another shape, or a number that is not finite.
    """
    if not isinstance(x, Tensor) or x.dtype != dtype:
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(
            f"x: needs a tensor of {dtype}, as the model's parameters are, got {got}; convert one of the two"
        )
    if x.shape != (num_nodes, channels):
        raise ValueError(f"x: needs shape ({num_nodes}, {channels}), got {tuple(x.shape)}")
    require_finite(x, "x")
    return sparse_or_dense(x)


def sparse_or_dense(x: Tensor) -> Block:
    """x (n, F) in the layout that multiplies faster: sparse below one entry in ten."""
    return SparseMatrix.from_dense(x) if int(x.count_nonzero()) < x.numel() / 10 else x


def stack_rows(above: Block, below: Tensor) -> Block:
    """(n, F) above (m, F), in the layout of the first."""
    if not isinstance(above, SparseMatrix):
        return torch.cat([above, below])
    return SparseMatrix(torch.cat([above.csr.to_sparse_coo(), below.to_sparse_coo()]).coalesce().to_sparse_csr())


def to_dense(h: Features) -> Tensor:
    """(n, F) as one dense tensor."""
    return torch.cat([b.to_dense() if isinstance(b, SparseMatrix) else b for b in blocks_of(h)], dim=1)


def detach(h: Features) -> Features:
    """The same values, without what they were computed from."""
    return _like(h, [block if isinstance(block, SparseMatrix) else block.detach() for block in blocks_of(h)])


def blocks_of(h: Features) -> tuple[Block, ...]:
    return h if isinstance(h, tuple) else (h,)


def at(z: Tensor, rows: Tensor | None) -> Tensor:
    return z if rows is None else z.index_select(0, rows)


def _like(h: Features, blocks: list[Block]) -> Features:
    return tuple(blocks) if isinstance(h, tuple) else blocks[0]


def _product(matrix: SparseMatrix, h: Features) -> Callable[[Tensor], Tensor]:
    """weight -> matrix h weight^T, with matrix and h constant."""
    sparse = tuple(b for b in blocks_of(h) if isinstance(b, SparseMatrix))
    if not sparse:
        received = matrix @ to_dense(h)
        return lambda weight: received @ weight.T
    return lambda weight: matrix @ times(h, weight)


def _rows(block: Block, rows: Tensor) -> Block:
    if not isinstance(block, SparseMatrix):
        return block.index_select(0, rows)
    return SparseMatrix(block.csr.to_sparse_coo().index_select(0, rows).coalesce().to_sparse_csr())


def _square_norms(block: Block) -> Tensor:
    if not isinstance(block, SparseMatrix):
        return block.square().sum(dim=1)
    return torch.segment_reduce(block.values.square(), "sum", offsets=block.csr.crow_indices())


def _scale_rows(block: Block, scale: Tensor) -> Block:
    if not isinstance(block, SparseMatrix):
        return block * scale.unsqueeze(1)
    return block.with_values(block.values * scale.repeat_interleave(block.csr.crow_indices().diff()))

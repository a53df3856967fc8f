"""DGMLP: a deep graph network whose propagation is no part of its training (Zhang et al., arXiv 2108.00955).

A graph network has two depths: D_p hops of propagation, X^(k) = A^k X with A = D~^-1/2 (Adj + I) D~^-1/2, and D_t
layers of transformation, relu(X W). The paper finds that a large D_t is what ruins deep networks, as it ruins deep
perceptrons, and that residual connections cure it; a large D_p only smooths the features, too much for a vertex in a
dense region and too little for one in a sparse region. So each vertex weighs the hops for itself, before any training:

    smoothing level of a vertex    NSL_i(k) = cos(x_i^(k), x_i^(0)) (1 - cos(x_i^(k), x_i^inf)),   k = 0 .. K = D_p
    weights of its hops            w_i = softmax_k(NSL_i(k) / T)
    its features                   sum_k w_i(k) x_i^(k)
    then D_t layers                h <- relu(h W) + h, the first and the last without "+ h"

x^inf is where propagation ends, lim A^k X, in which nothing but degrees is left of a connected component. The smoothing
level of a graph is the mean of its vertices' levels; near 0 the features are over-smoothed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.shared.checks import check_option, check_probabilities, check_sizes
from methods.shared.graph import limit_parts, load_graph, propagation
from methods.shared.sparse import Linear, SparseMatrix

Stationary = Literal["code", "paper"]
BLOCK = 64  # columns propagated at once: they stay in the cache, and memory does not grow with K
GUARD = 1e-10  # added to norms, as in the official code: a vertex without features has level 0


def smoothed_features(
    x: Tensor, edge_index: Tensor | SparseMatrix, K: int, *, stationary: Stationary = "code"
) -> Tensor:
    """The node-adaptive mix of hops 0..K: pre-processing, after which training needs no graph.

    Takes two passes over the hops, one for the weights and one for the sum, so that beside input and output there are
    only K + 1 numbers a vertex and a few columns of the features.

    Args:
        x: (N, F) features. DGMLP takes them raw: rows that are scaled to sum 1 leave its large learning rate and weight
            decay too little to work with.
        edge_index: (2, A) int64, both arcs of each edge; an edge that is there twice counts twice, in the hops and in
            their limit. Or the propagation (N, N) that is made of it.
        K: hops, D_p in the paper.
        stationary: as in `stationary_state`.

    Returns:
        (N, F). An isolated vertex keeps its features.

    Raises:
        ValueError: K is negative, there is no such stationary state, or the graph is directed, where none is known.
        TypeError, IndexError: features that are no floats (N, F), or arcs that `checked_edge_index` refuses.
    """
    adjacency = _prepared(x, edge_index)
    return weighted_hops(x, adjacency, hop_weights(node_smoothing_levels(x, adjacency, K, stationary=stationary)))


def node_smoothing_levels(
    x: Tensor, edge_index: Tensor | SparseMatrix, K: int, *, stationary: Stationary = "code"
) -> Tensor:
    """NSL (Section 4.1), (N, K + 1): how much of itself a vertex keeps, times how far it is from the stationary state.

    Arguments and errors as of `smoothed_features`.
    """
    check_sizes("dgmlp", least=0, K=K)
    adjacency = _prepared(x, edge_index)
    dtype, x = x.dtype, x.to(adjacency.csr.dtype)
    limits, component, _ = _limits(x, adjacency, stationary)
    with_start, with_limit, square = x.new_zeros(3, len(x), K + 1).unbind()
    for columns in _blocks(x):
        start, limit = x[:, columns].contiguous(), limits[:, columns][component]
        for k, hop in enumerate(_hops(start, adjacency, K)):
            with_start[:, k] += (hop * start).sum(1)
            with_limit[:, k] += (hop * limit).sum(1)
            square[:, k] += hop.square().sum(1)
    norm = square.sqrt() + GUARD
    # x_i^inf is a multiple of its component's limit, and a cosine does not see the factor
    to_start = with_start / (norm * norm[:, :1])
    to_limit = with_limit / (norm * (limits.norm(dim=1) + GUARD)[component].unsqueeze(1))
    return (to_start * (1 - to_limit)).to(dtype)


def graph_smoothing_levels(
    x: Tensor, edge_index: Tensor | SparseMatrix, K: int, *, stationary: Stationary = "code"
) -> Tensor:
    """GSL (Section 4.1), (K + 1,): the mean of the vertices' levels. Arguments and errors as of `smoothed_features`."""
    return node_smoothing_levels(x, edge_index, K, stationary=stationary).mean(dim=0)


def hop_weights(levels: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax over the hops of smoothing levels (N, K + 1), which sums to 1 for each vertex.

    temperature: T > 0; a smaller one favours near hops, an infinite one weighs all hops alike. The official code has 1.
    """
    if not temperature > 0:
        raise ValueError(f"hop_weights: temperature must be above 0; got {temperature}")
    return torch.softmax(levels / temperature, dim=-1)


def weighted_hops(x: Tensor, edge_index: Tensor | SparseMatrix, weights: Tensor) -> Tensor:
    """sum_k w_i(k) x_i^(k).

    Args:
        x, edge_index: as of `smoothed_features`.
        weights: (N, K + 1), or (K + 1,) where all vertices have the same: 1 for the last hop alone makes SGC.

    Returns:
        (N, F).

    Raises:
        ValueError: weights of another shape. TypeError, IndexError: as of `smoothed_features`.
    """
    adjacency = _prepared(x, edge_index)
    dtype, x = x.dtype, x.to(adjacency.csr.dtype)
    if weights.dim() not in (1, 2) or not weights.numel() or (weights.dim() == 2 and len(weights) != len(x)):
        raise ValueError(
            f"weights: needs (hops,) or ({len(x)}, hops) for {len(x)} vertices; got shape {tuple(weights.shape)}"
        )
    weights = weights.to(x).expand(len(x), -1)
    out = torch.empty_like(x)
    for columns in _blocks(x):
        total = torch.zeros_like(x[:, columns], memory_format=torch.contiguous_format)
        for k, hop in enumerate(_hops(x[:, columns].contiguous(), adjacency, weights.shape[1] - 1)):
            total.addcmul_(hop, weights[:, k : k + 1])
        out[:, columns] = total
    return out.to(dtype)


def stationary_state(x: Tensor, edge_index: Tensor | SparseMatrix, stationary: Stationary = "code") -> Tensor:
    """x^inf (N, F), of each connected component by itself; m edges and n vertices are those of the component.

    "paper" is the limit of A^k x, sqrt(d_i + 1) sum_j sqrt(d_j + 1) x_j / (2m + n), equation 5 with r = 1/2.
    "code" is what the official code has, sum_j (d_j + 1) x_j / (2m + n), the limit of the random walk (r = 0).

    Args:
        x, edge_index: as of `smoothed_features`.

    Raises:
        ValueError: `stationary` is neither, or the graph is directed.
        TypeError, IndexError: as of `smoothed_features`.
    """
    adjacency = _prepared(x, edge_index)
    limits, component, factor = _limits(x.to(adjacency.csr.dtype), adjacency, stationary)
    return (factor.unsqueeze(1) * limits[component]).to(x.dtype)


def _limits(x: Tensor, adjacency: SparseMatrix, stationary: Stationary) -> tuple[Tensor, Tensor, Tensor]:
    """Limits of components (M, F), each vertex's component (N,) and factor (N,): x_i^inf = factor_i limit_of(i)."""
    check_option("dgmlp", "stationary", stationary, ("code", "paper"))
    with_loop, component = limit_parts(adjacency)
    with_loop = with_loop.to(x.dtype)  # d_i + 1
    own = with_loop if stationary == "code" else with_loop.sqrt()
    count = int(component.max()) + 1 if len(component) else 0
    total = x.new_zeros(count).index_add_(0, component, with_loop)  # 2m + n
    limits = x.new_zeros(count, x.shape[1])
    for columns in _blocks(x):
        limits[:, columns] = x.new_zeros(count, len(x[0, columns])).index_add_(
            0, component, own.unsqueeze(1) * x[:, columns]
        )
    factor = torch.ones_like(own) if stationary == "code" else own
    return limits / total.unsqueeze(1), component, factor


def _prepared(x: Tensor, edge_index: Tensor | SparseMatrix) -> SparseMatrix:
    """The propagation for features (N, F): of their dtype, or float32 where theirs is shorter."""
    if x.dim() != 2:
        raise ValueError(f"x: needs features (N, F), got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"x: needs floats, got {x.dtype}; a mean of neighbours is no whole number")
    dtype = torch.promote_types(x.dtype, torch.float32)
    adjacency = propagation(edge_index, len(x), dtype)
    if adjacency.csr.dtype != dtype:
        raise TypeError(f"edge_index: a propagation of {adjacency.csr.dtype} for features of {x.dtype}")
    return adjacency


def _blocks(x: Tensor) -> Iterator[slice]:
    return (slice(first, first + BLOCK) for first in range(0, x.shape[1], BLOCK))


def _hops(start: Tensor, adjacency: SparseMatrix, K: int) -> Iterator[Tensor]:
    """A^k start for k = 0..K, one after another."""
    hop = start
    yield hop
    for _ in range(K):
        hop = adjacency.csr @ hop
        yield hop


class ResidualMLP(nn.Module):
    """D_t layers; inner ones have a skip connection, h <- relu(h W + b) + h (Section 5.3). One layer is a linear map.

    Args:
        in_channels: F.
        hidden_channels: width of all layers but the last.
        out_channels: C.
        num_layers: D_t, 1 or more.
        dropout: probability, before every layer.

    Raises:
        ValueError, TypeError: num_layers or a width below 1 (the hidden one is not read where there is one layer), or
            a dropout outside [0, 1].
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int = 1, dropout: float = 0.5
    ) -> None:
        super().__init__()
        check_sizes("ResidualMLP", in_channels=in_channels, out_channels=out_channels, num_layers=num_layers)
        check_sizes("ResidualMLP", least=int(num_layers > 1), hidden_channels=hidden_channels)
        check_probabilities("ResidualMLP", dropout=dropout)
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
        self.linears = nn.ModuleList(Linear(a, b) for a, b in pairwise(widths))
        self.dropout = dropout

    def reset_parameters(self) -> None:
        for linear in self.linears:
            linear.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """(n, F) -> logits (n, C)."""
        h = x
        for depth, linear in enumerate(self.linears[:-1]):
            z = torch.relu(linear(torch.dropout(h, self.dropout, self.training)))
            h = z + h if depth else z
        return self.linears[-1](torch.dropout(h, self.dropout, self.training))


class DGMLP(nn.Module):
    """Deep Graph MLP: node-adaptive hops, then a residual perceptron.

    The hops need no training, so compute them once where you train:

        features = model.smooth(data.x, data.edge_index)[rows]       # only the rows that are needed
        logits = model(features)                                     # in every step; no graph

    Args:
        in_channels: F.
        hidden_channels: width of hidden layers; unused where num_layers is 1, as on the citation graphs.
        out_channels: C.
        num_layers: D_t.
        K: D_p, hops of propagation.
        dropout: probability, before every layer.
        stationary: see `stationary_state`.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int = 1, K: int = 20,
        dropout: float = 0.5, stationary: Stationary = "code",
    ) -> None:  # fmt: skip
        super().__init__()
        check_sizes("DGMLP", least=0, K=K)
        check_option("DGMLP", "stationary", stationary, ("code", "paper"))
        self.K, self.stationary = K, stationary
        self.transform = ResidualMLP(in_channels, hidden_channels, out_channels, num_layers, dropout)

    def reset_parameters(self) -> None:
        self.transform.reset_parameters()

    def smooth(self, x: Tensor, edge_index: Tensor | SparseMatrix) -> Tensor:
        """`smoothed_features` with this model's K and stationary state."""
        return smoothed_features(x, edge_index, self.K, stationary=self.stationary)

    def forward(self, x: Tensor, edge_index: Tensor | SparseMatrix | None = None) -> Tensor:
        """x (N, F) and the graph -> logits (N, C); without a graph, x are rows of `smooth`: (n, F) -> (n, C)."""
        return self.transform(x if edge_index is None else self.smooth(x, edge_index))


def main() -> None:
    """Smooth the features of a generated graph once, train one linear layer on them, and print how it does.

    The same layer on the last of ten hops (SGC) and on the raw features stands beside it.
    """
    data = load_graph("csbm_clustered")
    adjacency = propagation(data.edge_index, data.num_nodes)
    mixes = {
        "DGMLP": smoothed_features(data.x, adjacency, K=10),
        "SGC": weighted_hops(data.x, adjacency, torch.eye(11)[10]),
        "features": data.x,
    }
    for name, x in mixes.items():
        torch.manual_seed(0)
        model = ResidualMLP(x.shape[1], 0, 4, dropout=0.2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.2, weight_decay=5e-3)
        for epoch in range(1, 101):
            loss = F.cross_entropy(model.train()(x[data.train_mask]), data.y[data.train_mask])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if epoch % 50 == 0:
                with torch.no_grad():
                    right = (model.eval()(x).argmax(dim=1) == data.y).float()
                val, test = right[data.val_mask].mean(), right[data.test_mask].mean()
                print(f"{name:8}  epoch {epoch:3}  loss {loss:.3f}  validation {val:6.1%}  test {test:6.1%}")

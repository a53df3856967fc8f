"""What SEMBA is compared with: a temporal model without signs, two static graph networks, and a count of degrees.

All see the same past (the events of earlier batches) and end in the same head, a linear map of [z_i ; z_j].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import SignedConv

from datasets.temporal import EventStream
from methods.semba.semba import SIGN_BLIND, TemporalModel
from methods.shared import gcn
from methods.shared.graph import propagation
from methods.shared.sparse import SparseMatrix
from methods.shared.temporal import Batch, NeighborIndex


class TGN(TemporalModel):
    """Temporal Graph Network (Rossi et al. 2020, arXiv 2006.10637): SEMBA's memory, attention and head without signs.

    One memory per node, that every event updates alike from the other end's. Arguments as for `TemporalModel`.
    """

    def __init__(self, num_nodes: int, out_channels: int = 64, num_scores: int = 1, **options: object) -> None:
        super().__init__(num_nodes, out_channels, num_scores, rules=SIGN_BLIND, **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class SeenGraph:
    """The events before a batch as an undirected graph.

    positive, negative: (2, A) arcs of each sign, both directions of each event. unsigned: the propagation of GCN over
    all of them. degrees: (N, 4), see `degrees`.
    """

    positive: Tensor
    negative: Tensor
    unsigned: SparseMatrix
    degrees: Tensor


class SeenGraphs:
    """The graphs of a stream's beginnings. Each is made once: the batches of all epochs begin at the same events."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[EventStream, SeenGraph]] = {}  # with the stream, whose id is its key

    def at(self, stream: EventStream, seen: int) -> SeenGraph:
        """The graph of the first `seen` events."""
        key = (id(stream), seen)
        if key not in self._known:
            ends = torch.stack([stream.src[:seen], stream.dst[:seen]])
            positive = stream.edge_features[:seen, 0] > 0
            arcs, of_arc = torch.cat([ends, ends.flip(0)], dim=1), positive.repeat(2)
            unsigned = propagation(arcs, stream.num_nodes)
            graph = SeenGraph(arcs[:, of_arc], arcs[:, ~of_arc], unsigned, degrees(stream, seen))
            self._known[key] = stream, graph
        return self._known[key][1]


def degrees(stream: EventStream, seen: int) -> Tensor:
    """(N, 4) float32: positive and negative events, of the first `seen`, that a node started, and that it received."""
    sign = (stream.edge_features[:seen, 0] < 0).long()
    counts = [
        torch.bincount(2 * end[:seen] + sign, minlength=2 * stream.num_nodes).view(-1, 2)
        for end in (stream.src, stream.dst)
    ]
    return torch.cat(counts, dim=1).float()


class StaticModel(nn.Module, ABC):
    """A graph network on the seen graph, computed anew for each batch; time is not looked at.

    Args:
        zero_features: the node features of the released code, all zero, in place of log(1 + degree).
    """

    def __init__(self, out_channels: int, num_scores: int, *, zero_features: bool = False) -> None:
        super().__init__()
        self.graphs, self.zero_features = SeenGraphs(), zero_features
        self.head = nn.Linear(2 * out_channels, num_scores)

    @abstractmethod
    def encode(self, graph: SeenGraph) -> Tensor:
        """Embeddings of all nodes: (N, out_channels)."""

    def features(self, counts: Tensor) -> Tensor:
        return torch.zeros_like(counts) if self.zero_features else counts.log1p()

    def embed(self, nodes: Tensor, index: NeighborIndex, first: int, last: int) -> tuple[Tensor, None]:
        return self.encode(self.graphs.at(index.stream, first)).index_select(0, nodes), None

    def commit(self, batch: Batch, measured: None) -> None:
        """The next batch's graph holds the batch by itself."""

    def reset(self) -> None:
        """There is no memory."""


class GCN(StaticModel):
    """Two layers of GCN (Kipf and Welling 2017), blind to signs; features: how many events were started and received.

    `methods.shared.gcn`, which equals torch-geometric's `GCNConv` and keeps the graph's propagation between epochs.
    """

    def __init__(self, out_channels: int = 64, num_scores: int = 1, *, zero_features: bool = False) -> None:
        super().__init__(out_channels, num_scores, zero_features=zero_features)
        self.network = gcn.GCN(2, out_channels, out_channels, [1, 1], dropout=0.0)

    def encode(self, graph: SeenGraph) -> Tensor:
        return F.relu(self.network(self.features(graph.degrees.view(-1, 2, 2).sum(2)), graph.unsigned))


class SGCN(StaticModel):
    """Two layers of torch-geometric's `SignedConv` (Derr et al. 2018, arXiv 1808.06354); features: signed degrees."""

    def __init__(self, out_channels: int = 64, num_scores: int = 1, *, zero_features: bool = False) -> None:
        super().__init__(out_channels, num_scores, zero_features=zero_features)
        half = out_channels // 2
        self.convs = nn.ModuleList([SignedConv(4, half, first_aggr=True), SignedConv(half, half, first_aggr=False)])

    def encode(self, graph: SeenGraph) -> Tensor:
        x = self.features(graph.degrees)
        for conv in self.convs:
            x = F.relu(conv(x, graph.positive, graph.negative))
        return x


def degree_features(stream: EventStream, first: int, last: int, batch_size: int) -> Tensor:
    """(last - first, 9) float64: a one, and log(1 + signed degrees) of both ends as of the start of each one's batch.

    Batches begin at `first`, as those of the models do.
    """
    parts = []
    for begin in range(first, last, batch_size):
        end, counts = min(begin + batch_size, last), degrees(stream, begin).double().log1p()
        ones = torch.ones(end - begin, 1, dtype=torch.float64, device=counts.device)
        parts.append(torch.cat([ones, counts[stream.src[begin:end]], counts[stream.dst[begin:end]]], dim=1))
    return torch.cat(parts)


def fit_degree_regression(x: Tensor, positive: Tensor, steps: int = 25, ridge: float = 1e-3) -> Tensor:
    """Logistic regression in which both classes weigh the same, by Newton's method: (n, k), (n,) bool -> weights (k,).

    ridge: of the mean loss, on all weights; it keeps them finite where the classes can be separated.
    """
    target = positive.to(x.dtype)
    share = target / (2 * target.sum()) + (1 - target) / (2 * (1 - target).sum())
    weights = x.new_zeros(x.shape[1])
    for _ in range(steps):
        p = torch.sigmoid(x @ weights)
        gradient = x.T @ (share * (p - target)) + ridge * weights
        curvature = (x * (share * p * (1 - p)).unsqueeze(1)).T @ x
        curvature.diagonal().add_(ridge)
        weights = weights - torch.linalg.solve(curvature, gradient)
    return weights

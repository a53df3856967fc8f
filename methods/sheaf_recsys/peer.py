"""The racing peers: the sheaf layer and NGCF composed of torch-geometric's message passing.

This is how the paper's code writes its models: features of both ends are gathered for every arc, and summed again by
scatter. Parameters and output are those of ours, so weights can be copied from one to the other.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.models import LightGCN
from torch_geometric.utils import degree, scatter

from methods.sheaf_recsys.baselines import GAT, NGCF, NGCFConv
from methods.sheaf_recsys.data import Interactions
from methods.sheaf_recsys.sheaf_recsys import SheafConv, SheafRecommender
from methods.sheaf_recsys.training import Recommender


class PeerSheafConv(MessagePassing):
    """The layer of a `SheafConv` with d = 1, sharing its parameters."""

    def __init__(self, ours: SheafConv) -> None:
        super().__init__(aggr="add")
        self.learner, self.linear = ours.learner, ours.linear

    def forward(self, x: Tensor, arcs: tuple[Tensor, Tensor]) -> Tensor:
        """x (N, c); arcs: edge_index (2, A) with both arcs of each edge, and the place of each arc's reverse (A,)."""
        (source, target), reverse = arcs
        ends = torch.cat([x[source], x[target]], dim=1)
        maps = torch.tanh(F.linear(ends, self.learner.weight.reshape(1, -1))).squeeze(1)
        total = scatter(maps.square(), source, dim_size=x.shape[0], reduce="sum")
        scale = (total + 1).rsqrt()
        off_diagonal = -scale[source] * maps * maps[reverse] * scale[target]
        y = self.linear(x)
        received = self.propagate(arcs[0], x=y, weight=off_diagonal)
        return x - (total * scale.square()).unsqueeze(1) * y - received

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        return weight.unsqueeze(1) * x_j


class PeerNGCFConv(MessagePassing):
    """The layer of an `NGCFConv`, sharing its parameters."""

    def __init__(self, ours: NGCFConv) -> None:
        super().__init__(aggr="add")
        self.lin_1, self.lin_2, self.dropout = ours.lin_1, ours.lin_2, ours.dropout

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        scale = degree(edge_index[1], x.shape[0], dtype=x.dtype).clamp(min=1).rsqrt()
        out = self.propagate(edge_index, x=x, norm=scale[edge_index[0]] * scale[edge_index[1]]) + self.lin_1(x)
        return F.leaky_relu(F.dropout(out, self.dropout, self.training), 0.2)

    def message(self, x_i: Tensor, x_j: Tensor, norm: Tensor) -> Tensor:
        return norm.unsqueeze(1) * (self.lin_1(x_j) + self.lin_2(x_j * x_i))


def reversed_places(edge_index: Tensor, num_nodes: int) -> Tensor:
    """The place of each arc's reverse, (A,); both arcs of each edge must be there once."""
    key = edge_index[0] * num_nodes + edge_index[1]
    back = edge_index[1] * num_nodes + edge_index[0]
    order = key.argsort()
    return order[torch.searchsorted(key[order], back)]


class PeerSheafRecommender(SheafRecommender):
    """A `SheafRecommender` over (edge_index, reverse), with message passing."""

    def __init__(self, num_nodes: int, embedding_dim: int, num_layers: int) -> None:
        super().__init__(num_nodes, embedding_dim, num_layers)
        self.convs = torch.nn.ModuleList(PeerSheafConv(conv) for conv in self.convs)

    def layers(self, graph: tuple[Tensor, Tensor]) -> list[Tensor]:
        states = [self.embedding.weight]
        for conv in self.convs:
            states.append(conv(states[-1], graph))
        return states


class PeerNGCF(NGCF):
    """An `NGCF` over edge_index (2, A), with message passing."""

    def __init__(self, num_nodes: int, embedding_dim: int, num_layers: int) -> None:
        super().__init__(num_nodes, embedding_dim, num_layers)
        self.convs = torch.nn.ModuleList(PeerNGCFConv(conv) for conv in self.convs)


def peer(method: str, data: Interactions, dim: int, layers: int) -> tuple[Recommender, Any]:
    """A model over message passing, and its graph: "sheaf", "lightgcn", "ngcf" or "gat"."""
    edge_index, n = data.edge_index, data.num_nodes
    graph: Any = edge_index
    model: torch.nn.Module
    if method == "sheaf":
        model, graph = PeerSheafRecommender(n, dim, layers), (edge_index, reversed_places(edge_index, n))
    elif method == "lightgcn":
        model = LightGCN(n, dim, layers)
    else:
        model = PeerNGCF(n, dim, layers) if method == "ngcf" else GAT(n, dim, layers, stored=False)
    return model.to(edge_index.device), graph

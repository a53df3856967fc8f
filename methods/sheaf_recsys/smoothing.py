"""How alike a deep network's rows have become: two numbers for one embedding matrix of a bipartite graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn.models import LightGCN

from methods.shared.sparse import SparseMatrix
from methods.sheaf_recsys.sheaf_recsys import SheafRecommender


@torch.no_grad()
def last_layer(model: nn.Module, graph: Any) -> Tensor:
    """X_L (N, c) of a SheafRecommender or a LightGCN, before layers are joined to the output."""
    if isinstance(model, SheafRecommender):
        return model.layers(graph)[-1]
    if not isinstance(model, LightGCN):
        raise TypeError(f"last_layer: knows no layers of a {type(model).__name__}")
    x = model.embedding.weight
    for conv in model.convs:
        x = conv(x, graph)
    return x


def mean_cosine(x: Tensor, num_users: int) -> float:
    """Mean cosine similarity of two different users, and of two different items; the mean of both, in [-1, 1].

    Users and items apart: a user's neighbours are items, so users that are all alike need not be like the items.
    """
    sides = []
    for side in (x[:num_users].double(), x[num_users:].double()):
        unit = nn.functional.normalize(side, dim=1)
        n = len(unit)
        sides.append((unit.sum(0).square().sum() - unit.square().sum()) / (n * (n - 1)))
    return float(sum(sides) / 2)


def two_step_energy(x: Tensor, adjacency: SparseMatrix) -> float:
    """trace(X^T (I - A_hat^2) X) / |X|^2 = 1 - |A_hat X|^2 / |X|^2, in [0, 1], with A_hat = D^-1/2 A D^-1/2.

    The Dirichlet energy over the graph of two steps, from user to user and from item to item. The energy over single
    steps would call a bipartite graph rough whose users all have one vector and whose items have its opposite.
    """
    return float(1 - (adjacency @ x).double().square().sum() / x.double().square().sum())

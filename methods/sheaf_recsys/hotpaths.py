"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from methods.shared.sheaf import SheafIndex
from methods.sheaf_recsys.baselines import GAT, NGCF, AttentionGraph, lightgcn, symmetric_adjacency
from methods.sheaf_recsys.data import Interactions
from methods.sheaf_recsys.sheaf_recsys import SheafRecommender
from methods.sheaf_recsys.training import TripleSampler, rank_items, train_step

USERS, ITEMS, SHARE, WIDTH, LAYERS = 600, 1_000, 0.05, 64, 2
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _data() -> Interactions:
    part = torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(0))
    part[:, 0] = 0  # nobody without a training item
    bounds = ((0, SHARE), (SHARE, 1.1 * SHARE), (1.1 * SHARE, 1.2 * SHARE))
    return Interactions(USERS, ITEMS, *(((part >= a) & (part < b)).nonzero().T for a, b in bounds)).to(DEVICE)


def _step(data: Interactions, model: nn.Module, graph: Any) -> Callable[[], object]:
    model = model.to(DEVICE).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    sampler = TripleSampler(data, 0)
    return lambda: train_step(model, graph, optimizer, sampler, 1e-4)


def sheaf_step() -> Callable[[], object]:
    data = _data()
    index = SheafIndex(data.edge_index, data.num_nodes)
    return _step(data, SheafRecommender(data.num_nodes, WIDTH, LAYERS), index)


def sheaf_step_general_stalk() -> Callable[[], object]:
    data = _data()
    index = SheafIndex(data.edge_index, data.num_nodes)
    return _step(data, SheafRecommender(data.num_nodes, WIDTH, LAYERS, stalk_dim=2), index)


def lightgcn_step() -> Callable[[], object]:
    data = _data()
    adjacency = symmetric_adjacency(data.edge_index, data.num_nodes)
    return _step(data, lightgcn(data.num_nodes, WIDTH, LAYERS), adjacency)


def ngcf_step() -> Callable[[], object]:
    data = _data()
    adjacency = symmetric_adjacency(data.edge_index, data.num_nodes)
    return _step(data, NGCF(data.num_nodes, WIDTH, LAYERS), adjacency)


def gat_step() -> Callable[[], object]:
    data = _data()
    graph = AttentionGraph(data.edge_index, data.num_nodes)
    return _step(data, GAT(data.num_nodes, WIDTH, LAYERS), graph)


def ranking() -> Callable[[], object]:
    data = _data()
    scores = torch.randn(USERS, ITEMS, device=DEVICE)
    return lambda: rank_items(scores, data, "test")

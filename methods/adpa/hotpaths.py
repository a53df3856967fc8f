"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import datasets
from methods.adpa.adpa import ADPA, propagate
from methods.adpa.amud import amud
from methods.adpa.baselines import DirGNN
from methods.adpa.training import RECIPES, optimizer_of
from methods.shared.node_classification import Masks, fit

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _graph() -> tuple[Tensor, Tensor, Tensor, Masks]:
    torch.manual_seed(0)
    data = datasets.load("directed_cyclic", class_size=500, degree=10, num_features=128).to(DEVICE)
    return data.x, data.edge_index, data.y, Masks.of(data)


def _epoch(model: nn.Module, forward: Callable[[], Tensor], y: Tensor, masks: Masks) -> Callable[[], object]:
    optimizer = optimizer_of(model, RECIPES["common"])
    return lambda: fit(model, forward, y, masks, optimizer, 1)


def adpa_epoch() -> Callable[[], object]:
    x, edge_index, y, masks = _graph()
    model = ADPA(128, 32, 4).to(DEVICE)
    hops = model.propagate(x, edge_index)
    return _epoch(model, lambda: model(x, hops), y, masks)


def dir_gnn_epoch() -> Callable[[], object]:
    x, edge_index, y, masks = _graph()
    model = DirGNN(128, 64, 4).to(DEVICE)
    means = model.propagations(edge_index, len(x))
    return _epoch(model, lambda: model(x, means), y, masks)


def propagate_patterns() -> Callable[[], object]:
    x, edge_index, _, _ = _graph()
    return lambda: propagate(x, edge_index, 2)


def amud_advice() -> Callable[[], object]:
    _, edge_index, y, _ = _graph()
    return lambda: amud(edge_index, y)

"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable

import torch

from methods.dagnn.contenders import CONTENDERS, GENERATED
from methods.dagnn.dagnn import hops
from methods.dagnn.experiments import epoch_of
from methods.dagnn.smoothness import smv
from methods.dagnn.training import Task, make_task
from methods.shared.graph import load_graph

VERTICES, FEATURES, CLASSES, HOPS = 4_000, 500, 10, 10
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _task() -> Task:
    torch.manual_seed(0)
    data = load_graph("csbm", num_nodes=VERTICES, num_features=FEATURES)
    data.x = (data.x > 2).float()  # about 2 % of the features, as in a bag of words
    return make_task(data, DEVICE)


def _epoch(method: str) -> Callable[[], object]:
    task = _task()
    recipe = CONTENDERS[method].recipe_on(GENERATED)
    return epoch_of(CONTENDERS[method].build(task, recipe), task, recipe, (task.x, task.adjacency))


def dagnn_epoch() -> Callable[[], object]:
    return _epoch("dagnn")


def appnp_epoch() -> Callable[[], object]:
    return _epoch("appnp")


def propagate_hops() -> Callable[[], object]:
    task = _task()
    z = torch.randn(VERTICES, CLASSES, device=DEVICE)
    return lambda: hops(z, task.adjacency, HOPS)


def smoothness_of_vertices() -> Callable[[], object]:
    torch.manual_seed(0)
    x = torch.randn(VERTICES, CLASSES, device=DEVICE)
    return lambda: smv(x)

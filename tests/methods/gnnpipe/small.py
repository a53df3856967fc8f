"""Every experiment of GNNPipe made small, on a generated graph, and its test labels permuted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch_geometric.data import Data

from methods.gnnpipe.contenders import Recipe
from methods.gnnpipe.training import Model
from methods.shared import graph

SIZES = dict(num_nodes=120, num_blocks=4, num_classes=4, degree=6, homophily=0.5, signal=1.0)
TRAINED: dict[str, Any] = dict(dataset="csbm", num_layers=2, hidden=8, stages=2, chunks=4, epochs=25)
SMALL: dict[str, dict[str, Any]] = {
    "accuracy": {**TRAINED, "variants": ["pipeline"]},
    "ablation": {**TRAINED, "epochs": 8, "variants": ["pipeline", "no_shuffle", "no_scaling", "refresh_every_epoch"]},
}
_GRID = dict(hidden=8, chunks=2)
UNTRAINED: dict[str, dict[str, Any]] = {
    "traffic": dict(dataset="csbm", world_sizes=[4], layers=[8, 16, 32], hybrid_stages=2, **_GRID),
    "gradient_bias": dict(dataset="csbm", num_nodes=80, num_layers=4, hidden=4, chunks=8, orders=2),
    "simulated_time": dict(dataset="csbm", graph={}, layers=[8], world_sizes=[8], hybrid_stages=4, gbits=[0.2, 25],
                           repeats=1, **_GRID),
    "memory": dict(dataset="csbm", graph={}, num_layers=8, workers=4, **_GRID),
}  # fmt: skip
WITHOUT = {
    **dict.fromkeys(UNTRAINED, "counts bytes or seconds of a few epochs, or freezes the weights; nothing is chosen"),
    **dict.fromkeys(("wire_time", "gpu_ranks", "replayed_time"), "seconds of epochs; nothing is chosen"),
}
ELSEWHERE = ("wire_time", "gpu_ranks", "replayed_time")  # a limited wire or GPUs; test_wire runs the first and last
TEST_METRICS = {"accuracy", "final_accuracy"}
RECIPES = {name: Recipe(Model("gcnii", 2, 8), 2, 4, epochs=5) for name in ("full", "pipeline")}
FIXED = {
    "model": "a model, not a number",
    "stages": "stages change where a block runs, not what it computes",
    "chunks": "the whole graph has none",
}
load = graph.load_graph


@contextmanager
def made_small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "load_graph", lambda name, **options: load("csbm", **{**SIZES, **options}))
        yield


@contextmanager
def test_data_permuted() -> Iterator[None]:
    """Every vertex of the test set gets the class that another one has, before anything is made of the graph."""
    small = graph.load_graph

    def permuted(name: str, **options: Any) -> Data:
        data = small(name, **options)
        data.y[data.test_mask] = data.y[data.test_mask].roll(7)
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "load_graph", permuted)
        yield

"""Every experiment of ForwardGNN made small, and its test labels permuted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch_geometric.data import Data

from assay.experiment import Run
from methods.forward_gnn import experiments
from methods.forward_gnn.contenders import Recipe
from methods.shared.graph import load_graph

DATASET = "csbm_clustered"
SMALL: dict[str, dict[str, Any]] = {
    "depth_sweep": dict(splits=[1], layers=[1, 2], convs=["sage", "gcn"], lr=0.02, sf_epochs=6, bp_epochs=8),
    "forward_forward": dict(layers=2, lr=0.02, epochs=6, validate_every=3),
    "top_down": dict(layers=2, lr=0.02, epochs=6, validate_every=3),
    "link_prediction": dict(lr=0.02, sf_epochs=6, bp_epochs=8),
}
SMALL = {name: {"dataset": DATASET, **parameters} for name, parameters in SMALL.items()}
UNTRAINED: dict[str, dict[str, Any]] = {
    "memory": dict(dataset=DATASET, layers=[1, 2, 3, 4]),
    "locality": dict(dataset=DATASET),
    "epoch_time": dict(dataset=DATASET, pairs=1),
    "throughput_peer": dict(dataset=DATASET, pairs=1),
}
TEST_METRICS = {"accuracy", "auc"}
_RECIPE = Recipe(0.02, 0.05, epochs=8, validate_every=2, patience=1, hidden_channels=8)
RECIPES = dict.fromkeys(("sf", "bp", "ff_la"), _RECIPE)
FIXED = {
    "patience": "few epochs never run out of it; see test_the_first_best_validation_is_kept_and_patience_counts",
    "validate_every": "the best of few epochs may be the same",
    "epochs": "the best of few epochs may be the same",
}
COUNTED = "one step of every layer is counted or timed; nothing is chosen"
WITHOUT = dict.fromkeys(("memory", "locality", "epoch_time", "throughput_peer"), COUNTED)


def small_csbm(*_: object, seed: int = 0, **options: Any) -> Data:
    return load_graph(DATASET, num_nodes=160, num_features=8, seed=seed, **options)


@contextmanager
def made_small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "load_graph", small_csbm)
        patch.setattr(experiments, "WIDTH", 8)
        yield


@contextmanager
def test_data_permuted() -> Iterator[None]:
    """Labels of test nodes and of test pairs, permuted."""

    def load_split(run: Run, split: int, load: Callable[..., Data] = experiments.load_split) -> Data:
        data = load(run, split)
        data.y[data.test_mask] = data.y[data.test_mask].roll(1)
        return data

    def split_edges(*given: Any, draw: Callable[..., tuple[Data, ...]] = experiments.split_edges) -> tuple[Data, ...]:
        train, val, test = draw(*given)
        test.edge_label = test.edge_label.roll(len(test.edge_label) // 3)
        return train, val, test

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "load_split", load_split)
        patch.setattr(experiments, "split_edges", split_edges)
        yield

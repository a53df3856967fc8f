"""Every experiment of Neural Sheaf Diffusion made small, on generated graphs, and its test labels permuted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch_geometric.data import Data

from methods.neural_sheaf_diffusion import experiments
from methods.neural_sheaf_diffusion.contenders import PUBLISHED, Recipe, SheafRecipe
from methods.shared.graph import load_graph

ONE_SPLIT = dict(splits=[1], epochs=4, patience=None)
SMALL: dict[str, dict[str, Any]] = {
    "accuracy": dict(dataset="texas", **ONE_SPLIT),
    "published": dict(dataset="wisconsin", splits=[1], epochs={"wisconsin": 15}, patience=15, smaller={}),
    "depth": dict(dataset="wisconsin", methods=["gcn", "nsd_diagonal"], depths=[2, 8], **ONE_SPLIT),
}
TEST_METRICS = {"accuracy"}
UNTRAINED: dict[str, dict[str, Any]] = {
    "bipartite_limit": dict(sides=[4]),
    "bipartite_learned": dict(side=3, steps=1),
    "hierarchy": dict(draws=1),
    "energy": dict(draws=2),
    "epoch_time": dict(dataset="texas", pairs=1),
}
_NETWORK = dict(hidden_channels=4, dropout=0.3, weight_decay=0.05)
RECIPES = {
    "gcn": Recipe(**_NETWORK),
    "gcn2": Recipe(**_NETWORK),
    "nsd_diagonal": SheafRecipe(**_NETWORK, sheaf_decay=0.1),
}
FIXED = {
    "edge_weights": "of orthogonal maps only",
    "select": "the best epoch of four is the same; see test_a_best_epoch_is_one_of_the_lowest_validation_loss",
}
WITHOUT = {
    "bipartite_limit": "a limit of maps that are given",
    "bipartite_learned": "trained and judged on all nodes, since the question is what can be expressed",
    "hierarchy": "limits of sheaves that are given",
    "energy": "a theorem",
    "epoch_time": "a race of epochs",
}


def stand_in(name: str, seed: int = 0, num_splits: int = 10, normalize_features: bool = False) -> Data:
    """A small generated graph with ten splits in place of any data set, so that no file is needed."""
    assert normalize_features == (name in PUBLISHED), "rows of bags of words are divided by their sums"
    return load_graph("heterophilous_ring", seed=seed, num_splits=num_splits, class_size=15)


def shuffled(data: Data, split: int, part: str) -> Data:
    """With the labels of one part of a split permuted."""
    nodes = data[f"{part}_mask"][:, split].nonzero().squeeze(1)
    data.y[nodes] = data.y[nodes.roll(1)]
    return data


@contextmanager
def made_small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "load_graph", stand_in)
        yield


@contextmanager
def test_data_permuted() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "load_graph", lambda name, **o: shuffled(stand_in(name, **o), 1, "test"))
        yield

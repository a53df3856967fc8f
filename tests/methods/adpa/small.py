"""Every experiment of ADPA made small: small generated digraphs under the real ones' names, and few epochs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

import datasets
from assay.experiment import Run
from methods.adpa import contenders, experiments, training
from methods.adpa.experiments import FILTERED, ONE_SETTING
from methods.adpa.training import Task

EPOCHS, SPLITS = 3, 2
PROTOCOL = asdict(replace(ONE_SETTING, epochs=EPOCHS, patience=2))
# a search of two recipes, and of K after it
SEARCH = dict(PROTOCOL, recipes=["common", "decay"], depths=[1, 2])
TINY: dict[str, dict[str, object]] = {
    "accuracy": dict(compared=FILTERED, splits=SPLITS, protocol=PROTOCOL),
    "known_answer": dict(baselines=True, protocol=PROTOCOL),
    "accuracy_squirrel": dict(splits=SPLITS, protocol=PROTOCOL),
    "released_code": dict(epochs=EPOCHS, patience=2, splits=dict.fromkeys(["cornell", "cora_ml", *FILTERED], SPLITS)),
    "epoch_cost": dict(class_size=20, degree=1, pairs=1),
    "peer_epoch": dict(pairs=1),
}
SMALL = {
    "accuracy": dict(TINY["accuracy"], dataset=FILTERED[0], protocol=SEARCH),
    "known_answer": dict(TINY["known_answer"], dataset="directed_cyclic"),
    "accuracy_squirrel": dict(TINY["accuracy_squirrel"], dataset="squirrel_directed"),
    "released_code": dict(TINY["released_code"], dataset="cornell"),
}

UNTRAINED = {
    "epoch_cost": dict(TINY["epoch_cost"], dataset="directed_cyclic"),
    "peer_epoch": dict(TINY["peer_epoch"], dataset=FILTERED[0]),
}
WITHOUT = dict.fromkeys(UNTRAINED, "records times alone")
TEST_METRICS = {"accuracy", "leaky_accuracy", "gain", "gain_at_score", "guided"}
RECIPES = {name: training.Recipe(0.03, 0.05, 0.5) for name in ("adpa", "dir_gnn", "sign")}
FIXED = {"r": "the exponent of ADPA alone; see test_every_network_has_its_recipes_dropout_width_and_depth"}


def small_digraph(name: str, seed: int = 0) -> Data:
    """160 vertices in four classes, features of low rank; with ten splits where the real one has them."""
    generated = name if name in training.GENERATED else "directed_cyclic"
    data = datasets.load(generated, class_size=40, num_features=8, seed=seed)
    if name in training.GENERATED:
        return data
    parts = torch.stack([torch.randperm(160, generator=torch.Generator().manual_seed(s)) % 5 for s in range(10)], 1)
    data.train_mask, data.val_mask, data.test_mask = parts < 2, parts == 2, parts > 2
    if name in experiments.CITATION:
        del data.train_mask, data.val_mask, data.test_mask
    return data


SPLIT = training.random_split


@contextmanager
def made_small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "load_graph", small_digraph)
        patch.setattr(training, "random_split", lambda data, seed: SPLIT(data, seed, per_class=5, num_val=40))
        yield


@contextmanager
def test_data_permuted() -> Iterator[None]:
    """Of each split the labels of its own test vertices, before anything is searched, measured or trained.

    AMUD with all labels reads the test labels by its definition, and says so in its rows: there they stay.
    """
    load_tasks, pattern_r2 = training.load_tasks, experiments.pattern_r2
    as_they_are: dict[int, Tensor] = {}

    def permuted(run: Run, splits: Iterable[int], *, reduce: bool) -> list[Task]:
        tasks = []
        for task in load_tasks(run, splits, reduce=reduce):
            test, y = task.masks.test, task.y.clone()
            y[test] = y[test[torch.randperm(len(test), generator=torch.Generator().manual_seed(1))]]
            as_they_are[id(y)] = task.y
            tasks.append(replace(task, y=y))
        return tasks

    def measured(edge_index: Tensor, y: Tensor, mask: Tensor | None = None) -> dict[str, float]:
        return pattern_r2(edge_index, as_they_are[id(y)] if mask is None else y, mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contenders, "load_tasks", permuted)
        patch.setattr(experiments, "load_tasks", permuted)
        patch.setattr(experiments, "pattern_r2", measured)
        yield

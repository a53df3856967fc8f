"""Every experiment of DAGNN made small: a generated graph under a citation graph's name, and few epochs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

import datasets
from methods.dagnn import contenders, experiments, training
from methods.shared.graph import load_graph

EPOCHS = 4
SMALL: dict[str, dict[str, object]] = {
    "accuracy": dict(dataset="cora", methods=experiments.METHODS),
    "gate": dict(dataset="citeseer", epochs=EPOCHS),
    "depth_sweep": dict(dataset="cora", depths=dict(dagnn=[2, 10, 50], last_hop=[16], gcn=[2, 16], mlp=[2])),
    "few_labels": dict(dataset="cora", methods=["dagnn", "gcn"], labels=[1, 20], draws=[2, 1]),
}
UNTRAINED: dict[str, dict[str, object]] = {
    "feature_smoothness": dict(dataset="cora", depths=[1, 4]),
    "depth_limit": dict(powers=[1, 2, 4, 8]),
    "epoch_time": dict(dataset="cora", methods=experiments.METHODS, pairs=1),
}


def bag_of_words(seed: int = 0) -> Data:
    """800 vertices in four communities, 20 labels a class, features of zeros and ones."""
    data = datasets.load("csbm_clustered", seed=seed)
    data.x = (data.x > 0.5).float()
    return data


TEST_METRICS = {"accuracy"}
WITHOUT = {
    "feature_smoothness": "propagates features alone",
    "depth_limit": "powers of a matrix",
    "epoch_time": "records times alone",
}
DECAYS = [5e-3, 0.3, 3.0]
# Long enough for the stop rule to matter.
RECIPES = {
    "dagnn": training.Recipe(
        depth=3, dropout=0.5, weight_decay=5e-4, lr=0.05, hidden=16, epochs=40, window=5, normalize=False
    )
}
FIXED = {"normalize": "the example's features are as they are; `make_task` reads it"}


@contextmanager
def made_small() -> Iterator[None]:
    """Loading gives the generated graph whatever is asked for; recipes are the published ones, but for their length."""
    generated = bag_of_words()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            experiments, "load_graph",
            lambda name, **options: load_graph(name, **options) if options else generated.clone(),
        )  # fmt: skip
        for registry in (experiments.CONTENDERS, experiments.DEPTH):
            for name, contender in registry.items():
                recipe = {key: replace(r, epochs=EPOCHS, window=2) for key, r in contender.recipe.items()}
                space = dict(weight_decay=DECAYS) if contender.space else {}
                patch.setitem(registry, name, replace(contender, recipe=recipe, space=space))
        yield


@contextmanager
def test_data_permuted() -> Iterator[None]:
    """Where an experiment turns a split graph into a task: before anything is normalised, chosen or trained."""
    make_task = experiments.make_task

    def permuted(data: Data, *args: object, **options: object) -> training.Task:
        data = data.clone()
        test = data.test_mask.nonzero().squeeze(1)
        data.y[test] = data.y[test[torch.randperm(len(test), generator=torch.Generator().manual_seed(1))]]
        return make_task(data, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "make_task", permuted)
        yield


def network(
    method: str, features: int, hidden: int, classes: int, depth: int, dropout: float, *, twin: bool = False
) -> nn.Module:
    """A contender of these sizes, or torch-geometric's twin of it."""
    task = training.Task(torch.empty(0, features), None, torch.empty(0), None, classes)
    recipe = training.Recipe(depth=depth, hidden=hidden, dropout=dropout, weight_decay=0.0)
    return (contenders.TWINS if twin else contenders.CONTENDERS)[method].build(task, recipe)

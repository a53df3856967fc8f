"""Every experiment of DAGNN made small: a generated graph under a citation graph's name, and few epochs."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Data

import datasets
from methods.dagnn import experiments, training
from methods.shared.graph import load_graph

EPOCHS = 4
SMALL: dict[str, dict[str, object]] = {
    "accuracy": dict(dataset="cora", methods=experiments.METHODS),
    "gate": dict(dataset="citeseer", decays=[5e-3, 0.3, 3.0], epochs=EPOCHS),
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


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading gives the generated graph whatever is asked for; recipes are the published ones, but for their length."""
    generated = bag_of_words()
    monkeypatch.setattr(
        experiments, "load_graph", lambda name, **options: load_graph(name, **options) if options else generated.clone()
    )
    for recipes in training.PUBLISHED.values():
        for name, recipe in recipes.items():
            monkeypatch.setitem(recipes, name, replace(recipe, epochs=EPOCHS, window=2))
    monkeypatch.setattr(experiments, "DEEP", replace(training.DEEP, epochs=EPOCHS, window=2))


@contextmanager
def labels_permuted(monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    """Where an experiment turns a split graph into a task: before anything is normalised, chosen or trained."""
    make_task = experiments.make_task

    def permuted(data: Data, *args: object, **options: object) -> training.Task:
        data = data.clone()
        test = data.test_mask.nonzero().squeeze(1)
        data.y[test] = data.y[test[torch.randperm(len(test), generator=torch.Generator().manual_seed(1))]]
        return make_task(data, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(experiments, "make_task", permuted)
        yield

"""Every experiment of DGMLP made small: a generated graph under a citation graph's name, and few epochs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.transforms import NormalizeFeatures

import datasets
from methods.dgmlp import training

EPOCHS = 4
SMALL: dict[str, dict[str, object]] = {
    "same_protocol": dict(dataset="cora", sgc_hops=[2, 10]),
    "published_protocol": dict(dataset="cora", epochs=EPOCHS),
    "depth_sweep": dict(
        dataset="cora", hidden=8, epochs=EPOCHS, normalize=True,
        depths={"cora": {name: [2, 8] for name in ("gcn", "gcn_two_layers", "resgcn", "mlp", "mlp_res")}},
    ),
    "depth_sweep_raw": dict(dataset="cora", hidden=8, epochs=EPOCHS, depths=dict(gcn=[8, 16], gcn_two_layers=[8, 16])),
    "hop_sweep": dict(dataset="cora", hops={"cora": dict(sgc=[1, 10], dgmlp=[5])}),
    "sparsity": dict(dataset="cora", kept=[1.0, 0.5, 0.25], hops=[2, 10]),
}  # fmt: skip
UNTRAINED: dict[str, dict[str, object]] = {
    "smoothing_levels": dict(dataset="cora", K=10),
    "scaling": dict(sizes=[60], num_features=4, degree=10, pairs=1),
    "scaling_fixed_probability": dict(sizes=[60], num_features=4, probability=0.05, pairs=1),
    "scaling_memory": dict(sizes=[60], num_features=4, degree=10),
    "hop_memory": dict(n=60, num_features=8, hops=[2, 4]),
    "peer_time": dict(dataset="cora", pairs=1),
}


def bag_of_words() -> Data:
    """800 vertices in four communities, features of zeros and ones."""
    data = datasets.load("csbm_clustered")
    data.x = (data.x > 0.5).float()
    return data


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading gives the generated graph whatever is asked for; recipes are the published ones, but for their length."""
    generated = bag_of_words()
    monkeypatch.setattr(
        training, "load_graph",
        lambda name, normalize_features=False: (NormalizeFeatures() if normalize_features else Data.clone)(
            generated.clone()
        ),
    )  # fmt: skip
    for recipes in (training.DGMLP_RECIPES, training.SGC_RECIPES, training.S2GC_RECIPES):
        for name, recipe in recipes.items():
            monkeypatch.setitem(recipes, name, replace(recipe, epochs=EPOCHS))


@contextmanager
def labels_permuted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test labels of the graph as it is loaded, before anything is normalised, smoothed or trained."""
    load_graph = training.load_graph

    def permuted(*args: object, **options: object) -> Data:
        data = load_graph(*args, **options)
        test = data.test_mask.nonzero().squeeze(1)
        data.y[test] = data.y[test[torch.randperm(len(test), generator=torch.Generator().manual_seed(1))]]
        return data

    with monkeypatch.context() as patched:
        patched.setattr(training, "load_graph", permuted)
        yield

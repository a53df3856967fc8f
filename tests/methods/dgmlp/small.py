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
from methods.dgmlp import experiments, training
from methods.dgmlp.contenders import DeepRecipe

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

WITHOUT = dict.fromkeys(UNTRAINED, "records levels, times and bytes alone")
TEST_METRICS = {"accuracy", "last_accuracy"}
RECIPES = {
    "dgmlp": training.Recipe(K=3, dropout=0.5, lr=0.05, weight_decay=5e-3, epochs=5),
    "gcn": DeepRecipe(hidden=4, epochs=3),
}
FIXED = {"select": "three epochs have the same best one by loss and by accuracy"}


def bag_of_words() -> Data:
    """800 vertices in four communities, features of zeros and ones."""
    data = datasets.load("csbm_clustered")
    data.x = (data.x > 0.5).float()
    return data


@contextmanager
def made_small() -> Iterator[None]:
    """Loading gives the generated graph whatever is asked for; recipes are the published ones, but for their length."""
    generated = bag_of_words()

    def load(name: str, normalize_features: bool = False) -> Data:
        return (NormalizeFeatures() if normalize_features else Data.clone)(generated.clone())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "load_graph", load)
        for registry in (experiments.CONTENDERS, experiments.PUBLISHED):
            for name, contender in registry.items():
                if isinstance(contender.recipe, dict):
                    short = {key: replace(recipe, epochs=EPOCHS) for key, recipe in contender.recipe.items()}
                    patch.setitem(registry, name, replace(contender, recipe=short))
        yield


@contextmanager
def test_data_permuted() -> Iterator[None]:
    """The test labels of the graph as it is loaded, before anything is normalised, smoothed or trained."""
    load_graph = training.load_graph

    def permuted(*args: object, **options: object) -> Data:
        data = load_graph(*args, **options)
        test = data.test_mask.nonzero().squeeze(1)
        data.y[test] = data.y[test[torch.randperm(len(test), generator=torch.Generator().manual_seed(1))]]
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "load_graph", permuted)
        yield

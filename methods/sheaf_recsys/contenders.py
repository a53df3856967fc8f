"""The contenders: models that are trained on a graph, and item-kNN and popularity, which score without training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch_geometric.nn import GCNConv, SAGEConv

from assay.contenders import Contender
from methods.shared.sheaf import SheafIndex
from methods.shared.training import Training
from methods.sheaf_recsys import baselines
from methods.sheaf_recsys.baselines import GAT, NGCF, AttentionGraph, StandardConvs, symmetric_adjacency
from methods.sheaf_recsys.data import Interactions, generated_interactions
from methods.sheaf_recsys.links import LinkSplit
from methods.sheaf_recsys.sheaf_recsys import SheafRecommender
from methods.sheaf_recsys.training import Recommender, fit

Graph = Interactions | LinkSplit
Built = tuple[Recommender, Any]
"""A model, and the graph in the form that it takes."""


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a trained model. `reg` is the weight of the L2 term; `layers` says nothing for MF."""

    lr: float = 1e-2
    reg: float = 1e-4
    layers: int = 2
    dim: int = 64


@dataclass(frozen=True)
class Neighbors:
    """Of item-kNN: how many of the most similar items count for each item."""

    neighbors: int = 50


def _built(model: Callable[[int, Recipe], nn.Module], form: Callable[..., Any]) -> Callable[[Graph, Recipe], Built]:
    """A model of N nodes, and the graph as `form(edge_index, N)` makes it, on the device of the graph."""

    def build(data: Graph, recipe: Recipe) -> Built:
        edge_index, n = data.edge_index, data.num_nodes
        return model(n, recipe).to(edge_index.device), form(edge_index, n)  # type: ignore[return-value]

    return build


def _peer(method: str) -> Callable[[Interactions, Recipe], Built]:
    def build(data: Interactions, recipe: Recipe) -> Built:
        from methods.sheaf_recsys.peer import peer  # only races need it

        return peer(method, data, recipe.dim, recipe.layers)

    return build


def _arcs(edge_index: Any, num_nodes: int) -> Any:
    return edge_index


_LEARNING = dict(lr=[0.01, 0.005, 0.001], reg=[0.001, 0.0001, 1e-05])
_SPACE = {**_LEARNING, "layers": [1, 2, 3]}

CONTENDERS = {
    "sheaf": Contender(_built(lambda n, r: SheafRecommender(n, r.dim, r.layers), SheafIndex), Recipe(), _SPACE),
    "lightgcn": Contender(
        _built(lambda n, r: baselines.lightgcn(n, r.dim, r.layers), symmetric_adjacency), Recipe(), _SPACE
    ),
    "mf": Contender(_built(lambda n, r: baselines.lightgcn(n, r.dim, 0), symmetric_adjacency), Recipe(), _LEARNING),
    "ngcf": Contender(_built(lambda n, r: NGCF(n, r.dim, r.layers), symmetric_adjacency), Recipe(), _SPACE),
    "gat": Contender(_built(lambda n, r: GAT(n, r.dim, r.layers), AttentionGraph), Recipe(), _SPACE),
    "gcn": Contender(_built(lambda n, r: StandardConvs(n, r.dim, r.layers, GCNConv), _arcs), Recipe()),
    "sage": Contender(_built(lambda n, r: StandardConvs(n, r.dim, r.layers, SAGEConv), _arcs), Recipe()),
    "item_knn": Contender(
        lambda data, recipe: baselines.item_knn(data, recipe.neighbors),
        Neighbors(),
        dict(neighbors=[10, 20, 50, 100, 200, 400]),
        less="its one knob has six values, and all are tried",
    ),
    "popularity": Contender(lambda data, recipe: baselines.popularity(data)),
    **{f"{method}_pyg": Contender(_peer(method), Recipe()) for method in ("sheaf", "lightgcn", "ngcf", "gat")},
}  # fmt: skip


def train(name: str, data: Interactions, recipe: Recipe, epochs: int = 2, steps: int = 8) -> tuple[Any, Training]:
    """Train a contender; returns the model at the best epoch of its validation, and how the training went."""
    model, graph = CONTENDERS[name].build(data, recipe)
    return model, fit(model, graph, data, lr=recipe.lr, reg=recipe.reg, epochs=epochs, steps=steps, seed=0)


def example(seed: int = 0) -> Interactions:
    """Sixty users and ninety items in three groups of taste."""
    return generated_interactions(60, 90, seed)

"""The contenders of DAGNN's experiments: who is compared, by which recipe, and what is searched for whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from assay.contenders import Contender
from methods.dagnn import training
from methods.dagnn.baselines import APPNP, LastHop, TorchGeometricBaseline, TorchGeometricDAGNN, Ungated
from methods.dagnn.dagnn import DAGNN
from methods.dagnn.training import Recipe, Task, make_task
from methods.shared.gcn import GCN
from methods.shared.graph import load_graph
from methods.shared.node_classification import Fit

Network = Callable[[int, int, int, int, float], nn.Module]
"""(features, hidden width, classes, depth, dropout) -> model."""

_DAGNN = {
    "cora": Recipe(depth=10, dropout=0.8, weight_decay=5e-3),
    "citeseer": Recipe(depth=10, dropout=0.5, weight_decay=2e-2),
    "pubmed": Recipe(depth=20, dropout=0.8, weight_decay=5e-3),
}
GENERATED = "csbm_clustered"
_ON_GENERATED = Recipe(depth=10, hidden=32, dropout=0.5, weight_decay=5e-4, epochs=120, window=60, normalize=False)
# torch-geometric's benchmark of the citation graphs, where the paper's baselines come from.
_BENCHMARK = Recipe(depth=2, dropout=0.5, weight_decay=5e-4, epochs=200, window=10)
_SGC = replace(_BENCHMARK, dropout=0.0, lr=0.1, normalize=False)
_SGC_OF = {"cora": (3, 5e-4), "citeseer": (2, 5e-3), "pubmed": (2, 5e-4)}  # hops, weight decay
# No recipe for depth is published: the coupled and the decoupled model get the same one, of the GCN's published width.
_DEEP = {
    "": Recipe(depth=16, hidden=16, dropout=0.5, weight_decay=5e-4, epochs=400),
    GENERATED: replace(_ON_GENERATED, lr=0.02),
}
_DECAYS = dict(weight_decay=[5e-4, 5e-3, 2e-2])


def _built(network: Network) -> Callable[[Task, Recipe], nn.Module]:
    """A network for a task, freshly initialised, on the task's device."""
    return lambda task, recipe: network(
        task.x.shape[1], recipe.hidden, task.num_classes, recipe.depth, recipe.dropout
    ).to(task.y.device)


def _twin(method: str) -> Callable[[Task, Recipe], nn.Module]:
    """The same network of torch-geometric's layers."""
    kind: Any = TorchGeometricDAGNN if method == "dagnn" else partial(TorchGeometricBaseline, method)
    return _built(kind)


def _on_citation_graphs(recipe: Recipe, depth: int) -> dict[str, Recipe]:
    """The same recipe on all three; on a generated graph the one that all methods have there."""
    return {**dict.fromkeys(_DAGNN, recipe), GENERATED: replace(_ON_GENERATED, depth=depth)}


CONTENDERS = {
    "dagnn": Contender(_built(DAGNN), {**_DAGNN, GENERATED: _ON_GENERATED}, space=_DECAYS),
    "ungated": Contender(_built(Ungated), {**_DAGNN, GENERATED: _ON_GENERATED}, space=_DECAYS),
    "gcn": Contender(
        _built(lambda f, width, c, depth, dropout: GCN(f, width, c, [1] * depth, dropout=dropout)),
        _on_citation_graphs(replace(_BENCHMARK, hidden=16), depth=2),
    ),
    "appnp": Contender(_built(APPNP), _on_citation_graphs(replace(_BENCHMARK, depth=10), depth=10)),
    "sgc": Contender(
        _built(lambda f, width, c, depth, dropout: GCN(f, width, c, [depth], dropout=dropout)),
        {name: replace(_SGC, depth=depth, weight_decay=decay) for name, (depth, decay) in _SGC_OF.items()}
        | {GENERATED: replace(_ON_GENERATED, depth=2)},
    ),
    "last_hop": Contender(_built(LastHop), _DEEP),
    "mlp": Contender(
        _built(lambda f, width, c, depth, dropout: GCN(f, width, c, [0] * depth, dropout=dropout)), _DEEP
    ),
}  # fmt: skip
"""Name on the card -> the contender. The depth of the GCN and the MLP is the number of their layers."""

DEPTH = {**CONTENDERS, "gcn": replace(CONTENDERS["gcn"], recipe=_DEEP)}
"""The same where depth is varied."""

TWINS = {method: replace(CONTENDERS[method], build=_twin(method)) for method in ("dagnn", "gcn", "appnp", "sgc")}
"""The same networks of torch-geometric's parts, `pyg_` on the card. They take dense features and `edge_index`."""


def train(name: str, task: Task, recipe: Recipe) -> tuple[nn.Module, Fit]:
    """Build a contender and train it by the recipe; it is left with the weights of the lowest validation loss."""
    model = CONTENDERS[name].build(task, recipe)
    return model, training.train(model, task, recipe)


def example(seed: int = 0) -> Task:
    """A generated graph of 800 vertices in four communities."""
    return make_task(load_graph(GENERATED, seed=seed), normalize=False)

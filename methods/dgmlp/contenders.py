"""The contenders: mixes of the hops under one linear classifier, and the deep networks of the analysis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from assay.contenders import Contender
from assay.experiment import Run
from methods.dgmlp.baselines import last_hop, s2gc, uniform
from methods.dgmlp.dgmlp import ResidualMLP, smoothed_features, weighted_hops
from methods.dgmlp.training import Recipe, Task, fit_deep, fit_rows, load_task
from methods.shared.gcn import GCN
from methods.shared.node_classification import Fit

GENERATED = "csbm_clustered"


@dataclass(frozen=True)
class DeepRecipe:
    """Hyper-parameters of a deep network. `depth` is read as `FAMILIES` says; Adam's rate is `lr`."""

    depth: int = 2
    hidden: int = 32
    dropout: float = 0.2
    lr: float = 0.01
    weight_decay: float = 5e-4
    epochs: int = 100
    select: Literal["loss", "accuracy"] = "accuracy"


# run.sh of the official code. The generated graph has Cora's, with fewer hops.
_DGMLP = {
    "cora": Recipe(20, 0.2, 0.2, 5e-3),
    "citeseer": Recipe(15, 0.1, 0.1, 5e-2),
    "pubmed": Recipe(20, 0.5, 0.2, 5e-5),
    GENERATED: Recipe(10, 0.2, 0.2, 5e-3),
}
# SGC-tuning/ and README of SGC's official code: no dropout, row-normalised features, the last epoch.
_SGC = {
    "cora": Recipe(2, 0.0, 0.2, 1.3026973714043257e-05, 100),
    "citeseer": Recipe(2, 0.0, 0.2, 2.3545587233182368e-05, 150),
    "pubmed": Recipe(2, 0.0, 0.2, 7.403929623323868e-05, 100),
}
# S2GC's scripts, as DGMLP's official code ships them: likewise.
_S2GC = {
    "cora": Recipe(16, 0.0, 0.2, 1e-5, 100),
    "citeseer": Recipe(16, 0.0, 0.2, 1e-4, 150),
    "pubmed": Recipe(16, 0.0, 0.2, 2e-5, 100),
}
# Layers -> hops of each, by model: D_p = D_t; D_p = 2 D_t; D_t = 2 (the knob is D_p); D_p = 0
FAMILIES: dict[str, tuple[Callable[[int], list[int]], Literal["res", "dense"] | None]] = {
    "gcn": (lambda depth: [1] * depth, None),
    "gcn_two_hops": (lambda depth: [2] * depth, None),
    "gcn_two_layers": (lambda depth: [depth - depth // 2, depth // 2], None),
    "resgcn": (lambda depth: [1] * depth, "res"),
    "densegcn": (lambda depth: [1] * depth, "dense"),
    "mlp": (lambda depth: [0] * depth, None),
    "mlp_res": (lambda depth: [0] * depth, "res"),
    "mlp_dense": (lambda depth: [0] * depth, "dense"),
}


def _mixed(features: Callable[[Task, int], Tensor]) -> Callable[[Task, Recipe], tuple[nn.Module, Tensor]]:
    """DGMLP's classifier of the citation graphs, one linear layer, and the features (N, F) that it takes."""

    def build(task: Task, recipe: Recipe) -> tuple[nn.Module, Tensor]:
        x = features(task, recipe.K)
        return ResidualMLP(x.shape[1], 0, task.num_classes, dropout=recipe.dropout).to(x.device), x

    return build


def _hops(weights: Callable[[int], Tensor]) -> Callable[[Task, int], Tensor]:
    return lambda task, K: weighted_hops(task.x, task.adjacency, weights(K))


def _linear(weights: Callable[[int], Tensor]) -> Callable[[Task, Recipe], tuple[nn.Module, Tensor]]:
    """The linear classifier of SGC's and S2GC's own code, without dropout."""

    def build(task: Task, recipe: Recipe) -> tuple[nn.Module, Tensor]:
        x = _hops(weights)(task, recipe.K)
        return nn.Linear(x.shape[1], task.num_classes).to(x.device), x

    return build


def _deep(name: str) -> Callable[[Task, DeepRecipe], GCN]:
    hops, residual = FAMILIES[name]
    return lambda task, recipe: GCN(
        task.x.shape[1], recipe.hidden, task.num_classes, hops(recipe.depth), dropout=recipe.dropout, residual=residual
    ).to(task.x.device)


CONTENDERS = {
    "dgmlp": Contender(_mixed(lambda task, K: smoothed_features(task.x, task.adjacency, K)), _DGMLP),
    "dgmlp_paper": Contender(
        _mixed(lambda task, K: smoothed_features(task.x, task.adjacency, K, stationary="paper")), _DGMLP
    ),
    "uniform": Contender(_mixed(_hops(uniform)), _DGMLP),
    "sgc": Contender(_mixed(_hops(last_hop)), _DGMLP),
    **{name: Contender(_deep(name), DeepRecipe()) for name in FAMILIES},
}
"""Under one protocol: DGMLP's classifier and recipe for all mixes, one recipe for all deep networks."""

PUBLISHED = {
    "sgc": Contender(_linear(last_hop), _SGC, less="its authors' hyper-parameters, at most 150 epochs"),
    "s2gc": Contender(_linear(s2gc), _S2GC, less="its authors' hyper-parameters, at most 150 epochs"),
    "gcn": Contender(_deep("gcn"), DeepRecipe(hidden=16, dropout=0.5, epochs=200, select="loss")),
}
"""As their own authors train them."""


def optimizer_of(model: nn.Module, recipe: DeepRecipe) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)


def train(name: str, task: Task, recipe: Any) -> tuple[nn.Module, Fit]:
    """Build a contender and train it by the recipe; the model is left as it is after the last epoch."""
    if isinstance(recipe, DeepRecipe):
        model = CONTENDERS[name].build(task, recipe)
        return model, fit_deep(model, task, optimizer_of(model, recipe), recipe.epochs, select=recipe.select)
    model, features = CONTENDERS[name].build(task, recipe)
    return model, fit_rows(model, features, task, recipe)


def example(seed: int = 0) -> Task:
    """A generated graph of 800 vertices in four communities."""
    return load_task(Run("example", "quick", seed, GENERATED))

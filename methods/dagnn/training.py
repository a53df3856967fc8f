"""How every contender is trained: the published hyper-parameters, and the stop rule that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.transforms import NormalizeFeatures

from methods.dagnn.baselines import MODELS
from methods.shared.graph import propagation
from methods.shared.node_classification import Fit, History, Masks, fit
from methods.shared.sparse import SparseMatrix

MOSTLY_ZERO = 0.25  # share of non-zero features below which the sparse product is the faster one


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one method on one graph.

    Attributes:
        depth: hops (K), or layers of the GCN and the MLP.
        hidden: width of hidden layers.
        dropout: probability.
        lr, weight_decay: Adam's, on all parameters.
        epochs: at most; each is a step and an evaluation.
        window: the stop rule's, see `mean_rule`.
        normalize: rows of the features sum to 1.
    """

    depth: int
    dropout: float
    weight_decay: float
    lr: float = 0.01
    hidden: int = 64
    epochs: int = 1_000
    window: int = 100
    normalize: bool = True


def _like_torch_geometric(**changes: object) -> Recipe:
    """torch-geometric's benchmark of the citation graphs, where the paper's baselines come from."""
    fields = dict(depth=2, dropout=0.5, weight_decay=5e-4, epochs=200, window=10)
    return Recipe(**{**fields, **changes})  # type: ignore[arg-type]


_DAGNN = {
    "cora": Recipe(depth=10, dropout=0.8, weight_decay=5e-3),
    "citeseer": Recipe(depth=10, dropout=0.5, weight_decay=2e-2),
    "pubmed": Recipe(depth=20, dropout=0.8, weight_decay=5e-3),
}
_SGC = {"cora": (3, 5e-4), "citeseer": (2, 5e-3), "pubmed": (2, 5e-4)}

PUBLISHED: dict[str, dict[str, Recipe]] = {
    "dagnn": _DAGNN,
    "gcn": dict.fromkeys(_DAGNN, _like_torch_geometric(hidden=16)),
    "appnp": dict.fromkeys(_DAGNN, _like_torch_geometric(depth=10)),
    "sgc": {
        name: _like_torch_geometric(depth=k, dropout=0.0, lr=0.1, weight_decay=decay, normalize=False)
        for name, (k, decay) in _SGC.items()
    },
}

# No recipe for depth is published: the coupled and the decoupled model get the same one, of the GCN's published width.
DEEP = Recipe(depth=16, hidden=16, dropout=0.5, weight_decay=5e-4, epochs=400)

GENERATED = Recipe(depth=10, hidden=32, dropout=0.5, weight_decay=5e-4, epochs=120, window=60, normalize=False)


@dataclass(frozen=True)
class Task:
    """A graph made ready: x (N, F), its propagation (N, N), y (N,), and the masks of one split."""

    x: Tensor | SparseMatrix
    adjacency: SparseMatrix
    y: Tensor
    masks: Masks
    num_classes: int


def make_task(data: Data, device: torch.device | str = "cpu", *, normalize: bool = True) -> Task:
    """Prepare a graph; features that are mostly zero become a sparse matrix."""
    data = (NormalizeFeatures()(data.clone()) if normalize else data).to(device)
    full = float((data.x != 0).float().mean())
    return Task(
        x=SparseMatrix.from_dense(data.x) if full < MOSTLY_ZERO else data.x,
        adjacency=propagation(data.edge_index, data.num_nodes),
        y=data.y,
        masks=Masks.of(data),
        num_classes=int(data.y.max()) + 1,
    )


def mean_rule(epochs: int, window: int) -> Callable[[History], bool]:
    """The stop rule of the released code: from half of the epochs on, stop at a validation loss above the mean of the
    `window` losses before it."""

    def stop(history: History) -> bool:
        losses = history.val_loss
        before = losses[-window - 1 : -1]
        return len(losses) > epochs // 2 and losses[-1] > sum(before) / len(before)

    return stop


def build(method: str, task: Task, recipe: Recipe) -> nn.Module:
    """A contender for a task, freshly initialised, on the task's device."""
    model = MODELS[method](task.x.shape[1], recipe.hidden, task.num_classes, recipe.depth, recipe.dropout)
    return model.to(task.y.device)


def train(model: nn.Module, task: Task, recipe: Recipe) -> Fit:
    """Train by the recipe; the model is left with the weights of the lowest validation loss."""
    return fit(
        model, lambda: model(task.x, task.adjacency), task.y, task.masks, optimizer_of(model, recipe), recipe.epochs,
        select="loss", stop=mean_rule(recipe.epochs, recipe.window), restore=True,
    )  # fmt: skip


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)

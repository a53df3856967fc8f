"""How every contender is trained: what a recipe and a task are, and the stop rule that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.transforms import NormalizeFeatures

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


def train(model: nn.Module, task: Task, recipe: Recipe) -> Fit:
    """Train by the recipe; the model is left with the weights of the lowest validation loss."""
    return fit(
        model, lambda: model(task.x, task.adjacency), task.y, task.masks, optimizer_of(model, recipe), recipe.epochs,
        select="loss", stop=mean_rule(recipe.epochs, recipe.window), restore=True,
    )  # fmt: skip


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)

"""A data set made ready once, and training on only those rows that are in a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from assay.experiment import Run
from methods.shared.gcn import GCN
from methods.shared.graph import load_graph, propagation
from methods.shared.node_classification import Fit, Masks, fit
from methods.shared.sparse import SparseMatrix

SPARSE = 0.1  # share of non-zero features below which the first layer takes them as a sparse matrix


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a classifier on smoothed features; `epochs` steps of Adam on all training vertices."""

    K: int
    dropout: float
    lr: float
    weight_decay: float
    epochs: int = 200


@dataclass(frozen=True)
class Task:
    """A graph and its split.

    x (N, F), y (N,), adjacency: the propagation (N, N), masks: indices of training, validation and test vertices.
    """

    x: Tensor
    y: Tensor
    adjacency: SparseMatrix
    masks: Masks
    num_classes: int

    @property
    def rows(self) -> Tensor:
        """The vertices in a mask, those of the training first."""
        return torch.cat(tuple(self.masks))


def load_task(run: Run, *, normalize: bool = False, kept: float = 1.0) -> Task:
    """The run's data set.

    Args:
        normalize: scale each vertex' features to sum 1; only for the citation graphs.
        kept: share of the edges that stay, drawn by the run's seed.
    """
    data = load_graph(run.dataset, **({"normalize_features": True} if normalize else {}))
    edge_index = data.edge_index
    if kept < 1:
        generator = torch.Generator().manual_seed(run.seed)
        once = edge_index[:, edge_index[0] < edge_index[1]]
        once = once[:, torch.randperm(once.shape[1], generator=generator)[: round(kept * once.shape[1])]]
        edge_index = torch.cat([once, once.flip(0)], dim=1)
    device = run.device
    return Task(
        data.x.to(device), data.y.to(device), propagation(edge_index, len(data.y)).to(device),
        Masks(*[mask.to(device) for mask in Masks.of(data)]), int(data.y.max()) + 1,
    )  # fmt: skip


def row_forward(
    model: nn.Module, call: Callable[[Tensor], Tensor], rows: Tensor, masks: Masks
) -> tuple[Callable[[], Tensor], Masks]:
    """What `fit` calls, and its masks, for a model that takes each row by itself: a step sees training rows only.

    rows: (n, F) features of `Task.rows`.
    """
    places = torch.arange(len(rows), device=rows.device).split([len(mask) for mask in masks])
    train = rows[places[0]]
    return lambda: call(train if model.training else rows), Masks(*places)


def fit_rows(model: nn.Module, features: Tensor, task: Task, recipe: Recipe) -> Fit:
    """Train a classifier on features (N, F); only rows in a mask are used. The epoch of best validation accuracy."""
    forward, masks = row_forward(model, model, features[task.rows], task.masks)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return fit(model, forward, task.y[task.rows], masks, optimizer, recipe.epochs)


@torch.no_grad()
def last_accuracy(model: nn.Module, features: Tensor, task: Task) -> float:
    """Test accuracy in [0, 1] of a classifier as it is now, whatever its best epoch was."""
    model.eval()
    test = task.masks.test
    return float((model(features[test]).argmax(dim=1) == task.y[test]).float().mean())


def fit_deep(
    model: GCN, task: Task, optimizer: torch.optim.Optimizer, epochs: int, select: Literal["loss", "accuracy"]
) -> Fit:
    """Train a network of the GCN family on the whole graph; a perceptron, which has no hops, on rows in a mask."""
    if any(model.hops):
        x = SparseMatrix.from_dense(task.x) if float((task.x != 0).float().mean()) < SPARSE else task.x
        return fit(model, lambda: model(x, task.adjacency), task.y, task.masks, optimizer, epochs, select=select)
    forward, masks = row_forward(model, lambda x: model(x, task.adjacency), task.x[task.rows], task.masks)
    return fit(model, forward, task.y[task.rows], masks, optimizer, epochs, select=select)

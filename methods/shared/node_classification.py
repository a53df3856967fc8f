"""Training of a network that classifies the vertices of one graph, all of them in every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data

from methods.shared.graph import node_ids


class Masks(NamedTuple):
    """(N,) bool each, or the ids (n,) of the vertices; `fit` takes either, see `node_ids`."""

    train: Tensor
    val: Tensor
    test: Tensor

    @classmethod
    def of(cls, data: Data, split: int = 0) -> Masks:
        """Ids of the masks of a torch-geometric Data; of one column where it has many splits."""
        masks = [getattr(data, f"{part}_mask") for part in cls._fields]
        return cls(*[m if m.dim() == 1 else m[:, split] for m in masks]).ids(int(data.num_nodes))

    def ids(self, num_nodes: int) -> Masks:
        """Of N vertices, as ids. Raises what `node_ids` raises."""
        return Masks(*[node_ids(m, num_nodes, f"{part}_mask") for part, m in zip(self._fields, self, strict=True)])


@dataclass
class History:
    """What each epoch has shown: the training loss of its step, and after it the validation's loss and accuracy."""

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Fit:
    """Accuracies (in [0, 1]) at the chosen epoch (counted from 0), and what led there."""

    train_accuracy: float
    val_accuracy: float
    test_accuracy: float
    best_epoch: int
    history: History

    @property
    def epochs(self) -> int:
        """Epochs that were trained."""
        return len(self.history.val_loss)


def fit(
    model: nn.Module, forward: Callable[[], Tensor], y: Tensor, masks: Masks, optimizer: torch.optim.Optimizer,
    epochs: int, *, select: Literal["loss", "accuracy"] = "accuracy", patience: int | None = None,
    stop: Callable[[History], bool] | None = None, restore: bool = False,
) -> Fit:  # fmt: skip
    """Train by cross-entropy; keep the first epoch with the best validation, whatever the test says.

    Args:
        model: put into training and evaluation mode.
        forward: logits (N, C) of all vertices, e.g. `lambda: model(x, edge_index)`.
        y: (N,) classes.
        masks: of training, validation and test.
        optimizer: of the model's parameters.
        epochs: at most; each is one step and one evaluation.
        select: the epoch of the lowest validation loss, or of the highest validation accuracy.
        patience: end after so many epochs without a better one.
        stop: end where this says so, after an epoch.
        restore: leave the model with the weights of the chosen epoch, not of the last.

    Raises:
        FloatingPointError: a training loss is not finite, or no validation loss is.
        ValueError: no epochs, or an empty mask.
        TypeError, ValueError, IndexError: masks that `node_ids` refuses.
    """
    masks = masks.ids(len(y))
    sizes = [len(mask) for mask in masks]
    if epochs < 1 or not all(sizes):
        raise ValueError(f"fit: needs an epoch, and vertices in each mask; got {epochs} epochs, masks of {sizes}")
    history, best, best_epoch, counts, weights = History(), float("inf"), -1, None, None
    for epoch in range(epochs):
        history.train_loss.append(_step(model, forward, y, masks.train, optimizer))
        val_loss, right = _evaluate(model, forward, y, masks)
        history.val_loss.append(val_loss)
        history.val_accuracy.append(right[1] / len(masks.val))
        score = val_loss if select == "loss" else -history.val_accuracy[-1]
        if math.isfinite(val_loss) and score < best:  # of NaN logits the arg max would be class 0
            best, best_epoch, counts = score, epoch, right
            weights = deepcopy(model.state_dict()) if restore else None
        if (patience is not None and epoch - best_epoch >= patience) or (stop is not None and stop(history)):
            break
    if counts is None:
        raise FloatingPointError("no epoch had a finite validation loss")
    if weights is not None:
        model.load_state_dict(weights)
    train, val, test = (n / size for n, size in zip(counts, sizes, strict=True))
    return Fit(train, val, test, best_epoch, history)


def _step(
    model: nn.Module, forward: Callable[[], Tensor], y: Tensor, train: Tensor, optimizer: torch.optim.Optimizer
) -> float:
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(forward()[train], y[train])
    loss.backward()
    optimizer.step()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise FloatingPointError(f"training loss is {value}")
    return value


@torch.no_grad()
def _evaluate(
    model: nn.Module, forward: Callable[[], Tensor], y: Tensor, masks: Masks
) -> tuple[float, tuple[int, int, int]]:
    """Validation loss, and how many vertices of each mask are right."""
    model.eval()
    logits = forward()
    right = logits.argmax(dim=1) == y
    counts = tuple(int(right[mask].sum()) for mask in masks)
    return float(F.cross_entropy(logits[masks.val], y[masks.val])), counts

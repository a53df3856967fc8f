"""Training of a network that classifies the vertices of one graph, all of them in every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data

from methods.shared.graph import node_ids
from methods.shared.training import train, update


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
    if not all(sizes):
        raise ValueError(f"fit: needs vertices in each mask; got masks of {sizes}")
    history, right = History(), []

    def step() -> float:
        model.train()
        history.train_loss.append(float(update(optimizer, F.cross_entropy(forward()[masks.train], y[masks.train]))))
        return history.train_loss[-1]

    def validate() -> float:
        model.eval()
        logits = forward()
        right.append([int((logits[mask].argmax(dim=1) == y[mask]).sum()) for mask in masks])
        history.val_loss.append(float(F.cross_entropy(logits[masks.val], y[masks.val])))
        history.val_accuracy.append(right[-1][1] / len(masks.val))
        if not math.isfinite(history.val_loss[-1]):  # of NaN logits the arg max would be class 0
            return math.nan
        return -history.val_loss[-1] if select == "loss" else history.val_accuracy[-1]

    kept = {} if restore else dict(snapshot=lambda: (), restore=lambda _: None)
    training = train(
        model, step, validate, epochs=epochs, patience=patience,
        stop=None if stop is None else lambda _: stop(history), **kept,
    )  # fmt: skip
    chosen = training.best_epoch - 1
    return Fit(*[n / size for n, size in zip(right[chosen], sizes, strict=True)], chosen, history)

"""The protocol of the paper, shared by every method here: splits, early stopping on validation, accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from methods.shared.checks import check_numbers, check_sizes
from methods.shared.training import Training
from methods.shared.training import train as train_by_validation

FOLDS, FOLD_SEED, VALIDATION_SEED = 5, 101, 127


@dataclass(frozen=True)
class Protocol:
    """Adam, and when to stop. The defaults are the paper's.

    Attributes:
        lr, weight_decay: of Adam.
        epochs: at most, for each layer where layers are trained one by one.
        validate_every: epochs between two validations.
        patience: validations without a better one, after which training ends.

    Raises:
        TypeError, ValueError: a rate that is not above 0, a negative decay, or a number of epochs below 1.
    """

    lr: float = 1e-3
    weight_decay: float = 5e-4
    epochs: int = 1000
    validate_every: int = 2
    patience: int = 100

    def __post_init__(self) -> None:
        check_numbers("Protocol", above=0.0, lr=self.lr)
        check_numbers("Protocol", least=0.0, weight_decay=self.weight_decay)
        check_sizes("Protocol", epochs=self.epochs, validate_every=self.validate_every, patience=self.patience)

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(module.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)


PAPER = Protocol()


def train(module: nn.Module, step: Callable[[], Tensor], validate: Callable[[], float], protocol: Protocol) -> Training:
    """The repository's loop (`methods.shared.training`) by a protocol: `module` ends at its first best validation."""
    return train_by_validation(
        module, step, validate, epochs=protocol.epochs, every=protocol.validate_every, patience=protocol.patience
    )


def accuracy(scores: Tensor, y: Tensor) -> float:
    """Share of rows (n, C) whose largest score is at the class y (n,); NaN if a score is not finite."""
    if not bool(scores.isfinite().all()):
        return float("nan")
    return float((scores.argmax(dim=1) == y).float().mean())


def published_split(num_nodes: int, split: int) -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test nodes of one of the authors' five splits, 64/16/20; ascending indices.

    Raises:
        ValueError: no such split.
    """
    from sklearn.model_selection import KFold, train_test_split  # takes a second, and a user's own graph needs none

    if not 0 <= split < FOLDS:
        raise ValueError(f"split: the paper has splits 0 to {FOLDS - 1}, got {split}")
    folds = KFold(FOLDS, shuffle=True, random_state=FOLD_SEED).split(np.arange(num_nodes))
    others, test = list(folds)[split]
    train_nodes, val = train_test_split(others, test_size=0.2, random_state=VALIDATION_SEED * split, shuffle=True)
    return torch.from_numpy(np.sort(train_nodes)), torch.from_numpy(np.sort(val)), torch.from_numpy(test)

"""The protocol of the paper, shared by every method here: splits, early stopping on validation, accuracy."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

FOLDS, FOLD_SEED, VALIDATION_SEED = 5, 101, 127


@dataclass(frozen=True)
class Protocol:
    """Adam, and when to stop. The defaults are the paper's.

    Attributes:
        lr, weight_decay: of Adam.
        epochs: at most, for each layer where layers are trained one by one.
        validate_every: epochs between two validations.
        patience: validations without a better one, after which training ends.
    """

    lr: float = 1e-3
    weight_decay: float = 5e-4
    epochs: int = 1000
    validate_every: int = 2
    patience: int = 100

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(module.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)


PAPER = Protocol()


@dataclass
class Training:
    """How one training went: the best validation, where it was (epoch, from 1), and what each validation has shown."""

    best: float = -1.0
    best_epoch: int = 0
    epochs: int = 0
    validated: list[int] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)


def train(module: nn.Module, step: Callable[[], Tensor], validate: Callable[[], float], protocol: Protocol) -> Training:
    """Call `step` once an epoch; leave `module` with the state of the first best validation.

    Args:
        module: whose state is kept and restored.
        step: one update; returns the loss.
        validate: a score, higher is better, at the present state.

    Raises:
        FloatingPointError: the loss is not finite at a validation.
    """
    training, state = Training(), None
    for epoch in range(1, protocol.epochs + 1):
        loss = step()
        training.epochs = epoch
        if epoch % protocol.validate_every:
            continue
        training.loss.append(float(loss))
        if not np.isfinite(training.loss[-1]):
            raise FloatingPointError(f"the loss is {training.loss[-1]} after {epoch} epochs; lower the learning rate")
        with torch.no_grad():
            score = validate()
        training.validated.append(epoch)
        training.validation.append(score)
        if score > training.best:
            training.best, training.best_epoch, state = score, epoch, deepcopy(module.state_dict())
        elif len(training.validated) - training.best_epoch // protocol.validate_every >= protocol.patience:
            break
    if state is not None:
        module.load_state_dict(state)
    return training


def update(optimizer: torch.optim.Optimizer, loss: Tensor, max_norm: float | None = None) -> Tensor:
    """One step, with gradients clipped to `max_norm`; they do not outlive it."""
    loss.backward()
    if max_norm is not None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_norm)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def nodes_of(mask: Tensor) -> Tensor:
    """The nodes (m,) of a mask (N,), ascending. Raises ValueError for the masks of several splits."""
    if mask.dim() != 1:
        raise ValueError(
            f"masks of shape {tuple(mask.shape)} hold several splits; choose one: data.train_mask[:, split], ..."
        )
    return mask.nonzero().squeeze(1)


def accuracy(scores: Tensor, y: Tensor) -> float:
    """Share of rows (n, C) whose largest score is at the class y (n,)."""
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

"""The loop that every trained contender goes through: step, validate, keep the best, stop early, restore.

    trained = train(model, step=lambda: update(optimizer, loss()), validate=lambda: accuracy(model(x)[val], y[val]),
                    epochs=200, patience=20)

One loop for all, so that no paper can choose an epoch by anything but its validation, let something win that is not
finite, or stop one contender by another rule than the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from methods.shared.checks import check_sizes


@dataclass
class Training:
    """How one training went. Epochs are counted from 1.

    Attributes:
        loss: of every epoch.
        validated: the epochs after which was validated.
        score: of each validation; higher is better.
        best_epoch: the first one with the best score; 0 where nothing was validated.
    """

    loss: list[float] = field(default_factory=list)
    validated: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    best_epoch: int = 0

    @property
    def epochs(self) -> int:
        """How many were trained."""
        return len(self.loss)

    @property
    def best(self) -> float:
        """The score of the best epoch."""
        return self.score[self.validated.index(self.best_epoch)]


def train(
    module: nn.Module,
    step: Callable[[], Tensor | float],
    validate: Callable[[], float] | None = None,
    *,
    epochs: int,
    every: int = 1,
    patience: int | None = None,
    stop: Callable[[Training], bool] | None = None,
    snapshot: Callable[[], Any] | None = None,
    restore: Callable[[Any], object] | None = None,
) -> Training:
    """Train, and leave the module in the state of the first best validation; without `validate`, of the last epoch.

    Args:
        module: whose state is kept.
        step: one epoch of training; returns its loss.
        validate: a score on validation data at the present state; higher is better. NaN is worse than any number.
        epochs: at most.
        every: epochs between two validations.
        patience: validations without a better one, after which training ends.
        stop: ends training where it says so, after a validation.
        snapshot, restore: what is kept of the best epoch and how it is put back; default the module's state dict.

    Raises:
        ValueError, TypeError: epochs, every or patience below 1, or no whole number.
        FloatingPointError: a loss is not finite, or the score of no validation is a number.
    """
    check_sizes("train", epochs=epochs, every=every, **({} if patience is None else {"patience": patience}))
    snapshot = snapshot or (lambda: deepcopy(module.state_dict()))
    restore = restore or module.load_state_dict
    training, best, kept, name = Training(), -math.inf, None, type(module).__name__
    for epoch in range(1, epochs + 1):
        training.loss.append(float(step()))
        require_finite_loss(name, training.loss[-1], f" in epoch {epoch}")
        if validate is None or epoch % every:
            continue
        with torch.no_grad():
            score = float(validate())
        training.validated.append(epoch)
        training.score.append(score)
        if score > best:  # never true of NaN
            training.best_epoch, best, kept = epoch, score, snapshot()
        late = (
            patience is not None
            and len(training.score) - training.validated.index(training.best_epoch or epoch) > patience
        )
        if late or (stop is not None and stop(training)):
            break
    if training.score and kept is None:
        raise FloatingPointError(f"{name}: none of {len(training.score)} validations gave a number above -inf")
    if kept is not None:
        restore(kept)
    return training


def update(optimizer: torch.optim.Optimizer, loss: Tensor, max_norm: float | None = None) -> Tensor:
    """One step of the optimizer; gradients are clipped to `max_norm` and freed afterwards. Returns the loss."""
    optimizer.zero_grad()  # of what others have left there
    loss.backward()
    if max_norm is not None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_norm)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def mean_loss(losses: Iterable[Tensor]) -> float:
    """The mean over the batches of an epoch, which are trained as this asks for them."""
    total, count = 0.0, 0
    for loss in losses:
        total, count = total + loss, count + 1
    return float(total) / count


def require_finite_loss(name: str, loss: Tensor | float, where: str = "") -> None:
    """Raises FloatingPointError where the loss of the model of this name is NaN or infinite."""
    value = loss.item() if isinstance(loss, Tensor) else loss
    if not math.isfinite(value):
        raise FloatingPointError(f"{name}: the loss is {value}{where}; lower the learning rate")


def require_finite_scores(name: str, scores: Iterable[Tensor]) -> None:
    """The same for the scores of an evaluation, so that a model that has diverged is neither kept nor reported."""
    found = torch.cat([score.flatten() for score in scores])
    bad = int((~torch.isfinite(found)).sum())
    if bad:
        raise FloatingPointError(
            f"{name}: {bad} of {found.numel()} scores of the evaluation are NaN or infinite; lower the learning rate"
        )

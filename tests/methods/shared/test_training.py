"""The training loop: what it keeps, when it stops, and that nothing wins that is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from methods.shared.training import (
    Training,
    mean_loss,
    require_finite_loss,
    require_finite_scores,
    train,
    update,
)


class Counter(nn.Module):
    """A module whose state is how many steps it has made."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def step(self) -> float:
        self.steps += 1
        return float(self.steps)


def scores(*values: float) -> Callable[[], float]:
    found: Iterator[float] = iter(values)
    return lambda: next(found)


def test_the_first_best_epoch_is_kept_and_restored() -> None:
    module = Counter()
    training = train(module, module.step, scores(0.1, 0.7, 0.3, 0.7), epochs=4)
    assert (training.best_epoch, training.best, training.epochs, float(module.steps)) == (2, 0.7, 4, 2)
    assert training.loss == [1, 2, 3, 4]


def test_without_validation_the_last_epoch_stays() -> None:
    module = Counter()
    training = train(module, module.step, epochs=3)
    assert (float(module.steps), training.best_epoch, training.score) == (3, 0, [])


def test_patience_counts_validations_without_a_better_one() -> None:
    module = Counter()
    training = train(module, module.step, scores(0.1, 0.5, 0.4, 0.5, 0.3, 0.9), epochs=20, every=2, patience=3)
    assert training.validated == [2, 4, 6, 8, 10]
    assert (training.best_epoch, float(module.steps)) == (4, 4)


def test_a_stop_rule_sees_what_was_trained_so_far() -> None:
    module = Counter()
    training = train(module, module.step, scores(0.1, 0.2, 0.3), epochs=9, stop=lambda seen: seen.loss[-1] == 3)
    assert (training.epochs, training.best_epoch) == (3, 3)


def test_a_score_that_is_no_number_never_wins() -> None:
    module = Counter()
    training = train(module, module.step, scores(math.nan, 0.2, math.nan, 0.1), epochs=4)
    assert (training.best_epoch, float(module.steps)) == (2, 2)
    with pytest.raises(FloatingPointError, match="Counter: none of 2 validations gave a number"):
        train(module, module.step, scores(math.nan, math.nan), epochs=2)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_training(loss: float) -> None:
    with pytest.raises(FloatingPointError, match=f"Counter: the loss is {loss} in epoch 2"):
        train(Counter(), scores(1.0, loss), epochs=5)


def test_another_state_can_be_kept() -> None:
    state = {"at": 0}

    def step() -> float:
        state["at"] += 1
        return 0.0

    train(nn.Linear(1, 1), step, scores(1, 3, 2), epochs=3, snapshot=lambda: dict(state), restore=state.update)
    assert state["at"] == 2


@pytest.mark.parametrize("wrong", [dict(epochs=0), dict(epochs=2, every=0), dict(epochs=2, patience=0)])
def test_nothing_to_do_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"train: .* must be at least 1; got 0"):
        train(Counter(), lambda: 0.0, **wrong)  # type: ignore[arg-type]


def test_validation_takes_no_gradient() -> None:
    seen: list[bool] = []

    def validate() -> float:
        seen.append(torch.is_grad_enabled())
        return 0.0

    train(Counter(), lambda: 0.0, validate, epochs=1)
    assert seen == [False]


def test_an_update_descends_and_clips() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    weight.grad = torch.ones(2)  # of something else
    for _ in range(2):  # the gradients of one step do not reach the next
        before = weight.detach().clone()
        loss = update(optimizer, 10 * weight.norm(), max_norm=0.5)
        torch.testing.assert_close((before - weight).norm(), torch.tensor(0.5))
        assert loss.requires_grad is False
        assert weight.grad is None
    assert isinstance(train(nn.Linear(1, 1), lambda: 0.0, epochs=1), Training)


def test_an_epoch_is_the_mean_of_its_batches() -> None:
    assert mean_loss(torch.tensor(value) for value in (1.0, 2.0, 6.0)) == 3


def test_losses_and_scores_that_are_not_finite_are_refused_with_the_name_of_their_model() -> None:
    require_finite_loss("Net", torch.tensor(1.0))
    with pytest.raises(FloatingPointError, match="Net: the loss is inf in the batch at event 3; lower"):
        require_finite_loss("Net", torch.tensor(math.inf), " in the batch at event 3")
    scores = [torch.zeros(2, 1), torch.tensor([math.nan, 1.0, -math.inf])]
    require_finite_scores("Net", scores[:1])
    with pytest.raises(FloatingPointError, match="Net: 2 of 5 scores of the evaluation are NaN or infinite"):
        require_finite_scores("Net", scores)

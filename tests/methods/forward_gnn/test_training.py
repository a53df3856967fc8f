"""The protocol: splits, early stopping, and the paper's count of memory."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import nn

from methods.forward_gnn.training import Protocol, accuracy, published_split, train
from tests.methods.unusual import assert_takes_or_refuses


class Counter(nn.Module):
    """Its one parameter is the number of steps taken."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Parameter(torch.zeros(()))

    def step(self) -> torch.Tensor:
        with torch.no_grad():
            self.steps += 1
        return self.steps.detach()


@pytest.mark.parametrize(("split", "sizes"), [(0, (1916, 480, 599)), (3, (1916, 480, 599))])
def test_the_splits_have_the_published_sizes_and_part_the_nodes(split: int, sizes: tuple[int, ...]) -> None:
    parts = published_split(2995, split)
    assert tuple(map(len, parts)) == sizes
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(2995))


def test_the_splits_never_change() -> None:
    text = ",".join(str(int(node)) for node in published_split(2995, 0)[2])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "bcd37669767ebc7e"
    with pytest.raises(ValueError, match="splits 0 to 4, got 5"):
        published_split(2995, 5)


def test_the_first_best_validation_is_kept_and_patience_counts_validations() -> None:
    scores = iter([0.1, 0.5, 0.5, 0.3, 0.2, 0.9])
    counter = Counter()
    training = train(counter, counter.step, lambda: next(scores), Protocol(epochs=100, validate_every=2, patience=3))
    assert training.validated == [2, 4, 6, 8, 10]
    assert (training.best, training.best_epoch, training.epochs) == (0.5, 4, 10)
    assert counter.steps == 4


def test_without_a_better_validation_training_goes_on_to_its_last_epoch() -> None:
    scores = iter(range(100))
    counter = Counter()
    training = train(counter, counter.step, lambda: next(scores), Protocol(epochs=7, validate_every=2, patience=1))
    assert (training.epochs, training.best_epoch, int(counter.steps)) == (7, 6, 6)


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1"):
        train(Counter(), lambda: torch.tensor(float("nan")), lambda: 0.0, Protocol())


def test_accuracy_is_the_share_of_right_rows_and_no_number_where_a_score_is_none() -> None:
    scores, y = torch.eye(4), torch.tensor([0, 1, 2, 0])
    assert accuracy(scores, y) == 0.75
    scores[3, 1] = torch.nan
    assert accuracy(scores, y) != accuracy(scores, y)


def test_a_protocol_is_checked_when_it_is_made() -> None:
    assert_takes_or_refuses(Protocol, lr=0.1, weight_decay=0.0, epochs=3, validate_every=1, patience=2)

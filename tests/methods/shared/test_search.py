"""Searching: every trial counts, and the best is the best of validation."""

from __future__ import annotations

import math

import pytest

from methods.shared.search import grid, sample, search


def test_a_grid_is_every_combination() -> None:
    assert grid(lr=[1, 2], depth=["a", "b"]) == [
        {"lr": 1, "depth": "a"}, {"lr": 1, "depth": "b"}, {"lr": 2, "depth": "a"}, {"lr": 2, "depth": "b"},
    ]  # fmt: skip
    with pytest.raises(ValueError, match="knob 'depth' has no value"):
        grid(lr=[1], depth=[])


def test_a_sample_draws_no_setting_twice_and_repeats_by_its_seed() -> None:
    space = dict(lr=range(5), depth=range(4))
    drawn = sample(space, 12, seed=0)
    assert len({tuple(s.values()) for s in drawn}) == 12
    assert drawn == sample(space, 12, seed=0) != sample(space, 12, seed=1)
    assert sorted(map(str, sample(space, 100, seed=0))) == sorted(map(str, grid(**space)))
    with pytest.raises(ValueError, match="trials must be at least 1; got 0"):
        sample(space, 0, seed=0)


def test_the_best_is_the_first_with_the_best_score() -> None:
    found = search(lambda s: s["x"], grid(x=[1, 3, 2, 3]), by=lambda x: float(x))
    assert (found.best.settings, found.trials) == ({"x": 3}, 4)
    assert found.best is found.tried[1]
    assert search(lambda s: s["x"], grid(x=[2, 1, 3]), by=float, lower=True).best.result == 1


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_trial_that_is_not_finite_never_wins_but_counts(bad: float, lower: bool) -> None:
    found = search(lambda s: s["x"], grid(x=[bad, 1.0, bad]), by=float, lower=lower)
    assert (found.best.result, found.trials) == (1.0, 3)
    with pytest.raises(FloatingPointError, match="none of 1 trials"):
        search(lambda s: s["x"], grid(x=[bad]), by=float, lower=lower)


def test_a_trial_that_diverges_counts_and_is_not_drawn_again() -> None:
    def run(settings: dict[str, float]) -> float:
        if settings["x"] == 1:
            raise FloatingPointError("the loss is nan")
        return settings["x"]

    found = search(run, grid(x=[1, 0]), by=float)
    assert (found.best.result, found.trials, found.tried[0].result) == (0, 2, None)
    with pytest.raises(ValueError, match="no setting to try"):
        search(run, [], by=float)

"""What a cell of the calibration allows: the false verdicts that were promised, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from assay.calibrate import TRIALS, _Simulation
from assay.verdict.regions import CONTRADICTED, DIRECTION_ONLY, REPRODUCED


def words(reproduced: int, contradicted: int, of: int = 1000) -> np.ndarray:
    rest = of - reproduced - contradicted
    return np.array([REPRODUCED] * reproduced + [CONTRADICTED] * contradicted + [DIRECTION_ONLY] * rest)


def test_a_null_at_the_bar_may_be_missed_neither_more_often_nor_less_than_promised() -> None:
    s = _Simulation(TRIALS)
    for share, ok in ((18, False), (20, True), (25, True), (31, True), (33, False)):
        assert s.exact("c", 3, words(share, 500), REPRODUCED).ok == ok, share
    assert s.exact("c", 3, words(15, 10), REPRODUCED, CONTRADICTED).rate == 0.025


def test_a_bounded_cell_may_be_better_than_promised_and_not_worse() -> None:
    s = _Simulation(TRIALS)
    for share, ok in ((0, True), (31, True), (33, False)):
        assert s.bounded("c", 3, words(share, 500), REPRODUCED).ok == ok, share


def test_power_is_held_to_two_points_on_both_sides() -> None:
    s = _Simulation(TRIALS)
    for share, ok in ((375, False), (385, True), (415, True), (425, False)):
        assert s.power("c", 3, words(share, 0), 0.4).ok == ok, share


def test_fewer_trials_widen_what_is_allowed_by_the_square_root() -> None:
    whole, quarter = (_Simulation(trials).power("c", 3, words(400, 0), 0.4) for trials in (TRIALS, TRIALS // 4))
    assert quarter.high - quarter.low == pytest.approx(2 * (whole.high - whole.low))


def test_each_cell_has_noise_of_its_own_and_always_the_same() -> None:
    s = _Simulation(50)
    first = s.normal("one", 3)
    assert first.shape == (50, 3)
    np.testing.assert_array_equal(first, s.normal("one", 3))
    for other in (s.normal("two", 3), s.normal("one", 5)[:, :3]):
        assert not np.isin(other, first).any()

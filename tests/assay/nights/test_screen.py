"""The alarm keeps its rates in simulated nights, and the simulation sees it when the alarm does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, t, ttest_1samp, ttest_ind

from assay.calibrate import Cell
from assay.nights import screen
from assay.nights.calibrate import calibrate_alarm, everything, false_alarms, power, screening

pytestmark = pytest.mark.statistics
FEWER = 600
RNG = np.random.default_rng
Mutate = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return calibrate_alarm()


def of(cells: list[Cell], words: str) -> list[Cell]:
    return [cell for cell in cells if words in cell.name]


def test_the_alarm_passes_every_cell(cells: list[Cell]) -> None:
    assert [str(cell) for cell in cells if not cell.ok] == []


def test_false_alarms_are_as_rare_as_promised_and_do_occur(cells: list[Cell]) -> None:
    rates = [cell.rate for cell in of(cells, "nothing changed: alarm")]
    assert len(rates) == 6
    assert 0.006 <= max(rates) <= 0.026


def test_ten_percent_are_found_as_often_as_promised(cells: list[Cell]) -> None:
    rates = [cell.rate for cell in of(cells, "one hot path 10 % slower: found")]
    assert len(rates) == 6
    assert min(rates) >= 0.85
    assert max(rates) >= 0.97


def test_the_same_trials_give_the_same_rates() -> None:
    for group in (false_alarms, power, screening, everything):
        assert list(group(100)) == list(group(100))


def no_median_subtracted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(screen, "centred", lambda x: x)


def no_shrinkage(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(screen, "shrunk", lambda variances, degrees: variances)


def only_the_other_hot_paths_variance(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(screen, "shrunk", lambda v, degrees: np.median(v, axis=-1, keepdims=True) * np.ones_like(v))


def z_for_t(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(screen, "upper_tail", lambda change, error, degrees: norm.sf(change / error))


def nothing_confirmed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(screen, "confirm", lambda ratios: [screen.Tested(1.0, 0.0, True) for _ in ratios])


def suspects_not_counted(patch: pytest.MonkeyPatch) -> None:
    real = screen.confirm
    patch.setattr(screen, "confirm", lambda ratios: [real(row[None])[0] for row in ratios])


def couples_torn_apart(patch: pytest.MonkeyPatch) -> None:
    real = screen.paired
    patch.setattr(screen, "paired", lambda old, new: real(np.roll(old, 1, axis=1), new))


def any_slow_down_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(screen, "BAR", 0.0)


def canaries_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(screen, "_above_canaries", lambda times, canaries: np.median(times, axis=-1))


def two_sided(patch: pytest.MonkeyPatch) -> None:
    real = screen.upper_tail
    patch.setattr(screen, "upper_tail", lambda change, error, degrees: 2 * real(np.abs(change), error, degrees))


Group = Callable[[int], Iterator[Cell]]

# with the cells in which a fault shows
MUTANTS: list[tuple[Mutate, Group, str]] = [
    (no_median_subtracted, screening, "10 processes"),
    (no_shrinkage, screening, "3 processes"),
    (only_the_other_hot_paths_variance, screening, "3 processes"),
    (z_for_t, screening, "3 processes"),
    (two_sided, screening, "3 processes"),
    (nothing_confirmed, false_alarms, "noisy"),
    (suspects_not_counted, false_alarms, "noisy"),
    (any_slow_down_counts, false_alarms, "below the bar"),
    (couples_torn_apart, power, "calm"),
    (canaries_ignored, everything, "the machine 10 % slower"),
]


@pytest.mark.parametrize(("mutate", "group", "where"), MUTANTS)
def test_a_faulty_alarm_fails_where_the_fault_is(
    mutate: Mutate, group: Group, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    failed = [cell for cell in group(FEWER) if not cell.ok]
    assert of(failed, where), [str(cell) for cell in failed]


def nights(seed: int = 0, processes: int = 10, hot_paths: int = 7) -> tuple[Any, Any]:
    old, new = RNG(seed).normal(-7, 0.05, size=(2, processes, hot_paths))
    new[:, 2] += 0.2
    return old, new


def test_the_screen_is_the_formula_of_the_verdicts() -> None:
    old, new = nights()
    k = 10
    z_old, z_new = (x - np.median(x, axis=1, keepdims=True) for x in (old, new))
    d = z_new.mean(0) - z_old.mean(0)
    s2 = (z_old.var(0, ddof=1) + z_new.var(0, ddof=1)) / 2
    v = (4 * np.median(s2) + (2 * k - 2) * s2) / (2 * k + 2)
    p = t.sf(d / np.sqrt(2 * v / k), 2 * k + 2)
    found = screen.screen(old, new)
    np.testing.assert_allclose(found.change, d, rtol=1e-12)
    np.testing.assert_allclose(found.p, p, rtol=1e-12)
    assert list(found.flagged) == list((p < 0.05) & (d > math.log(1.03)))
    assert list(np.flatnonzero(found.flagged)) == [2]


def test_confirming_is_a_paired_t_test_shared_by_the_suspects() -> None:
    old, new = RNG(1).normal(-7, 0.05, size=(2, 3, 20, 30))
    new[1] += 0.1
    ratios = screen.paired(old, new)
    found = screen.confirm(ratios)
    for row, tested in zip(ratios, found, strict=True):
        expected = ttest_1samp(row, 0, alternative="greater")
        assert tested.p == pytest.approx(expected.pvalue, rel=1e-9)
        assert tested.slower == (expected.pvalue < 0.025 / 3 and row.mean() > math.log(1.03))
    assert [tested.slower for tested in found] == [False, True, False]


def test_the_level_is_shared_by_the_suspects() -> None:
    z = RNG(4).normal(size=20)
    z = (z - z.mean()) / z.std(ddof=1)
    ratios = 0.1 * (1 + z * math.sqrt(20) / t.isf(0.015, 19))  # so that p is 0.015
    (alone,) = screen.confirm(ratios[None])
    assert alone.p == pytest.approx(0.015)
    assert alone.slower
    assert [tested.slower for tested in screen.confirm(np.tile(ratios, (3, 1)))] == [False] * 3


def test_one_interrupted_pair_moves_nothing() -> None:
    new = np.zeros((1, 2, 9))
    new[0, 0, 3] = 100.0
    assert list(screen.paired(np.zeros_like(new), new)[0]) == [0.0, 0.0]


def test_everything_together_is_called_slower_above_the_bar_only() -> None:
    old, canaries = np.zeros((10, 5)), np.zeros((10, 3))
    found = [screen.everything(old, old + change, canaries, canaries) for change in (0.02, 0.04)]
    assert [(tested.p < 0.01, tested.slower) for tested in found] == [(True, False), (True, True)]


def test_everything_is_welch_of_medians_above_the_canaries() -> None:
    old, new = nights(2)
    canaries = RNG(3).normal(-6, [[[0.01]], [[0.05]]], size=(2, 10, 3))
    new = new + 0.1
    a, b = (np.median(x, axis=1) - np.median(c, axis=1) for x, c in zip((old, new), canaries, strict=True))
    found = screen.everything(old, new, *canaries)
    assert found.p == pytest.approx(ttest_ind(b, a, equal_var=False, alternative="greater").pvalue, rel=1e-9)
    assert found.slower


def test_a_shift_that_all_share_flags_nothing_and_moves_no_change() -> None:
    old, new = nights()
    np.testing.assert_allclose(screen.screen(old, new + 0.5).change, screen.screen(old, new).change, atol=1e-12)


def test_times_without_any_spread_are_judged_by_their_difference() -> None:
    old = np.zeros((10, 5))
    new = old + np.log([1.0, 1.0, 1.02, 1.10, 1.0])
    assert list(screen.screen(old, new).flagged) == [False, False, False, True, False]
    assert [tested.slower for tested in screen.confirm((new - old).T)] == [False, False, False, True, False]


def test_nights_of_different_lengths_are_compared() -> None:
    old, new = nights()
    assert list(np.flatnonzero(screen.screen(old[:7], new).flagged)) == [2]

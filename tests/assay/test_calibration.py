"""The engine keeps its error rates, and the calibration sees it when an engine does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import f, norm, t

from assay.calibrate import Cell, calibrate
from assay.verdict import claim, regions, stats

Mutate = Callable[[pytest.MonkeyPatch], None]
pytestmark = pytest.mark.statistics
FEWER = 2_000

# what VERDICTS.md promises: power of the t interval 1 and 2 standard deviations beyond the bar
POWER = {
    ("1 sd", 3): 0.179, ("1 sd", 5): 0.401, ("1 sd", 10): 0.803,
    ("2 sd", 3): 0.471, ("2 sd", 5): 0.909, ("2 sd", 10): 1.000,
}  # fmt: skip


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return calibrate()


def test_the_engine_passes_every_cell(cells: list[Cell]) -> None:
    assert [str(cell) for cell in cells if not cell.ok] == []


def test_false_verdicts_at_the_bar_stay_in_the_promised_range(cells: list[Cell]) -> None:
    exact = [cell for cell in cells if cell.name.startswith(("effect at the bar: ", "rank contrast", "exponent"))]
    assert {cell.n for cell in exact} == {3, 5, 10}
    assert {(cell.low, cell.high) for cell in exact} == {(0.0192, 0.0313)}
    bounded = [cell for cell in cells if "reproduced" in cell.name or "contradicted" in cell.name]
    assert len(bounded) > 100
    assert max(cell.rate for cell in bounded) <= 0.0313


def test_power_is_that_of_the_t_interval(cells: list[Cell]) -> None:
    for (distance, n), expected in POWER.items():
        cell = next(cell for cell in cells if cell.name == f"power, {distance} beyond the bar" and cell.n == n)
        assert cell.rate == pytest.approx(expected, abs=0.02)


def test_every_kind_of_rule_is_calibrated(cells: list[Cell]) -> None:
    names = " ".join(cell.name for cell in cells)
    for kind in ("any of", "2 of", "80% of", "all of", "two core parts", "equivalence", "value", "t3", "median",
                 "censored", "settings", "pairs", "re-splits", "ratio", "rate", "spread"):  # fmt: skip
        assert kind in names


def test_fewer_trials_give_the_same_table_with_wider_ranges() -> None:
    once, again = calibrate(FEWER), calibrate(FEWER)
    assert once == again
    assert [str(cell) for cell in once if not cell.ok] == []
    assert once[0].low < 0.0192 < 0.0313 < once[0].high


def z_for_t(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stats, "quantile", lambda tail, df: float(norm.isf(tail)))


def interval_of_90_percent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stats, "ALPHA", 0.10)


def spread_without_correction(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stats, "spread", lambda x, axis=-1: np.std(x, axis=axis, ddof=0))


def degrees_of_freedom_n(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stats, "degrees", lambda n: n)


def always_inconclusive(patch: pytest.MonkeyPatch) -> None:
    def shrug(low: Any, *rest: Any, **more: Any) -> Any:
        return np.full(np.shape(low), regions.INCONCLUSIVE)

    for name in ("effect", "around"):
        patch.setattr(regions, name, shrug)


def flipped_sign(patch: pytest.MonkeyPatch) -> None:
    real = regions.oriented
    patch.setattr(regions, "oriented", lambda low, high, sign: real(low, high, -sign))


def uncorrected_maximum(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stats, "levels", lambda m, k: (1, 1))


def settings_pooled_with_replicates(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stats, "over_settings", lambda x: x.reshape(*x.shape[:-2], -1))


def pairs_of_processes_taken_as_replicates(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stats, "over_pairs", lambda x: x.reshape(*x.shape[:-2], -1))


def splits_taken_as_independent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stats, "standard_error", lambda x, axis=-1, **ignored: stats.spread(x, axis) / x.shape[axis] ** 0.5)


def one_reproduced_part_is_enough(patch: pytest.MonkeyPatch) -> None:
    real = claim.conjunction

    def generous(outcomes: Any, core: Any) -> tuple[str, str]:
        some = any(outcome.word == regions.REPRODUCED for outcome in outcomes)
        return (regions.REPRODUCED, "") if some else real(outcomes, core)

    patch.setattr(claim, "conjunction", generous)


def median_over_the_whole_range_but_one(patch: pytest.MonkeyPatch) -> None:
    def narrow(low: Any, high: Any, axis: int = -1, **ignored: Any) -> Any:
        low, high = np.sort(low, axis=axis), np.sort(high, axis=axis)
        return np.take(low, 2, axis=axis), np.take(high, -3, axis=axis)

    patch.setattr(stats, "median_interval", narrow)


def interval_of_a_rate_by_its_spread(patch: pytest.MonkeyPatch) -> None:
    def wald(violations: Any, trials: Any, alpha: float | None = None) -> Any:
        share = np.asarray(violations) / trials
        half = 1.96 * np.sqrt(share * (1 - share) / trials)
        return share - half, share + half

    patch.setattr(stats, "clopper_pearson", wald)


def interval_of_spreads_as_if_not_paired(patch: pytest.MonkeyPatch) -> None:
    def of_f(a: Any, b: Any, alpha: float | None = None) -> Any:
        ratio, df = a.std(axis=-1) / b.std(axis=-1), a.shape[-1] - 1
        width = np.sqrt(f.isf((alpha or 0.05) / 2, df, df))
        return ratio / width, ratio * width

    patch.setattr(stats, "spread_interval", of_f)


def tolerance_taken_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(regions, "inside", lambda low, high, target, within: 2 * within - np.abs((low + high) / 2 - target))


def interval_that_only_touches_is_inside(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(regions, "inside", regions.near)


# with the cells in which a fault may show; an empty name is any cell
MUTANTS: list[tuple[Mutate, tuple[str, ...]]] = [
    (z_for_t, ("",)),
    (interval_of_90_percent, ("",)),
    (spread_without_correction, ("",)),
    (degrees_of_freedom_n, ("",)),
    (always_inconclusive, ("",)),
    (flipped_sign, ("",)),
    (uncorrected_maximum, ("any of", "2 of", "80% of", "all of")),
    (settings_pooled_with_replicates, ("6 settings",)),
    (pairs_of_processes_taken_as_replicates, ("30 pairs",)),
    (splits_taken_as_independent, ("re-splits",)),
    (one_reproduced_part_is_enough, ("two core parts",)),
    (median_over_the_whole_range_but_one, ("median",)),
    (interval_of_a_rate_by_its_spread, ("rate",)),
    (interval_of_spreads_as_if_not_paired, ("spread",)),
    (tolerance_taken_twice, ("equivalence", "value", "power of equivalence")),
    (interval_that_only_touches_is_inside, ("equivalence", "value", "power of equivalence")),
]


@pytest.mark.parametrize(("mutate", "where"), MUTANTS)
def test_a_faulty_engine_fails_where_the_fault_is(
    mutate: Mutate, where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    failed = [cell for cell in calibrate(FEWER) if not cell.ok]
    assert failed
    assert all(cell.name.startswith(where) for cell in failed)


def test_a_cell_prints_whether_it_is_in_range() -> None:
    assert str(Cell("effect", 3, 0.025, 0.0192, 0.0313)).endswith("[ 1.92%,   3.13%]  ok")
    assert str(Cell("effect", 3, 0.12, 0.0192, 0.0313)).endswith("OUT")


def test_the_interval_is_that_of_scipy() -> None:
    x = np.random.default_rng(0).normal(size=(50, 7))
    low, high = stats.t_interval(x)
    for row, (a, b) in zip(x, zip(low, high, strict=True), strict=True):
        expected = t.interval(0.95, 6, loc=row.mean(), scale=row.std(ddof=1) / 7**0.5)
        np.testing.assert_allclose((a, b), expected, rtol=1e-12)

"""Rows of one test are in one unit, whole numbers stay whole, and rates are counted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from assay.acceptance import Test
from assay.verdict import CONTRADICTED, INCONCLUSIVE, REPRODUCED, VerdictError, clopper_pearson
from assay.verdict.outcome import region_of
from assay.verdict.rate import judge_rate
from tests.assay.claims import judged, result_of, rows, versus

FIVE = [2.0, 2.4, 1.7, 2.2, 1.9]
EXACT: dict[str, Any] = {"replicate": "exact"}


def test_milliseconds_and_seconds_are_not_compared() -> None:
    mixed = rows("a", FIVE, unit="ms") + rows("b", FIVE[::-1], unit="s")
    for value in ("a - b", "a / b", "log(a) - log(b)"):
        with pytest.raises(VerdictError, match="m is in ms in some rows and in s in others"):
            judged(mixed, value=value, bar="> 0")
    with pytest.raises(VerdictError, match="m is in no unit in some rows"):
        judged(rows("a", FIVE) + rows("b", FIVE, unit="s"), value="a - b", bar="> 0")


def test_units_of_other_metrics_agree_in_a_sum_and_are_no_sizes_of_one_another_in_a_ratio() -> None:
    def of(unit: str, other: str, value: str) -> str:
        found = rows("a", FIVE, unit=unit) + rows("b", [1.0, 1.1, 1.2, 1.3, 1.4], metric="k", unit=other)
        return judged(found, value=value, bar="> 0").unit

    with pytest.raises(VerdictError, match=r"`a \+ b.k` adds ms and s"):
        of("ms", "s", "a + b.k")
    with pytest.raises(VerdictError, match=r"`a / b.k` has ms and s: record both in one unit"):
        of("ms", "s", "a / b.k")
    with pytest.raises(VerdictError, match=r"adds s and bytes"):
        of("s", "bytes", "2 * (a - b.k)")
    with pytest.raises(VerdictError, match=r"adds s and bytes"):
        of("s", "bytes", "log(a - b.k)")
    assert of("s", "bytes", "a / b.k") == ""
    assert of("s", "s", "2 * a - b.k / 3") == "s"
    assert of("s", "bytes", "1 - 0.001 * a / b.k + 1") == ""


def test_an_exact_mean_of_ratios_is_not_taken_over_signs() -> None:
    signs = rows("a", [8], s=1) + rows("a", [-2], s=2) + rows("b", [2], s=1) + rows("b", [2], s=2)
    with pytest.raises(VerdictError, match="need values above 0"):
        judged(signs, **EXACT, value="a / b", over={"s": "mean"}, bar=">= 1")
    both = rows("a", [8], s=1) + rows("a", [-2], s=2) + rows("b", [2], s=1) + rows("b", [-2], s=2)
    with pytest.raises(VerdictError, match="need values above 0"):
        judged(both, **EXACT, value="1 - a / b", over={"s": "mean"}, bar=">= 1")
    assert judged(signs, **EXACT, value="a / b", over={"s": "any"}, bar=">= 4").verdict == REPRODUCED


def exactly(a: float, b: float, value: str, target: float, within: float = 0) -> str:
    fields: dict[str, Any] = {**EXACT, "kind": "value", "target": target, "within": within, "value": value}
    return judged(rows("a", [a]) + rows("b", [b]), **fields).verdict


@pytest.mark.parametrize("large", [10**12, 1e12, 10**17, 10**30])
def test_a_term_of_an_exact_sum_is_not_lost_beside_a_large_one(large: float) -> None:
    ints = isinstance(large, int)
    small = 2 if ints else 2.5
    assert exactly(large, small, "a + b - a", small) == REPRODUCED
    assert exactly(large, 7, "a + b - a", 7) == REPRODUCED
    if ints:
        assert exactly(large, 2, "a + b - a", 3) == CONTRADICTED
    else:
        with pytest.raises(VerdictError, match=r"rounding could hide what tells 2\.5 from 2"):
            exactly(large, small, "a + b - a", 2)


def test_exact_numbers_are_not_rounded_on_their_way() -> None:
    large: dict[str, Any] = {**EXACT, "bar": "> 0"}
    assert judged(rows("a", [10**18 + 1]) + rows("b", [1e18]), **large, value="a - b").estimate == 1
    assert judged(rows("a", [1e17]) + rows("b", [7.0]), **large, value="a + b - a").estimate == 7
    assert exactly(2**60 + 1, 3, "a / b", (2**60 + 1) / 3) == REPRODUCED
    assert exactly(10**18 + 1, 0.5, "a - 1000000000000000000.0 + b", 1.5) == REPRODUCED
    assert exactly(0.1 + 0.2, 0.3, "a - b", 0) == REPRODUCED
    assert exactly(0.1, 0.3, "3 * a - b", 0, within=1e-9) == REPRODUCED
    assert exactly(7, 7.000001, "a - b", 0) == CONTRADICTED
    assert exactly(math.e, 1, "log(a) - b", 0) == REPRODUCED


def test_exactly_on_the_outer_edge_contradicts_nothing() -> None:
    fields: dict[str, Any] = {**EXACT, "kind": "value", "value": "a", "target": 5, "within": 1, "outside": 2}
    words = [judged(rows("a", [value]), **fields).verdict for value in (5, 6, 7, 8)]
    assert words == [REPRODUCED, REPRODUCED, INCONCLUSIVE, CONTRADICTED]


def test_evidence_is_one_of_three_words() -> None:
    with pytest.raises(VerdictError, match="rows of evidence 'estimated'; it is one of simulated, measured, counted"):
        judged(rows("a", FIVE, evidence="estimated"), value="a", bar="> 0")
    with pytest.raises(ValueError, match="evidence"):
        judged(rows("a", FIVE), value="a", bar="> 0", evidence="estimated")


def test_a_test_has_one_region() -> None:
    for fields in ({"bar": ">= 1", "margin": 1.0}, {"bar": ">= 1", "target": 1.0}, {"target": 1.0, "margin": 1.0}, {}):
        with pytest.raises(VerdictError, match=r"exclude each other|needs a `bar`"):
            region_of(Test(**fields), None)  # type: ignore[arg-type]
    far = {"kind": "equivalence", "value": "a - b", "margin": 0.01}
    assert judged(versus([2.06, 2.07, 2.05, 2.06, 2.04]), **far).verdict == CONTRADICTED


def test_another_number_of_runs_than_the_card_plans_is_said() -> None:
    planned = {"unit": "seed", "changes": "data", "n": 10}
    assert judged(versus(FIVE), value="a - b", bar=">= 1", replicate=planned).reason.endswith(
        "; 5 runs where the card plans 10"
    )
    more = {"unit": "seed", "changes": "data", "n": 3}
    assert "5 runs where the card plans 3" in judged(versus(FIVE), value="a - b", bar=">= 1", replicate=more).reason
    two = judged(versus(FIVE[:2]), value="a - b", bar=">= 1", replicate=planned).reason
    assert two.endswith("; 2 runs where the card plans 10")
    right = {"unit": "seed", "changes": "data", "n": 5}
    assert "plans" not in judged(versus(FIVE), value="a - b", bar=">= 1", replicate=right).reason
    assert "plans" not in judged(rows("a", [7]), **EXACT, value="a", bar="> 0").reason
    timed = {"unit": "process", "n": 5, "pairs": 30}
    raced = [r for i in range(2) for r in rows("a", FIVE, repeat=i) + rows("b", [1.0] * 5, repeat=i)]
    assert judged(raced, value="a / b", bar=">= 1", replicate=timed).reason.endswith(
        "; 2 pairs in a process where the card plans 30"
    )


SPLITS: dict[str, Any] = {
    "replicate": {"unit": "seed", "changes": "init", "n": 3},
    "over": {"split": "mean"},
    "value": "a",
}


def test_a_published_mean_over_fixed_splits_is_judged_with_the_seed_as_replicate() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(80, 6, size=10)  # splits differ by far more than seeds
    accuracy = level + rng.normal(0, 0.5, size=(3, 10))
    measurements = [row for split in range(10) for row in rows("a", accuracy[:, split].tolist(), split=split)]
    verdict = judged(measurements, **SPLITS, kind="value", target=float(level.mean()), within=2)
    means = accuracy.mean(axis=1)
    half = scipy_stats.t.ppf(0.975, 2) * means.std(ddof=1) / math.sqrt(3)
    assert verdict.estimate == pytest.approx(means.mean())
    assert verdict.interval == pytest.approx((means.mean() - half, means.mean() + half))
    assert (verdict.n, verdict.verdict) == (3, REPRODUCED)
    assert half < 2 < scipy_stats.t.ppf(0.975, 9) * level.std(ddof=1) / math.sqrt(10)
    assert "; on" not in verdict.reason
    assert judged(measurements, **SPLITS, kind="value", target=70, within=2).verdict == CONTRADICTED


def test_every_seed_has_every_split_or_there_is_no_verdict() -> None:
    measurements = [row for split in range(4) for row in rows("a", FIVE[:3], split=split)]
    with pytest.raises(VerdictError, match=r"replicate 2 has no m of a at split=3.*must be complete"):
        judged(result_of(measurements[:-1], n=3), **SPLITS, bar=">= 1")
    with pytest.raises(VerdictError, match="knob `split` is free"):
        judged(measurements, **{**SPLITS, "over": {}}, bar=">= 1")


RATE: dict[str, Any] = {"kind": "rate", "value": "a.misses / a.solves", "metric": None}


def solves(misses: list[int], of: int, **knobs: Any) -> list[Any]:
    return rows("a", misses, metric="misses", **knobs) + rows("a", [of] * len(misses), metric="solves", **knobs)


def test_a_rate_counts_violations_and_trials_over_all_replicates() -> None:
    verdict = judged(solves([0, 1, 0, 0], 50), **RATE, bar="<= 0.05")
    low, high = scipy_stats.binomtest(1, 200).proportion_ci(0.95, "exact")
    assert (verdict.estimate, verdict.n) == (0.005, 4)
    assert verdict.interval == pytest.approx((low, high))
    assert verdict.verdict == REPRODUCED
    assert verdict.reason.startswith("1 of 200: the whole interval meets <= 0.05")
    assert verdict.p == pytest.approx(scipy_stats.binomtest(1, 200, 0.05, alternative="less").pvalue)
    assert judged(solves([1, 1, 2], 50), **RATE, bar="<= 0.05").verdict == INCONCLUSIVE
    assert judged(solves([10, 12, 9], 50), **RATE, bar="<= 0.05").verdict == CONTRADICTED
    assert judged(solves([10, 12, 9], 50), **RATE, bar="<= 0.05", contradicted="> 0.3").verdict == INCONCLUSIVE
    assert judged(solves([49, 50, 50], 50), **RATE, bar=">= 0.9").verdict == REPRODUCED
    assert judged(solves([30, 31, 29], 50), **RATE, bar=">= 0.9").verdict == CONTRADICTED


def test_a_rate_pools_its_settings_and_refuses_what_is_no_count() -> None:
    two = solves([0, 1], 50, grid=32) + solves([0, 0], 50, grid=64)
    assert judged(two, **RATE, over={"grid": "mean"}, bar="<= 0.05").reason.startswith("1 of 200")
    with pytest.raises(VerdictError, match="a rate pools its settings"):
        judged(two, **RATE, over={"grid": "all"}, bar="<= 0.05")
    with pytest.raises(VerdictError, match=r"a\.misses is 0\.5: a count is a whole number"):
        judged(solves([0.5, 1], 50), **RATE, bar="<= 0.05")  # type: ignore[list-item]
    with pytest.raises(VerdictError, match="a rate is written as counts"):
        judged(versus(FIVE), **{**RATE, "value": "a - b", "metric": "m"}, bar="<= 0.05")
    with pytest.raises(VerdictError, match="51 violations in 50 trials is no rate"):
        judged(solves([51], 50), **RATE, bar="<= 0.05")


def test_a_failed_replicate_never_helps_a_rate() -> None:
    lost = solves([0, 0, 0, math.nan], 100)  # type: ignore[list-item]
    verdict = judged(lost, **RATE, bar="<= 0.05")
    assert (verdict.verdict, verdict.p) == (INCONCLUSIVE, 1.0)
    assert "1 of 4 replicates failed" in verdict.reason
    bad = solves([30, 30, 30, math.nan], 100)  # type: ignore[list-item]
    assert judged(bad, **RATE, bar="<= 0.05").verdict == CONTRADICTED


def test_the_ends_of_a_rate_are_those_of_scipy() -> None:
    for missed, tried in ((0, 7), (3, 7), (7, 7), (1, 200)):
        low, high = scipy_stats.binomtest(missed, tried).proportion_ci(0.95, "exact")
        assert clopper_pearson(missed, tried) == (pytest.approx(low), pytest.approx(high))
    for bar, missed in (("<= 0.2", [0, 3, 12]), (">= 0.2", [0, 8, 30])):
        words, _, p = judge_rate(Test(bar=bar), np.array(missed), 40)  # type: ignore[arg-type]
        assert [word == REPRODUCED for word in words] == [value <= 0.025 for value in p]

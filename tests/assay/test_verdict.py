"""Verdicts: one number per replicate, one t interval, one acceptance region."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from assay.verdict import (
    CONTRADICTED,
    DIRECTION_ONLY,
    INCONCLUSIVE,
    REPRODUCED,
    VerdictError,
    regions,
    stats,
)
from tests.assay.claims import PROCESSES, judged, rows, versus

FIVE = [2.0, 2.4, 1.7, 2.2, 1.9]


def t_ends(x: Any, level: float = 0.95) -> tuple[float, float]:
    x = np.asarray(x, dtype=float)
    low, high = scipy_stats.t.interval(level, len(x) - 1, loc=x.mean(), scale=x.std(ddof=1) / math.sqrt(len(x)))
    return float(low), float(high)


def test_a_difference_is_judged_by_its_t_interval() -> None:
    verdict = judged(versus(FIVE), value="a - b", bar=">= 1.5")
    # mean 2.04, s = sqrt(0.292 / 4) = 0.270185, t(0.975, 4) = 2.776445: 2.04 +- 0.335479
    assert verdict.estimate == pytest.approx(2.04)
    assert verdict.interval == pytest.approx((1.704521, 2.375479), abs=1e-6)
    assert (verdict.verdict, verdict.n, verdict.bar) == (REPRODUCED, 5, ">= 1.5")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"bar": ">= 1.5"}, REPRODUCED),
        ({"bar": ">= 2"}, DIRECTION_ONLY),
        ({"bar": ">= 3"}, DIRECTION_ONLY),
        ({"bar": ">= 3", "direction": "> 2"}, INCONCLUSIVE),
        ({"bar": ">= 3", "contradicted": "< 2.5"}, CONTRADICTED),
        ({"bar": ">= 3", "direction": "> 2.5", "contradicted": "< 1"}, INCONCLUSIVE),
        ({"bar": "> 0"}, REPRODUCED),
        ({"bar": "<= -1"}, CONTRADICTED),
        ({"bar": "<= 2"}, INCONCLUSIVE),
        ({"bar": "<= 1.5"}, CONTRADICTED),
        ({"bar": ">= -0.5"}, REPRODUCED),
    ],
)
def test_thresholds_of_an_effect_hold_in_both_orientations(fields: dict[str, str], word: str) -> None:
    turn = {"<": ">", ">": "<"}
    mirrored = {k: turn[v[0]] + (v[1:].replace(" -", " +") if "-" in v else v[1:].replace(" ", " -"))
                for k, v in fields.items()}  # fmt: skip
    assert judged(versus(FIVE), value="a - b", **fields).verdict == word
    assert judged(versus(FIVE), value="b - a", **mirrored).verdict == word


def test_thresholds_that_are_given_move_those_that_are_not() -> None:
    slight_harm = [-0.5, -0.45, -0.55, -0.5, -0.48]
    tolerant = judged(versus(slight_harm), value="a - b", bar=">= 3", direction="> -1")
    assert tolerant.verdict == DIRECTION_ONLY  # no effect itself lies beyond -1
    slight_gain = [0.9, 1.4, 0.6, 1.1, 1.2]
    assert judged(versus(slight_gain), value="a - b", bar=">= 3").verdict == DIRECTION_ONLY
    assert judged(versus(slight_gain), value="a - b", bar=">= 3", contradicted="< 1").verdict == INCONCLUSIVE


def test_below_the_bar_is_told_from_undecided() -> None:
    assert "below the bar" in judged(versus(FIVE), value="a - b", bar=">= 3").reason
    assert "undecided" in judged(versus(FIVE), value="a - b", bar=">= 2").reason


def test_no_worse_than_has_no_direction_only() -> None:
    fall = [-0.1, -0.9, -0.4, -0.6, -0.2]
    assert judged(versus(fall), value="a - b", bar=">= -0.5").verdict == INCONCLUSIVE
    assert judged(versus(fall), value="a - b", bar=">= -0.1").verdict == INCONCLUSIVE
    assert judged(versus(fall), value="a - b", bar=">= -0.01").verdict == CONTRADICTED
    assert judged(versus(fall), value="a - b", bar=">= -2").verdict == REPRODUCED


def test_a_ratio_is_the_geometric_mean_with_the_interval_of_its_logarithm() -> None:
    a, b = np.array([8.0, 9.0, 7.5, 8.2]), np.array([2.0, 2.1, 2.2, 1.9])
    measurements = rows("a", a) + rows("b", b)
    verdict = judged(measurements, value="a / b", bar=">= 3")
    low, high = t_ends(np.log(a / b))
    assert verdict.estimate == pytest.approx(math.exp(np.mean(np.log(a / b))))
    assert verdict.interval == pytest.approx((math.exp(low), math.exp(high)))
    assert judged(measurements, value="a / b", bar=">= 5").verdict == DIRECTION_ONLY  # no effect is 1
    assert judged(measurements, value="b / a", bar="<= 0.2").verdict == DIRECTION_ONLY
    assert judged(measurements, value="b / a", bar=">= 2").verdict == CONTRADICTED


def test_a_saving_has_the_exact_interval_of_its_ratio() -> None:
    a, b = np.array([8.0, 9.0, 7.5, 8.2]), np.array([2.0, 2.1, 2.2, 1.9])
    low, high = t_ends(np.log(b / a))
    verdict = judged(rows("a", a) + rows("b", b), value="100 * (1 - b / a)", bar=">= 60")
    assert verdict.interval == pytest.approx((100 - 100 * math.exp(high), 100 - 100 * math.exp(low)))
    assert verdict.verdict == REPRODUCED
    worse = judged(rows("a", a) + rows("b", b), value="1 - a / b", bar=">= 0.35", direction="> 0.05")
    assert worse.verdict == CONTRADICTED


def test_a_ratio_does_not_depend_on_the_unit_of_its_metric() -> None:
    a, b = [8.0, 9.0, 7.5], [2.0, 2.1, 2.2]
    small = judged(rows("a", a) + rows("b", b), value="a / b", bar=">= 3")
    large = judged(rows("a", [1e6 * x for x in a]) + rows("b", [1e6 * x for x in b]), value="a / b", bar=">= 3")
    assert large.estimate == pytest.approx(small.estimate, rel=1e-12)
    assert large.interval == pytest.approx(small.interval, rel=1e-12)


def test_a_ratio_of_values_that_are_not_positive_is_an_error() -> None:
    with pytest.raises(VerdictError, match=r"b is 0 in replicate 1.*above 0"):
        judged(rows("a", [1, 2, 3]) + rows("b", [1, 0, 2]), value="a / b", bar="> 1")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"target": 2.0, "within": 0.5}, REPRODUCED),
        ({"target": 2.0, "within": 0.3}, INCONCLUSIVE),
        ({"target": 3.0, "within": 0.5}, CONTRADICTED),
        ({"target": 1.0, "within": 0.5}, CONTRADICTED),
        ({"target": 3.0, "within": 0.5, "outside": 1.0}, INCONCLUSIVE),
    ],
)
def test_a_value_lies_inside_or_wholly_outside(fields: dict[str, float], word: str) -> None:
    assert judged(versus(FIVE), kind="value", value="a - b", **fields).verdict == word
    mirrored = {**fields, "target": -fields["target"]}
    assert judged(versus(FIVE), kind="value", value="b - a", **mirrored).verdict == word


def test_equivalence_is_two_one_sided_tests() -> None:
    near = [0.1, -0.2, 0.15, 0.0, -0.1]
    same: dict[str, Any] = {"kind": "equivalence", "value": "a - b"}
    assert judged(versus(near), **same, margin=0.5).verdict == REPRODUCED
    assert judged(versus(FIVE), **same, margin=0.5).verdict == CONTRADICTED
    assert judged(versus(FIVE), **same, margin=0.5, outside=2).verdict == INCONCLUSIVE
    hopeless = judged(versus(near), **same, margin=0.1)
    assert hopeless.verdict == INCONCLUSIVE
    assert "too narrow for the spread" in hopeless.reason


def test_settings_are_averaged_within_a_replicate() -> None:
    deeper = [1.0, 1.5, 0.6, 0.9, 1.3]
    measurements = versus(FIVE, depth=2) + versus(deeper, depth=8)
    verdict = judged(measurements, value="a - b", bar="> 0", over={"depth": "mean"})
    assert verdict.n == 5
    assert verdict.interval == pytest.approx(t_ends(np.mean([FIVE, deeper], axis=0)))


@pytest.mark.parametrize(("rule", "k"), [("any", 1), ("2 of", 2), ("60%", 2), ("67%", 3), ("all", 3)])
def test_k_of_m_settings_share_the_error(rule: str, k: int) -> None:
    shifts = {2: 0.0, 4: 1.0, 8: 3.0}
    noise = [[0.1, -0.3, 0.2, 0.0, 0.1], [0.4, 0.1, -0.5, 0.2, 0.0], [-0.1, 0.3, 0.0, 0.6, -0.2]]
    numbers = {d: [shift + e for e in errors] for (d, shift), errors in zip(shifts.items(), noise, strict=True)}
    measurements = [row for depth, x in numbers.items() for row in versus(x, depth=depth)]
    verdict = judged(measurements, value="a - b", bar=">= 0.2", over={"depth": rule})
    lows = sorted((t_ends(x, 1 - 0.05 / (3 - k + 1))[0] for x in numbers.values()), reverse=True)
    highs = sorted((t_ends(x, 1 - 0.05 / k)[1] for x in numbers.values()), reverse=True)
    assert verdict.interval == pytest.approx((lows[k - 1], highs[k - 1]))
    assert verdict.verdict == (REPRODUCED if k < 3 else INCONCLUSIVE)


def test_rules_nest_from_left_to_right() -> None:
    good, bad = [2.0, 2.1, 1.9, 2.2, 2.0], [-2.0, -2.1, -1.9, -2.2, -2.0]
    grid = {(1, 1): good, (1, 2): bad, (2, 1): bad, (2, 2): good}
    measurements = [row for (x, y), d in grid.items() for row in versus(d, x=x, y=y)]
    claim: dict[str, Any] = {"value": "a - b", "bar": ">= 1"}
    assert judged(measurements, **claim, over={"x": "all", "y": "any"}).verdict == REPRODUCED
    assert judged(measurements, **claim, over={"x": "any", "y": "all"}).verdict == CONTRADICTED


def test_k_of_m_settings_can_be_equivalent() -> None:
    near, far = [0.1, -0.2, 0.15, 0.0, -0.1], [5.0, 5.2, 4.9, 5.1, 5.0]
    measurements = versus(near, s=1) + versus(near[::-1], s=2) + versus(far, s=3)
    same: dict[str, Any] = {"kind": "equivalence", "value": "a - b", "margin": 1.0}
    two = judged(measurements, **same, over={"s": "2 of"})
    assert two.verdict == REPRODUCED
    assert abs(two.estimate or 9) < 1
    everywhere = judged(measurements, **same, over={"s": "all"})
    assert everywhere.verdict == CONTRADICTED
    assert everywhere.estimate == pytest.approx(5.04)


def test_the_order_of_rows_changes_nothing() -> None:
    measurements = versus(FIVE, depth=2) + versus(FIVE[::-1], depth=8) + versus([x / 2 for x in FIVE], depth=4)
    for fields in ({"value": "a / b", "bar": "> 1", "over": {"depth": "any"}},
                   {"value": "a - b", "bar": "> 1", "over": {"depth": "mean"}},
                   {"kind": "trend", "slope": "a - b ~ rank depth", "bar": "> 0"}):  # fmt: skip
        verdict = judged(measurements, **fields)
        shuffled = measurements[:]
        random.Random(1).shuffle(shuffled)
        again = judged(shuffled, **fields)
        assert again.verdict == verdict.verdict
        assert again.interval == pytest.approx(verdict.interval, rel=1e-12)


def test_a_rank_contrast_is_named_so_whatever_unit_the_card_gives() -> None:
    measurements = [row for size in (1, 2, 4) for row in rows("a", [size + 0.1, size + 0.3, size], size=size, unit="%")]
    verdict = judged(measurements, kind="trend", slope="a ~ rank size", bar="> 0", unit="% per rank")
    assert verdict.unit == "% rank contrast"


def test_a_trend_is_a_rank_contrast_in_each_replicate() -> None:
    table = np.array([[1.0, 2.0, 2.5, 4.0], [0.5, 1.5, 1.0, 3.0], [1.2, 1.1, 2.0, 2.8], [0.9, 1.4, 2.2, 2.0]])
    measurements = [row for size, column in zip((8, 1, 4, 2), (3, 0, 2, 1), strict=True)
                    for row in rows("a", table[:, column], size=size)]  # fmt: skip
    verdict = judged(measurements, kind="trend", slope="a ~ rank size", bar="> 0")
    assert verdict.interval == pytest.approx(t_ends(table @ np.array([-1.5, -0.5, 0.5, 1.5])))
    assert verdict.verdict == REPRODUCED
    linear = judged(measurements, kind="trend", slope="a ~ size", bar=">= 0.1")
    slopes = [np.polyfit([1, 2, 4, 8], y, 1)[0] for y in table]
    assert linear.interval == pytest.approx(t_ends(slopes))


SIZES = (100, 200, 400, 800, 1600)


def times(exponent: float, start: float = 0.0, sizes: tuple[int, ...] = SIZES) -> list[Any]:
    jitter = np.random.default_rng(0).normal(scale=0.01, size=(len(sizes), 5))
    return [row for size, j in zip(sizes, jitter, strict=True)
            for row in rows("a", (start + size**exponent) * np.exp(j), n=size)]  # fmt: skip


EXPONENT: dict[str, Any] = {"kind": "trend", "slope": "log a ~ log n"}


def test_an_exponent_is_a_slope_on_logarithms() -> None:
    near_linear = judged(times(1.05), **EXPONENT, bar="<= 1.15")
    assert near_linear.verdict == REPRODUCED
    assert near_linear.estimate == pytest.approx(1.05, abs=0.02)
    assert judged(times(2.9), **EXPONENT, target=2.9, within=0.3).verdict == REPRODUCED
    assert judged(times(2.0), **EXPONENT, bar="<= 1.15").verdict == CONTRADICTED


def test_start_up_cost_does_not_flatter_an_exponent() -> None:
    flattered = times(1.3, start=500.0)
    verdict = judged(flattered, **EXPONENT, bar="<= 1.15")
    assert verdict.verdict == INCONCLUSIVE
    assert verdict.reason.startswith("curved")


def test_a_direction_holds_only_if_the_last_sizes_keep_it() -> None:
    fields: dict[str, Any] = {**EXPONENT, "bar": "<= 1", "direction": "< 1.4"}
    assert judged(times(1.3), **fields).verdict == DIRECTION_ONLY
    flattered = judged(times(1.5, start=500.0), **fields)
    assert flattered.verdict == INCONCLUSIVE
    assert flattered.reason.startswith("curved")


def test_an_exponent_needs_five_sizes_over_a_range_of_16() -> None:
    for sizes in ((1, 2, 4, 8), (1, 2, 3, 4, 5)):
        verdict = judged(times(1.0, sizes=sizes), **EXPONENT, bar="<= 1.15")
        assert verdict.verdict == INCONCLUSIVE
        assert "needs 5 over 16x" in verdict.reason
    with pytest.raises(VerdictError, match="numbers along `n`"):
        judged(rows("a", [1, 2, 3], n="x") + rows("a", [1, 2, 3], n="y"), **EXPONENT, bar="<= 1")


def test_a_median_has_an_order_statistic_interval() -> None:
    x = [7.0, 1.0, 3.0, 9.0, 4.0, 6.0, 2.0]
    verdict = judged(rows("a", x), value="a", stat="median", bar=">= 0.5")
    assert verdict.estimate == 4.0
    assert verdict.interval == (1.0, 9.0)  # k = binom.ppf(0.025, 7, 0.5) = 1
    assert verdict.p == pytest.approx(0.5**7)  # the sign test: all 7 above
    assert verdict.verdict == REPRODUCED
    few = judged(rows("a", x[:5]), value="a", stat="median", bar=">= 0.5")
    assert (few.verdict, few.reason) == (INCONCLUSIVE, "too few replicates: there are 5 and a median needs 6")


def test_a_censored_value_can_be_anything_above_its_limit() -> None:
    found = [40, 60, 55, 70, 45, 52, 66, 48]
    late = [1000, 900, 1000, 1000, 800, 1000, 950, 1000]
    measurements = rows("a", found, budget=1000) + rows("b", late, budget=1000)
    fields: dict[str, Any] = {"stat": "median", "censored_at": "budget", "value": "b / a"}
    verdict = judged(measurements, **fields, bar=">= 5")
    assert verdict.verdict == REPRODUCED
    assert verdict.interval is not None
    assert verdict.interval[1] is None  # unbounded: the baseline never got there
    assert verdict.interval[0] == pytest.approx(1000 / 70)  # n = 8: the smallest
    swapped = judged(measurements, **{**fields, "value": "a / b"}, bar="<= 0.2")
    assert swapped.verdict == REPRODUCED
    both = judged(rows("a", [1000] * 8) + rows("b", late), **{**fields, "censored_at": 1000}, bar=">= 5")
    assert both.verdict == INCONCLUSIVE
    never = judged(rows("a", [1000] * 8, budget=1000), **{**fields, "value": "a"}, bar="<= 500", contradicted="> 900")
    assert (never.verdict, never.interval) == (CONTRADICTED, (1000, None))
    with pytest.raises(ValueError, match="stat: median"):
        judged(measurements, **{**fields, "stat": "mean"}, bar=">= 5")


def raced(ratios: list[list[float]]) -> list[Any]:
    """Times of `a` and `b` by process and pair, with the given ratios b / a."""
    clock = np.random.default_rng(1).uniform(1, 2, size=np.shape(ratios))
    return [
        row
        for pair in range(len(ratios[0]))
        for row in rows("a", clock[:, pair], "time_s", repeat=pair)
        + rows("b", clock[:, pair] * np.array(ratios)[:, pair], "time_s", repeat=pair)
    ]


def test_times_are_compared_pair_by_pair_and_a_process_is_one_replicate() -> None:
    ratios = [[2.0, 2.2, 2.4], [1.9, 2.1, 9.0], [2.0, 2.3, 2.1], [2.2, 2.2, 2.3]]
    verdict = judged(raced(ratios), metric="time_s", replicate=PROCESSES, value="b / a", bar=">= 1.5")
    low, high = t_ends(np.log([2.2, 2.1, 2.1, 2.2]))
    assert verdict.n == 4
    assert verdict.interval == pytest.approx((math.exp(low), math.exp(high)))
    planned = {**PROCESSES, "pairs": 30}
    short = judged(raced(ratios), metric="time_s", replicate=planned, value="b / a", bar=">= 1.5")
    assert "3 pairs in a process where the card plans 30" in short.reason
    assert "pairs" not in judged(versus(FIVE), replicate=planned, value="a - b", bar="> 0").reason


def test_re_splits_of_one_data_set_have_a_wider_interval() -> None:
    split = {"unit": "seed", "changes": "split", "n_test": 20, "n_train": 80}
    verdict = judged(versus(FIVE), value="a - b", bar="> 0", replicate=split)
    half = scipy_stats.t.ppf(0.975, 4) * np.std(FIVE, ddof=1) * math.sqrt(1 / 5 + 20 / 80)
    assert verdict.interval == pytest.approx((np.mean(FIVE) - half, np.mean(FIVE) + half))
    with pytest.raises(VerdictError, match="give `n_test` and `n_train`"):
        judged(versus(FIVE), value="a - b", bar="> 0", replicate={"unit": "seed", "changes": "split"})


def test_a_verdict_about_initialisations_is_about_this_split() -> None:
    fields: dict[str, Any] = {"value": "a - b", "bar": ">= 1"}
    assert "on this split" in judged(versus(FIVE), **fields, replicate={"unit": "seed", "changes": "init"}).reason
    assert "on this split" not in judged(versus(FIVE), **fields).reason


def test_zero_spread_is_suspicious_unless_the_metric_is_coarse() -> None:
    constant = rows("a", [0.9] * 5) + rows("b", [0.8] * 5)
    verdict = judged(constant, value="a - b", bar="> 0")
    assert verdict.verdict == INCONCLUSIVE
    assert verdict.reason.startswith("no spread: is the seed used?")
    coarse = judged(constant, value="a - b", bar="> 0", resolution=0.01)
    half = scipy_stats.t.ppf(0.975, 4) * 0.005 / math.sqrt(5)
    assert coarse.verdict == REPRODUCED
    assert coarse.interval == pytest.approx((0.1 - half, 0.1 + half))
    needed = judged(constant, value="a - b", bar=">= 0.088", resolution=0.05).needed
    assert needed == math.ceil((2.8 * 0.025 / 0.012) ** 2) + 2
    ratio = judged(constant, value="a / b", bar="> 1", resolution=0.01)
    half = scipy_stats.t.ppf(0.975, 4) * 0.005 / 0.8 / math.sqrt(5)
    assert ratio.interval == pytest.approx((9 / 8 * math.exp(-half), 9 / 8 * math.exp(half)))
    line = [row for size in (1, 2, 3) for row in rows("a", [size / 10] * 5, size=size)]
    trend = judged(line, kind="trend", slope="a ~ rank size", bar="> 0", resolution=0.01)
    half = scipy_stats.t.ppf(0.975, 4) * 0.005 * math.sqrt(2) / math.sqrt(5)
    assert trend.interval == pytest.approx((0.2 - half, 0.2 + half))


def test_replicates_needed_follow_from_spread_and_distance() -> None:
    x = [1.0, 2.0, 3.0, 2.5, 1.5]
    verdict = judged(versus(x), value="a - b", bar=">= 1.7")
    assert verdict.needed == math.ceil((2.8 * np.std(x, ddof=1) / 0.3) ** 2) + 2
    assert judged(versus(x), value="a - b", bar=">= 2").needed is None


def test_the_p_value_agrees_with_the_verdict() -> None:
    rng = np.random.default_rng(5)
    for trial in range(60):
        measurements = [row for d in (1, 2, 3) for row in versus(rng.normal(1, 1, size=5), d=d)]
        rule = ("mean", "any", "2 of", "all")[trial % 4]
        for fields in ({"value": "a - b", "bar": ">= 0.3"}, {"value": "b - a", "bar": "<= -0.3"},
                       {"value": "a / b", "bar": ">= 1.001"}, {"value": "1 - b / a", "bar": ">= 0.001"},
                       {"kind": "value", "value": "a - b", "target": 1, "within": 1.5}):  # fmt: skip
            verdict = judged(measurements, **fields, over={"d": rule})
            assert verdict.p is not None
            assert (verdict.p <= 0.025) == (verdict.verdict == REPRODUCED)


def test_judging_rows_is_the_same_as_the_calibrated_functions() -> None:
    x = np.random.default_rng(6).normal(1, 1, size=(50, 4))
    low, high = stats.t_interval(x, axis=1)
    effects, values = regions.effect(low, high, 1.0, 0.0, 0.0), regions.value(low, high, 1.0, 1.0, 2.0)
    equal = regions.equivalence(low - 1, high - 1, 1.0, 2.0)
    assert {REPRODUCED, INCONCLUSIVE} <= set(equal.tolist())
    for trial in range(50):
        assert judged(rows("a", x[trial]), value="a", bar=">= 1").verdict == effects[trial]
        around = judged(rows("a", x[trial]), kind="value", value="a", target=1, within=1, outside=2)
        assert around.verdict == values[trial]
        same = judged(rows("a", x[trial] - 1), kind="equivalence", value="a", margin=1, outside=2)
        assert same.verdict == equal[trial]

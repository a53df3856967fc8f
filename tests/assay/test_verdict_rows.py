"""What a claim is about, what is missing, what failed, and what a verdict may never say."""

from __future__ import annotations

import math
from typing import Any

import pytest

from assay.errors import AssayError
from assay.verdict import (
    CONTRADICTED,
    DIRECTION_ONLY,
    INCONCLUSIVE,
    REPRODUCED,
    UNTESTED,
    VerdictError,
    judge,
)
from tests.assay.claims import card_of, job, judged, result_of, rows, versus

FIVE = [2.0, 2.4, 1.7, 2.2, 1.9]
DIFFERENCE: dict[str, Any] = {"value": "a - b", "bar": ">= 1"}


def test_a_free_knob_without_a_rule_is_an_error_that_names_its_values() -> None:
    measurements = versus(FIVE, depth=2) + versus(FIVE, depth=8)
    with pytest.raises(VerdictError, match=r"toy, claim c.*knob `depth` is free \(it takes 2, 8\).*`over`"):
        judged(measurements, **DIFFERENCE)
    assert issubclass(VerdictError, AssayError)


def test_a_knob_is_free_even_if_each_method_has_one_value_of_it() -> None:
    measurements = rows("a", [3.0, 4.0, 5.0], batch=4) + rows("b", [1.0, 1.5, 2.0], batch=1)
    with pytest.raises(VerdictError, match="knob `batch` is free"):
        judged(measurements, **DIFFERENCE)
    assert judged(measurements, value="a[batch=4] - b[batch=1]", bar="> 0").verdict == REPRODUCED


def test_an_index_goes_before_where_and_a_metric_before_the_tests() -> None:
    measurements = (
        versus(FIVE, depth=2) + versus([-x for x in FIVE], depth=8) + rows("a", [9.0, 9.5, 8.0, 9.2, 9.1], "f1")
    )
    verdict = judged(measurements, value="a - b", where={"depth": 8}, bar="< 0")
    assert verdict.estimate == pytest.approx(-2.04)
    verdict = judged(measurements, value="a[depth=2] - b[depth=2]", where={"depth": 8}, bar="> 0")
    assert verdict.estimate == pytest.approx(2.04)
    assert judged(measurements, value="a.f1", bar="> 8").estimate == pytest.approx(8.96)


def test_a_baseline_without_the_knob_stands_beside_every_value_of_it() -> None:
    measurements = (
        rows("a", [3.0, 4.0, 5.0], depth=2) + rows("a", [4.0, 5.0, 5.5], depth=8) + rows("b", [1.0, 1.5, 2.0])
    )
    assert judged(measurements, value="a - b", where={"depth": 8}, bar="> 0").estimate == pytest.approx(10 / 3)
    both = judged(measurements, value="a - b", over={"depth": "mean"}, bar="> 0")
    assert both.estimate == pytest.approx((2.5 + 10 / 3) / 2)


def test_rows_without_a_method_are_called_value() -> None:
    verdict = judged(rows(None, [0.1, 0.2, 0.15], "error"), metric="error", value="value", bar="<= 0.4")
    assert verdict.verdict == REPRODUCED


def test_the_rank_of_a_process_is_a_knob() -> None:
    measurements = rows("a", [5.0, 6.0, 7.0], rank=0) + rows("a", [1.0, 2.0, 3.0], rank=1)
    with pytest.raises(VerdictError, match="knob `rank` is free"):
        judged(measurements, value="a", bar="> 0")
    assert judged(measurements, value="a", where={"rank": 1}, bar="> 0").estimate == pytest.approx(2)
    assert judged(measurements, value="a", over={"rank": "mean"}, bar="> 0").estimate == pytest.approx(4)


def test_true_and_1_are_different_settings() -> None:
    measurements = rows("a", [1.0, 2.0, 3.0], fused=True) + rows("a", [7.0, 8.0, 9.0], fused=1)
    assert judged(measurements, value="a[fused=true]", bar="> 0").estimate == pytest.approx(2)
    assert judged(measurements, value="a[fused=1]", bar="> 0").estimate == pytest.approx(8)


def test_an_index_is_for_methods_that_have_the_knob() -> None:
    measurements = rows("a", FIVE, depth=2) + rows("b", [0.1, 0.2, 0.3, 0.1, 0.2])
    assert judged(measurements, value="a[depth=2] - b", bar="> 0").verdict == REPRODUCED
    with pytest.raises(VerdictError, match="b has no knob `depth`: write it without `depth=2`"):
        judged(measurements, value="a[depth=2] - b[depth=2]", bar="> 0")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"metric": "accuracy"}, "measures no `accuracy`; it measures m"),
        ({"where": {"widht": 8}}, "no knob `widht`; its knobs are depth"),
        ({"over": {"size": "mean", "depth": "mean"}}, "no row of a, b has the knob `size`"),
        ({"kind": "trend", "value": None, "slope": "a ~ width"}, "has the knob `width`|knob `depth` is free"),
        ({"value": "2 - 1"}, "names no method"),
    ],
)
def test_a_claim_that_no_row_can_answer_is_an_error(fields: dict[str, Any], problem: str) -> None:
    measurements = versus(FIVE, depth=2) + versus(FIVE, depth=8)
    with pytest.raises(VerdictError, match=problem):
        judged(measurements, **{**DIFFERENCE, **fields})


def test_incomplete_blocks_name_what_is_missing() -> None:
    complete = versus(FIVE, depth=2) + versus(FIVE, depth=8)
    lacking = [row for row in complete if not (row.method == "b" and row.seed == 3 and row.setting["depth"] == 8)]
    with pytest.raises(VerdictError, match=r"replicate 3 has no m of b at depth=8.*block must be complete"):
        judged(lacking, **DIFFERENCE, over={"depth": "mean"})
    one_sided = [row for row in complete if not (row.method == "b" and row.setting["depth"] == 8)]
    with pytest.raises(VerdictError, match="no m of b at depth=8"):
        judged(one_sided, **DIFFERENCE, over={"depth": "mean"})


def test_two_rows_for_one_measurement_are_an_error() -> None:
    with pytest.raises(VerdictError, match=r"two measurements of m of a.*record the knob"):
        judged(versus(FIVE) + rows("a", [1.0]), **DIFFERENCE)


def test_replicates_are_never_added_afterwards() -> None:
    with pytest.raises(VerdictError, match=r"rows of replicate 3.*runs 0 to 2"):
        judged(result_of(versus(FIVE), n=3), **DIFFERENCE)


def test_races_of_different_length_are_not_paired() -> None:
    measurements = [row for pair in range(3) for row in rows("a", [1.0, 2.0, 3.0], repeat=pair)]
    measurements += [row for pair in range(2) for row in rows("b", [1.0, 2.0, 3.0], repeat=pair)]
    with pytest.raises(VerdictError, match="race both in one call"):
        judged(measurements, value="a / b", bar="> 1")


def test_untested_gives_its_reason() -> None:
    ran = result_of(versus(FIVE))
    card = card_of(**DIFFERENCE)
    assert judge(card, "c", None, "gpu").reason == "not run in profile gpu"
    assert judged(ran, **DIFFERENCE, untested="needs 64 GPUs").reason == "needs 64 GPUs"
    other = judged(ran, **DIFFERENCE, profiles=["gpu"])
    assert (other.verdict, other.reason) == (UNTESTED, "profile standard cannot judge this claim; gpu can")
    elsewhere = judged(ran, **DIFFERENCE, experiment="never")
    assert (elsewhere.verdict, elsewhere.reason) == (UNTESTED, "experiment never does not run in profile standard")
    no_data = result_of([], n=3, jobs=[job(s, "untested", "data set wiki is not here") for s in range(3)])
    assert judged(no_data, **DIFFERENCE).reason == "data set wiki is not here"
    with pytest.raises(VerdictError, match="was given the result of toy, profile standard"):
        judge(card, "c", ran, "gpu")
    with pytest.raises(VerdictError, match="no claim `d`"):
        judge(card, "d", ran, "standard")


def test_a_value_that_the_profile_does_not_run_is_untested() -> None:
    verdict = judged(versus(FIVE, depth=2), **DIFFERENCE, where={"depth": 64})
    assert (verdict.verdict, verdict.reason) == (UNTESTED, "profile standard does not run depth=64 (it runs depth=2)")
    assert judged(rows("a", FIVE), **DIFFERENCE).reason == "profile standard does not measure m of `b`"
    assert judged(versus(FIVE, s=1), **DIFFERENCE, over={"s": "2 of"}).verdict == UNTESTED


def test_a_setting_that_an_experiment_calls_untested_is_untested() -> None:
    told = rows(None, [math.nan], "untested", dataset="wiki")
    reason = "not finite: nan"
    measurements = versus(FIVE, dataset="toy") + told
    assert judged(measurements, **DIFFERENCE, where={"dataset": "toy"}).verdict == REPRODUCED
    assert judged(measurements, **DIFFERENCE, where={"dataset": "wiki"}).reason == reason


def test_a_counter_that_cannot_be_read_is_no_failure() -> None:
    missing = [row.__class__("e", "energy_j", None, m, seed=s, reason="no counter can be read")
               for m in "ab" for s in range(3) for row in rows("a", [1])]  # fmt: skip
    verdict = judged(missing, metric="energy_j", value="a / b", bar="< 1")
    assert (verdict.verdict, verdict.reason) == (UNTESTED, "no energy_j of a: no counter can be read")


def test_data_sets_are_separate() -> None:
    measurements = versus(FIVE, dataset="x")
    jobs = [job(s, dataset="x") for s in range(5)] + [job(s, "untested", "y is not here", "y") for s in range(5)]
    result = result_of(measurements, jobs=jobs)
    assert judged(result, **DIFFERENCE, where={"dataset": "x"}).verdict == REPRODUCED
    assert judged(result, **DIFFERENCE, where={"dataset": "y"}).reason == "y is not here"
    assert judged(result, **DIFFERENCE, where={"dataset": "z"}).reason == "profile standard does not run data set z"
    assert judged(result, **DIFFERENCE, over={"dataset": "all"}).reason == "y is not here"


def test_a_replicate_that_has_not_run_yet_is_untested() -> None:
    verdict = judged(result_of(versus(FIVE), n=6, jobs=[job(s) for s in range(5)]), **DIFFERENCE)
    assert verdict.verdict == UNTESTED
    assert verdict.reason.startswith("incomplete: 1 of 6 jobs of e left no record; `assay run toy --profile standard`")
    with pytest.raises(VerdictError, match="replicate 5 has no row, though its job is done: a block must be complete"):
        judged(result_of(versus(FIVE), n=6), **DIFFERENCE)


def test_fewer_than_three_replicates_give_numbers_and_no_verdict() -> None:
    two = judged(versus(FIVE[:2]), **DIFFERENCE)
    assert (two.verdict, two.reason) == (INCONCLUSIVE, "too few replicates: there are 2 and a verdict needs 3")
    quick = judged(result_of(versus(FIVE[:1]), profile="quick"), **DIFFERENCE)
    assert (quick.verdict, quick.reason) == (UNTESTED, "profile quick runs 1 replicate; a verdict needs 3")
    assert (quick.estimate, quick.interval, quick.n) == (2.0, None, 1)
    assert judged(result_of(versus(FIVE[:3]), profile="quick"), **DIFFERENCE).verdict == REPRODUCED


@pytest.mark.parametrize("method", ["a", "b"])
def test_a_failed_run_is_the_worst_value_whichever_side_it_is_on(method: str) -> None:
    good, bad = versus([*FIVE, 2.1]), versus([-x for x in [*FIVE, 2.1]])
    for measurements, word in ((good, INCONCLUSIVE), (bad, CONTRADICTED)):
        broken = [row for row in measurements if not (row.method == method and row.seed == 4)]
        broken += [row for row in rows(method, [0, 0, 0, 0, math.nan]) if row.seed == 4]
        verdict = judged(broken, **DIFFERENCE)
        assert verdict.verdict == word
        assert "1 of 6 replicates" in verdict.reason
        assert verdict.p == 1.0


def test_a_failed_job_fails_its_replicate() -> None:
    measurements = [row for row in versus(FIVE) if row.seed != 2]
    jobs = [job(s) if s != 2 else job(2, "timeout", "ended after its time limit of 60 s") for s in range(5)]
    verdict = judged(result_of(measurements, n=5, jobs=jobs), **DIFFERENCE)
    assert verdict.verdict == INCONCLUSIVE
    assert verdict.reason.startswith("1 of 5 replicates failed: ended after its time limit of 60 s")
    lost = [job(s, dataset="x") for s in range(5)] + [job(s, "killed", "killed by SIGKILL", "y") for s in range(5)]
    elsewhere = judged(result_of(versus(FIVE, dataset="x"), jobs=lost), **DIFFERENCE, over={"dataset": "all"})
    assert (elsewhere.verdict, elsewhere.reason) == (INCONCLUSIVE, "5 of 5 replicates failed on y: killed by SIGKILL")
    nothing = result_of([], n=3, jobs=[job(s, "failed", "ValueError: no") for s in range(3)])
    assert judged(nothing, **DIFFERENCE).reason == "3 of 3 replicates failed: ValueError: no"


def test_too_few_survivors_contradict_nothing() -> None:
    losses = versus([-2.0, -2.1, math.nan, math.nan])
    assert judged(losses, **DIFFERENCE).verdict == INCONCLUSIVE


def test_a_failed_run_is_an_infinite_one_for_a_median() -> None:
    x = [5.0, 6.0, 7.0, 5.5, 6.5, 7.5, 6.2, 5.8, math.nan, 6.1, 5.2, 6.6]
    many = judged(rows("a", x), value="a", stat="median", bar="<= 10")
    assert many.verdict == REPRODUCED  # one failure is within what the order statistics allow
    assert "1 of 12 replicates failed" in many.reason
    upward = judged(rows("a", x), value="a", stat="median", bar=">= 4")
    assert upward.interval == (5.2, 6.6)  # k = 3 of 12, and the failure counts as the lowest
    few = judged(rows("a", x[3:]), value="a", stat="median", bar="<= 10")
    assert few.verdict == REPRODUCED
    assert judged(rows("a", x[3:9]), value="a", stat="median", bar="<= 10").verdict == INCONCLUSIVE
    around = judged(rows("a", x[3:9]), kind="value", value="a", stat="median", target=3, within=4)
    assert around.interval is None  # a failed run is on whichever side is bad


def test_a_difference_divided_by_zero_is_a_failed_replicate() -> None:
    measurements = rows("a", [3.0, 4.0, 5.0, 4.5]) + rows("b", [1.0, 0.0, 1.5, 1.2])
    verdict = judged(measurements, value="(a - b) / b", bar="> 0")
    assert verdict.verdict == INCONCLUSIVE
    assert "1 of 4 replicates failed" in verdict.reason


EXACT: dict[str, Any] = {"replicate": "exact"}


def test_exact_integers_agree_to_the_last_digit() -> None:
    big = 2**60
    fields: dict[str, Any] = {**EXACT, "kind": "value", "value": "a - b", "target": 0, "within": 0}
    same = judged(rows("a", [big]) + rows("b", [big]), **fields)
    assert (same.verdict, same.n, same.interval, same.p) == (REPRODUCED, 1, None, None)
    assert judged(rows("a", [big + 1]) + rows("b", [big]), **fields).verdict == CONTRADICTED
    raced = rows("a", [big + 1], repeat=0) + rows("a", [big + 1], repeat=1)
    assert judged(raced, **{**fields, "value": "a", "target": big}).verdict == CONTRADICTED


def test_exact_floats_agree_to_a_relative_1e_12() -> None:
    fields: dict[str, Any] = {**EXACT, "kind": "value", "value": "a - b", "target": 0, "within": 0}
    assert judged(rows("a", [0.1 + 0.2]) + rows("b", [0.3]), **fields).verdict == REPRODUCED
    assert judged(rows("a", [0.3 * (1 + 1e-11)]) + rows("b", [0.3]), **fields).verdict == CONTRADICTED
    third: dict[str, Any] = {**EXACT, "kind": "value", "value": "a / b", "target": 1 / 3, "within": 0}
    assert judged(rows("a", [1]) + rows("b", [3]), **third).verdict == REPRODUCED


def test_exact_runs_that_differ_are_an_error_and_not_noise() -> None:
    with pytest.raises(VerdictError, match="a is 7 in one run and 8 in another"):
        judged(rows("a", [7, 7, 8]), **EXACT, value="a", bar="> 0")
    with pytest.raises(VerdictError, match="exact claim has no noise"):
        judged(rows("a", [0.3, 0.3 * (1 + 1e-9)]), **EXACT, value="a", bar="> 0")
    assert judged(rows("a", [7, 7, 7]), **EXACT, value="a", bar="> 0").n == 1
    assert judged(rows("a", [0.3, 0.1 + 0.2]), **EXACT, value="a", bar="> 0").verdict == REPRODUCED


@pytest.mark.parametrize(
    ("bar", "word"),
    [
        (">= 4", REPRODUCED),
        ("> 4", DIRECTION_ONLY),
        (">= 8", DIRECTION_ONLY),
        ("<= 4", REPRODUCED),
        ("<= 2", CONTRADICTED),
    ],
)
def test_an_exact_ratio_meets_its_bar_or_not(bar: str, word: str) -> None:
    assert judged(rows("a", [8]) + rows("b", [2]), **EXACT, value="a / b", bar=bar).verdict == word


def test_exactly_no_effect_contradicts_an_exact_claim() -> None:
    equal = rows("a", [5]) + rows("b", [5])
    assert judged(equal, **EXACT, value="a - b", bar="> 0").verdict == CONTRADICTED
    assert judged(equal, **EXACT, value="a / b", bar=">= 2").verdict == CONTRADICTED
    assert judged(equal, **EXACT, value="a - b", bar=">= 0").verdict == REPRODUCED
    assert judged(equal, **EXACT, value="1 - a / b", bar=">= 0.5", direction="> 0.1").verdict == INCONCLUSIVE


def test_exact_claims_use_the_same_rules_over_settings() -> None:
    measurements = [row for p, volume in ((2, 10), (4, 20), (8, 80))
                    for row in rows("a", [volume], P=p) + rows("b", [10], P=p)]  # fmt: skip
    fields: dict[str, Any] = {**EXACT, "value": "a / b", "bar": ">= 2"}
    assert judged(measurements, **fields, over={"P": "2 of"}).verdict == REPRODUCED
    assert judged(measurements, **fields, over={"P": "all"}).verdict == CONTRADICTED
    assert judged(measurements, **fields, over={"P": "mean"}).estimate == pytest.approx((1 * 2 * 8) ** (1 / 3))
    lost = rows("a", [math.nan]) + rows("b", [10])
    assert judged(lost, **fields).reason.startswith("1 of 1 replicates failed")


def test_an_exact_division_by_zero_says_so() -> None:
    with pytest.raises(AssayError, match="division by zero"):
        judged(rows("a", [8]) + rows("b", [0]), **EXACT, value="a / b", bar="> 1")

"""What a verdict may say: conjunctions, hearsay, simulations, notes; and which expressions are ratios."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from assay.expression import parse
from assay.ratio import ratio_form
from assay.verdict import (
    CONTRADICTED,
    DIRECTION_ONLY,
    INCONCLUSIVE,
    REPRODUCED,
    UNTESTED,
    VerdictError,
    bh,
    clopper_pearson,
    expected_false,
    judge,
)
from tests.assay.claims import card_of, judged, result_of, rows, versus

FIVE = [2.0, 2.4, 1.7, 2.2, 1.9]
DIFFERENCE: dict[str, Any] = {"value": "a - b", "bar": ">= 1"}


@pytest.mark.parametrize(
    ("text", "offset", "scale"),
    [
        ("a / b", 0, 1),
        ("a * b / c", 0, 1),
        ("a / b / c", 0, 1),
        ("2 * a / b", 0, 1),
        ("(a + b) / c", 0, 1),
        ("1 - a / b", 1, -1),
        ("a / b - 1", -1, 1),
        ("a / b + 1", 1, 1),
        ("-(a / b)", 0, -1),
        ("-(1 - a / b)", -1, 1),
        ("100 * (1 - a / b)", 100, -100),
        ("(a / b - 1) / 2", -0.5, 0.5),
    ],
)
def test_a_ratio_is_recognised_with_its_exact_link(text: str, offset: float, scale: float) -> None:
    form = ratio_form(parse(text))
    assert form is not None
    values = {"a": 3.0, "b": 7.0, "c": 2.0}
    ratio = form.ratio.evaluate(lambda atom: values[atom.name])
    direct = parse(text).evaluate(lambda atom: values[atom.name])
    assert form.back(np.log(ratio)) == pytest.approx(direct, rel=1e-14)
    assert form.to_log(direct) == pytest.approx(np.log(ratio), rel=1e-14)
    if "2 *" not in text:
        assert (form.offset, form.scale) == (offset, scale)


@pytest.mark.parametrize(
    "text",
    ["a", "a - b", "2 * a", "a / 2", "1 / a", "a * b", "(a - b) / c", "a / b - b / a", "log(a / b)", "a / -b",
     "0 * (a / b)", "1 / (1 - a / b)", "a + 1"],
)  # fmt: skip
def test_a_difference_is_no_ratio(text: str) -> None:
    assert ratio_form(parse(text)) is None


def conjunction(first: list[float], second: list[float], *cores: bool) -> Any:
    measurements = rows("a", first, s=1) + rows("a", second, s=2)
    parts = [{"value": f"a[s={s}]", "bar": ">= 1", **({"core": True} if core else {})}
             for s, core in zip((1, 2), cores, strict=True)]  # fmt: skip
    return judged(measurements, all=parts, core=False)


def test_a_conjunction_is_as_good_as_its_parts() -> None:
    good, half, none, bad = FIVE, [0.5, 0.6, 0.7, 0.6, 0.5], [0.5, -0.6, 0.7, 0.2, -0.5], [-x for x in FIVE]
    assert conjunction(good, FIVE[::-1], False, True).verdict == REPRODUCED
    assert conjunction(good, half, False, True).verdict == DIRECTION_ONLY
    assert conjunction(bad, half, False, True).verdict == DIRECTION_ONLY  # only a core part can contradict
    assert conjunction(good, bad, False, True).verdict == CONTRADICTED
    assert conjunction(none, good, False, True).verdict == DIRECTION_ONLY
    assert conjunction(good, none, False, True).verdict == INCONCLUSIVE
    assert conjunction(good, bad, False, False).verdict == CONTRADICTED  # no core named: all are
    joined = conjunction(good, half, False, True)
    assert joined.estimate == pytest.approx(np.mean(half))  # the core part is the headline
    assert [part["verdict"] for part in joined.parts] == [REPRODUCED, DIRECTION_ONLY]
    assert [part["core"] for part in joined.parts] == [False, True]
    assert joined.p == joined.parts[1]["p"] > joined.parts[0]["p"]  # the weakest part
    assert conjunction(none, good, False, True).needed == conjunction(good, none, False, True).needed > 5
    assert joined.bar == ">= 1; >= 1"


def test_core_parts_share_the_error_of_contradicting() -> None:
    bad = [-0.1, -1.0, -0.5, -0.12, -0.9]  # t = -2.80: beyond 2.78 for one part alone, not beyond 3.50 for one of two
    assert judged(rows("a", bad), value="a", bar=">= 1").verdict == CONTRADICTED
    assert conjunction(bad, FIVE, True, True).verdict == INCONCLUSIVE


def test_an_untested_core_part_leaves_the_claim_untested() -> None:
    parts = [{"value": "a[s=1]", "bar": ">= 1"}, {"value": "a[s=3]", "bar": ">= 1", "core": True}]
    verdict = judged(rows("a", FIVE, s=1), all=parts)
    assert (verdict.verdict, verdict.reason) == (UNTESTED, "profile standard does not run s=3 (it runs s=1)")


def test_a_simulation_never_reproduces() -> None:
    simulated = rows("a", FIVE, evidence="simulated") + rows("b", [0.1, 0.2, 0.1, 0.3, 0.2], evidence="counted")
    verdict = judged(simulated, **DIFFERENCE)
    assert (verdict.verdict, verdict.evidence) == (DIRECTION_ONLY, "simulated")
    assert "never reproduces" in verdict.reason
    measured = rows("a", FIVE, evidence="simulated") + rows("b", [0.1, 0.2, 0.1, 0.3, 0.2])
    assert judged(measured, **DIFFERENCE).evidence == "simulated"  # one simulated side is enough
    parts = [{"value": "a", "bar": "> 1"}, {"value": "b", "bar": "> 0"}]
    assert judged(measured, all=parts).evidence == "simulated"
    assert judged(versus(FIVE), **DIFFERENCE, evidence="simulated").verdict == DIRECTION_ONLY
    assert judged(rows("a", [7], evidence="counted"), replicate="exact", value="a", bar="> 0").evidence == "counted"


@pytest.mark.parametrize(
    ("known", "word"), [("paper", CONTRADICTED), ("second-hand", INCONCLUSIVE), ("from memory", INCONCLUSIVE)]
)
def test_hearsay_contradicts_nobody(known: str, word: str) -> None:
    numbers = {"r": {"value": 9.0, "source": "Table 1", "known": known}}
    around: dict[str, Any] = {"kind": "value", "value": "a - b", "within": 0.5, "reported": "r"}
    assert judged(versus(FIVE), numbers, **around, target=9.0).verdict == word
    assert judged(versus(FIVE), numbers, **around, target=5.0).verdict == CONTRADICTED  # a target of our own
    effect = judged(versus(FIVE), numbers, value="b - a", bar=">= 1", reported="r")
    assert effect.verdict == CONTRADICTED  # the bar is ours, whoever told us the number


@pytest.mark.parametrize(
    ("number", "note"),
    [
        ({"value": 2.1}, None),
        ({"value": 3.4}, "the reported 3.4 lies outside"),
        ({"value": 340, "unit": "s"}, None),
        ({"high": 3.4}, None),
        ({"high": 1.2}, "the reported up to 1.2 lies outside"),
        ({"low": 4, "high": 5}, "the reported 4 to 5 lies outside"),
    ],
)
def test_a_reported_number_outside_our_interval_is_noted(number: dict[str, Any], note: str | None) -> None:
    numbers = {"r": {"source": "abstract", "known": "abstract", **number}}
    verdict = judged(versus(FIVE), numbers, **DIFFERENCE, reported="r", unit="pp")
    assert (note in verdict.reason) if note else ("reported" not in verdict.reason)
    assert verdict.verdict == REPRODUCED
    assert verdict.reported == {"source": "abstract", "known": "abstract", "unit": "", "setting": "", **number}


def test_a_card_edited_after_the_run_is_seen() -> None:
    before, after = card_of(**DIFFERENCE), card_of(value="a - b", bar=">= 0.5")
    result = result_of(versus(FIVE), claims={"c": before.claims["c"].hash()})
    assert not judge(before, "c", result, "standard").changed
    assert judge(after, "c", result, "standard").changed
    assert judge(after, "c", result_of(versus(FIVE)), "standard").changed  # added after the run
    withdrawn = card_of(**DIFFERENCE, profiles=["gpu"])
    assert judge(withdrawn, "c", result, "standard").changed
    assert not judge(withdrawn, "c", result_of(versus(FIVE)), "standard").changed  # never had a job in this profile


def test_gpu_models_are_named_and_never_pooled() -> None:
    assert judged(result_of(versus(FIVE), gpu="H100"), **DIFFERENCE).device == "H100"
    assert judged(result_of(versus(FIVE)), **DIFFERENCE).device == "CPU"
    with pytest.raises(VerdictError, match="H100 and H200"):
        judged(result_of(versus(FIVE), gpu=["H200", "H100"]), **DIFFERENCE)


def test_json_has_the_promised_keys_and_never_nan() -> None:
    verdict = judged(result_of(versus(FIVE)), value="a - b", bar=">= 1", unit="%").json()
    assert list(verdict) == [
        "paper", "claim", "kind", "says", "verdict", "reason", "evidence", "estimate", "interval", "n", "unit",
        "reported", "bar", "profile", "needed", "p", "parts", "changed", "device", "of",
    ]  # fmt: skip
    json.dumps(verdict, allow_nan=False)
    assert verdict["of"] == "paper"
    assert judged(result_of(versus(FIVE)), value="a - b", bar=">= 1", of="ours").json()["of"] == "ours"
    assert (verdict["paper"], verdict["claim"], verdict["unit"], verdict["device"]) == ("toy", "c", "%", "CPU")


def test_many_claims() -> None:
    assert clopper_pearson(0, 100)[1] == pytest.approx(1 - 0.025 ** (1 / 100))
    p = [0.2, 0.001, 0.03, 0.04, 0.9]
    np.testing.assert_allclose(bh(p), scipy_stats.false_discovery_control(p))
    assert expected_false(40) == pytest.approx(1.0)

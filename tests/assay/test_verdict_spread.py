"""Spread against spread: Pitman and Morgan's interval, both ways."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from assay.card import Test
from assay.verdict import CONTRADICTED, INCONCLUSIVE, REPRODUCED, VerdictError
from assay.verdict.spread import judge_spread
from assay.verdict.stats import spread_interval
from tests.assay.claims import judged, rows

SPREAD: dict[str, Any] = {"kind": "spread", "value": "a / b"}


def pairs(ratio: float, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    shared, a, b = np.random.default_rng(3).normal(size=(3, n))
    return 5 + ratio * (shared + a), 9 + shared + b


def spreads(ratio: float, n: int = 40, **knobs: Any) -> list[Any]:
    a, b = pairs(ratio, n)
    return rows("a", list(a), **knobs) + rows("b", list(b), **knobs)


def test_a_smaller_spread_is_reproduced_an_equal_one_undecided_and_a_larger_one_contradicted() -> None:
    found = judged(spreads(0.25), **SPREAD, bar="< 1")
    assert found.verdict == REPRODUCED
    assert found.reason.startswith("the whole interval meets < 1")
    a, b = pairs(0.25)
    assert found.estimate == pytest.approx(a.std(ddof=1) / b.std(ddof=1))
    assert found.p is not None
    assert found.p < 1e-6
    assert judged(spreads(1.0), **SPREAD, bar="< 1").verdict == INCONCLUSIVE
    assert judged(spreads(4.0), **SPREAD, bar="< 1").verdict == CONTRADICTED
    assert judged(spreads(4.0), **SPREAD, bar=">= 2").verdict == REPRODUCED


def test_an_end_of_the_interval_is_where_sum_and_difference_are_just_correlated() -> None:
    a, b = pairs(0.5)
    for end in spread_interval(a, b):
        assert scipy_stats.pearsonr(a + end * b, a - end * b).pvalue == pytest.approx(0.05)
    for bar, sign in (("<= 0.7", "less"), (">= 0.4", "greater")):
        word, _, p = judge_spread(Test(bar=bar), a, b)  # type: ignore[arg-type]
        at = float(bar[3:])
        assert p == pytest.approx(scipy_stats.pearsonr(a + at * b, a - at * b, alternative=sign).pvalue)
        assert (str(word) == REPRODUCED) == (p <= 0.025)


def test_settings_are_averaged_within_a_replicate() -> None:
    a, b = pairs(0.25)
    two = [row for s in (1, 2) for row in rows("a", list(a + s), s=s) + rows("b", list(b), s=s)]
    assert judged(two, **SPREAD, over={"s": "mean"}, bar="< 1").estimate == pytest.approx(a.std() / b.std())
    with pytest.raises(VerdictError, match="write `mean` in place of `all`"):
        judged(two, **SPREAD, over={"s": "all"}, bar="< 1")
    with pytest.raises(VerdictError, match=r"compared as `spread\(a / b\)`, not `a - b`"):
        judged(spreads(1.0), kind="spread", value="a - b", bar="< 1")


def test_fewer_than_twenty_replicates_no_spread_and_failures_decide_nothing() -> None:
    assert judged(spreads(0.1, 19), **SPREAD, bar="< 1").reason.startswith("too few replicates: spreads need 20")
    flat = judged(rows("a", [1.0] * 20) + rows("b", list(pairs(1.0, 20)[1])), **SPREAD, bar="< 1")
    assert (flat.verdict, flat.reason) == (INCONCLUSIVE, "no spread: is the seed used?")
    a, b = pairs(0.1)
    lost = judged(rows("a", [math.nan, *a[1:]]) + rows("b", list(b)), **SPREAD, bar="< 1")
    assert (lost.verdict, lost.p) == (INCONCLUSIVE, 1.0)
    assert "1 replicates failed" in lost.reason
    assert judged(rows("a", [math.nan, *100 * a[1:]]) + rows("b", list(b)), **SPREAD, bar="< 1").verdict == CONTRADICTED

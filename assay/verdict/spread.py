"""Spread against spread: the standard deviation of one method over that of another, on paired replicates."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.acceptance import Test
from assay.expression import Atom, Binary
from assay.record import Result
from assay.verdict import regions, stats
from assay.verdict.outcome import Outcome, bar_text
from assay.verdict.regions import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from assay.verdict.rows import Measured, measured
from assay.verdict.stats import VerdictError


def judge_spread(
    test: Test, a: np.ndarray, b: np.ndarray, contradiction: float | None = None
) -> tuple[regions.Words, tuple[Any, Any], Any]:
    """The word, the 95 % interval of sd(a) / sd(b) and the p value of the bar. a, b: (..., replicate), paired."""
    assert test.bar is not None
    region = regions.thresholds(test, no_effect=1.0)
    low, high = stats.spread_interval(a, b)
    lower, upper = regions.oriented(low, high, region.sign)
    wide = regions.oriented(*stats.spread_interval(a, b, contradiction), region.sign)[1]
    words = regions.effect(lower, np.maximum(upper, wide), region.bar, region.direction, region.contradicted,
                           strict=region.strict)  # fmt: skip
    return words, (low, high), stats.p_spread(a, b, test.bar.threshold, region.sign)


def spread_outcome(test: Test, result: Result, contradiction: float | None) -> Outcome:
    """Raises VerdictError where the value is no ratio of two methods, or settings are not averaged."""
    expression, bar = test.expression(), bar_text(test)
    if not (isinstance(expression, Binary) and expression.operator == "/"
            and isinstance(expression.left, Atom) and isinstance(expression.right, Atom)):  # fmt: skip
        raise VerdictError(f"spreads are compared as `spread(a / b)`, not `{expression}`")
    if other := [rule for rule in test.over.values() if rule != "mean"]:
        raise VerdictError(f"spreads are those of the mean over settings: write `mean` in place of `{other[0]}`")
    table = measured(test, result)
    kept = [seed for seed in range(len(table.low[str(expression.left)])) if seed not in table.failures]
    a, b = (_of_replicates(table, str(atom))[kept] for atom in (expression.left, expression.right))
    outcome = Outcome(INCONCLUSIVE, "", bar, n=len(kept), unit=test.unit, evidence=table.evidence)
    if len(kept) < stats.MIN_FOR_SPREADS:
        outcome.reason = f"too few replicates: spreads need {stats.MIN_FOR_SPREADS}, there are {len(kept)}"
        return outcome
    if not np.std(a) or not np.std(b):
        outcome.reason = "no spread: is the seed used?"
        return outcome
    word, (low, high), p = judge_spread(test, a, b, contradiction)
    outcome.word, outcome.low, outcome.high, outcome.p = str(word), float(low), float(high), float(p)
    outcome.estimate = float(np.std(a) / np.std(b))
    said = {REPRODUCED: f"the whole interval meets {bar}", CONTRADICTED: f"the whole interval misses {bar}"}
    outcome.reason = said.get(outcome.word, f"the interval reaches over {bar}")
    if table.failures:
        why = next(iter(table.failures.values()))
        outcome.reason += f"; {len(table.failures)} replicates failed: {why}"
        outcome.word, outcome.p = (outcome.word if outcome.word == CONTRADICTED else INCONCLUSIVE), 1.0
    return outcome


def _of_replicates(table: Measured, name: str) -> np.ndarray:
    """One number for each replicate: the median over pairs, the mean over settings."""
    return np.asarray(stats.over_settings(stats.over_pairs(table.low[name].astype(float))))

"""Rates: "at most r of the trials", or at least r of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from assay.acceptance import Test
from assay.expression import Atom, Binary
from assay.record import Result
from assay.verdict import regions, stats
from assay.verdict.outcome import Outcome, bar_text
from assay.verdict.regions import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from assay.verdict.rows import measured
from assay.verdict.stats import VerdictError


@dataclass(frozen=True)
class Counts:
    """Violations and trials over all replicates; `failures` are the replicates that counted nothing, and why."""

    violations: int
    trials: int
    replicates: int
    failures: dict[int, str]
    evidence: str


def counted(test: Test, result: Result) -> Counts:
    """The counts of a test, written `value: net.misses / net.solves`; its settings are pooled with `over: mean`.

    Raises VerdictError where the value is no ratio of two counts. Trials must be independent: where one training gives
    many trials that share its luck, count the trainings.
    """
    expression = test.expression()
    if not (isinstance(expression, Binary) and expression.operator == "/"
            and isinstance(expression.left, Atom) and isinstance(expression.right, Atom)):  # fmt: skip
        raise VerdictError(f"a rate is written as counts, `net.misses / net.trials`, not `{expression}`")
    if other := [rule for rule in test.over.values() if rule != "mean"]:
        raise VerdictError(f"a rate pools its settings: write `mean` in place of `{other[0]}`")
    table = measured(test, result)
    violations, trials = table.low[str(expression.left)], table.low[str(expression.right)]
    kept = [seed for seed in range(len(trials)) if seed not in table.failures]
    if not kept:
        raise VerdictError("every replicate failed: " + next(iter(table.failures.values())))
    sums = [
        _whole(str(atom), values[kept]) for atom, values in ((expression.left, violations), (expression.right, trials))
    ]
    return Counts(sums[0], sums[1], len(trials), table.failures, table.evidence)


def _whole(name: str, values: np.ndarray) -> int:
    for value in values.ravel():
        if value < 0 or value != int(value):
            raise VerdictError(f"{name} is {value:g}: a count is a whole number from 0 up")
    return sum(int(value) for value in values.ravel())


def judge_rate(
    test: Test, violations: ArrayLike, trials: ArrayLike, contradiction: float | None = None
) -> tuple[regions.Words, tuple[Any, Any], Any]:
    """The word, the 95 % interval and the p value of the bar, on arrays of counts."""
    assert test.bar is not None
    region = regions.thresholds(test, test.bar.threshold)
    low, high = stats.clopper_pearson(violations, trials)
    lower, upper = regions.oriented(low, high, region.sign)
    wide = regions.oriented(*stats.clopper_pearson(violations, trials, contradiction), region.sign)[1]
    words = regions.effect(lower, np.maximum(upper, wide), region.bar, region.direction, region.contradicted,
                           strict=region.strict)  # fmt: skip
    if region.sign > 0:
        p = scipy.stats.binom.sf(np.asarray(violations) - 1, trials, test.bar.threshold)
    else:
        p = scipy.stats.binom.cdf(violations, trials, test.bar.threshold)
    return words, (low[()], high[()]), p[()]


def rate_outcome(test: Test, result: Result, contradiction: float | None) -> Outcome:
    """Violations of trials, counted over all replicates: the trials are what is repeated."""
    counts, bar = counted(test, result), bar_text(test)
    word, (low, high), p = judge_rate(test, counts.violations, counts.trials, contradiction)
    said = {REPRODUCED: f"the whole interval meets {bar}", CONTRADICTED: f"the whole interval misses {bar}"}
    outcome = Outcome(
        str(word), f"{counts.violations} of {counts.trials}: {said.get(str(word), f'the interval reaches over {bar}')}",
        bar, counts.violations / counts.trials, float(low), float(high), counts.replicates, test.unit,
        counts.evidence, float(p),
    )  # fmt: skip
    if counts.failures:
        why = next(iter(counts.failures.values()))
        outcome.reason += f"; {len(counts.failures)} of {counts.replicates} replicates failed: {why}"
        outcome.word, outcome.p = (outcome.word if outcome.word == CONTRADICTED else INCONCLUSIVE), 1.0
    return outcome

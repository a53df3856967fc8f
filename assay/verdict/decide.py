"""One test: from its numbers per replicate to a word, with the interval and the reason."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from assay.acceptance import Test
from assay.record import Result
from assay.verdict import regions, stats
from assay.verdict.outcome import Around, Outcome, Region, bar_text, region_of
from assay.verdict.rate import rate_outcome
from assay.verdict.reduce import Samples, reduce
from assay.verdict.regions import CONTRADICTED, DIRECTION_ONLY, INCONCLUSIVE, REPRODUCED, UNTESTED
from assay.verdict.rows import Undecided
from assay.verdict.spread import spread_outcome
from assay.verdict.stats import VerdictError


def decide(test: Test, result: Result, contradiction: float | None = None) -> Outcome:
    """Judge one test. `contradiction` is the two-sided level at which it may be contradicted (default ALPHA)."""
    try:
        if test.kind == "rate":
            return rate_outcome(test, result, contradiction)
        if test.kind == "spread":
            return spread_outcome(test, result, contradiction)
        samples = reduce(test, result)
    except Undecided as early:
        return Outcome(early.word, early.reason, bar_text(test), unit=test.unit, evidence=test.evidence)
    region = region_of(test, samples)
    exact = test.replicate is not None and test.replicate.unit == "exact"
    outcome = _exact(test, samples, region) if exact else _with_spread(test, samples, region, result, contradiction)
    outcome.unit, outcome.evidence = samples.unit, samples.evidence
    _say_what_was_planned(outcome, test, samples)
    return outcome


def _say_what_was_planned(outcome: Outcome, test: Test, samples: Samples) -> None:
    """A profile may run fewer replicates, or more, than the card plans: then the verdict says so."""
    replicate = test.replicate
    if replicate is None or replicate.unit == "exact" or outcome.word == UNTESTED:
        return
    if replicate.n is not None and replicate.n != samples.replicates:
        outcome.reason += f"; {samples.replicates} runs where the card plans {replicate.n}"
    if replicate.pairs is not None and samples.pairs not in (1, replicate.pairs):
        outcome.reason += f"; {samples.pairs} pairs in a process where the card plans {replicate.pairs}"


class _View:
    """The replicates of a test in the claim's own unit."""

    def __init__(self, test: Test, samples: Samples, region: Region, kept: np.ndarray) -> None:
        self.test, self.samples, self.region = test, samples, region
        self.low, self.high = samples.low[kept].astype(float), samples.high[kept].astype(float)
        self.n, self.columns = self.low.shape
        self.sign = region.sign if isinstance(region, regions.Effect) else 1
        replicate = test.replicate
        self.resplit = 0.0
        if replicate is not None and replicate.changes == "split" and replicate.n_test and replicate.n_train:
            self.resplit = replicate.n_test / replicate.n_train
        if test.stat == "median":
            self.low, self.high = self._natural(self.low, self.high)
            bad_low, bad_high = (-np.inf, np.inf) if isinstance(region, Around) else (-self.sign * np.inf,) * 2
            failed = np.isnan(self.low)
            self.low, self.high = np.where(failed, bad_low, self.low), np.where(failed, bad_high, self.high)

    def _natural(self, low: Any, high: Any) -> tuple[Any, Any]:
        link = self.samples.link
        if link is None:
            return low, high
        return (link.back(low), link.back(high)) if link.rises else (link.back(high), link.back(low))

    def ends(self, column: int, alpha: float) -> tuple[float, float]:
        low, high = self.low[:, column], self.high[:, column]
        if self.test.stat == "median":
            return tuple(map(float, stats.median_interval(low, high, alpha=alpha)))  # type: ignore[return-value]
        ends = stats.t_interval(low, alpha=alpha, floor=self.samples.floor or 0.0, resplit=self.resplit)
        return tuple(map(float, self._natural(*ends)))  # type: ignore[return-value]

    def point(self, column: int) -> float:
        if self.test.stat == "median":
            low, high = float(np.median(self.low[:, column])), float(np.median(self.high[:, column]))
            return low if low == high else math.nan
        mean = float(np.mean(self.low[:, column]))
        return float(self._natural(mean, mean)[0])

    def leaf(self, column: int, alpha_low: float, alpha_high: float) -> tuple[Any, Any]:
        """The column's ends, higher as claimed; around a target, how far inside and how near."""
        region = self.region
        if isinstance(region, Around):
            return (
                regions.inside(*self.ends(column, alpha_low), region.target, region.within),
                regions.near(*self.ends(column, alpha_high), region.target, region.outside),
            )
        lower, upper = (regions.oriented(*self.ends(column, alpha), self.sign) for alpha in (alpha_low, alpha_high))
        return lower[0], upper[1]

    def word(self, contradiction: float | None = None) -> str:
        low, high = stats.composite(self.samples.tree, self.leaf, high=contradiction)
        region = self.region
        if isinstance(region, Around):
            return str(regions.around(low, high))
        return str(regions.effect(low, high, region.bar, region.direction, region.contradicted, strict=region.strict))

    def closeness(self, values: list[float]) -> float:
        """The composite of point values, on the scale on which higher is as claimed."""
        region = self.region
        if isinstance(region, Around):
            return stats.composite_point(self.samples.tree, [-abs(value - region.target) for value in values])
        return stats.composite_point(self.samples.tree, [self.sign * value for value in values])

    def deciding(self) -> int:
        """The column at which the composite's point estimate is attained."""
        points = [self.point(column) for column in range(self.columns)]
        reached = self.closeness(points)
        distances = [abs(self._score(point) - reached) for point in points]
        return int(np.nanargmin(distances)) if np.any(np.isfinite(distances)) else 0

    def _score(self, point: float) -> float:
        return -abs(point - self.region.target) if isinstance(self.region, Around) else self.sign * point

    def interval(self) -> tuple[float, float]:
        if isinstance(self.region, Around):
            return self.ends(self.deciding(), stats.ALPHA)
        low, high = regions.oriented(*stats.composite(self.samples.tree, self.leaf), self.sign)
        return float(low), float(high)

    def edges(self) -> list[tuple[int, float]]:
        """(side, threshold): what the mean must lie beyond, on the scale of `low`, for `reproduced`."""
        region = self.region
        if isinstance(region, Around):
            sides = [(1, region.target - region.within), (-1, region.target + region.within)]
        else:
            sides = [(self.sign, self.sign * region.bar)]
        link = self.samples.link
        if link is None or self.test.stat == "median":
            return sides
        return [(side if link.rises else -side, link.to_log(threshold)) for side, threshold in sides]

    def p(self) -> float:
        return stats.composite_p(self.samples.tree, self._p_of)

    def _p_of(self, column: int) -> float:
        low, high = self.low[:, column], self.high[:, column]
        if self.test.stat == "median":
            sides = [low if side > 0 else -high for side, _ in self.edges()]
            return max(
                stats.p_median_above(x, side * edge) for x, (side, edge) in zip(sides, self.edges(), strict=True)
            )
        error = float(stats.standard_error(low, floor=self.samples.floor or 0.0, resplit=self.resplit))
        mean = float(np.mean(low))
        return max(stats.p_above(side * (mean - edge), error, stats.degrees(self.n)) for side, edge in self.edges())

    def needed(self) -> int | None:
        if self.test.stat == "median" or self.n < 2:
            return None
        x = self.low[:, self.deciding()]
        distance = min(abs(float(np.mean(x)) - edge) for _, edge in self.edges())
        return stats.replicates_needed(distance, max(float(stats.spread(x)), self.samples.floor or 0.0))

    def without_spread(self) -> bool:
        """Whether the replicates of some column are all the same number, which no seed would do."""
        censored = not np.array_equal(self.low, self.high)
        if censored or self.samples.floor is not None or not np.all(np.isfinite(self.low)):
            return False
        return bool(np.any(np.ptp(self.low, axis=0) <= 1e-12 * np.max(np.abs(self.low), axis=0)))


def _with_spread(test: Test, samples: Samples, region: Region, result: Result, contradiction: float | None) -> Outcome:
    n, failed, median = samples.replicates, samples.failed, test.stat == "median"
    view = _View(test, samples, region, np.array([median or seed not in failed for seed in range(n)]))
    outcome = Outcome(INCONCLUSIVE, "", bar_text(test), n=n)
    if view.n:
        outcome.estimate = _finite(view.point(view.deciding()))
    too_few = _too_few(n, median, result.profile) or _unfit(samples, result.profile)
    if too_few:
        outcome.word, outcome.reason = too_few
    elif view.n < stats.MIN_REPLICATES:
        outcome.reason = _failed(samples)
    elif view.without_spread():
        outcome.reason = "no spread: is the seed used? (if the metric is coarse, give its `resolution`)"
    else:
        outcome.low, outcome.high = map(_finite, view.interval())
        outcome.needed, outcome.p = view.needed(), view.p()
        outcome.word, outcome.reason = _word(view, contradiction)
        if failed:
            _count_failures(outcome, samples, median=median)
    return outcome


def _count_failures(outcome: Outcome, samples: Samples, *, median: bool) -> None:
    """A failed run is the worst value: a mean with one in it can only be contradicted by the others."""
    if median:
        outcome.reason += f"; {_failed(samples)}"
        return
    outcome.p = 1.0
    if outcome.word == CONTRADICTED:
        outcome.reason += f", even without the {len(samples.failed)} of {samples.replicates} replicates that failed"
    else:
        outcome.word, outcome.reason = INCONCLUSIVE, _failed(samples)


def _too_few(n: int, median: bool, profile: str) -> tuple[str, str] | None:
    least = stats.MIN_FOR_MEDIAN if median else stats.MIN_REPLICATES
    if n >= least:
        return None
    what = "a median" if median else "a verdict"
    if profile == "quick":
        return UNTESTED, f"profile quick runs {n} replicate{'s' * (n != 1)}; {what} needs {least}"
    return INCONCLUSIVE, f"too few replicates: there are {n} and {what} needs {least}"


def _unfit(samples: Samples, profile: str) -> tuple[str, str] | None:
    if samples.problem is None:
        return None
    if profile == "quick":
        return UNTESTED, f"profile quick runs {samples.problem}"
    return INCONCLUSIVE, samples.problem


def _failed(samples: Samples) -> str:
    why = next(iter(samples.failures.values()), "a value that is not finite")
    return f"{len(samples.failed)} of {samples.replicates} replicates failed: {why}; a failed run counts as the worst"


def _word(view: _View, contradiction: float | None) -> tuple[str, str]:
    word = view.word(contradiction)
    tail = view.samples.tail
    if tail is not None and word != INCONCLUSIVE:
        last = [float(np.nanmean(tail[:, column])) for column in range(view.columns)]
        if _curved(view, word, last):
            shown = last[view.deciding()]
            return INCONCLUSIVE, f"curved: the slope between the last two sizes is {shown:.3g}, another side of the bar"
    return word, _reason(view, word)


def _curved(view: _View, word: str, last: list[float]) -> bool:
    """Whether the last two sizes disagree: start-up cost flatters an exponent that is fitted to all of them."""
    region, reached = view.region, view.closeness(last)
    if isinstance(region, Around):
        meets = reached >= -region.within
    else:
        meets = reached > region.direction if word == DIRECTION_ONLY else reached >= region.bar
    return meets if word == CONTRADICTED else not meets


def _reason(view: _View, word: str) -> str:
    region, bar = view.region, bar_text(view.test)
    here = " on this split" if view.test.replicate and view.test.replicate.changes == "init" else ""
    if word == REPRODUCED:
        return f"the whole interval meets {bar}{here}"
    if word == CONTRADICTED and isinstance(region, Around):
        return f"the whole interval is more than {region.outside:g} away from {region.target:g}{here}"
    if word == CONTRADICTED:
        side = "below" if view.sign > 0 else "above"
        return f"the whole interval is {side} {view.sign * region.contradicted:g}{here}"  # type: ignore[union-attr]
    if word == DIRECTION_ONLY:
        assert isinstance(region, regions.Effect)
        _, high = stats.composite(view.samples.tree, view.leaf)
        past = f"beyond {view.sign * region.direction:g} as claimed"
        return f"{past}, but below the bar {bar}{here}" if high < region.bar else f"{past}, bar {bar} undecided{here}"
    return _undecided(view, bar)


def _undecided(view: _View, bar: str) -> str:
    region = view.region
    if isinstance(region, Around):
        low, high = view.interval()
        if (high - low) / 2 > region.within:
            return (
                f"the interval is wider than {bar}: {region.within:g} is too narrow for the spread "
                f"at {view.n} replicates"
            )
        return f"the interval reaches over the edge of {bar}"
    return (
        f"the interval neither clears {view.sign * region.direction:g} nor lies wholly on the other side of "
        f"{view.sign * region.contradicted:g}"
    )


def _exact(test: Test, samples: Samples, region: Region) -> Outcome:
    """A count: no interval; it meets the bar or it does not."""
    outcome = Outcome(INCONCLUSIVE, "", bar_text(test), n=1)
    if samples.failed:
        outcome.reason = _failed(samples)
        return outcome
    if samples.problem:
        outcome.reason = samples.problem
        return outcome
    view = _View(test, samples, region, np.full(1, True))
    values = list(samples.low[0])
    outcome.estimate = _finite(float(values[view.deciding()]))
    if isinstance(region, Around):
        inner = stats.composite_point(samples.tree, [_slack(v, region, region.within, samples) for v in values])
        outer = stats.composite_point(samples.tree, [_slack(v, region, region.outside, samples) for v in values])
        outcome.word = str(regions.around(inner, outer))
        outcome.reason = f"exact: {'is' if inner >= 0 else 'is not'} {outcome.bar}"
        return outcome
    point = view.closeness([float(v) for v in values])
    outcome.word = str(
        regions.exact_effect(point, region.bar, region.direction, region.contradicted, strict=region.strict)
    )
    outcome.reason = f"exact: {'meets' if outcome.word == REPRODUCED else 'does not meet'} {outcome.bar}"
    tail = samples.tail
    if tail is not None and outcome.word != INCONCLUSIVE and _curved(view, outcome.word, [float(t) for t in tail[0]]):
        outcome.word, outcome.reason = INCONCLUSIVE, "curved: the last two sizes are on another side of the bar"
    return outcome


def _slack(value: Any, region: Around, tolerance: float, samples: Samples) -> float:
    """How far an exact value lies inside; integers are compared as integers, floats to a relative 1e-12.

    A difference of large floats carries their rounding, some units in their last place. What is larger than that and
    still below 1e-12 of the terms could be either: then there is no verdict.
    """
    excess = float(abs(Fraction(value) - Fraction(region.target)) - Fraction(tolerance))
    if samples.whole and Fraction(value).denominator == 1:
        return -excess
    alone = 1e-12 * max(abs(region.target), abs(float(value)))
    hidden, rounding = 1e-12 * samples.rounding, 4 * math.ulp(samples.rounding)
    if max(alone, rounding) < excess <= hidden:
        raise VerdictError(
            f"the terms are as large as {samples.rounding:g}, and rounding could hide what tells {float(value):g} from "
            f"{region.target:g}: record whole numbers, or a metric that is not a difference of such terms"
        )
    return max(alone, rounding) - excess


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

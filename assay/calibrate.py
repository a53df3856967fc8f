"""Does the engine keep its promise? Nulls planted exactly at the bar, 10,000 simulated claims a cell.

    for cell in calibrate():
        print(cell)

Every cell calls the functions that judge real claims, through their modules, so that a fault in one of them shows up
as a cell out of its allowed range. The nulls sit at the bar, for "the same thing twice" would make an equivalence
claim true. `assay doctor --calibrate` prints the table.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import nct, t

from assay.acceptance import Test
from assay.expression import parse
from assay.ratio import ratio_form
from assay.verdict import claim, regions, stats
from assay.verdict import rate as rates
from assay.verdict.outcome import Outcome
from assay.verdict.regions import CONTRADICTED, DIRECTION_ONLY, REPRODUCED
from assay.verdict.spread import judge_spread

Array = NDArray[np.float64]
Words = NDArray[np.str_]

TRIALS = 10_000
SIZES = (3, 5, 10)
NOMINAL = 0.025
BELOW, ABOVE = 0.0058, 0.0063  # what 10,000 trials of a true 2.5% stay within
POWER_SLACK = 0.02
FAR = 1e3  # standard deviations: a setting that certainly holds, or certainly does not
EQUIVALENCE_POWER = {3: 0.324, 5: 0.829, 10: 1.0}  # at 0, with a margin of 2 standard deviations


@dataclass(frozen=True)
class Cell:
    """One simulated situation: how often the verdict was the one in question, and how often it may be."""

    name: str
    n: int
    rate: float
    low: float
    high: float

    @property
    def ok(self) -> bool:
        return self.low <= self.rate <= self.high

    def __str__(self) -> str:
        mark = "ok" if self.ok else "OUT"
        return f"{self.name:<62} n={self.n:<3} {self.rate:7.2%}  [{self.low:6.2%}, {self.high:7.2%}]  {mark}"


def calibrate(trials: int = TRIALS) -> list[Cell]:
    """Run every cell. Deterministic: the same trials give the same rates.

    Args:
        trials: simulated claims in a cell. Fewer widen the allowed ranges by the square root.
    """
    simulation = _Simulation(trials)
    groups = (_effects, _trends, _reductions, _composites, _conjunctions, _around, _heavy_tails, _medians, _rates,
              _spreads, _powers)  # fmt: skip
    return [cell for group in groups for cell in group(simulation)]


@dataclass(frozen=True)
class _Simulation:
    trials: int

    @property
    def widen(self) -> float:
        return math.sqrt(TRIALS / self.trials)

    def normal(self, name: str, *shape: int) -> Array:
        """Standard normal noise `(trials, *shape)`, of a stream of its own for each cell."""
        return self.stream(name, *shape).normal(size=(self.trials, *shape))

    def stream(self, name: str, *shape: int) -> np.random.Generator:
        return np.random.default_rng([zlib.crc32(name.encode()), *shape])

    def exact(self, name: str, n: int, words: Words, *wanted: str) -> Cell:
        """A false verdict that must come in 2.5% of the trials: neither more often nor, for power's sake, less."""
        low, high = NOMINAL - self.widen * BELOW, NOMINAL + self.widen * ABOVE
        return Cell(name, n, _share(words, *wanted), round(low, 4), round(high, 4))

    def bounded(self, name: str, n: int, words: Words, *wanted: str) -> Cell:
        """A false verdict that may come in at most 2.5% of the trials."""
        return Cell(name, n, _share(words, *wanted), 0.0, self.exact(name, n, words, *wanted).high)

    def power(self, name: str, n: int, words: Words, expected: float) -> Cell:
        slack = POWER_SLACK * self.widen
        return Cell(name, n, _share(words, REPRODUCED), round(expected - slack, 4), round(expected + slack, 4))


def _share(words: Words, *wanted: str) -> float:
    return float(np.mean(np.isin(words, wanted)))


def _effect(x: Array, bar: str = ">= 1", no_effect: float = 0.0, *, resplit: float = 0.0,
            back: Callable[[Array], Array] | None = None) -> Words:  # fmt: skip
    """The verdicts of effect claims whose replicates are `x`, shape (trials, n)."""
    region = regions.thresholds(Test(bar=bar), no_effect)  # type: ignore[arg-type]
    low, high = stats.t_interval(x, axis=1, resplit=resplit)
    if back is not None:
        low, high = back(low), back(high)
    low, high = regions.oriented(low, high, region.sign)
    return regions.effect(low, high, region.bar, region.direction, region.contradicted)


def _effects(s: _Simulation) -> Iterator[Cell]:
    for n in SIZES:
        name = "effect at the bar: reproduced"
        yield s.exact(name, n, _effect(1 + s.normal(name, n)), REPRODUCED)
        name = "effect at an upper bar: reproduced"
        yield s.exact(name, n, _effect(1 + s.normal(name, n), "<= 1", 2.0), REPRODUCED)
        name = "no effect: direction only or better"
        yield s.exact(name, n, _effect(s.normal(name, n), ">= 0.5"), REPRODUCED, DIRECTION_ONLY)
        name = "no effect: contradicted"
        yield s.exact(name, n, _effect(s.normal(name, n)), CONTRADICTED)
        name = "no worse than the bar, and exactly there: contradicted"
        yield s.exact(name, n, _effect(s.normal(name, n) - 0.5, ">= -0.5"), CONTRADICTED)
        name = "ratio at the bar, lognormal with sigma 1: reproduced"
        form = ratio_form(parse("a / b"))
        assert form is not None
        yield s.exact(name, n, _effect(math.log(2) + s.normal(name, n), ">= 2", 1.0, back=form.back), REPRODUCED)


def _trends(s: _Simulation) -> Iterator[Cell]:
    x = np.log2(2.0 ** np.arange(6))
    for n in SIZES:
        name = "rank contrast at the bar, 6 sizes: reproduced"
        weights = stats.rank_weights(len(x))
        contrasts = stats.contrast(s.normal(name, n, len(x)), weights)
        yield s.exact(name, n, _effect(1 + contrasts), REPRODUCED)
        name = "exponent at its upper bar, 6 sizes over 32x: reproduced"
        times = 1.15 * x + 0.1 * s.normal(name, n, len(x))
        yield s.exact(name, n, _effect(stats.contrast(times, stats.slope_weights(x)), "<= 1.15"), REPRODUCED)


def _reductions(s: _Simulation) -> Iterator[Cell]:
    """Numbers within a replicate share its luck: they are reduced to one before anything is compared."""
    for n in SIZES:
        name = "6 settings averaged within a replicate: reproduced"
        settings = s.normal(name, n, 1) + s.normal(name, n, 6)
        yield s.exact(name, n, _effect(1 + stats.over_settings(settings)), REPRODUCED)
        name = "30 pairs in a process, median: reproduced"
        pairs = 0.3 * s.normal(name, n, 1) + s.stream(name, n, 30).laplace(size=(s.trials, n, 30))
        yield s.bounded(name, n, _effect(1 + stats.over_pairs(pairs)), REPRODUCED)
        name = "re-splits of one data set, a fifth for testing: reproduced"
        splits = math.sqrt(0.2) * s.normal(name, 1) + math.sqrt(0.8) * s.normal(name, n)
        yield s.exact(name, n, _effect(1 + splits, resplit=0.25), REPRODUCED)


def _composites(s: _Simulation) -> Iterator[Cell]:
    """k of m settings, with k - 1 that certainly hold and the others exactly at the bar (or at no effect)."""
    for rule, m, k in (("any of 6", 6, 1), ("2 of 4", 4, 2), ("80% of 5", 5, 4), ("all of 6", 6, 6)):
        for correlation in (0.0, 0.5, 0.9):
            for n in SIZES:
                name = f"{rule}, correlation {correlation:g}"
                noise = _correlated(s, name, n, m, correlation)
                at_bar = 1 + noise + FAR * (np.arange(m) < k - 1)
                yield s.bounded(f"{name}: reproduced", n, _composite(at_bar, k), REPRODUCED)
                at_none = noise - FAR * (np.arange(m) >= k)
                yield s.bounded(f"{name}: contradicted", n, _composite(at_none, k), CONTRADICTED)


def _correlated(s: _Simulation, name: str, n: int, m: int, correlation: float) -> Array:
    return math.sqrt(correlation) * s.normal(name, n, 1) + math.sqrt(1 - correlation) * s.normal(name, n, m)


def _composite(x: Array, k: int) -> Words:
    def leaf(column: int, alpha_low: float, alpha_high: float) -> tuple[Array, Array]:
        low, _ = stats.t_interval(x[:, :, column], axis=1, alpha=alpha_low)
        _, high = stats.t_interval(x[:, :, column], axis=1, alpha=alpha_high)
        return low, high

    low, high = stats.composite(stats.Rule(k, tuple(range(x.shape[2]))), leaf)
    return regions.effect(low, high, 1.0, 0.0, 0.0)


def _conjunctions(s: _Simulation) -> Iterator[Cell]:
    for correlation in (0.0, 0.9):
        for n in SIZES:
            name = f"two core parts, correlation {correlation:g}"
            noise = _correlated(s, name, n, 2, correlation)
            reproduced = _conjunction(1 + noise + FAR * (np.arange(2) > 0))
            yield s.bounded(f"{name}: reproduced", n, reproduced, REPRODUCED)
            yield s.bounded(f"{name}: contradicted", n, _conjunction(noise), CONTRADICTED)


def _conjunction(x: Array) -> Words:
    parts = []
    for column in range(x.shape[2]):
        low, _ = stats.t_interval(x[:, :, column], axis=1)
        _, high = stats.t_interval(x[:, :, column], axis=1, alpha=stats.ALPHA / x.shape[2])
        parts.append([Outcome(str(word), "", "") for word in regions.effect(low, high, 1.0, 0.0, 0.0)])
    return np.array([claim.conjunction(list(trial), list(trial))[0] for trial in zip(*parts, strict=True)])


def _around(s: _Simulation) -> Iterator[Cell]:
    for n in SIZES:
        name = "equivalence at its margin of 2 sd: reproduced"
        low, high = stats.t_interval(2 + s.normal(name, n), axis=1)
        yield s.bounded(name, n, regions.equivalence(low, high, 2.0), REPRODUCED)
        name = "value at the edge of within, 1 sd: reproduced"
        low, high = stats.t_interval(6 + s.normal(name, n), axis=1)
        yield s.bounded(name, n, regions.value(low, high, 5.0, 1.0, 2.0), REPRODUCED)
        name = "value at the edge of outside: contradicted"
        low, high = stats.t_interval(7 + s.normal(name, n), axis=1)
        yield s.exact(name, n, regions.value(low, high, 5.0, 1.0, 2.0), CONTRADICTED)
        name = "power of equivalence at 0, margin 2 sd"
        low, high = stats.t_interval(s.normal(name, n), axis=1)
        yield s.power(name, n, regions.equivalence(low, high, 2.0), EQUIVALENCE_POWER[n])


def _heavy_tails(s: _Simulation) -> Iterator[Cell]:
    for n in SIZES:
        name = "effect at the bar, heavy tails (t3): reproduced"
        x = 1 + s.stream(name, n).standard_t(3, size=(s.trials, n))
        yield s.bounded(name, n, _effect(x), REPRODUCED)


def _medians(s: _Simulation) -> Iterator[Cell]:
    for n in (6, 10, 20):
        name = "median at the bar, exponential times: reproduced"
        x = 1 + s.stream(name, n).exponential(size=(s.trials, n)) - math.log(2)
        low, high = stats.median_interval(x, x, axis=1)
        yield s.bounded(name, n, regions.effect(low, high, 1.0, 0.0, 0.0), REPRODUCED)
        name = "median at an upper bar, a quarter censored: reproduced"
        x = s.stream(name, n).exponential(size=(s.trials, n)) - math.log(2)
        limit = math.log(4) - math.log(2)
        censored = x >= limit
        low, high = stats.median_interval(np.minimum(x, limit), np.where(censored, np.inf, x), axis=1)
        words = regions.effect(*regions.oriented(low, high, -1), 0.0, -FAR, -FAR)
        yield s.bounded(name, n, words, REPRODUCED)


def _rates(s: _Simulation) -> Iterator[Cell]:
    """Counts of violations at exactly the rate of the bar."""
    for trials, rate in ((30, 0.2), (100, 0.05), (400, 0.5)):
        for bar in (f"<= {rate}", f">= {rate}"):
            name = f"rate {bar} of {trials} trials, at the bar"
            missed = s.stream(name, trials).binomial(trials, rate, size=s.trials)
            words, _, _ = rates.judge_rate(Test(bar=bar), missed, trials)  # type: ignore[arg-type]
            yield s.bounded(f"{name}: reproduced", trials, words, REPRODUCED)
            yield s.bounded(f"{name}: contradicted", trials, words, CONTRADICTED)


def _spreads(s: _Simulation) -> Iterator[Cell]:
    """Pairs whose spreads differ by exactly the bar, however correlated."""
    for n in (20, 40):
        for correlation in (0.0, 0.8):
            shared = s.normal("what pairs share", n, 1)[..., 0]
            own = s.normal(f"pairs, correlation {correlation:g}", n, 2)
            pairs = math.sqrt(correlation) * shared[..., None] + math.sqrt(1 - correlation) * own
            for bar, ratio in (("<= 0.5", 0.5), (">= 2", 2.0)):
                name = f"spread {bar}, correlation {correlation:g}"
                words, _, _ = judge_spread(Test(bar=bar), ratio * pairs[..., 0], pairs[..., 1])  # type: ignore[arg-type]
                yield s.exact(f"{name}, at the bar: reproduced", n, words, REPRODUCED)
                words, _, _ = judge_spread(Test(bar=bar), pairs[..., 0], pairs[..., 1])  # type: ignore[arg-type]
                yield s.exact(f"{name}, equal ones: contradicted", n, words, CONTRADICTED)


def _powers(s: _Simulation) -> Iterator[Cell]:
    for effect in (1.0, 2.0):
        for n in SIZES:
            name = f"power, {effect:g} sd beyond the bar"
            expected = nct.sf(t.ppf(0.975, n - 1), n - 1, effect * math.sqrt(n))
            yield s.power(name, n, _effect(1 + effect + s.normal(name, n)), float(expected))

"""Acceptance regions: from an interval to a verdict. Every function works on arrays of intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.card import Test

REPRODUCED = "reproduced"
DIRECTION_ONLY = "direction only"
INCONCLUSIVE = "inconclusive"
CONTRADICTED = "contradicted"
UNTESTED = "untested"
VERDICTS = (REPRODUCED, DIRECTION_ONLY, INCONCLUSIVE, CONTRADICTED, UNTESTED)

Words = NDArray[np.str_]


@dataclass(frozen=True)
class Effect:
    """Thresholds `contradicted <= direction <= bar`, oriented so that higher is as claimed.

    `sign` is -1 where the card's bar is an upper bound; `strict` where the bar itself does not meet the claim.
    """

    bar: float
    direction: float
    contradicted: float
    sign: int = 1
    strict: bool = False


def oriented(low: ArrayLike, high: ArrayLike, sign: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The interval turned so that higher is as claimed."""
    low, high = np.asarray(low), np.asarray(high)
    return (low, high) if sign > 0 else (-high, -low)


def effect(low: ArrayLike, high: ArrayLike, bar: float, direction: float, contradicted: float, *,
           strict: bool = False) -> Words:  # fmt: skip
    """`L >= B` reproduced; `U < C` contradicted; `L > D` direction only; else inconclusive: in this order."""
    low, high = np.asarray(low), np.asarray(high)
    met = low > bar if strict else low >= bar
    return np.select([met, high < contradicted, low > direction],
                     [REPRODUCED, CONTRADICTED, DIRECTION_ONLY], INCONCLUSIVE)  # fmt: skip


def inside(low: ArrayLike, high: ArrayLike, target: float, within: float) -> NDArray[np.float64]:
    """How far the whole interval lies inside `target +- within`; negative where a part of it sticks out."""
    return within - np.maximum(np.subtract(target, low), np.subtract(high, target))


def near(low: ArrayLike, high: ArrayLike, target: float, outside: float) -> NDArray[np.float64]:
    """How far the interval's nearest point lies inside `target +- outside`; negative where all of it is outside."""
    distance = np.maximum(np.subtract(low, target), np.subtract(target, high))
    return outside - np.maximum(distance, 0.0)


def around(inner: ArrayLike, outer: ArrayLike) -> Words:
    """The word of a value or an equivalence: `inner` is how far inside the interval lies, `outer` how near."""
    met, missed = np.asarray(inner) >= 0, np.asarray(outer) < 0
    return np.select([met, missed], [REPRODUCED, CONTRADICTED], INCONCLUSIVE)


def value(low: ArrayLike, high: ArrayLike, target: float, within: float, outside: float | None = None) -> Words:
    """Reproduced if the interval lies inside `target +- within`, contradicted if wholly beyond `+- outside`."""
    outside = within if outside is None else outside
    return around(inside(low, high, target, within), near(low, high, target, outside))


def equivalence(low: ArrayLike, high: ArrayLike, margin: float, outside: float | None = None) -> Words:
    """Two one-sided tests: the same region around 0."""
    return value(low, high, 0.0, margin, outside)


def exact_effect(point: ArrayLike, bar: float, direction: float, contradicted: float, *,
                 strict: bool = False) -> Words:  # fmt: skip
    """The same for a count, which has no interval: no effect at all, exactly, contradicts the claim too."""
    point = np.asarray(point)
    words = effect(point, point, bar, direction, contradicted, strict=strict)
    at_no_effect = (point == contradicted) & (contradicted == direction)
    return np.where(at_no_effect & (words == INCONCLUSIVE), CONTRADICTED, words)


def thresholds(test: Test, no_effect: float) -> Effect:
    """The card's bar, direction and contradicted with their defaults.

    Bar beyond no effect: both default to no effect. Bar on its near side ("no worse than 0.5 below"): both default
    to the bar, so that there is no `direction only`.
    """
    assert test.bar is not None
    sign = 1 if test.bar.higher_is_claimed else -1
    bar = sign * test.bar.threshold
    default = sign * no_effect if sign * no_effect <= bar else bar
    direction = sign * test.direction.threshold if test.direction else None
    contradicted = sign * test.contradicted.threshold if test.contradicted else None
    if direction is None:
        direction = default if contradicted is None else max(default, contradicted)
    if contradicted is None:
        contradicted = min(default, direction)
    return Effect(bar, direction, contradicted, sign, strict=test.bar.op in (">", "<"))

"""The statistics of a verdict, on arrays: what judges one claim also judges 10,000 simulated ones.

Layout: `(..., replicate)` or `(..., replicate, column)`, where a column is one setting and leading axes are simulated
trials. Levels are two-sided; `ALPHA` = 0.05 leaves 2.5% for a false `reproduced`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from assay.errors import AssayError

Array = NDArray[Any]
ALPHA = 0.05
MIN_REPLICATES = 3
MIN_FOR_MEDIAN = 6
MIN_FOR_SPREADS = 20
MIN_SIZES = 5
MIN_RANGE = 16.0


class VerdictError(AssayError):
    """A claim that its measurements cannot answer as it is written."""


def degrees(n: int) -> int:
    """Degrees of freedom of a spread that is estimated from n replicates."""
    return n - 1


@functools.cache
def quantile(tail: float, df: int) -> float:
    """The value that a Student t with df degrees of freedom exceeds with probability `tail`."""
    return float(scipy.stats.t.isf(tail, df))


def spread(x: Array, axis: int = -1) -> Array:
    """The standard deviation over replicates."""
    return np.asarray(np.std(x, axis=axis, ddof=1))


def standard_error(x: Array, axis: int = -1, *, floor: ArrayLike = 0.0, resplit: float = 0.0) -> Array:
    """Of the mean over `axis`.

    Args:
        floor: the least standard deviation that the metric's resolution allows.
        resplit: n_test / n_train where replicates are re-splits of one data set, which overlap in training
            (Nadeau and Bengio, 2003); otherwise 0.
    """
    n = x.shape[axis]
    return np.maximum(spread(x, axis), floor) * math.sqrt(1 / n + resplit)


def t_interval(x: Array, axis: int = -1, *, alpha: float | None = None, floor: ArrayLike = 0.0,
               resplit: float = 0.0) -> tuple[Array, Array]:  # fmt: skip
    """The t interval of the mean over `axis`, at the two-sided level `alpha` (default `ALPHA`)."""
    alpha = ALPHA if alpha is None else alpha
    n = x.shape[axis]
    half = quantile(alpha / 2, degrees(n)) * standard_error(x, axis, floor=floor, resplit=resplit)
    mean = np.mean(x, axis=axis)
    return mean - half, mean + half


def median_interval(low: Array, high: Array, axis: int = -1, *, alpha: float | None = None
                    ) -> tuple[Array, Array]:  # fmt: skip
    """The order-statistic interval `[x_(k), x_(n+1-k)]` of the median, k = binom.ppf(alpha / 2, n, 0.5).

    A censored number is known to lie between `low` and `high`; elsewhere the two are equal.
    """
    alpha = ALPHA if alpha is None else alpha
    n = low.shape[axis]
    k = int(scipy.stats.binom.ppf(alpha / 2, n, 0.5))
    ordered_low, ordered_high = np.sort(low, axis=axis), np.sort(high, axis=axis)
    if k == 0:
        shape = np.shape(np.take(ordered_low, 0, axis=axis))
        return np.full(shape, -np.inf), np.full(shape, np.inf)
    return np.take(ordered_low, k - 1, axis=axis), np.take(ordered_high, n - k, axis=axis)


def over_pairs(x: Array) -> Array:
    """One number per process: the median over its pairs, the last axis."""
    return np.asarray(x[..., 0] if x.shape[-1] == 1 else np.median(x, axis=-1))


def over_settings(x: Array) -> Array:
    """One number per replicate: the mean over its settings, the last axis.

    Within the replicate, because settings of one replicate are no independent repetitions.
    """
    return np.asarray(np.mean(x, axis=-1))


def contrast(y: Array, weights: Array) -> Array:
    """`sum(weights * y)` over sizes, the last axis: a slope or a rank contrast for each replicate."""
    return np.asarray(np.sum(y * weights, axis=-1))


def slope_weights(x: Array) -> Array:
    """Weights whose contrast is the least-squares slope on x."""
    centred = x - np.mean(x)
    return np.asarray(centred / np.sum(centred**2))


def rank_weights(sizes: int) -> Array:
    """Weights of the rank contrast, `r - mean r`."""
    return np.asarray(np.arange(sizes) - (sizes - 1) / 2)


def kth_largest(x: Array, k: int, axis: int = -1) -> Array:
    return np.asarray(np.take(np.sort(x, axis=axis), x.shape[axis] - k, axis=axis))


@dataclass(frozen=True)
class Rule:
    """At least `k` of the children must hold. A child is a column or another rule."""

    k: int
    children: tuple[Tree, ...]


Tree = int | Rule
Leaf = Callable[[int, float, float], tuple[Array, Array]]


def levels(m: int, k: int) -> tuple[int, int]:
    """What divides alpha for the lower and for the upper end of the k-th largest of m."""
    return m - k + 1, k


def composite(tree: Tree, leaf: Leaf, low: float | None = None, high: float | None = None) -> tuple[Array, Array]:
    """The interval of "k of m": k-th largest lower end at alpha/(m-k+1), k-th largest upper end at alpha/k.

    Args:
        leaf: (column, alpha of the lower end, alpha of the upper end) -> the column's two ends, higher as claimed.
    """
    low, high = ALPHA if low is None else low, ALPHA if high is None else high
    if not isinstance(tree, Rule):
        return leaf(tree, low, high)
    divide_low, divide_high = levels(len(tree.children), tree.k)
    ends = [composite(child, leaf, low / divide_low, high / divide_high) for child in tree.children]
    lower, upper = (np.stack([end[side] for end in ends], axis=-1) for side in (0, 1))
    return kth_largest(lower, tree.k), kth_largest(upper, tree.k)


def composite_p(tree: Tree, p_of: Callable[[int], float]) -> float:
    """The p value that belongs to `composite`'s lower end."""
    if not isinstance(tree, Rule):
        return p_of(tree)
    p = sorted(composite_p(child, p_of) for child in tree.children)
    return min(1.0, levels(len(p), tree.k)[0] * p[tree.k - 1])


def composite_point(tree: Tree, values: Sequence[float]) -> float:
    """The point estimate of "k of m": the k-th largest."""
    if not isinstance(tree, Rule):
        return values[tree]
    return sorted((composite_point(child, values) for child in tree.children), reverse=True)[tree.k - 1]


def p_above(distance: float, error: float, df: int) -> float:
    """One-sided p that the mean lies above what it is `distance` from; it agrees with `t_interval`'s lower end."""
    if error == 0 or math.isinf(distance):
        return 0.0 if distance > 0 else 1.0
    return float(scipy.stats.t.sf(distance / error, df))


def p_median_above(low: ArrayLike, threshold: float) -> float:
    """One-sided sign test that the median lies above the threshold; it agrees with `median_interval`."""
    low = np.asarray(low)
    return float(scipy.stats.binom.sf(np.sum(low >= threshold) - 1, low.size, 0.5))


def replicates_needed(distance: float, sd: float) -> int | None:
    """Replicates for 80% power to tell the estimate from the bar, or None where the two coincide."""
    if not (math.isfinite(distance) and math.isfinite(sd)) or distance == 0:
        return None
    needed = (2.8 * sd / abs(distance)) ** 2
    return math.ceil(needed) + 2 if needed < 1e9 else None


def spread_interval(a: Array, b: Array, alpha: float | None = None) -> tuple[Array, Array]:
    """The interval of sd(a) / sd(b) on paired replicates along the last axis (Pitman 1939, Morgan 1939).

    It holds the ratios r for which a + r b and a - r b are not correlated at this level, and is exact for normal
    pairs, however correlated.
    """
    n = a.shape[-1]
    if a.shape != b.shape or n < MIN_FOR_SPREADS:
        raise VerdictError(f"comparing spreads needs {MIN_FOR_SPREADS} paired replicates, there are {n}")
    ratio, correlation = spread(a) / spread(b), _correlation(a, b)
    reach = quantile((ALPHA if alpha is None else alpha) / 2, n - 2) ** 2
    k = 1 + 2 * (1 - correlation**2) * reach / (n - 2)
    width = np.sqrt(k + np.sqrt(k**2 - 1))
    return ratio / width, ratio * width


def p_spread(a: Array, b: Array, bar: float, sign: int) -> Array:
    """One-sided p value of sd(a) / sd(b) being beyond the bar: above it for sign 1, below for -1."""
    r = sign * _correlation(a + bar * b, a - bar * b)
    df = a.shape[-1] - 2
    return np.asarray(scipy.stats.t.sf(r * np.sqrt(df / np.maximum(1 - r**2, 1e-300)), df))


def _correlation(a: Array, b: Array) -> Array:
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    return np.asarray((a * b).sum(axis=-1) / np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1)))


def clopper_pearson(violations: ArrayLike, trials: ArrayLike, alpha: float | None = None) -> tuple[Array, Array]:
    """The interval of the rate behind `violations` in `trials` independent trials (Clopper and Pearson, 1934)."""
    alpha = ALPHA if alpha is None else alpha
    v, n = np.asarray(violations), np.asarray(trials)
    if np.any((v < 0) | (v > n) | (n == 0)):
        raise VerdictError(f"{v} violations in {n} trials is no rate")
    with np.errstate(invalid="ignore"):
        low = np.where(v == 0, 0.0, scipy.stats.beta.ppf(alpha / 2, v, n - v + 1))
        high = np.where(v == n, 1.0, scipy.stats.beta.isf(alpha / 2, v + 1, n - v))
    return low, high


def expected_false(claims: int) -> float:
    """False `reproduced` to expect if all these claims sat exactly on their bars."""
    return claims * ALPHA / 2


def bh(pvalues: ArrayLike) -> Array:
    """Benjamini and Hochberg's adjusted p values, in the order given."""
    p = np.asarray(pvalues, dtype=float)
    order = np.argsort(p)
    scaled = p[order] * p.size / np.arange(1, p.size + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted

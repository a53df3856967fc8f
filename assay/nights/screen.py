"""The statistics of the regression alarm, on plain arrays: screen, confirm, and everything at once.

Times are logs of seconds, so that differences are ratios. A plain paired test across hot paths would take any shift
that all of them share (another clock, another neighbour) for a change: so each process is centred on its own median.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

Array = NDArray[np.float64]

BAR = math.log(1.03)  # less than 3 % is never called slower
SCREEN_LEVEL = 0.05
CONFIRM_LEVEL = 0.025  # for all flagged hot paths together
PRIOR_DEGREES = 4  # how much the variance of the other hot paths counts for one's own


class Screened(NamedTuple):
    """One entry for each hot path, in every array. change: log ratio of the new night to the old one."""

    change: Array
    p: Array
    flagged: NDArray[np.bool_]


@dataclass(frozen=True)
class Tested:
    """change: log ratio, positive is slower. p: one-sided."""

    change: float
    p: float
    slower: bool


def centred(log_times: Array) -> Array:
    """Less the median over hot paths within each process. log_times: (..., processes, hot paths)."""
    return log_times - np.median(log_times, axis=-1, keepdims=True)


def shrunk(variances: Array, degrees: int) -> Array:
    """Each variance drawn towards the median of all: ten processes say little about a single one's.

    variances: (..., hot paths), each with `degrees` degrees of freedom; the result has PRIOR_DEGREES more.
    """
    middle = np.median(variances, axis=-1, keepdims=True)
    return (PRIOR_DEGREES * middle + degrees * variances) / (PRIOR_DEGREES + degrees)


def screen(old: Array, new: Array) -> Screened:
    """Which hot paths look slower. old, new: log seconds, (..., processes, hot paths), the same hot paths in both.

    The nights may differ in their numbers of processes, of which each needs two or more.
    """
    k_old, k_new = old.shape[-2], new.shape[-2]
    z_old, z_new = centred(old), centred(new)
    change = z_new.mean(axis=-2) - z_old.mean(axis=-2)
    degrees = k_old + k_new - 2
    squares = (k_old - 1) * z_old.var(axis=-2, ddof=1) + (k_new - 1) * z_new.var(axis=-2, ddof=1)
    variance = shrunk(squares / degrees, degrees)
    p = upper_tail(change, np.sqrt(variance * (1 / k_old + 1 / k_new)), degrees + PRIOR_DEGREES)
    return Screened(change, p, (p < SCREEN_LEVEL) & (change > BAR))


def paired(old: Array, new: Array) -> Array:
    """One number for each couple of processes: the median log ratio of its pairs.

    old, new: log seconds, (suspects, couples, pairs).
    """
    return np.median(new - old, axis=-1)


def confirm(log_ratios: Array) -> list[Tested]:
    """Which of the suspects are slower. log_ratios: (suspects, couples), log of new over old."""
    suspects, couples = log_ratios.shape
    change = log_ratios.mean(axis=1)
    p = upper_tail(change, log_ratios.std(axis=1, ddof=1) / math.sqrt(couples), couples - 1)
    slower = (p < CONFIRM_LEVEL / suspects) & (change > BAR)
    return [Tested(float(c), float(q), bool(s)) for c, q, s in zip(change, p, slower, strict=True)]


def everything(old: Array, new: Array, old_canaries: Array, new_canaries: Array) -> Tested:
    """Whether all hot paths together are slower, beyond what code of others says about the machine.

    All are log seconds: (processes, hot paths) and (processes, canaries).
    """
    a, b = _above_canaries(old, old_canaries), _above_canaries(new, new_canaries)
    change = float(b.mean() - a.mean())
    parts = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    total = sum(parts)
    # Welch: the two nights need not be equally noisy
    spread = parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1)
    degrees = total**2 / spread if spread else len(a) + len(b) - 2
    p = float(upper_tail(np.asarray(change), math.sqrt(total), degrees))
    return Tested(change, p, p < SCREEN_LEVEL and change > BAR)


def _above_canaries(log_times: Array, canaries: Array) -> Array:
    return np.median(log_times, axis=-1) - np.median(canaries, axis=-1)


def upper_tail(change: Array, error: Array | float, degrees: float) -> Array:
    """One-sided p of t; without any spread a change is certain in its direction."""
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.nan_to_num(change / error, nan=0.0, posinf=np.inf, neginf=-np.inf)
    return np.asarray(t.sf(statistic, degrees))

"""Does the alarm keep its promise? Nights are simulated with the noise that processes of a real machine have.

Every night has a shift of its own that all hot paths share, every process another, and every hot path its own spread:
calm nights have a median of 3 %, noisy ones of 5 %, with tails heavier than normal. The cells call the functions that
judge real nights. `assay doctor --calibrate` prints the table.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.calibrate import Cell
from assay.nights import screen
from assay.nights.record import FULL
from assay.nights.screen import Array

Flags = NDArray[np.bool_]

TRIALS = 2_000
CALM, NOISY = 0.03, 0.05  # log seconds: the median over hot paths of a process's own standard deviation
UNEVEN = 0.5  # standard deviation, over hot paths, of the log of that
SHIFT = 0.10  # what all hot paths share: a night's, and a process's or couple's
HOT_PATHS = (20, 50, 100)
FALSE_ALARMS, POWER = 0.025, 0.87
DEVIATIONS = 3.3  # that a simulated rate may lie from its bound by chance


def calibrate_alarm(trials: int = TRIALS) -> list[Cell]:
    """Run every cell. Deterministic: the same trials give the same rates."""
    return [cell for group in (false_alarms, power, screening, everything) for cell in group(trials)]


@dataclass(frozen=True)
class _Nights:
    """Pairs of simulated nights: log seconds, (trials, processes, hot paths)."""

    old: Array
    new: Array
    spread: Array
    change: Array
    rng: np.random.Generator

    def alarms(self) -> Flags:
        """Flagged by the screen and confirmed by both commits side by side, (trials, hot paths)."""
        flagged = screen.screen(self.old, self.new).flagged
        confirmed = np.zeros_like(flagged)
        for trial in np.flatnonzero(flagged.any(axis=1)):
            suspects = np.flatnonzero(flagged[trial])
            ratios = screen.paired(*self._couples(trial, suspects))
            confirmed[trial, suspects] = [tested.slower for tested in screen.confirm(ratios)]
        return confirmed

    def alarmed(self) -> Flags:
        """Nights with any alarm, (trials,)."""
        return np.asarray(self.alarms().any(axis=1))

    def _couples(self, trial: np.intp, suspects: NDArray[np.intp]) -> tuple[Array, Array]:
        """Log seconds of old and new, (suspects, couples, 1): what a couple shares is in both."""
        spread, change = self.spread[trial, suspects, None], self.change[trial, suspects, None]
        shape = (len(suspects), FULL.replicates)
        shared = self.rng.normal(0, SHIFT, shape)
        old, new = (shared + spread * _tailed(self.rng, shape) for _ in range(2))
        return old[..., None], (new + change)[..., None]


def _nights(name: str, trials: int, hot_paths: int, spread: float, change: float = 0.0, *, of: int = 1,
            processes: int = FULL.processes, uneven: float = UNEVEN, night: float = 0.0) -> _Nights:  # fmt: skip
    """The first `of` hot paths change by the ratio 1 + change; the second night is slower by `night` as a whole."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), hot_paths, processes])
    spreads = spread * np.exp(uneven * rng.normal(size=(trials, hot_paths)))
    changes = np.where(np.arange(hot_paths) < of, math.log1p(change), 0.0) * np.ones((trials, 1))
    old, new = (_night(rng, spreads, processes) for _ in range(2))
    return _Nights(old, new + changes[:, None] + math.log1p(night), spreads, changes, rng)


def _night(rng: np.random.Generator, spreads: Array, processes: int) -> Array:
    trials, hot_paths = spreads.shape
    shared = rng.normal(0, SHIFT, (trials, 1, 1)) + rng.normal(0, SHIFT, (trials, processes, 1))
    return shared + spreads[:, None] * _tailed(rng, (trials, processes, hot_paths))


def _tailed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Noise of variance 1 with the tails of t with 5 degrees of freedom."""
    return rng.standard_t(5, shape) / math.sqrt(5 / 3)


def _at_most(name: str, n: int, happened: Flags, bound: float) -> Cell:
    return Cell(name, n, float(happened.mean()), 0.0, round(bound + _slack(happened, bound), 4))


def _at_least(name: str, n: int, happened: Flags, bound: float) -> Cell:
    return Cell(name, n, float(happened.mean()), round(bound - _slack(happened, bound), 4), 1.0)


def _slack(happened: Flags, bound: float) -> float:
    return DEVIATIONS * math.sqrt(bound * (1 - bound) / len(happened))


def false_alarms(trials: int) -> Iterator[Cell]:
    for word, spread in (("calm", CALM), ("noisy", NOISY)):
        for m in HOT_PATHS:
            name = f"night {word}, nothing changed: alarm"
            yield _at_most(name, m, _nights(name, trials, m, spread).alarmed(), FALSE_ALARMS)
    name = "night very calm, one hot path 2 % slower, below the bar: alarm"
    nights = _nights(name, trials, 20, CALM / 3, 0.02)
    yield _at_most(name, 20, nights.alarmed(), FALSE_ALARMS)


def power(trials: int) -> Iterator[Cell]:
    for word, spread in (("calm", CALM), ("noisy", NOISY)):
        for m in HOT_PATHS:
            name = f"night {word}, one hot path 10 % slower: found"
            yield _at_least(name, m, _nights(name, trials, m, spread, 0.10).alarms()[:, 0], POWER)


def screening(trials: int) -> Iterator[Cell]:
    for processes in (3, FULL.processes):
        name = f"screen, {processes} processes, a night 10 % slower: flagged"
        nights = _nights(name, trials, 20, 0.30, processes=processes, uneven=0.0, night=0.10)
        yield Cell(name, 20, float(screen.screen(nights.old, nights.new).flagged.mean()), 0.04, 0.055)


def everything(trials: int) -> Iterator[Cell]:
    """Three of the 23 simulated calls are canaries, which no change of the code touches."""
    name = "everything, the machine 10 % slower: blamed on the code"
    nights = _nights(name, trials, 23, CALM, night=0.10)
    yield _at_most(name, 20, _slower_than_canaries(nights), screen.SCREEN_LEVEL)
    name = "everything, the code 10 % slower: seen"
    nights = _nights(name, trials, 23, CALM, 0.10, of=20)
    yield _at_least(name, 20, _slower_than_canaries(nights), POWER)


def _slower_than_canaries(nights: _Nights) -> Flags:
    ours, canaries = slice(None, 20), slice(20, None)
    pairs = zip(nights.old, nights.new, strict=True)
    return np.array(
        [screen.everything(a[:, ours], b[:, ours], a[:, canaries], b[:, canaries]).slower for a, b in pairs]
    )

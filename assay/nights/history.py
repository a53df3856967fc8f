"""The history of hot paths over many nights: from which night on one was slower or faster.

As in the alarm, times are logs of seconds, centred within each process on the median over hot paths: what a whole night
or process has in common would hide nine changes of ten. A hot path's nights are split into stretches of one level by
`ruptures` (PELT with a squared cost): a split has to explain more than chance does, given the spread from night to
night, and to change the level by 3 % or more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from assay import problems
from assay.errors import AssayError, JobError, RecordError
from assay.nights import screen
from assay.nights.compare import FEWEST
from assay.nights.record import Night, load_night
from assay.terminal import err, say

FEWEST_NIGHTS = 6
SHORTEST = 2  # nights of one level: what was for one night only is no change
ODD = 3.0  # spreads
FINEST = 0.002  # spread from night to night that is believed, log
# A split must lessen the squared deviations, in units of the spread, by more than this; simulated in the tests.
PENALTY, PENALTY_PER_LOG = 6.0, 3.0


@dataclass(frozen=True)
class Point:
    """One night of a hot path. seconds: median over processes. level: mean of the centred logs."""

    date: str
    commit: str
    seconds: float
    level: float


@dataclass(frozen=True)
class Change:
    """From this night on another level than before. change: log ratio, positive is slower."""

    date: str
    commit: str
    before: str
    change: float


@dataclass(frozen=True)
class History:
    """A hot path on one machine, (CPU, GPU), over its nights, the oldest first."""

    name: str
    machine: tuple[str, str | None]
    points: list[Point]
    changes: list[Change]

    def json(self) -> dict[str, Any]:
        return asdict(self)


def read_nights(folder: Path) -> list[Night]:
    """The nights whose files are in a folder, the oldest first; one that is there twice counts once.

    A file that cannot be read is named, and so is a night of some hot paths or of less effort, which is left out.
    Raises AssayError where there is none.
    """
    found: dict[tuple[str, str], Night] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            night = load_night(path)
        except RecordError as error:
            problems.name(str(error))
            continue
        if night.full:
            found[str(night.provenance.get("date")), night.commit] = night
        else:
            say(err, f"{path}: left out: it is of some hot paths only, or of less effort")
    if not found:
        raise AssayError(f"{folder}: no file of a night; record one with `assay night --out FILE`")
    return [found[key] for key in sorted(found)]


def histories(nights: Iterable[Night]) -> list[History]:
    """Of each machine, and of each hot path that its nights have, by name."""
    by_machine: dict[tuple[str, str | None], list[Night]] = {}
    for night in nights:
        by_machine.setdefault(night.machine, []).append(night)
    return [history for machine, found in by_machine.items() for history in _histories(machine, found)]


def _histories(machine: tuple[str, str | None], nights: Sequence[Night]) -> list[History]:
    usable = [{name: times for name, times in night.times.items() if _usable(times, night)} for night in nights]
    common = sorted(set.intersection(*map(set, usable)))
    if len(common) < FEWEST:
        raise JobError(
            f"{len(nights)} nights on {machine[0]} have {len(common)} usable hot paths in common; among fewer than "
            f"{FEWEST} a change of one cannot be told from a change of all"
        )
    points: dict[str, list[Point]] = {}
    for night, times in zip(nights, usable, strict=True):
        shared = np.median(np.log([times[name] for name in common]), axis=0)
        for name in sorted(times):
            level = float((np.log(times[name]) - shared).mean())
            seconds = float(np.median(times[name]))
            date = str(night.provenance.get("date"))[:10]
            points.setdefault(name, []).append(Point(date, night.commit, seconds, level))
    levels = {name: np.array([point.level for point in found]) for name, found in points.items()}
    spreads = _spreads(levels)
    return [
        History(name, machine, found, _changes(found, changes_of(levels[name], spreads.get(name))))
        for name, found in sorted(points.items())
    ]


def _usable(times: list[float], night: Night) -> bool:
    return len(times) == night.processes and all(second > 0 and math.isfinite(second) for second in times)


def _spreads(levels: dict[str, np.ndarray]) -> dict[str, float]:
    """From night to night, of each hot path with enough nights, drawn towards the median of all of them.

    From differences of neighbours, and their median: a change of level is in one of them only.
    """
    long = {name: found for name, found in levels.items() if len(found) >= FEWEST_NIGHTS}
    if not long:
        return {}
    own = np.array([np.median(np.abs(np.diff(found))) / 0.6745 / math.sqrt(2) for found in long.values()])
    drawn = np.sqrt(screen.shrunk(own**2, min(map(len, long.values())) - 1))
    return dict(zip(long, np.maximum(drawn, FINEST).tolist(), strict=True))


def changes_of(levels: np.ndarray, spread: float | None) -> list[tuple[int, float]]:
    """(first night of the new level, log ratio to the level before). levels: (nights,). spread: None for too few."""
    if spread is None:
        return []
    import ruptures

    # one odd night, however odd, is no level: none counts further from its neighbours' than chance may lay it
    padded = np.concatenate([levels[:1], levels, levels[-1:]])
    middle = np.median([padded[:-2], levels, padded[2:]], axis=0)
    levels = np.clip(levels, middle - ODD * spread, middle + ODD * spread)
    penalty = PENALTY + PENALTY_PER_LOG * math.log(len(levels))
    ends = ruptures.Pelt(model="l2", min_size=SHORTEST, jump=1).fit(levels[:, None] / spread).predict(pen=penalty)
    stretches = [levels[first:last] for first, last in pairwise([0, *ends])]
    found = [(ends[place], float(after.mean() - before.mean())) for place, (before, after) in
             enumerate(pairwise(stretches))]  # fmt: skip
    return [(first, change) for first, change in found if abs(change) > screen.BAR]


def _changes(points: Sequence[Point], found: Iterable[tuple[int, float]]) -> list[Change]:
    return [Change(points[at].date, points[at].commit, points[at - 1].commit, change) for at, change in found]

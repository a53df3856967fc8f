"""Two nights compared: what got slower, what is confirmed, and what cannot be said."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.errors import JobError
from assay.nights import confirm as side_by_side
from assay.nights import screen
from assay.nights.record import FULL, Effort, Night, chosen
from assay.provenance import cpu_model, git, gpu_model

FEWEST_PROCESSES = 2
FEWEST = 3  # hot paths: among fewer, a change of one cannot be told from a change of all


@dataclass(frozen=True)
class Line:
    """One hot path. change: log ratio of new to old beyond the median's; confirmed: of the commits side by side."""

    name: str
    change: float
    p: float
    flagged: bool
    confirmed: screen.Tested | None = None


@dataclass(frozen=True)
class Comparison:
    """What the new night shows beside the old one.

    lines: hot paths of both nights, the slowest first. everything: all of them against the canaries. counts: exact
    counts that changed, as (hot path, count, old, new). missing: hot paths of one night only, or that failed, with
    the reason. versions: (name, old, new), where they differ. unusable: hot paths, canaries too, of which a night gave
    no usable time, with the reason; they are left out of all that is judged. untimed: why times are not compared.
    unconfirmed: why the flagged hot paths could not be confirmed.
    """

    old: str
    new: str
    lines: list[Line]
    everything: screen.Tested | None
    counts: list[tuple[str, str, int, int]]
    missing: dict[str, str]
    versions: list[tuple[str, str, str]]
    unusable: dict[str, str]
    untimed: str | None = None
    unconfirmed: str | None = None

    @property
    def flagged(self) -> list[Line]:
        return [line for line in self.lines if line.flagged]

    @property
    def slower(self) -> list[Line]:
        return [line for line in self.flagged if line.confirmed and line.confirmed.slower]

    @property
    def grown(self) -> list[tuple[str, str, int, int]]:
        return [count for count in self.counts if count[3] > count[2]]

    @property
    def regression(self) -> bool:
        """Whether the code got worse; what differs between two nights of one commit is not its doing."""
        return self.old != self.new and bool(self.slower or self.grown)

    def json(self) -> dict[str, Any]:
        return asdict(self) | {"regression": self.regression}


def compare(root: Path, old: Night, new: Night, effort: Effort = FULL, advance: Callable[[], None] = lambda: None,
            screened: Callable[[Comparison], None] = lambda found: None) -> Comparison:  # fmt: skip
    """Screen the hot paths of two nights, and confirm what is flagged by running both commits side by side.

    Nothing is timed here unless something is flagged; `screened` is given what is known before that, and advance is
    called after each of the couples that confirm. Raises AssayError where neither night has what `effort` asks for.
    """
    every = {name for night in (old, new) for part in (night.times, night.counts) for name in part}
    wanted = chosen(sorted(every), effort.only)
    odd = _unusable(old, new)
    common = sorted((old.times.keys() & new.times.keys()) - odd.keys())
    canaries = sorted((old.canaries.keys() & new.canaries.keys()) - odd.keys())
    unusable = {name: why for name, why in odd.items() if name in (*wanted, *old.canaries, *new.canaries)}
    # what a few hot paths share is what the canaries beside them share
    beside = canaries if effort.only and len(common) < FEWEST else []
    untimed = _untimed(old, new, [*common, *beside])
    lines: list[Line] = []
    everything = unconfirmed = None
    if untimed is None:
        a, b = (_logs(night.times | night.canaries, [*common, *beside]) for night in (old, new))
        lines = [Line(name, float(c), float(p), bool(f))
                 for name, c, p, f in zip([*common, *beside], *screen.screen(a, b), strict=True)
                 if name in wanted]  # fmt: skip
        if canaries and not effort.only:
            everything = screen.everything(a, b, *(_logs(night.canaries, canaries) for night in (old, new)))
    suspects = [line.name for line in lines if line.flagged]
    # with the same code on both sides there is nothing that could be confirmed
    if suspects and old.commit != new.commit:
        unconfirmed = _cannot_confirm(root, old, new)
    known = Comparison(
        old.commit, new.commit, sorted(lines, key=lambda line: -line.change), everything,
        [count for count in _changed_counts(old, new) if count[0] in wanted], _missing(old, new, wanted),
        _versions(old, new), unusable, untimed, unconfirmed,
    )  # fmt: skip
    if not suspects or old.commit == new.commit or unconfirmed:
        return known
    screened(known)
    try:
        found = side_by_side.confirm(root, old.commit, new.commit, suspects, effort, advance)
    except JobError as error:
        return replace(known, unconfirmed=str(error))
    return replace(known, lines=[replace(line, confirmed=found.get(line.name)) for line in known.lines])


def _logs(times: dict[str, list[float]], names: list[str]) -> screen.Array:
    """Log seconds, (processes, names)."""
    return np.log(np.array([times[name] for name in names])).T


def _unusable(old: Night, new: Night) -> dict[str, str]:
    """A time that is no positive number has no log, and a night in which one is missing no matrix of times."""
    found = {}
    for night, which in ((old, "old"), (new, "new")):
        for name, times in (night.times | night.canaries).items():
            wrong = [second for second in times if not (second > 0 and math.isfinite(second))]
            if wrong:
                found[name] = f"{which} night: {len(wrong)} of {len(times)} times are no times, such as {wrong[0]:g} s"
            elif len(times) != night.processes:
                found[name] = f"{which} night: {len(times)} times, and {night.processes} processes"
    return dict(sorted(found.items()))


def _untimed(old: Night, new: Night, common: list[str]) -> str | None:
    if old.machine != new.machine:
        a, b = (" and ".join(filter(None, night.machine)) for night in (old, new))
        return f"the nights are of different machines ({a}; {b}), so only exact counts are compared"
    for night, which in ((old, "old"), (new, "new")):
        if night.processes < FEWEST_PROCESSES:
            return (f"the {which} night has {night.processes} process(es); times of fewer than {FEWEST_PROCESSES} have "
                    "no spread; record it again with `assay night`")  # fmt: skip
    if len(common) < FEWEST:
        return (f"the nights have {len(common)} usable hot paths in common; among fewer than {FEWEST} a change of one "
                "cannot be told from a change of all")  # fmt: skip
    return None


def _cannot_confirm(root: Path, old: Night, new: Night) -> str | None:
    here = cpu_model(), gpu_model()
    if here != new.machine:
        return f"this machine ({' and '.join(filter(None, here))}) is not that of the nights; compare them there"
    for night in (old, new):
        if git(root, "rev-parse", "--verify", "--quiet", f"{night.commit}^{{commit}}") is None:
            return f"commit {night.commit} is not in the repository {root}; fetch it"
    return None


def _changed_counts(old: Night, new: Night) -> list[tuple[str, str, int, int]]:
    return [
        (name, count, before[count], after[count])
        for name in sorted(old.counts.keys() & new.counts.keys())
        for before, after in [(old.counts[name], new.counts[name])]
        for count in sorted(before.keys() & after.keys())
        if before[count] != after[count]
    ]


def _missing(old: Night, new: Night, wanted: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for night, other, which in ((old, new, "old"), (new, old, "new")):
        alone = [name for name in wanted if name in night.times and name not in other.times]
        found |= dict.fromkeys(alone, f"only in the {which} night")
    for night, which in ((old, "old"), (new, "new")):
        found |= {name: f"{which} night: {reason}" for name, reason in night.missing.items()}
    return dict(sorted(found.items()))


def _versions(old: Night, new: Night) -> list[tuple[str, str, str]]:
    a, b = old.provenance["versions"], new.provenance["versions"]
    return [(name, a.get(name, "none"), b.get(name, "none")) for name in sorted(a.keys() | b.keys())
            if a.get(name) != b.get(name)]  # fmt: skip

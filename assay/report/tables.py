"""Measurements in the form in which a reader compares them: settings down, methods across, mean and spread in cells.

These tables describe; they decide nothing. Verdicts are `assay.verdict`'s business alone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import scipy

from assay.record import Row, Scalar
from assay.report.numbers import DASH, mean_and_spread, number

DIAGNOSTICS = frozenset({"wall_s"})  # a method's wall time tells where a run spent its time; it is no measurement of it
WITHOUT_METHOD = "value"


@dataclass(frozen=True)
class Summary:
    """One cell: the mean over replicates, their sample standard deviation, and what is missing."""

    mean: float | None
    sd: float | None
    n: int
    missing: int
    reasons: tuple[str, ...] = ()

    @property
    def half_width(self) -> float | None:
        """Half of the 95% t interval of the mean; None below two replicates."""
        if self.sd is None or self.n < 2:
            return None
        return float(scipy.stats.t.ppf(0.975, self.n - 1) * self.sd / math.sqrt(self.n))

    def divided(self, size: float) -> Summary:
        """The same in a unit of another size."""
        if size == 1.0 or self.mean is None:
            return self
        return replace(self, mean=self.mean / size, sd=None if self.sd is None else self.sd / size)

    @property
    def text(self) -> str:
        return mean_and_spread(self.mean, self.sd)

    @property
    def note(self) -> str:
        """What a reader must know before comparing: how often it was repeated, how often it failed."""
        parts = [f"n {self.n}"] if self.n else []
        if self.missing:
            parts.append(f"{self.missing} missing")
        return ", ".join(parts)


def summarise(rows: Iterable[Row]) -> Summary:
    """Repeats by their median, then all else of a replicate by its mean, then over replicates."""
    repeats: dict[tuple[int, int | None, Hashable], list[float]] = {}
    reasons: list[str] = []
    missing = set()
    for row in rows:
        if row.value is None:
            missing.add(row.seed)
            reasons.append(row.reason or "no reason given")
        else:
            key = (row.seed, row.rank, tuple(sorted(row.setting.items(), key=lambda item: item[0])))
            repeats.setdefault(key, []).append(float(row.value))
    replicates: dict[int, list[float]] = {}
    for (seed, _, _), values in repeats.items():
        replicates.setdefault(seed, []).append(statistics.median(values))
    means = [statistics.fmean(values) for _, values in sorted(replicates.items())]
    return Summary(
        mean=statistics.fmean(means) if means else None,
        sd=statistics.stdev(means) if len(means) > 1 else None,
        n=len(means),
        missing=len(missing - replicates.keys()),
        reasons=tuple(dict.fromkeys(reasons)),
    )


@dataclass(frozen=True)
class Table:
    """One metric of one experiment. `fixed` holds the knobs that never vary, said once instead of in every line."""

    experiment: str
    metric: str
    unit: str
    evidence: str
    fixed: str
    columns: list[str]
    lines: list[tuple[str, list[Summary | None]]]


def measurement_tables(rows: Sequence[Row], methods: Sequence[str]) -> list[Table]:
    """A table for each experiment and metric, in the order in which they were first measured."""
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        if row.metric not in DIAGNOSTICS:
            groups.setdefault((row.experiment, row.metric, row.unit, row.evidence), []).append(row)
    return [_table(*key, group, methods) for key, group in groups.items()]


def _table(experiment: str, metric: str, unit: str, evidence: str, rows: list[Row], methods: Sequence[str]) -> Table:
    values: dict[str, set[Scalar]] = {}
    for row in rows:
        for knob, value in row.setting.items():
            values.setdefault(knob, set()).add(value)
    everywhere = {knob for knob in values if all(knob in row.setting for row in rows)}
    fixed = [knob for knob in values if knob in everywhere and len(values[knob]) == 1]
    free = [knob for knob in values if knob not in fixed]
    present = {row.method or WITHOUT_METHOD for row in rows}
    columns = [name for name in methods if name in present] + sorted(present - set(methods))
    cells: dict[tuple[Scalar | None, ...], dict[str, list[Row]]] = {}
    for row in rows:
        setting = tuple(row.setting.get(knob) for knob in free)
        cells.setdefault(setting, {}).setdefault(row.method or WITHOUT_METHOD, []).append(row)
    lines = []
    for setting in sorted(cells, key=lambda key: [order(value) for value in key]):
        named = {knob: value for knob, value in zip(free, setting, strict=True) if value is not None}
        found = [cells[setting].get(name) for name in columns]
        lines.append((setting_text(named), [summarise(group) if group else None for group in found]))
    return Table(
        experiment, metric, unit, evidence, setting_text({k: rows[0].setting[k] for k in fixed}), columns, lines
    )


def order(value: Scalar | None) -> tuple[int, float, str]:
    """Numbers by size, then words by name; what has no value comes first."""
    if value is None:
        return (0, 0.0, "")
    if isinstance(value, str):
        return (2, 0.0, value)
    return (1, float(value), "")


def scalar_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    return DASH if value is None else str(value)


def setting_text(setting: dict[str, Scalar]) -> str:
    """`batch 200, model tgn`."""
    return ", ".join(f"{knob} {scalar_text(value)}" for knob, value in setting.items())

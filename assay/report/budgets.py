"""What each contender was given: trials, steps, parameters and seconds, counted beside its scores."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from assay.record import Row
from assay.report.numbers import DASH, number

COUNTED = ("trials", "steps", "parameters")
SECONDS = "wall_s"  # a diagnostic, at most: races measure time
COLUMNS = (*COUNTED, "seconds")


@dataclass(frozen=True)
class Budget:
    """One experiment: a line for each method, with a text for each of COLUMNS."""

    experiment: str
    lines: list[tuple[str, list[str]]]


def budgets(rows: Sequence[Row], methods: Sequence[str]) -> list[Budget]:
    """Of each experiment that counted them. Medians over replicates; least and most where settings differ."""
    found: dict[str, dict[str, dict[str, dict[tuple[object, ...], list[float]]]]] = {}
    for row in rows:
        if row.metric in (*COUNTED, SECONDS) and row.method and row.value is not None:
            setting = tuple(sorted((knob, str(value)) for knob, value in row.setting.items()))
            of_method = found.setdefault(row.experiment, {}).setdefault(row.method, {})
            of_method.setdefault(row.metric, {}).setdefault(setting, []).append(float(row.value))
    shown = []
    for experiment, of_methods in found.items():
        if all(any(metric in values for values in of_methods.values()) for metric in COUNTED):
            names = [name for name in methods if name in of_methods] + sorted(of_methods.keys() - set(methods))
            lines = [(name, [_text(of_methods[name].get(m, {})) for m in (*COUNTED, SECONDS)]) for name in names]
            shown.append(Budget(experiment, lines))
    return shown


def _text(by_setting: dict[tuple[object, ...], list[float]]) -> str:
    medians = [float(f"{statistics.median(values):.4g}") if max(values) < 10 else round(statistics.median(values))
               for values in by_setting.values()]  # fmt: skip
    if not medians:
        return DASH
    low, high = min(medians), max(medians)
    return number(low) if low == high else f"{number(low)} to {number(high)}"

"""A card's figures, drawn from measurements and artifacts."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from assay.card import Figure
from assay.record import Artifact, Result, Row, Scalar
from assay.report.numbers import number
from assay.report.samples import NOTES, draw_panels, samples_of
from assay.report.svg import INK, MARKERS, SERIES, STYLE, SURFACE, WIDTH, inline_svg, short_label
from assay.report.tables import WITHOUT_METHOD, Summary, order, scalar_text, setting_text, summarise

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
MOST_POINTS = 40  # of one line; a curve of a thousand epochs says no more with a thousand points
_ALL = "all"  # the one line of measurements that the figure's `by` does not tell apart
_HEIGHT = 3.4  # inches


@dataclass(frozen=True)
class Line:
    """One line, or one colour of bars. `style` is its place in the palette, the same in all figures of a paper."""

    name: str
    style: int
    points: list[tuple[Scalar, Summary]]


@dataclass(frozen=True)
class Drawing:
    """A figure ready for the page: the picture, its key, and its numbers as a table."""

    figure: Figure
    profile: str
    x_label: str
    y_label: str
    svg: Markup
    lines: list[Line]
    xs: list[Scalar]
    cells: list[tuple[str, list[Summary | None]]]
    averaged: list[str]
    notes: list[str]

    @property
    def repeated(self) -> bool:
        return any(summary.n > 1 for line in self.lines for _, summary in line.points)


def draw(figure: Figure, result: Result, methods: Sequence[str], prefix: str) -> Drawing | None:
    """Draw one figure of a card, or None where the result holds nothing for it. `prefix` makes its ids unique."""
    if figure.kind in NOTES:
        return _draw_samples(figure, result, methods, prefix)
    points, unit = _points(figure, result)
    if not points:
        return None
    lines = _lines(points, figure, methods)
    xs = sorted({x for line in lines for x, _ in line.points}, key=order)
    x_label = figure.x_label or figure.x
    y_label = figure.y_label or (f"{figure.y} ({unit})" if unit else figure.y)
    by_x = [dict(line.points) for line in lines]
    notes = _notes(points, lines)
    return Drawing(
        figure=figure,
        profile=result.profile,
        x_label=x_label,
        y_label=y_label,
        svg=_picture(figure, lines, xs, (x_label, y_label), prefix),
        lines=lines,
        xs=xs,
        cells=[(scalar_text(x), [found.get(x) for found in by_x]) for x in xs],
        averaged=_averaged(points, figure),
        notes=notes,
    )


def _points(figure: Figure, result: Result) -> tuple[list[Row], str]:
    """The figure's measurements; points of a curve become rows that carry their x as a knob."""
    rows = [r for r in result.rows if r.experiment == figure.experiment and r.metric == figure.y]
    rows = [row for row in rows if _knob(row, figure.x) is not None]
    for curve in result.curves:
        if (curve.experiment, curve.metric, curve.x_name) == (figure.experiment, figure.y, figure.x):
            keep = _thinned(len(curve.x))
            rows += [
                Row(curve.experiment, curve.metric, curve.y[i], curve.method, {**curve.setting, figure.x: curve.x[i]},
                    curve.seed, unit=curve.unit)
                for i in keep
            ]  # fmt: skip
    rows = [row for row in rows if all(_knob(row, knob) == value for knob, value in figure.where.items())]
    return rows, next((row.unit for row in rows if row.unit), "")


def _thinned(length: int) -> list[int]:
    if length <= MOST_POINTS:
        return list(range(length))
    return sorted({round(i * (length - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)})


def _knob(row: Row | Artifact, name: str) -> Scalar | None:
    return (row.method or WITHOUT_METHOD) if name == "method" else row.setting.get(name)


def _lines(points: list[Row], figure: Figure, methods: Sequence[str]) -> list[Line]:
    groups: dict[Scalar, dict[Scalar, list[Row]]] = {}
    for row in points:
        name, x = _knob(row, figure.by), _knob(row, figure.x)
        if x is not None:
            groups.setdefault(_ALL if name is None else name, {}).setdefault(x, []).append(row)
    if figure.by == "method":
        names: list[Scalar] = [name for name in methods if name in groups]
        names += sorted((name for name in groups if name not in names), key=order)
        places = {name: methods.index(str(name)) if name in methods else len(methods) for name in names}
    else:
        names = sorted(groups, key=order)
        places = {name: index for index, name in enumerate(names)}
    return [
        Line(
            _line_name(figure, name),
            places[name],
            [(x, summarise(groups[name][x])) for x in sorted(groups[name], key=order)],
        )
        for name in names
    ]


def _draw_samples(figure: Figure, result: Result, methods: Sequence[str], prefix: str) -> Drawing | None:
    """One panel for each value of `by`: the samples of its first replicate."""
    found: dict[Scalar, np.ndarray] = {}
    for artifact in result.artifacts:
        name = _knob(artifact, figure.by)
        wanted = all(_knob(artifact, knob) == value for knob, value in figure.where.items())
        if (artifact.experiment, artifact.name, artifact.seed) == (figure.experiment, figure.y, 0) and wanted:
            found[_ALL if name is None else name] = samples_of(artifact, figure.kind)
    if not found:
        return None
    known = [name for name in methods if name in found] if figure.by == "method" else []
    names = known + sorted((name for name in found if name not in known), key=order)
    svg = draw_panels(figure, {_line_name(figure, name): found[name] for name in names}, prefix)
    return Drawing(figure, result.profile, figure.x_label, figure.y_label, svg, [], [], [], [], [NOTES[figure.kind]])


def _line_name(figure: Figure, name: Scalar) -> str:
    return str(name) if figure.by == "method" or name == _ALL else f"{figure.by} {scalar_text(name)}"


def _averaged(points: list[Row], figure: Figure) -> list[str]:
    """Knobs that vary inside a point and are therefore averaged there: the reader is told."""
    values: dict[str, set[Scalar]] = {}
    for row in points:
        for knob, value in {"method": row.method or WITHOUT_METHOD, **row.setting}.items():
            values.setdefault(knob, set()).add(value)
    return [knob for knob, seen in values.items() if len(seen) > 1 and knob not in (figure.x, figure.by)]


def _notes(points: list[Row], lines: list[Line]) -> list[str]:
    notes = []
    simulated = sum(row.evidence == "simulated" for row in points)
    if simulated:
        notes.append(f"{'All' if simulated == len(points) else 'Some'} of it is simulated, not measured.")
    if missing := sum(summary.missing for line in lines for _, summary in line.points):
        values = "1 missing value is" if missing == 1 else f"{missing} missing values are"
        notes.append(f"{values} not drawn; the table says where.")
    return notes


def _picture(figure: Figure, lines: list[Line], xs: list[Scalar], labels: tuple[str, str], prefix: str) -> Markup:
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        canvas = Canvas(figsize=(WIDTH, _HEIGHT))
        axes = canvas.subplots()
        canvas.subplots_adjust(left=0.125, right=0.975, top=0.88, bottom=0.17)
        positions, numeric = _positions(xs, figure)
        if figure.kind == "bars":
            _draw_bars(axes, lines, positions, figure.log_y)
        else:
            _draw_lines(axes, lines, positions, figure.log_y)
        _scale(axes, figure, xs, positions, numeric)
        axes.set_xlabel(short_label(labels[0], 60))
        canvas.text(0.0, 0.985, short_label(labels[1], 60), va="top", ha="left")
        axes.grid(axis="y")
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    described = (
        f"{labels[1]} against {labels[0]} for {', '.join(line.name for line in lines)}. The numbers follow as a table."
    )
    return inline_svg(buffer.getvalue(), prefix, figure.title, described)


def _positions(xs: list[Scalar], figure: Figure) -> tuple[dict[Scalar, float], bool]:
    """Where each x stands: numbers at themselves, words and the groups of bars side by side."""
    numeric = figure.kind != "bars" and all(isinstance(x, int | float) and not isinstance(x, bool) for x in xs)
    return {x: float(x) if numeric else float(index) for index, x in enumerate(xs)}, numeric


def _draw_lines(axes: Axes, lines: list[Line], positions: dict[Scalar, float], log_y: bool) -> None:
    for line in lines:
        shown = [(positions[x], s.mean, s.half_width or 0.0) for x, s in line.points if s.mean is not None]
        shown = [point for point in shown if not log_y or point[1] > 0]
        if not shown:
            continue
        at, mean, half = (list(column) for column in zip(*shown, strict=True))
        colour = SERIES[line.style % len(SERIES)]
        if any(half):
            low = [max(m - h, m / 100) if log_y else m - h for m, h in zip(mean, half, strict=True)]
            high = [m + h for m, h in zip(mean, half, strict=True)]
            axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
        marker = MARKERS[line.style % len(MARKERS)] if len(at) <= 16 else None
        dashes = DASHES[(line.style // 2) % len(DASHES)]
        axes.plot(at, mean, color=colour, marker=marker, linestyle=dashes, markeredgecolor=SURFACE, markeredgewidth=0.8)


def _draw_bars(axes: Axes, lines: list[Line], positions: dict[Scalar, float], log_y: bool) -> None:
    alone = max(Counter(x for line in lines for x, _ in line.points).values()) == 1  # no two bars at any x
    width = 0.8 if alone else 0.8 / len(lines)
    for index, line in enumerate(lines):
        offset = 0.0 if alone else (index - (len(lines) - 1) / 2) * width
        shown = [(positions[x] + offset, s.mean, s.half_width) for x, s in line.points if s.mean is not None]
        shown = [point for point in shown if not log_y or point[1] > 0]
        if not shown:
            continue
        at, mean, half = (list(column) for column in zip(*shown, strict=True))
        axes.bar(at, mean, width * 0.9, color=SERIES[line.style % len(SERIES)], linewidth=0)
        for where, middle, reach in zip(at, mean, half, strict=True):
            if reach:
                low = max(middle - reach, middle / 100) if log_y else middle - reach
                axes.plot([where, where], [low, middle + reach], color=INK, linewidth=1.3)


def _scale(axes: Axes, figure: Figure, xs: list[Scalar], positions: dict[Scalar, float], numeric: bool) -> None:
    formatter = FuncFormatter(lambda value, _: number(float(f"{value:.6g}")))
    if not numeric:
        labels = [short_label(scalar_text(x), 18) for x in xs]
        crowded = sum(map(len, labels)) > 44
        axes.set_xticks(
            list(positions.values()), labels, rotation=25 if crowded else 0, ha="right" if crowded else "center"
        )
        axes.set_xlim(-0.6, len(xs) - 0.4)
        if crowded and axes.figure is not None:
            axes.figure.subplots_adjust(left=0.2, bottom=0.31)  # slanted labels reach far down and to the left
    else:
        few = len(xs) <= 7
        if figure.log_x and min(positions.values()) > 0:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(list(positions.values())) if few else LogLocator(10, numticks=8))
        else:
            whole = all(float(x).is_integer() for x in positions.values())
            axes.xaxis.set_major_locator(
                FixedLocator(list(positions.values())) if len(xs) == 1 else MaxNLocator(6, integer=whole)
            )
        axes.xaxis.set_major_formatter(formatter)
    if figure.log_y and axes.has_data():
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high / low < 1000 else (1,), numticks=8))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(formatter)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())


def key_shape(style: int) -> str:
    """The path of a line's marker, 10 units wide around the origin, for the key beside the picture."""
    shapes = (
        "M4,0A4,4 0 1 1 -4,0 4,4 0 1 1 4,0Z", "M-3.6,-3.6H3.6V3.6H-3.6Z", "M0,-4.4 4.4,3.8H-4.4Z",
        "M0,-4.8 4.8,0 0,4.8 -4.8,0Z", "M0,4.4 4.4,-3.8H-4.4Z",
        "M-1.5,-4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z",
        "M-4.2,-2.1 -2.1,-4.2 0,-2.1 2.1,-4.2 4.2,-2.1 2.1,0 4.2,2.1 2.1,4.2 0,2.1 -2.1,4.2 -4.2,2.1 -2.1,0Z",
        "M0,-5 1.3,-1.7 4.8,-1.5 2.1,.7 3,4.1 0,2.2 -3,4.1 -2.1,.7 -4.8,-1.5 -1.3,-1.7Z",
    )  # fmt: skip
    return shapes[style % len(shapes)]


def key_dashes(style: int) -> str:
    """The dash pattern of a line as SVG writes it; empty for a solid line."""
    pattern = DASHES[(style // 2) % len(DASHES)]
    return "" if pattern == "-" else " ".join(f"{2 * length:g}" for length in pattern[1])


def where_text(figure: Figure) -> str:
    return setting_text(dict(figure.where))

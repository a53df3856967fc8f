"""A card's figures, drawn from measurements and artifacts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from assay.card import Card, Figure
from assay.record import Artifact, Result, Row, Scalar
from assay.report.heatmap import Panel, draw_heatmap
from assay.report.picture import Line, Mark, Plot, draw_plot
from assay.report.reported import marks_of
from assay.report.samples import NOTES, draw_panels, samples_of
from assay.report.tables import WITHOUT_METHOD, Summary, order, scalar_text, setting_text, summarise

MOST_POINTS = 40  # of one line; a curve of a thousand epochs says no more with a thousand points
_ALL = "all"  # the one line of measurements that the figure's `by` does not tell apart
_BYTES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))
Series = Mapping[str, Sequence[Scalar]]  # what a paper's figures tell apart, by the knob (or `method`): style by style


@dataclass(frozen=True)
class FigureTable:
    """Numbers of a picture. `name` says which panel, where there are several."""

    name: str
    first: str
    columns: list[str]
    lines: list[tuple[str, list[Summary | None]]]


@dataclass(frozen=True)
class Drawing:
    """A figure ready for the page: the picture, its key, and its numbers as tables."""

    id: str
    figure: Figure
    profile: str
    x_label: str
    y_label: str
    svg: Markup
    lines: list[Line]
    tables: list[FigureTable]
    averaged: list[str]
    notes: list[str]
    marks: list[Mark]
    unit: str

    @property
    def repeated(self) -> bool:
        return any(summary.n > 1 for line in self.lines for _, summary in line.points)

    @property
    def where(self) -> str:
        return setting_text(dict(self.figure.where))


@dataclass(frozen=True)
class Found:
    """A figure and what a result holds for it: rows by series and x, or artifacts by series."""

    figure: Figure
    result: Result
    rows: list[Row]
    unit: str
    groups: dict[Scalar, dict[Scalar, list[Row]]]
    artifacts: dict[Scalar, Artifact]
    shared_x: bool  # whether all series were asked at the same x; curves have each their own

    def names(self, methods: Sequence[str]) -> list[Scalar]:
        """The series, methods in the order of the card and values by size."""
        found = list(self.groups) or list(self.artifacts)
        known = [name for name in methods if name in found] if self.figure.by == "method" else []
        return [*known, *sorted((name for name in found if name not in known), key=order)]


def draw_all(card: Card, results: Sequence[Result]) -> list[Drawing]:
    """Every figure of a card for which there are measurements, each from the first result that has them."""
    chosen = []
    for index, figure in enumerate(card.figures):
        found = next((found for result in results if (found := find(figure, result)) is not None), None)
        if found is not None:
            chosen.append((f"fig{index}", found))
    series = series_of([found for _, found in chosen], list(card.methods))
    return [draw_found(found, series, prefix, marks_of(card, found.figure, found.rows)) for prefix, found in chosen]


def draw(figure: Figure, result: Result, methods: Sequence[str], prefix: str) -> Drawing | None:
    """One figure alone, or None where the result holds nothing for it. `prefix` makes its ids unique."""
    found = find(figure, result)
    return None if found is None else draw_found(found, series_of([found], methods), prefix)


def find(figure: Figure, result: Result) -> Found | None:
    """What a result holds for a figure, or None where that is nothing; points of a curve become rows."""
    if figure.kind in NOTES:
        artifacts: dict[Scalar, Artifact] = {}
        for artifact in result.artifacts:
            name, wanted = _knob(artifact, figure.by), _is_wanted(artifact, figure)
            if (artifact.experiment, artifact.name, artifact.seed) == (figure.experiment, figure.y, 0) and wanted:
                artifacts[_ALL if name is None else name] = artifact
        return Found(figure, result, [], "", {}, artifacts, False) if artifacts else None
    rows = [r for r in result.rows if r.experiment == figure.experiment and r.metric == figure.metric]
    along = [
        Row(c.experiment, c.metric, c.y[i], c.method, {**c.setting, figure.x: c.x[i]}, c.seed, unit=c.unit)
        for c in result.curves
        if (c.experiment, c.metric, c.x_name) == (figure.experiment, figure.metric, figure.x)
        for i in _thinned(c.y)
    ]
    rows = [row for row in [*rows, *along] if _knob(row, figure.x) is not None and _is_wanted(row, figure)]
    groups: dict[Scalar, dict[Scalar, list[Row]]] = {}
    for row in rows:
        name, x = _knob(row, figure.by), _knob(row, figure.x)
        if x is not None:
            groups.setdefault(_ALL if name is None else name, {}).setdefault(x, []).append(row)
    unit = next((row.unit for row in rows if row.unit), "")
    return Found(figure, result, rows, unit, groups, {}, not along) if rows else None


def series_of(found: Sequence[Found], methods: Sequence[str]) -> Series:
    """All series of these figures, numbered: so one has the same look in each of them."""
    numbered: dict[str, list[Scalar]] = {}
    for by in dict.fromkeys(each.figure.by for each in found):
        names = {name for each in found if each.figure.by == by for name in each.groups}
        known = [name for name in methods if name in names] if by == "method" else []
        numbered[by] = [*known, *sorted(names - set(known), key=order)]
    return numbered


def draw_found(found: Found, series: Series, prefix: str, marks: Sequence[Mark] = ()) -> Drawing:
    """The picture and what stands around it."""
    if found.artifacts:
        return _draw_samples(found, series, prefix)
    if found.figure.kind == "heatmap":
        return _draw_heatmap(found, series, prefix)
    figure = found.figure
    lines = _lines(found, series)
    unit, size = _size(found.unit, [s.mean for line in lines for _, s in line.points])
    lines = [replace(line, points=[(x, s.divided(size)) for x, s in line.points]) for line in lines]
    marks = [replace(mark, value=mark.value / size) for mark in marks]
    xs = sorted({x for line in lines for x, _ in line.points}, key=order)
    labels = _x_label(figure, xs), axis_label(figure.y_label or figure.metric, found.unit, unit)
    x_size = _size("B", list(xs))[1] if _is_bytes(figure, xs) else 1.0
    by_x = [dict(line.points) for line in lines]
    table = FigureTable("", labels[0], [line.name for line in lines],
                        [(x_text(x, x_size), [points.get(x) for points in by_x]) for x in xs])  # fmt: skip
    plot = Plot(figure, lines, xs, x_size, labels, unit, found.shared_x, marks)
    svg, shown = draw_plot(plot, prefix)
    return Drawing(prefix, figure, found.result.profile, *labels, svg, lines, [table], _averaged(found),
                   [*_notes(found.rows, lines), *shown.notes], shown.marks, unit)  # fmt: skip


def _thinned(values: Sequence[float | None]) -> list[int]:
    """Places of a curve to draw: all, or some and the first of each stretch of missing values."""
    if len(values) <= MOST_POINTS:
        return list(range(len(values)))
    spread = {round(i * (len(values) - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)}
    return sorted(spread | {i for i, y in enumerate(values) if y is None and i and values[i - 1] is not None})


def _knob(row: Row | Artifact, name: str) -> Scalar | None:
    return (row.method or WITHOUT_METHOD) if name == "method" else row.setting.get(name)


def _is_wanted(row: Row | Artifact, figure: Figure) -> bool:
    return all(_knob(row, knob) == value for knob, value in figure.where.items())


def _lines(found: Found, series: Series) -> list[Line]:
    names = [name for name in series[found.figure.by] if name in found.groups]
    return [
        Line(
            name,
            _line_name(found.figure, name),
            series[found.figure.by].index(name),
            [(x, summarise(found.groups[name][x])) for x in sorted(found.groups[name], key=order)],
        )
        for name in names
    ]


def _draw_samples(found: Found, series: Series, prefix: str) -> Drawing:
    """One panel for each value of `by`: the samples of its first replicate."""
    figure = found.figure
    first = list(series.get("method", ())) if figure.by == "method" else []
    names = sorted(found.artifacts, key=lambda name: (first.index(name) if name in first else len(first), order(name)))
    panels = {_line_name(figure, name): samples_of(found.artifacts[name], figure.kind) for name in names}
    svg = draw_panels(figure, panels, prefix)
    return Drawing(prefix, figure, found.result.profile, figure.x_label, figure.y_label, svg, [], [], [],
                   [NOTES[figure.kind]], [], "")  # fmt: skip


def _draw_heatmap(found: Found, series: Series, prefix: str) -> Drawing:
    """One panel for each value of `by`, all with the same colours: `x` to the right, `y` upwards."""
    figure = found.figure
    names = [name for name in series[figure.by] if name in found.groups]
    cells: dict[Scalar, dict[tuple[Scalar, Scalar], list[Row]]] = {name: {} for name in names}
    for name, of_name in found.groups.items():
        for x, rows in of_name.items():
            for row in rows:
                if (y := _knob(row, figure.y)) is not None:
                    cells[name].setdefault((x, y), []).append(row)
    summaries = {name: {at: summarise(rows) for at, rows in of_name.items()} for name, of_name in cells.items()}
    unit, size = _size(found.unit, [s.mean for each in summaries.values() for s in each.values()])
    panels = [
        Panel("" if name == _ALL else _line_name(figure, name), {at: s.divided(size) for at, s in each.items()})
        for name, each in summaries.items()
    ]
    xs, ys = (sorted({at[axis] for panel in panels for at in panel.cells}, key=order) for axis in (0, 1))
    labels = (plain_label(figure.x_label or figure.x), plain_label(figure.y_label or figure.y),
              axis_label(figure.metric, found.unit, unit))  # fmt: skip
    tables = [
        FigureTable(panel.name, f"{labels[0]}, by {labels[1]}", [scalar_text(y) for y in ys],
                    [(scalar_text(x), [panel.cells.get((x, y)) for y in ys]) for x in xs])
        for panel in panels
    ]  # fmt: skip
    svg = draw_heatmap(figure, panels, (xs, ys), labels, prefix)
    line = Line(_ALL, "", 0, [(x, s) for panel in panels for (x, _), s in panel.cells.items()])
    averaged = [knob for knob in _averaged(found) if knob != figure.y]
    return Drawing(prefix, figure, found.result.profile, labels[0], labels[2], svg, [], tables, averaged,
                   _notes(found.rows, [line]), [], unit)  # fmt: skip


def _line_name(figure: Figure, name: Scalar) -> str:
    return str(name) if figure.by == "method" or name == _ALL else f"{figure.by} {scalar_text(name)}"


def _size(unit: str, values: Sequence[Scalar | None]) -> tuple[str, float]:
    """The unit of an axis and its size: bytes in the largest unit that the largest value fills, others as they are."""
    if unit != "B":
        return unit, 1.0
    largest = max((abs(float(value)) for value in values if value is not None), default=0.0)
    return next(((name, size) for name, size in _BYTES if largest >= size), _BYTES[-1])


def plain_label(text: str) -> str:
    """A label without the quotes of code, which a picture cannot show as such."""
    return text.replace("`", "")


def axis_label(text: str, unit: str, shown: str) -> str:
    """A label that names the unit once: the card's own words where they do, else in brackets behind them."""
    text = plain_label(text)
    if unit == "B":
        text, named = re.subn(r"\b(bytes|B)\b", shown, text, count=1)
        return text if named else f"{text} ({shown})"
    if unit in ("points", "pp"):
        text = text.replace("(%)", f"({unit})")  # a difference of percentages
    words = {"s": r"\b(s|seconds)\b", "%": "%|percent|per cent", "": ""}.get(unit, rf"(?<!\w){re.escape(unit)}(?!\w)")
    return text if re.search(words, text) else f"{text} ({unit})"


def _is_bytes(figure: Figure, xs: Sequence[Scalar]) -> bool:
    named = figure.x.endswith("bytes")
    return named and all(isinstance(x, int | float) and not isinstance(x, bool) for x in xs)


def _x_label(figure: Figure, xs: Sequence[Scalar]) -> str:
    text = figure.x_label or figure.x
    return axis_label(text, "B", _size("B", list(xs))[0]) if _is_bytes(figure, xs) else plain_label(text)


def x_text(x: Scalar, size: float) -> str:
    return scalar_text(x if size == 1.0 else float(x) / size)


def _averaged(found: Found) -> list[str]:
    """Knobs that vary inside a point and are therefore averaged there: the reader is told."""
    values: dict[str, set[Scalar]] = {}
    for row in found.rows:
        for knob, value in {"method": row.method or WITHOUT_METHOD, **row.setting}.items():
            values.setdefault(knob, set()).add(value)
    shown = (found.figure.x, found.figure.by)
    return [knob for knob, seen in values.items() if len(seen) > 1 and knob not in shown]


def _notes(points: list[Row], lines: list[Line]) -> list[str]:
    notes = []
    simulated = sum(row.evidence == "simulated" for row in points)
    if simulated:
        notes.append(f"{'All' if simulated == len(points) else 'Some'} of it is simulated, not measured.")
    if missing := sum(summary.missing for line in lines for _, summary in line.points):
        values = "1 missing value is" if missing == 1 else f"{missing} missing values are"
        notes.append(f"{values} not drawn; the table says where.")
    return notes

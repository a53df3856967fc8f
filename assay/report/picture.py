"""Lines and bars as an SVG: numbers of replicates with their intervals, and what the paper reports beside them."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from assay.card import Figure
from assay.record import Scalar
from assay.report.looks import colour_of, dashes_of, hatch_of, marker_of
from assay.report.numbers import number, with_unit
from assay.report.svg import INK, SERIES, STYLE, SURFACE, WIDTH, inline_svg, short_label
from assay.report.tables import Summary, scalar_text

_HEIGHT = 3.4  # inches
_MOST_MARKERS = 10  # of one line, so that dashes are seen between them
_REACH = 2.0  # a reported number further away than this many spans of the data would flatten them
_AT_LEAST_ZERO = ("s", "ms", "us", "ns", "B", "kB", "MB", "GB", "J", "mJ", "kJ")


@dataclass(frozen=True)
class Line:
    """One line, or one kind of bars. `style` is its place among the series of the paper's figures."""

    series: Scalar
    name: str
    style: int
    points: list[tuple[Scalar, Summary]]


@dataclass(frozen=True)
class Mark:
    """A number that the paper reports for a series (None: the only one) at an x (None: at all of them).

    Attributes:
        weak: how it is known, where nobody here has read it in the paper.
    """

    series: Scalar | None
    x: Scalar | None
    value: float
    source: str
    weak: str


@dataclass(frozen=True)
class Plot:
    """What is drawn. `x_size` is the size of x's unit; `shared_x` whether every series was asked at every x."""

    figure: Figure
    lines: list[Line]
    xs: list[Scalar]
    x_size: float
    labels: tuple[str, str]
    unit: str
    shared_x: bool
    marks: Sequence[Mark]

    def interval(self, summary: Summary) -> tuple[float, float] | None:
        """The 95% t interval as far as there can be values: no time below zero, no share above all."""
        mean, half = summary.mean, summary.half_width
        if mean is None or not half:
            return None
        low, high = self._ends()
        low = max(low, mean / 100) if self.figure.log_y else low
        return max(low, mean - half), min(high, mean + half)

    def _ends(self) -> tuple[float, float]:
        means = [s.mean for line in self.lines for _, s in line.points if s.mean is not None]
        if self.unit in _AT_LEAST_ZERO and min(means, default=0.0) >= 0:
            return 0.0, float("inf")
        if self.unit == "%" and all(0 <= mean <= 100 for mean in means):
            return 0.0, 100.0
        return float("-inf"), float("inf")

    def is_drawn(self, summary: Summary) -> bool:
        return summary.mean is not None and (summary.mean > 0 or not self.figure.log_y)


@dataclass(frozen=True)
class Shown:
    """What the page says beside the picture: the reported numbers in it, and notes."""

    marks: list[Mark]
    notes: list[str]


def draw_plot(plot: Plot, prefix: str) -> tuple[Markup, Shown]:
    """The picture. `prefix` makes its ids unique on a page."""
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        canvas = Canvas(figsize=(WIDTH, _HEIGHT))
        axes = canvas.subplots()
        canvas.subplots_adjust(left=0.125, right=0.975, top=0.88, bottom=0.17)
        positions, numeric = _positions(plot)
        if plot.figure.kind == "bars":
            shown = _draw_marks(axes, plot, positions, _draw_bars(axes, plot, positions))
            notes = []
        else:
            notes = _draw_lines(axes, plot, positions)
            shown = _draw_marks(axes, plot, positions, {})
        _scale(axes, plot, positions, numeric)
        axes.set_xlabel(short_label(plot.labels[0], 60))
        canvas.text(0.0, 0.985, short_label(plot.labels[1], 60), va="top", ha="left")
        axes.grid(axis="y")
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    names = ", ".join(line.name for line in plot.lines)
    described = f"{plot.labels[1]} against {plot.labels[0]} for {names}. The numbers follow as a table."
    outside = [
        f"The reported {_mark_value(plot, mark)} ({mark.source}) lies outside the picture."
        for mark in plot.marks
        if mark not in shown
    ]
    return inline_svg(buffer.getvalue(), prefix, plot.figure.title, described), Shown(shown, [*notes, *outside])


def _positions(plot: Plot) -> tuple[dict[Scalar, float], bool]:
    """Where each x stands: numbers at themselves, words and the groups of bars side by side."""
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in plot.xs)
    numeric = plot.figure.kind != "bars" and numbers
    return {x: float(x) if numeric else float(index) for index, x in enumerate(plot.xs)}, numeric


def _draw_lines(axes: Axes, plot: Plot, positions: Mapping[Scalar, float]) -> list[str]:
    """Lines that break where a value is missing; notes on what a reader could not see."""
    bridged = False
    for line in plot.lines:
        colour, runs, bridges = SERIES[colour_of(line.style)], *_runs(plot, line)
        bridged = bridged or bool(bridges)
        step = max(1, -(-sum(map(len, runs)) // _MOST_MARKERS))
        for run in runs:
            at, means = [positions[x] for x, _ in run], [s.mean or 0.0 for _, s in run]
            ends = [plot.interval(s) or (s.mean or 0.0, s.mean or 0.0) for _, s in run]
            if any(low < high for low, high in ends):
                lows, highs = zip(*ends, strict=True)
                axes.fill_between(at, lows, highs, color=colour, alpha=0.16, linewidth=0)
            axes.plot(at, means, color=colour, marker=marker_of(line.style),
                      markersize=8 if marker_of(line.style) == "*" else 6, linestyle=dashes_of(line.style),
                      markevery=(line.style % step if len(run) > step else 0, step), markeredgecolor=SURFACE,
                      markeredgewidth=0.6)  # fmt: skip
        for (x, start), (other, end) in bridges:
            axes.plot([positions[x], positions[other]], [start.mean or 0.0, end.mean or 0.0], color=colour,
                      linewidth=0.7, alpha=0.5)  # fmt: skip
    notes = ["A hairline spans values at which a series was not run."] if bridged else []
    equal = [
        f"{one.name} and {other.name} coincide."
        for one, other in itertools.combinations(plot.lines, 2)
        if len(one.points) > 1 and _means(one) == _means(other)
    ]
    return notes + equal


def _means(line: Line) -> list[tuple[Scalar, float | None]]:
    return [(x, summary.mean) for x, summary in line.points]


Point = tuple[Scalar, Summary]


def _runs(plot: Plot, line: Line) -> tuple[list[list[Point]], list[tuple[Point, Point]]]:
    """Stretches of a line without a gap, and the pairs of points between which it was not asked for a value."""
    own = dict(line.points)
    runs: list[list[Point]] = []
    bridges: list[tuple[Point, Point]] = []
    last, skipped = None, False
    for x in plot.xs if plot.shared_x else own:
        if x not in own:
            skipped = True
        elif not plot.is_drawn(own[x]):
            last = None
        else:
            point = (x, own[x])
            if last is not None and skipped:
                bridges.append((last, point))
            if last is None or skipped:
                runs.append([])
            runs[-1].append(point)
            last, skipped = point, False
    return runs, bridges


def _draw_bars(axes: Axes, plot: Plot, positions: Mapping[Scalar, float]) -> dict[tuple[Scalar, Scalar], float]:
    """Where the middle of each bar stands, by series and x."""
    alone = max(Counter(x for line in plot.lines for x, _ in line.points).values()) == 1  # no two bars at any x
    width = 0.8 if alone else 0.8 / len(plot.lines)
    centres: dict[tuple[Scalar, Scalar], float] = {}
    for index, line in enumerate(plot.lines):
        offset = 0.0 if alone else (index - (len(plot.lines) - 1) / 2) * width
        centres |= {(line.series, x): positions[x] + offset for x, _ in line.points}
        for x, summary in line.points:
            if not plot.is_drawn(summary):
                continue
            at = centres[line.series, x]
            axes.bar(at, summary.mean or 0.0, width * 0.9, color=SERIES[colour_of(line.style)], linewidth=0,
                     hatch=hatch_of(line.style), edgecolor=SURFACE)  # fmt: skip
            if (ends := plot.interval(summary)) is not None:
                axes.plot([at, at], ends, color=INK, linewidth=1.3)
    return centres


def _draw_marks(
    axes: Axes, plot: Plot, positions: Mapping[Scalar, float], centres: Mapping[tuple[Scalar, Scalar], float]
) -> list[Mark]:
    """Hollow diamonds at reported numbers, dashed lines where they hold at every x; those that were drawn."""
    means = [s.mean for line in plot.lines for _, s in line.points if s.mean is not None and plot.is_drawn(s)]
    if not means:
        return []
    low, high = min(means), max(means)
    reach = _REACH * ((high - low) or abs(high) or 1.0)
    low, high = (low / 10, high * 10) if plot.figure.log_y else (low - reach, high + reach)
    styles = {line.series: line.style for line in plot.lines}
    drawn = [mark for mark in plot.marks if low <= mark.value <= high]
    for mark in drawn:
        colour = INK if mark.series is None else SERIES[colour_of(styles[mark.series])]
        if mark.x is None:
            axes.axhline(mark.value, color=colour, linewidth=1.2, linestyle=(0, (2, 2)))
            axes.annotate(f"reported {_mark_value(plot, mark)}", (1, mark.value), (0, 2), ha="right", va="bottom",
                          xycoords=("axes fraction", "data"), textcoords="offset points")  # fmt: skip
            continue
        at = centres.get((plot.lines[0].series if mark.series is None else mark.series, mark.x), positions[mark.x])
        axes.plot([at], [mark.value], marker="D", markersize=7, markerfacecolor=SURFACE, markeredgecolor=colour,
                  markeredgewidth=1.6, linestyle="")  # fmt: skip
    return drawn


def _mark_value(plot: Plot, mark: Mark) -> str:
    return with_unit(number(mark.value), plot.unit)


def mark_text(mark: Mark, figure: Figure, unit: str) -> str:
    """`dagnn, cora: 84.4 % (Table 2)`, `sf, layers 4: 88.48 % (Table 3e, second-hand)`."""
    x = mark.x if mark.x is None or isinstance(mark.x, str) else f"{figure.x} {scalar_text(mark.x)}"
    about = ", ".join(scalar_text(part) for part in dict.fromkeys((mark.series, x)) if part is not None)
    source = ", ".join(filter(None, (mark.source, mark.weak)))
    return f"{about}{': ' if about else ''}{with_unit(number(mark.value), unit)} ({source})"


def _scale(axes: Axes, plot: Plot, positions: dict[Scalar, float], numeric: bool) -> None:
    figure, xs = plot.figure, plot.xs
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
            least, most = min(positions.values()), max(positions.values())
            subs = (1, 2, 5) if most / least < 1000 else (1,)
            axes.xaxis.set_major_locator(
                FixedLocator(list(positions.values())) if few else LogLocator(10, subs=subs, numticks=8)
            )
        else:
            whole = all(float(x).is_integer() for x in positions.values())
            axes.xaxis.set_major_locator(
                FixedLocator(list(positions.values())) if len(xs) == 1 else MaxNLocator(6, integer=whole)
            )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: number(float(f"{x / plot.x_size:.6g}"))))
    if figure.log_y and axes.has_data():
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high / low < 1000 else (1,), numticks=8))
    else:
        _keep_inside(axes, plot)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(formatter)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())


def _keep_inside(axes: Axes, plot: Plot) -> None:
    """The axis ends where values end, and what stands on its edge is drawn whole."""
    least, most = plot._ends()
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, least), min(high, most))
    if low < least or high > most:
        for line in axes.lines:
            line.set_clip_on(False)

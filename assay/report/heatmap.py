"""A metric over two knobs: a coloured cell for each pair, its number in it where there is room, and a colour bar."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from assay.card import Figure
from assay.record import Scalar
from assay.report.numbers import number
from assay.report.svg import STYLE, WIDTH, inline_svg, short_label
from assay.report.tables import Summary, scalar_text

MOST_READABLE = 8  # columns of a panel whose cells hold their numbers
_COLUMNS = 2  # panels in a row, where there are several
_STEPS = 64  # of the colour bar
_MOST_TICKS = 12


@dataclass(frozen=True)
class Panel:
    """The cells of one series, by x and y."""

    name: str
    cells: dict[tuple[Scalar, Scalar], Summary]


def draw_heatmap(
    figure: Figure,
    panels: Sequence[Panel],
    axes_values: tuple[list[Scalar], list[Scalar]],
    labels: tuple[str, str, str],
    prefix: str,
) -> Markup:
    """The picture: `labels` of x, y and the metric. All panels share axes and colours; a missing cell is empty."""
    xs, ys = axes_values
    values = [s.mean for panel in panels for s in panel.cells.values() if s.mean is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)
    colours = matplotlib.colormaps["viridis"]

    def colour(value: float) -> tuple[float, float, float]:
        return colours(0.5 if high == low else (value - low) / (high - low))[:3]

    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    readable = len(xs) * columns <= MOST_READABLE
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        canvas = Canvas(figsize=(WIDTH, 0.9 + rows * min(3.2, max(1.6, 0.42 * len(ys) + 0.8))))
        grid = canvas.add_gridspec(rows, columns + 1, width_ratios=[*[1.0] * columns, 0.05], wspace=0.25, hspace=0.45,
                                   left=0.125, right=0.9, top=0.86, bottom=0.62 / canvas.get_figheight())  # fmt: skip
        for index, panel in enumerate(panels):
            place = index // columns, index % columns
            axes = canvas.add_subplot(grid[place])
            _fill(axes, panel, xs, ys, colour, readable)
            axes.set_title(short_label(panel.name, 50 // columns), fontsize=10.5)
            if index + columns >= len(panels):
                axes.set_xlabel(short_label(labels[0], 50 // columns))
        _colour_bar(canvas.add_subplot(grid[:, columns]), low, high, colour)
        canvas.text(0.0, 0.985, short_label(f"{labels[1]} (upwards); colour: {labels[2]}", 70), va="top", ha="left")
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    described = f"{labels[2]} as colour over {labels[0]} and {labels[1]}. The numbers follow as a table."
    return inline_svg(buffer.getvalue(), prefix, figure.title, described)


def _fill(
    axes: Axes, panel: Panel, xs: list[Scalar], ys: list[Scalar],
    colour: Callable[[float], tuple[float, float, float]], readable: bool,
) -> None:  # fmt: skip
    for (x, y), summary in panel.cells.items():
        if summary.mean is None:
            continue
        at, shade = (xs.index(x), ys.index(y)), colour(summary.mean)
        axes.add_patch(Rectangle((at[0] - 0.5, at[1] - 0.5), 1, 1, facecolor=shade, linewidth=0))
        if readable:
            axes.text(*at, number(float(f"{summary.mean:.3g}")), ha="center", va="center", color=_ink_on(shade))
    for axis, values in ((axes.xaxis, xs), (axes.yaxis, ys)):
        step = -(-len(values) // _MOST_TICKS)
        axis.set_ticks(range(0, len(values), step), [short_label(scalar_text(v), 9) for v in values[::step]])
    axes.set_xlim(-0.5, len(xs) - 0.5)
    axes.set_ylim(-0.5, len(ys) - 0.5)
    axes.spines[:].set_visible(False)


def _ink_on(shade: tuple[float, float, float]) -> str:
    """Black or white, whichever has the greater contrast (WCAG's relative luminance)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shade)
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "#ffffff"


def _colour_bar(axes: Axes, low: float, high: float, colour: Callable[[float], tuple[float, float, float]]) -> None:
    top = high if high > low else low + 1.0
    step = (top - low) / _STEPS
    for index in range(_STEPS):
        start = low + index * step
        axes.add_patch(Rectangle((0, start), 1, step, facecolor=colour(min(start + step / 2, high)), linewidth=0))
    axes.set_xlim(0, 1)
    axes.set_ylim(low, top)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(float(f"{value:.6g}"))))
    axes.spines[:].set_visible(False)

"""Samples that an experiment kept as artifacts: points of the plane, or images, a panel for each method."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Callable
from zipfile import BadZipFile

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from assay.card import Figure
from assay.errors import RecordError
from assay.record import Artifact
from assay.report.svg import SERIES, STYLE, WIDTH, inline_svg, short_label

MOST_POINTS = 500  # of one panel: enough to see a density, few enough for a phone
SIDE = 8  # images in a row, and rows of them

NOTES = {
    "scatter": f"At most {MOST_POINTS} points of the first replicate in each panel; all panels have the same axes.",
    "images": f"The first {SIDE**2} images of the first replicate in each panel, from black (-1) to white (1).",
}


def samples_of(artifact: Artifact, kind: str) -> np.ndarray:
    """What a figure of kind `scatter` or `images` draws: points (n, 2), or images (n, height, width) in [-1, 1].

    Raises:
        RecordError: the artifact has no array `points` or `images` of that form.
    """
    name, axes = {"scatter": ("points", 2), "images": ("images", 3)}[kind]
    try:
        with np.load(io.BytesIO(base64.b64decode(artifact.npz_base64)), allow_pickle=False) as arrays:
            found: np.ndarray = arrays[name] if name in arrays.files else np.empty(0)
        fits = found.ndim == axes and found.size > 0 and np.isfinite(found).all()
    except (ValueError, TypeError, OSError, EOFError, BadZipFile, zlib.error) as error:  # damaged
        raise RecordError(f"artifact {artifact.name!r} of {artifact.experiment} cannot be read: {error}") from error
    if not fits or (kind == "scatter" and found.shape[1] != 2):
        form = "(n, 2)" if kind == "scatter" else "(n, height, width)"
        raise RecordError(
            f"artifact {artifact.name!r} of {artifact.experiment}: a figure of kind {kind} draws its array `{name}`, "
            f"finite and of shape {form}"
        )
    return found[: MOST_POINTS if kind == "scatter" else SIDE**2].astype(float)


def draw_panels(figure: Figure, panels: dict[str, np.ndarray], prefix: str) -> Markup:
    """The picture, at most three panels in a row. `prefix` makes its ids unique."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    fill = _mosaic if figure.kind == "images" else _scattered(list(panels.values()))
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        canvas = Canvas(figsize=(WIDTH, 0.25 + rows * (WIDTH / columns)))
        for index, (name, samples) in enumerate(panels.items()):
            axes = canvas.add_subplot(rows, columns, index + 1)
            fill(axes, samples)
            axes.set_title(short_label(name, 60 // columns), fontsize=10.5)
        canvas.tight_layout()
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    what = "Images" if figure.kind == "images" else "Points"
    return inline_svg(buffer.getvalue(), prefix, figure.title, f"{what} of {', '.join(panels)}, one panel each.")


def _scattered(every: list[np.ndarray]) -> Callable[[Axes, np.ndarray], None]:
    """Points on axes that all panels share."""
    points = np.concatenate(every)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.04 * (high - low) + 1e-9

    def fill(axes: Axes, points: np.ndarray) -> None:
        axes.plot(points[:, 0], points[:, 1], linestyle="", marker="o", markersize=1.6, markeredgewidth=0,
                  color=SERIES[0])  # fmt: skip
        axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
        axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(3))

    return fill


def _mosaic(axes: Axes, images: np.ndarray) -> None:
    """Images side by side, row by row, a pixel of black between them."""
    _, height, width = images.shape
    rows = -(-len(images) // SIDE)
    cells = np.full((rows * SIDE, height + 1, width + 1), -1.0)
    cells[: len(images), :height, :width] = images
    whole = cells.reshape(rows, SIDE, height + 1, width + 1).transpose(0, 2, 1, 3)
    whole = whole.reshape(rows * (height + 1), SIDE * (width + 1))[:-1, :-1]
    axes.imshow(whole, cmap="gray", vmin=-1, vmax=1, interpolation="none")
    axes.set_axis_off()

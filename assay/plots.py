"""What `dvc plots show` draws: the figures of each card as tables of x, y and series."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from assay.card import Card
from assay.pipeline import PLOTS
from assay.record import Result, Scalar, write_atomically
from assay.report.figures import find
from assay.report.tables import order, summarise


def write_plots(root: Path, profile: str, cards: Mapping[str, Card], results: Mapping[str, Result]) -> None:
    """Write `results/<profile>/plots/<lines or bars>/<slug>-<number>-<title>.csv`, the means over replicates."""
    folder = root / "results" / profile / "plots"
    shutil.rmtree(folder, ignore_errors=True)
    for name in PLOTS:
        (folder / name).mkdir(parents=True)
    for slug, result in results.items():
        for number, figure in enumerate(cards[slug].figures, 1):
            found = find(figure, result) if figure.kind in ("line", "bars") else None
            if found is not None:
                points = [(x, summarise(rows).mean, series)
                          for series, by_x in found.groups.items() for x, rows in by_x.items()]  # fmt: skip
                numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x, _, _ in points)
                kind = "lines" if numeric and figure.kind == "line" else "bars"
                title = re.sub(r"[^a-z0-9]+", "-", figure.title.lower()).strip("-")[:60]
                write_atomically(folder / kind / f"{slug}-{number:02}-{title}.csv", _table(points))


def _table(points: list[tuple[Scalar, float | None, Scalar]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("x", "y", "series"))
    drawn = [(x, f"{mean:.8g}", series) for x, mean, series in points if mean is not None]
    drawn.sort(key=lambda point: (order(point[2]), order(point[0])))
    writer.writerows(drawn)
    return text.getvalue()

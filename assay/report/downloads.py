"""What a page offers to take along: verdicts as CSV and JSON, measurements as CSV, each figure as an SVG of its own.

They lie beside the page under its name, so that a site that was copied somewhere still has them.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from assay.record import Result
from assay.verdict import Verdict

ROW_FIELDS = ("seed", "rank", "repeat", "value", "unit", "evidence", "reason")


def verdict_files(stem: str, verdicts: Iterable[Verdict]) -> dict[str, str]:
    """`<stem>.csv` and `<stem>.json`: one entry for each claim and profile that ran."""
    found = [verdict.json() for verdict in verdicts if verdict.device is not None]
    table = [_flat(entry) for entry in found]
    columns = list(dict.fromkeys(name for line in table for name in line)) or ["paper", "claim", "verdict"]
    return {f"{stem}.csv": _csv(columns, table), f"{stem}.json": json.dumps(found, indent=1, allow_nan=False) + "\n"}


def _flat(entry: dict[str, Any]) -> dict[str, Any]:
    """A verdict on one line: ends of the interval and the reported number in columns of their own, parts left out."""
    low, high = entry["interval"] or (None, None)
    reported = entry["reported"] or {}
    names = ("value", "low", "high", "std", "unit", "source", "known")
    kept = {name: value for name, value in entry.items() if name not in ("interval", "reported", "parts")}
    return {**kept, "low": low, "high": high, **{f"reported_{name}": reported.get(name) for name in names}}


def rows_csv(result: Result) -> str:
    """Every measurement, a line each, with a column for each knob: what `assay.load` gives."""
    knobs = list(dict.fromkeys(knob for row in result.rows for knob in row.setting))
    table = [
        {"profile": result.profile, "experiment": row.experiment, "metric": row.metric, "method": row.method,
         **row.setting, **{name: getattr(row, name) for name in ROW_FIELDS}}
        for row in result.rows
    ]  # fmt: skip
    return _csv(["profile", "experiment", "metric", "method", *knobs, *ROW_FIELDS], table)


def _csv(columns: Sequence[str], table: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def svg_file(svg: str, style: str) -> str:
    """A picture of a page as a file: with the page's colours for light, on white, and nothing else of the page."""
    known = dict(re.findall(r"(--[\w-]+):([^;}]+)", style.partition("}")[0]))
    rules = re.findall(r"(?:^|})(\.(?:[fs]-\w+|plot text)\{[^}]*)(?=})", style.partition("@media print")[0])
    kept = "}".join(dict.fromkeys(rules)).replace("var(--page)", "#fff") + "}"
    kept = re.sub(r"var\((--[\w-]+)\)", lambda match: known[match[1]], kept)
    head, _, rest = str(svg).partition(">")
    head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f'{head}><style>{kept}</style><rect width="100%" height="100%" fill="#fff"/>{rest}\n'

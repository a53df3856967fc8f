"""A comparison of two nights, for a person."""

from __future__ import annotations

import math

from rich.table import Table
from rich.text import Text

from assay.nights.compare import Comparison, Line
from assay.nights.screen import Tested
from assay.terminal import out


def print_comparison(found: Comparison) -> None:
    """What is confirmed first, then what is not, then what bears on both."""
    _say(f"{found.old[:10]} to {found.new[:10]}: {_summary(found)}")
    if found.old == found.new:
        _say("both nights are of one commit: what differs is the machine's or a version's doing, not the code's")
    if found.untimed:
        _say(f"times not compared: {found.untimed}")
    if found.unconfirmed:
        _say(f"not confirmed: {found.unconfirmed}")
    if found.flagged:
        # a width of its own: a log has no width, and a cut name is no name
        out.print(_table(found.flagged), width=max(100, out.width))
    for name, count, old, new in found.counts:
        _say(f"{'GREW' if new > old else 'shrank'}  {name}  {count}  {old:,} to {new:,}")
    if found.everything:
        _say(f"all hot paths against the canaries: {_ratio(found.everything.change)}, p = {found.everything.p:.2g}"
             + ("; EVERYTHING IS SLOWER than the machine explains" if found.everything.slower else ""))  # fmt: skip
    for name, old_version, new_version in found.versions:
        _say(f"version  {name}  {old_version} to {new_version}")
    for name, reason in found.unusable.items():
        _say(f"NO TIME  {name}  {reason}; not judged")
    for name, reason in found.missing.items():
        _say(f"missing  {name}  {reason}")


def _summary(found: Comparison) -> str:
    parts = [f"{len(found.lines)} hot paths screened", f"{len(found.flagged)} flagged",
             f"{len(found.slower)} confirmed slower", f"{len(found.grown)} exact counts grew"]  # fmt: skip
    parts += [f"{len(found.unusable)} without usable times"] if found.unusable else []
    return ", ".join(parts)


def _table(lines: list[Line]) -> Table:
    table = Table("hot path", "night to night", "p", "side by side", "p", "verdict", box=None)
    for line in lines:
        tested = line.confirmed
        table.add_row(line.name, _ratio(line.change), f"{line.p:.2g}", *_confirmed(tested))
    return table


def _confirmed(tested: Tested | None) -> tuple[str, str, Text]:
    if tested is None:
        return "", "", Text("flagged", style="yellow")
    verdict = Text("SLOWER", style="red") if tested.slower else Text("not confirmed", style="green")
    return _ratio(tested.change), f"{tested.p:.2g}", verdict


def _ratio(change: float) -> str:
    return f"{math.expm1(change):+.1%}"


def _say(text: str) -> None:
    out.print(Text(text))

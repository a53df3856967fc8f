"""A comparison of two nights, for a person."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from assay.nights.compare import Comparison, Line
from assay.nights.history import FEWEST_NIGHTS, History
from assay.nights.record import Effort
from assay.nights.screen import Tested
from assay.terminal import err, out, say


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


def print_screened(found: Comparison, effort: Effort) -> None:
    """What is flagged, before it is confirmed, and how long that takes."""
    say(err, f"{found.old[:10]} to {found.new[:10]}: {len(found.lines)} hot paths screened, these look slower:")
    err.print(_table(found.flagged), width=max(100, err.width))
    say(err, f"confirming: both commits side by side, {effort.replicates} couples of processes, in each "
             f"{2 * effort.slice_s:g} s or more for each of these")  # fmt: skip


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


def print_histories(found: Sequence[History]) -> None:
    """Hot paths that changed, with each change; then how many did not."""
    for machine in dict.fromkeys(history.machine for history in found):
        here = [history for history in found if history.machine == machine]
        first, last = (end([p.date for history in here for p in history.points]) for end in (min, max))
        count = max(len(history.points) for history in here)
        _say(f"{' and '.join(filter(None, machine))}: {len(here)} hot paths, {count} nights, {first} to {last}")
        table = Table("hot path", "nights", "now", "from", "commit", "change", box=None)
        for history in (history for history in here if history.changes):
            now = time_text(history.points[-1].seconds)
            for place, change in enumerate(history.changes):
                head = ("", "", "") if place else (history.name, str(len(history.points)), now)
                colour = "red" if change.change > 0 else "green"
                table.add_row(*head, change.date, change.commit[:10], Text(_ratio(change.change), style=colour))
        if table.row_count:
            out.print(table, width=max(100, out.width))
        short = sum(len(history.points) < FEWEST_NIGHTS for history in here)
        still = sum(not history.changes for history in here) - short
        _say(f"{still} without a change" + (f", {short} with fewer than {FEWEST_NIGHTS} nights" if short else ""))


def time_text(seconds: float) -> str:
    """`1.24 ms`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _say(text: str) -> None:
    out.print(Text(text))

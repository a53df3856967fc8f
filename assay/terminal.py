"""What a person sees in a terminal: progress with the time left, and the scoreboard. Plain where there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from assay.card import Card

if TYPE_CHECKING:
    from assay.record import JobRecord, Result
    from assay.verdict import Verdict
    from assay.worker import Job

COLOURS = {
    "reproduced": "green",
    "direction only": "cyan",
    "inconclusive": "yellow",
    "contradicted": "red",
    "untested": "bright_black",
}
out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


@contextmanager
def steps(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar over equal steps. Yields what to call after each."""
    with _bar(title) as bar:
        task = bar.add_task(title, total=total, last="")
        yield lambda: bar.update(task, advance=1)


def _bar(title: str) -> Progress:
    return Progress(TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
                    TimeRemainingColumn(), TextColumn("{task.fields[last]}"), console=err, transient=True,
                    disable=not sys.stderr.isatty())  # fmt: skip


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[Job, JobRecord], None]]:
    """A bar with the time left on a terminal; elsewhere only what went wrong. Yields the callback for each job."""
    with _bar(title) as bar:
        task = bar.add_task(title, total=total, last="")

        def report(job: Job, record: JobRecord) -> None:
            bar.update(task, advance=1, last=str(job))
            if record.status != "done":
                err.print(Text(f"{job}: {record.status}: {record.reason}"))

        yield report


def print_cards(cards: Sequence[Card]) -> None:
    table = Table("paper", "title", "venue", "methods", "claims", box=None)
    for card in cards:
        table.add_row(card.slug, card.title, card.venue, ", ".join(card.methods), str(len(card.claims)))
    out.print(table)


def print_card(card: Card, results: dict[str, Result], verdicts: Sequence[Verdict]) -> None:
    """One paper: its idea, what it takes to run, and what is known of its claims."""
    out.print(Text(f"{card.title}\n{card.authors}. {card.venue}" + (f". arXiv {card.arxiv}" if card.arxiv else "")))
    out.print(Text(f"\n{card.idea.strip()}\n"))
    for name, role in card.methods.items():
        out.print(Text(f"  {role:<9} {name}"))
    for profile, result in results.items():
        commit = (result.provenance.get("commit") or "no commit")[:10]
        out.print(Text(f"\n{profile}: {len(result.jobs)} jobs, {len(result.rows):,} rows, commit {commit}"))
    out.print()
    print_verdicts(verdicts)


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """The scoreboard: one line a claim."""
    if not sys.stdout.isatty():
        for v in verdicts:
            fields = (v.paper, v.profile, v.claim, v.verdict, estimate_text(v), v.reason or "")
            out.print(Text("  ".join(filter(None, fields))))
        return
    table = Table("paper", "profile", "claim", "verdict", "estimate [95%]", "bar", "reason", box=None)
    for v in verdicts:
        verdict = Text(v.verdict, style=COLOURS[v.verdict])
        table.add_row(v.paper, v.profile, v.claim, verdict, estimate_text(v), Text(v.bar or ""), Text(v.reason or ""))
    out.print(table)


def estimate_text(v: Verdict) -> str:
    if v.estimate is None:
        return ""
    low, high = v.interval or (None, None)
    ends = ("-inf" if low is None else f"{low:.3g}", "inf" if high is None else f"{high:.3g}")
    interval = f" [{ends[0]}, {ends[1]}]" if v.interval else ""
    return f"{v.estimate:.3g}{interval}{' ' + v.unit if v.unit else ''}"

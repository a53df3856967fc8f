"""What a person sees in a terminal: progress with the time left, and the scoreboard. Plain where there is none."""

from __future__ import annotations

import io
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from assay.card import Card

if TYPE_CHECKING:
    from assay.record import JobRecord, Result
    from assay.report.view import ClaimView
    from assay.verdict import Verdict
    from assay.worker import Job

COLOURS = {
    "reproduced": "green",
    "direction only": "cyan",
    "inconclusive": "yellow",
    "contradicted": "red",
    "untested": "bright_black",
}
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 loses a sign, and not the command
out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def printable(text: object) -> str:
    """Text of a card or a result, which may hold anything: what would move a terminal's cursor is shown instead."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], str(text))


def say(console: Console, text: object) -> None:
    """Print a line as it is: no markup, no control characters."""
    console.print(Text(printable(text)))


def say_after(first: str, text: object) -> None:
    """A text after its name, one paragraph; on a terminal wrapped to its width, below where it begins."""
    whole = printable(first) + " ".join(printable(text).split())
    if out.is_terminal:
        whole = "\n".join(textwrap.wrap(whole, out.width, subsequent_indent=" " * len(first), break_on_hyphens=False))
    say(out, whole)


@contextmanager
def steps(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar over equal steps. Yields what to call after each."""
    with _bar(title) as bar:
        task = bar.add_task(title, total=total, last="")
        yield lambda: bar.update(task, advance=1)


def _bar(title: str) -> Progress:
    columns = (TextColumn(printable(title), markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[last]}"))  # fmt: skip
    return Progress(*columns, console=err, transient=True, disable=not sys.stderr.isatty())


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[Job, JobRecord], None]]:
    """A bar with the time left on a terminal; elsewhere only what went wrong. Yields the callback for each job."""
    with _bar(title) as bar:
        task = bar.add_task(title, total=total, last="")

        def report(job: Job, record: JobRecord) -> None:
            bar.update(task, advance=1, last=str(job))
            if record.status != "done":
                say(err, f"{job}: {record.status}: {record.reason}")

        yield report


def print_cards(cards: Sequence[Card]) -> None:
    """A line a paper; where there is no terminal the line is as long as it needs to be."""
    for card in cards:
        own = sum(claim.of == "ours" for claim in card.claims.values())
        claims = f"{len(card.claims) - own:>2} claims" + (f" + {own} of ours" if own else "")
        if out.is_terminal:
            room = out.width - 24 - 20 - 2
            title = card.title if len(card.title) <= room else card.title[: room - 1] + "\N{HORIZONTAL ELLIPSIS}"
            say(out, f"{card.slug:<24}{title:<{room}}  {claims:<20}".rstrip())
        else:
            say(out, "  ".join((card.slug, card.title, card.venue, ", ".join(card.methods), claims.strip())))


def print_card(card: Card, results: dict[str, Result], verdicts: Sequence[Verdict]) -> None:
    """One paper: its idea, what it takes to run, and what is known of its claims."""
    say(out, card.title)
    say_after("", f"{card.authors}. {card.venue}" + (f". arXiv {card.arxiv}" if card.arxiv else ""))
    say_after("Data: ", card.data or ", ".join(card.datasets.names()) or "none")
    for paragraph in card.idea.strip().split("\n\n"):
        out.print()
        say_after("", paragraph)
    out.print()
    for name, role in card.methods.items():
        say(out, f"  {role:<9} {name}")
    for profile, result in results.items():
        known = result.provenance
        commit = (known.get("commit") or "")[:10] or known.get("no_commit") or "not recorded"
        machine = known.get("gpu") or known.get("cpu") or "an unknown machine"
        say(out, f"\n{profile}: {len(result.jobs)} jobs, {len(result.rows):,} rows, commit {commit}, on {machine}")
        for name, counts in (known.get("differs") or {}).items():
            say(out, f"  {name} differs: " + ", ".join(f"{value} ({jobs} jobs)" for value, jobs in counts.items()))
    out.print()
    print_verdicts(verdicts)


def print_summary(profile: str, found: Sequence[Verdict], views: Sequence[ClaimView]) -> None:
    """A line a paper: its claims by verdict in `profile`, and its first headline by the largest profile that ran.

    Then what `profile` contradicts, in full.
    """
    from assay.report.overview import headlines
    from assay.report.scoreboard import MARKS

    views = headlines(views)
    of_paper = [v for v in found if v.of == "paper"]
    marks = "  ".join(f"{mark:>2}" for mark in MARKS.values())
    say(out, f"{'':<24}{marks}   headline: ours [95%], reported, verdict")
    leads = {view.card.slug: view for view in reversed(views)}
    for slug in dict.fromkeys(view.card.slug for view in views):
        counts = Counter(v.verdict for v in of_paper if v.paper == slug)
        numbers = "  ".join(f"{counts[word] or '·':>2}" for word in MARKS)
        say(out, f"{slug:<24}{numbers}   {_headline(leads[slug])}")
    say(out, f"{'profile ' + profile:<24}{'  '.join(f'{Counter(v.verdict for v in of_paper)[w]:>2}' for w in MARKS)}")
    for v in found:
        if v.verdict == "contradicted":
            own = " (a check of our own)" if v.of == "ours" else ""
            say(out, f"\ncontradicted: {v.paper} {v.claim}{own}: {v.says.strip()}\n  {estimate_text(v)}; {_reason(v)}")


def _headline(view: ClaimView) -> str:
    from assay.report.overview import why_untested

    lead = view.lead
    if lead.word == "untested":
        return f"{view.id}: untested: {why_untested(view)}"
    part = view.parts[0]
    ours = f"{part.estimate} [{part.interval}]" if part.interval else part.estimate or "no estimate"
    reported = f", reported {view.reported_text}" if view.reported else ""
    changed = ", card changed since the run" if lead.changed else ""
    return f"{ours}{reported}: {lead.word} ({lead.profile}{changed})"


def print_claim(card: Card, claim_id: str, verdicts: Sequence[Verdict]) -> None:
    """One claim in full: what is claimed and by whom, the bar and its reason, and each profile's verdict."""
    claim = card.claims[claim_id]
    say(out, f"{card.title}\n{claim_id}: {claim.says.strip()}")
    said = {
        "whose": "a check of our own, which the paper does not claim" if claim.of == "ours" else "the paper's",
        "the paper": claim.paper_says, "compared": "; ".join(test.value or test.slope or "" for test in claim.tests()),
        "bar": next((v.bar for v in verdicts if v.bar), ""), "because": claim.why, "rests on": claim.rests_on,
    }  # fmt: skip
    for name, text in said.items():
        if text:
            say_after(f"{name + ':':<11}", text)
    for v in verdicts:
        out.print()
        say_after(f"{v.profile}:  ", "; ".join(filter(None, (v.verdict, estimate_text(v), _reason(v)))))
        for place, part in enumerate(v.parts, 1):
            say_after(f"  part {place}, ", f"{part['value']} {part['bar']}: {part['verdict']}; {part['reason']}")


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """The papers' claims, one a line, then the checks of our own; each with its counts, for they are not added up."""
    claims, own = ([v for v in verdicts if v.of == whose] for whose in ("paper", "ours"))
    for found, what in ((claims, "claims of papers"), (own, "checks of our own")):
        if found:
            if what != "claims of papers":
                say(out, "\nour own checks, which no paper claims")
            _print_lines(found)
            say(out, f"{what}: {counts_text(found)}")


def _print_lines(verdicts: Sequence[Verdict]) -> None:
    if not out.is_terminal:
        for v in verdicts:
            fields = (v.paper, v.profile, v.claim, v.verdict, estimate_text(v), _reason(v))
            say(out, "  ".join(filter(None, fields)))
        return
    from assay.report.scoreboard import MARKS

    for place, v in enumerate(verdicts):
        if place == 0 or (v.paper, v.profile) != (verdicts[place - 1].paper, verdicts[place - 1].profile):
            say(out, f"{v.paper}, {v.profile}")
        out.print(Text.assemble(f"  {MARKS[v.verdict]} ", (f"{v.verdict:<15}", COLOURS[v.verdict]), printable(v.claim)))
        bar = f"bar {v.bar}" if v.bar else ""
        say_after("      ", "; ".join(filter(None, (estimate_text(v), bar, _reason(v)))))


def _reason(v: Verdict) -> str:
    return f"card changed since the run; {v.reason}" if v.changed else v.reason


def counts_text(verdicts: Sequence[Verdict]) -> str:
    """`3 reproduced, 1 untested`."""
    found = Counter(v.verdict for v in verdicts)
    return ", ".join(f"{found[word]} {word}" for word in COLOURS if found[word])


def estimate_text(v: Verdict) -> str:
    if v.estimate is None:
        return ""
    low, high = v.interval or (None, None)
    ends = ("-inf" if low is None else f"{low:.3g}", "inf" if high is None else f"{high:.3g}")
    interval = f" [{ends[0]}, {ends[1]}]" if v.interval else ""
    return f"{v.estimate:.3g}{interval}{' ' + v.unit if v.unit else ''}"

"""The scoreboard in Markdown: `results/README.md`, and the block of it in the top-level README.

It counts committed results alone, those of `standard` and `gpu`: a quick run is each user's own and proves nothing
about a paper.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from assay.card import Card
from assay.errors import RecordError
from assay.record import write_atomically
from assay.report.numbers import DASH, number
from assay.report.overview import headlines, why_untested
from assay.report.view import WEAK_SOURCES, ClaimView, apart, claim_views, counts, judged_by_interval
from assay.verdict import VERDICTS, Verdict, expected_false

MARKS = {"reproduced": "✓", "direction only": "↗", "inconclusive": "~", "contradicted": "✗", "untested": "○"}
START, END = "<!-- scoreboard -->", "<!-- /scoreboard -->"
COMMITTED = ("standard", "gpu")
MOST_PARTS = 3  # of one claim in a cell


def write_scoreboard(root: Path, cards: Mapping[str, Card], verdicts: Iterable[Verdict]) -> None:
    """Write `results/README.md` and renew the block in `README.md`. The same arguments give the same bytes.

    Raises RecordError where README.md has no place for the block; then nothing is written.
    """
    views = committed_views(cards, verdicts)
    readme = root / "README.md"
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{readme}: cannot be read: {error}; it needs the lines {START} and {END}") from error
    renewed = with_block(text, readme_block(views), readme)
    write_atomically(root / "results" / "README.md", results_readme(views))
    if renewed != text:
        write_atomically(readme, renewed)


def committed_views(cards: Mapping[str, Card], verdicts: Iterable[Verdict]) -> list[ClaimView]:
    """The claims with what the committed profiles say of them."""
    return claim_views(cards.values(), [verdict for verdict in verdicts if verdict.profile in COMMITTED])


def with_block(text: str, block: str, path: Path) -> str:
    """`text` with everything between the two marks replaced by `block`."""
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise RecordError(f"{path}: needs the line {START} and, below it, the line {END}, each once")
    before, _, rest = text.partition(START)
    return f"{before}{START}\n{block}{END}{rest.partition(END)[2]}"


def results_readme(views: list[ClaimView]) -> str:
    """The papers' claims in one table and our own checks in another, each with its counts."""
    claims, own = apart(views)
    lines = [
        "# Scoreboard", "",
        "Written by `make scoreboard` from `results/standard` and `results/gpu`; not edited by hand.", "",
        *_board(claims, summary(claims)),
    ]  # fmt: skip
    if not views:
        lines.append("No paper has a card yet.")
    if own:
        lines += ["", "## Our own checks", "", *_board(own, summary_of_own(own))]
    return "\n".join(lines) + "\n"


def _board(views: list[ClaimView], said: str) -> list[str]:
    """Counts, the number of false `reproduced` to expect, and the table."""
    lines, judged = [said, ""], judged_by_interval(views)
    if judged:
        expected = number(float(f"{expected_false(judged):.2g}"))
        lines += [
            f"{judged} of them {'was' if judged == 1 else 'were'} judged by an interval; if each sat exactly on its "
            f"bar, {100 * expected_false(1):g}% of them, about {expected}, would read *reproduced* by chance. q is the "
            "smallest false discovery rate (Benjamini and Hochberg) at which a claim still clears its bar.",
            "",
        ]
    columns = ("paper", "claim", "reported", "ours [95%]", "bar", "verdict", "rests on", "q")
    return lines + (table(columns, [_full_line(view) for view in views]) if views else [])


def readme_block(views: list[ClaimView]) -> str:
    """The headline claims of each paper: what is reported and what was measured here; the counts of all below it."""
    claims, own = apart(views)
    rows = [
        [
            link(view.card.name, f"methods/{view.card.slug}/"),
            plain(view.claim.says),
            reported(view),
            plain(why_untested(view)) or ours(view),
            verdict(view),
        ]
        for view in headlines(views)
    ]
    lines = table(("paper", "headline claim", "reported", "ours [95%]", "verdict"), rows) if rows else []
    said = [f"{summary(claims)[:-1]}: [all of them](results/README.md)."] if claims else [summary(claims)]
    said += [f"Apart from these, {summary_of_own(own)}"] if own else []
    if all(view.lead.word == "untested" for view in claims):
        said.append("No committed result yet: `assay run SLUG --profile standard` makes one.")
    return "\n".join([*lines, "", *said, ""])


def summary(views: list[ClaimView]) -> str:
    """Of the papers' claims; checks of our own are never counted among them."""
    papers = len({view.card.slug for view in views})
    noun = "paper" if papers == 1 else "papers"
    return f"{len(views)} claims of {papers} {noun}: {_counted(views)}."


def summary_of_own(views: list[ClaimView]) -> str:
    return f"{len(views)} checks of our own, which no paper claims: {_counted(views)}."


def _counted(views: list[ClaimView]) -> str:
    found = counts(views)
    return ", ".join(f"{found[word]} {MARKS[word]} {word}" for word in VERDICTS)


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A Markdown table; the cells are Markdown already."""
    columns = list(columns)
    return [_line(columns), _line(["---"] * len(columns)), *map(_line, rows)]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _full_line(view: ClaimView) -> list[str]:
    lead = view.lead
    rests = ", ".join(filter(None, (lead.profile, lead.device, lead.evidence, lead.replicates)))
    if lead.word == "untested":
        rests = lead.reason
    bar = " and ".join(part.bar for part in lead.parts if part.bar) or lead.bar
    return [
        link(view.card.title, f"../methods/{view.card.slug}/"), plain(view.claim.says), reported(view), ours(view),
        plain(bar) or DASH, verdict(view), plain(rests) or DASH, DASH if view.q is None else f"{view.q:.2g}",
    ]  # fmt: skip


def reported(view: ClaimView) -> str:
    """The paper's number; one that nobody read in the paper itself says so."""
    if view.reported is None:
        return DASH
    flag = f" ({view.reported.known})" if view.reported.known in WEAK_SOURCES else ""
    return plain(view.reported_text + flag + (", in another unit" if view.other_unit else ""))


def ours(view: ClaimView) -> str:
    """Estimate and interval; those of each part where a claim has several."""
    texts = [part.estimate + (f" [{part.interval}]" if part.interval else "") for part in view.parts if part.estimate]
    more = [f"and {len(texts) - MOST_PARTS} more"] if len(texts) > MOST_PARTS else []
    return plain("; ".join(texts[:MOST_PARTS] + more)) or DASH


def verdict(view: ClaimView) -> str:
    word = f"{MARKS[view.lead.word]} {view.lead.word}"
    word = f"**{word}**" if view.lead.word in ("reproduced", "contradicted") else word
    word += " (simulated)" if view.simulated and view.lead.word != "untested" else ""
    return word + (" (card changed since the run)" if view.lead.changed else "")


def link(text: str, target: str) -> str:
    return f"[{plain(text)}]({target})"


def plain(text: str) -> str:
    """Text that Markdown and the HTML in it leave as it is, on one line."""
    text = re.sub(r"\s+", " ", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")).strip()
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", text)

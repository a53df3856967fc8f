"""The static site: headlines first, then all claims, a page for each paper, topic and data set; readable offline.

Every page carries its style, script and pictures in itself, and a policy that forbids it any request.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from assay.card import PROFILES, SLUG, Card, Profile
from assay.errors import RecordError
from assay.record import Result, ended_alike, write_atomically
from assay.remembered import Remembered, digest_of, digest_of_code, digest_of_files
from assay.report import looks, overview
from assay.report import view as views_of
from assay.report.budgets import COLUMNS as BUDGET_COLUMNS
from assay.report.budgets import Budget, budgets
from assay.report.downloads import rows_csv, svg_file, verdict_files
from assay.report.figures import Drawing, draw_all
from assay.report.numbers import MINUS, byte_text, duration_text, number
from assay.report.picture import mark_text
from assay.report.tables import Summary, Table, measurement_tables, scalar_text
from assay.report.view import ClaimView, claim_views
from assay.verdict import Verdict, expected_false

HERE = Path(__file__).resolve().parent
STAMPS = ".stamps.json"  # beside the pages: what those of each paper were made from
DRAWN_WITH = ("jinja2", "markupsafe", "matplotlib", "numpy")
MEANINGS = {
    "reproduced": "The whole interval meets the bar.",
    "direction only": "The effect is there, but not shown to be as large as the bar asks.",
    "inconclusive": "The interval allows too much: too few replicates, or too much spread.",
    "contradicted": "The whole interval lies on the wrong side.",
    "untested": "Not judged here; the reason is given.",
}
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'%3E%3Crect width='24' height='24'"
    " rx='5' fill='%230a5c3c'/%3E%3Cpath d='M5 12.5l4.5 4.5L19 7' fill='none'"
    " stroke='%23fff' stroke-width='3'/%3E%3C/svg%3E"
)


@dataclass(frozen=True)
class Run:
    """One profile's result of a paper, as its page shows it."""

    result: Result
    tables: list[Table]
    budgets: list[Budget]
    provenance: list[tuple[str, str]]
    parameters: list[tuple[str, str]]
    versions: str


def write_site(
    cards: Mapping[str, Card],
    results: Mapping[tuple[str, Profile], Result],
    verdicts: Sequence[Verdict],
    out_dir: Path,
    advance: Callable[[], None] = lambda: None,
    guard: Callable[[str], AbstractContextManager[object]] = nullcontext,
    descriptions: Mapping[str, str] | None = None,
    sources: Mapping[str, Sequence[Path]] | None = None,
) -> int:
    """Write the pages under `out_dir`; how many there are. `advance` is called after each paper's.

    The same arguments give the same bytes. A paper whose files and verdicts are those of its page is not drawn again.

    Args:
        guard: each page of a paper or a data set is made inside `guard(name)`, which may keep its error from the rest.
        descriptions: a sentence about each data set, by name.
        sources: slug -> the files that the page of a paper is made from; without them every page is drawn.

    Raises:
        RecordError: a slug cannot be a file's name.
    """
    for slug in cards:
        if not SLUG.fullmatch(slug):
            raise RecordError(f"{slug!r} cannot name a page: a paper's folder is named like 'pres' or 'dc_gan'")
    pages = _Pages(_latest(results.values()))
    views = claim_views(cards.values(), verdicts)
    data = overview.by_dataset(results, views)
    topics = overview.by_topic(cards.values())
    written: set[str] = set()

    def keep(files: Mapping[str, str]) -> None:
        for name, text in files.items():
            write_if_other(out_dir / name, text)
            written.add(name)

    keep({"index.html": pages.index(cards, results, views, topics, list(data)),
          "claims.html": pages.claims(cards, views), **verdict_files("verdicts", verdicts)})  # fmt: skip
    for topic, members in topics.items():
        stem, slugs = f"topics/{overview.file_of(topic)}", {card.slug for card in members}
        keep({f"{stem}.html": pages.topic(topic, members, views, data),
              **verdict_files(stem, [verdict for verdict in verdicts if verdict.paper in slugs])})  # fmt: skip
    for name, papers in data.items():
        shown = {(paper.card.slug, view.id, paper.profile) for paper in papers for view in paper.views}
        with guard(f"the page of {name}"):
            text = pages.data(name, papers, (descriptions or {}).get(name, ""))
            found = [verdict for verdict in verdicts if (verdict.paper, verdict.claim, verdict.profile) in shown]
            keep({f"data/{name}.html": text, **verdict_files(f"data/{name}", found)})
    stamps = Remembered(out_dir / STAMPS)
    drawn_by = digest_of(digest_of_code(HERE.parent), *(metadata.version(name) for name in DRAWN_WITH), pages.latest)
    for slug, card in cards.items():
        own = [view for view in views if view.card.slug == slug]
        runs = [results[slug, profile] for profile in reversed(PROFILES) if (slug, profile) in results]
        measured_on = [name for name, papers in data.items() if any(paper.card.slug == slug for paper in papers)]
        judged = [verdict for verdict in verdicts if verdict.paper == slug]
        key = digest_of(drawn_by, digest_of_files((sources or {}).get(slug, ())), repr((measured_on, judged)))
        unchanged = (stamps.get(slug, key) if sources else None) or {}
        if unchanged and all(digest_of_files([out_dir / name]) == digest for name, digest in unchanged.items()):
            written.update(unchanged)
        else:
            with guard(f"the page of {slug}"):
                files = pages.paper_files(card, own, runs, measured_on, verdicts)
                keep(files)
                stamps.put(slug, key, {name: digest_of_files([out_dir / name]) for name in files})
        advance()
    stamps.save()
    failed = {slug for slug in cards if f"papers/{slug}.html" not in written}  # what they had before is kept
    for folder in ("papers", "topics", "data"):
        for path in (out_dir / folder).glob("*.*"):
            if f"{folder}/{path.name}" not in written and path.name.partition(".")[0] not in failed:
                path.unlink()
    return sum(name.endswith(".html") for name in written)


def write_if_other(path: Path, text: str) -> None:
    """So that a file's time says when it has changed."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except (OSError, UnicodeDecodeError):
        pass
    write_atomically(path, text)


def write_paper(
    card: Card, results: Mapping[tuple[str, Profile], Result], verdicts: Sequence[Verdict], out_dir: Path
) -> Path:
    """Write the page of one paper, and what lies beside it; where it is. The rest of the site is left as it is."""
    runs = [results[card.slug, profile] for profile in reversed(PROFILES) if (card.slug, profile) in results]
    views = claim_views([card], [verdict for verdict in verdicts if verdict.paper == card.slug])
    measured_on = list(overview.by_dataset(results, views))
    for name, text in _Pages(_latest(runs)).paper_files(card, views, runs, measured_on, verdicts).items():
        write_atomically(out_dir / name, text)
    return out_dir / "papers" / f"{card.slug}.html"


class _Pages:
    """The templates, with the style and the script that they carry."""

    def __init__(self, latest: str) -> None:
        self.style, self.latest = _compact_style(HERE / "static" / "site.css"), latest
        self._templates = environment()
        self._templates.globals.update(
            style=self.style, icon=_ICON, latest=latest, tones=views_of.TONES, weak_sources=views_of.WEAK_SOURCES,
            profile_notes=views_of.PROFILE_NOTES, meanings=MEANINGS,
        )  # fmt: skip

    def index(
        self, cards: Mapping[str, Card], results: Mapping[tuple[str, Profile], Result], views: list[ClaimView],
        topics: dict[str, list[Card]], data_names: list[str],
    ) -> str:  # fmt: skip
        """Headlines by topic. Counts are those of the papers' claims; our own checks are counted apart."""
        claims, own = views_of.apart(views)
        counts = views_of.counts(claims)
        small = views_of.counts(view for view in claims if view.lead.small)
        tested = views_of.judged_by_interval(claims)
        headline: dict[str, list[ClaimView]] = {slug: [] for slug in cards}
        for view in overview.headlines(views):
            headline[view.card.slug].append(view)
        words = {slug: overview.words_of([view for view in claims if view.card.slug == slug]) for slug in cards}
        script = _script("find.js")
        return self._templates.get_template("index.html").render(
            policy=self._policy(script), script=script, home="", here="index", stem="verdicts", cards=cards,
            claims=claims, own=own, topics=topics, headline=headline, words=words, data_names=data_names,
            counts=counts, own_counts=views_of.counts(own),
            small_counts=small, small=sum(small.values()), shares=_shares(counts, small),
            tested=tested, expected=number(float(f"{expected_false(tested):.2g}")), false_rate=expected_false(1),
            any_result=bool(results),
        )  # fmt: skip

    def claims(self, cards: Mapping[str, Card], views: list[ClaimView]) -> str:
        """Every claim and check, collapsed by paper."""
        claims, own = views_of.apart(views)
        shown, script = {view.lead.profile for view in views}, _script("claims.js")
        return self._templates.get_template("all.html").render(
            policy=self._policy(script), script=script, home="", here="claims", stem="verdicts", views=views,
            claims=claims, own=own,
            papers=_papers(sorted(cards.values(), key=lambda card: card.name.lower()), views),
            counts=views_of.counts(claims), own_counts=views_of.counts(own),
            profiles=[profile for profile in PROFILES if profile in shown],
        )  # fmt: skip

    def topic(
        self, topic: str, members: list[Card], views: list[ClaimView], data: Mapping[str, list[overview.OnData]]
    ) -> str:
        """The papers of one topic side by side, with the claims that they make."""
        slugs = {card.slug for card in members}
        names = [name for name, papers in data.items() if any(paper.card.slug in slugs for paper in papers)]
        return self._templates.get_template("topic.html").render(
            policy=self._policy(None), home="../", here="topic", stem=overview.file_of(topic), topic=topic,
            data_names=names, papers=_papers(members, views_of.apart(views)[0]),
        )  # fmt: skip

    def data(self, name: str, papers: list[overview.OnData], description: str) -> str:
        """One data set: the claims that rest on it and what methods reach there, paper by paper."""
        return self._templates.get_template("data.html").render(
            policy=self._policy(None),
            home="../",
            here="data",
            stem=name,
            name=name,
            papers=papers,
            description=description,
            count=len({paper.card.slug for paper in papers}),
        )

    def paper_files(
        self, card: Card, views: list[ClaimView], results: list[Result], measured_on: list[str],
        verdicts: Sequence[Verdict],
    ) -> dict[str, str]:  # fmt: skip
        """The page of a paper, and all that can be taken along from it."""
        drawings, stem = draw_all(card, results), f"papers/{card.slug}"
        return {
            f"{stem}.html": self.paper(card, views, results, measured_on, drawings),
            **verdict_files(stem, [verdict for verdict in verdicts if verdict.paper == card.slug]),
            **{f"{stem}.{result.profile}.csv": rows_csv(result) for result in results},
            **{f"{stem}.{drawing.id}.svg": svg_file(drawing.svg, self.style) for drawing in drawings},
        }

    def paper(
        self, card: Card, views: list[ClaimView], results: list[Result], measured_on: list[str],
        drawings: list[Drawing],
    ) -> str:  # fmt: skip
        """`results` largest profile first: figures are drawn from the first that holds their measurements."""
        runs = [_run(card, result) for result in results]
        ran = {result.profile for result in results}
        ours = [
            {"name": profile, "text": card.setting_of_ours.get(profile, ""), "datasets": card.datasets.of(profile),
             "run": profile in ran}
            for profile in reversed(PROFILES)
            if profile in ran or profile in card.setting_of_ours
        ]  # fmt: skip
        return self._templates.get_template("paper.html").render(
            policy=self._policy(None), home="../", here="paper", stem=card.slug, card=card, views=views,
            apart=views_of.apart(views), headlines=overview.headlines(views), commands=overview.commands(card),
            measured_on=measured_on, runs=runs, ours=ours, budget_columns=BUDGET_COLUMNS,
            links=links_of(card), drawings=drawings,
            failures=[(result, *found) for result in results for found in ended_alike(result.failures())],
            idle=[
                (result, *found)
                for result in results
                for found in ended_alike(job for job in result.jobs if job.status in ("untested", "missing"))
            ],
            commit=(results[0].provenance.get("commit") or "")[:12] if results else "",
            dirty=bool(results and results[0].provenance.get("dirty")),
        )  # fmt: skip

    def _policy(self, script: Markup | None) -> str:
        """Nothing from anywhere; by their hashes, the one style and the one script that the page carries."""
        allowed = f"{_hash(script)}" if script is not None else "'none'"
        return (
            f"default-src 'none'; style-src {_hash(self.style)}; script-src {allowed}; img-src data:; "
            "base-uri 'none'; form-action 'none'"
        )


def environment() -> Environment:
    """jinja2 that escapes everything and stumbles over what is missing."""
    templates = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    templates.filters.update(
        number=number, q_value=q_value, sentence=sentence, coded=coded, look=looks.key, mark_text=mark_text,
        caption=caption_of, paragraphs=paragraphs, common_note=common_note, missing_reasons=missing_reasons,
        file_of=overview.file_of, why_untested=overview.why_untested,
    )  # fmt: skip
    return templates


def _papers(cards: Iterable[Card], views: list[ClaimView]) -> list[dict[str, Any]]:
    return [{"card": card, "views": [view for view in views if view.card.slug == card.slug]} for card in cards]


def _script(name: str) -> Markup:
    return Markup((HERE / "static" / name).read_text(encoding="utf-8"))


def _compact_style(path: Path) -> Markup:
    """Our own style sheet without the spaces that only its reader needs: every page carries a copy."""
    style = re.sub(r"\s*([{};,])\s*", r"\1", path.read_text(encoding="utf-8"))
    return Markup(re.sub(r":\s+", ":", style).replace(";}", "}").strip())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _latest(results: Iterable[Result]) -> str:
    """The day of the newest result: unlike today's date, it is the same whenever the pages are written."""
    dates = [str(result.provenance.get("date") or "")[:10] for result in results]
    return max((date for date in dates if re.fullmatch(r"\d{4}-\d\d-\d\d", date)), default="")


def _shares(counts: Mapping[str, int], small: Mapping[str, int]) -> list[tuple[str, float, float]]:
    """(class, start, width in percent) of each verdict among all claims, those of quick runs apart."""
    total, start, shares = sum(counts.values()) or 1, 0.0, []
    for word, count in counts.items():
        for kind, part in (("", count - small[word]), (" faint", small[word])):
            width = 100 * part / total
            if part:
                shares.append((f"f-{views_of.TONES[word]}{kind}", round(start, 2), round(width, 2)))
            start += width
    return shares


def links_of(card: Card) -> list[tuple[str, str]]:
    """Where the paper and its code are. Only web addresses become links: a card is data that anyone may send."""
    found = []
    if card.arxiv and re.fullmatch(r"[A-Za-z0-9./-]+", card.arxiv):
        found.append((f"arXiv:{card.arxiv}", f"https://arxiv.org/abs/{card.arxiv}"))
    for name, address in (("paper", card.url), ("official code", card.code)):
        if address and re.match(r"https?://", address):
            found.append((name, address))
    return found


def _run(card: Card, result: Result) -> Run:
    return Run(
        result=result,
        tables=measurement_tables(result.rows, list(card.methods)),
        budgets=budgets(result.rows, list(card.methods)),
        provenance=provenance_text(result),
        parameters=[(name, _parameters(result, name)) for name in sorted({*result.parameters, *result.replicates})],
        versions=", ".join(f"{name} {version}" for name, version in (result.provenance.get("versions") or {}).items()),
    )


def provenance_text(result: Result) -> list[tuple[str, str]]:
    """Where a result came from, in pairs; what is unknown is said to be, for it matters too."""
    known = result.provenance
    state = {True: " (with uncommitted changes)", False: " (clean)", None: ""}[known.get("dirty")]
    replicates = max(result.replicates.values(), default=0)
    return [
        ("commit", (known["commit"] + state) if known.get("commit") else known.get("no_commit") or "not recorded"),
        ("date", _date(known.get("date"))),
        ("duration", duration_text(known.get("duration_s"))),
        ("CPU", str(known.get("cpu") or "not recorded")),
        ("GPU", str(known.get("gpu") or "none")),
        ("cores", scalar_text(known.get("cores"))),
        ("memory", byte_text(known.get("memory_bytes"))),
        ("threads", scalar_text(known.get("threads"))),
        ("system", str(known.get("os") or "not recorded")),
        ("seeds", "0" if replicates <= 1 else f"0 to {replicates - 1}"),
        ("jobs", _jobs(result)),
        *((f"{name} differs", _differs(counts)) for name, counts in (known.get("differs") or {}).items()),
    ]


def _differs(counts: Mapping[str, int]) -> str:
    """`2.4.6 (12 jobs), 2.5.0 (3 jobs)`."""
    return ", ".join(f"{value} ({jobs} job{'s' * (jobs != 1)})" for value, jobs in counts.items())


def _date(text: str | None) -> str:
    """`2026-03-14 09:26 UTC` of an ISO date; anything else as it is."""
    match = re.match(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)\S*(\+00:00|Z)$", text or "")
    return f"{match[1]} {match[2]} UTC" if match else str(text or "not recorded")


def _jobs(result: Result) -> str:
    counted: dict[str, int] = {}
    for job in result.jobs:
        counted[job.status] = counted.get(job.status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in counted.items())


def _parameters(result: Result, experiment: str) -> str:
    parts = [f"{name} {_plain(value)}" for name, value in result.parameters.get(experiment, {}).items()]
    if experiment in result.replicates:
        parts.append(f"replicates {result.replicates[experiment]}")
    return "; ".join(parts)


def _plain(value: object) -> str:
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else scalar_text(value)


def caption_of(table: Table) -> Markup:
    """`depth_sweep · accuracy (%) · measured; data set cora`."""
    unit = f" ({table.unit})" if table.unit else ""
    fixed = f"; {table.fixed}" if table.fixed else ""
    return Markup('<b>{}</b>{} <span class="hush">{}, {}{}</span>').format(
        table.metric, unit, table.experiment, table.evidence, fixed
    )


def q_value(q: float) -> str:
    return "< 0.001" if q < 0.001 else f"{q:.3f}" if q < 0.1 else f"{q:.2f}"


def sentence(text: str) -> str:
    """A reason as a sentence, with the signs of print for those of a keyboard."""
    text = re.sub(r"(?<![\w.)\]-])-(?=[\d.])", MINUS, text.strip().replace(">=", "≥").replace("<=", "≤"))
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") if text else ""


def coded(text: str) -> Markup:
    """Text of a card or a reason, its `code` as code."""
    return Markup(re.sub("`([^`\n]+)`", r"<code>\1</code>", str(escape(text))))


def paragraphs(text: str) -> list[str]:
    """Text of a card: a blank line or a line that starts an item ends a paragraph, other line breaks are the file's."""
    parts = re.split(r"\n\s*\n|\n(?=\s*[-*] )", text.strip())
    return [" ".join(part.split()) for part in parts if part.strip()]


def common_note(lines: list[tuple[str, list[Summary | None]]]) -> str:
    """The note that all cells share, said once; empty where they differ."""
    notes = {cell.note for _, cells in lines for cell in cells if cell is not None}
    return notes.pop() if len(notes) == 1 else ""


def missing_reasons(lines: list[tuple[str, list[Summary | None]]]) -> list[str]:
    """Why values are missing, each reason once."""
    found = [reason for _, cells in lines for cell in cells if cell is not None for reason in cell.reasons]
    return list(dict.fromkeys(found))

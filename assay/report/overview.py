"""What puts papers side by side: their headline claims, their topics, and the data sets that they share."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from assay.card import PROFILES, SLUG, Card, Profile
from assay.record import Result, Row
from assay.report.tables import Table, measurement_tables
from assay.report.view import ClaimView

NEEDS_GPU = "needs a GPU"
MOST_NAMES = 3  # of a paper's exports, on the first screen of its page


def headlines(views: Iterable[ClaimView]) -> list[ClaimView]:
    """The claims that stand for their papers, in the order of the cards' headlines."""
    found = {(view.card.slug, view.id): view for view in views}
    cards = {view.card.slug: view.card for view in found.values()}
    return [found[slug, claim] for slug, card in cards.items() for claim in card.headlines() if (slug, claim) in found]


def why_untested(view: ClaimView) -> str:
    """In a few words, for a table: what it would take."""
    if view.lead.word != "untested":
        return ""
    if view.claim.untested is None and set(view.claim.profiles) == {"gpu"}:
        return NEEDS_GPU
    first = re.split(r"[;.:](?:\s|$)", view.lead.reason)[0]
    return first if len(first) <= 60 else first[:57].rsplit(" ", 1)[0] + " …"


def exports(card: Card) -> list[str]:
    """The names that `methods.<slug>` exports, read from its `__init__.py` without running it."""
    file = card.path.parent / "__init__.py"
    if not card.path.name or not file.is_file():  # a card made in memory has no folder
        return []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]:
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def commands(card: Card) -> list[tuple[str, str]]:
    """How to use a paper, a line each with what it does: the import that its docstring shows, or its first exports."""
    folder, slug, found = card.path.parent, card.slug, []
    if names := exports(card):
        files = [file for name in ("__init__", slug) if (file := folder / f"{name}.py").is_file()]
        said = "\n".join(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "" for file in files)
        line = re.search(rf"^ *(from methods\.{slug} import [\w, ]+)", said, re.MULTILINE)
        shown = line[1].strip() if line else f"from methods.{slug} import {', '.join(names[:MOST_NAMES])}"
        found.append((shown, "in Python, from the checkout"))
    if card.path.name and (folder / "__main__.py").is_file():
        found.append((f"python -m methods.{slug}", "train it small, in seconds"))
    return [*found, (f"assay run {slug}", "every experiment, small; --profile standard for real data")]


def by_topic(cards: Iterable[Card]) -> dict[str, list[Card]]:
    """Topics by name, each with its papers by name."""
    found: dict[str, list[Card]] = {}
    for card in sorted(cards, key=lambda card: (card.topic, card.name.lower())):
        found.setdefault(card.topic, []).append(card)
    return found


def file_of(topic: str) -> str:
    """The page of a topic: `graph networks` -> `graph-networks`."""
    return re.sub(r"[^a-z0-9]+", "-", topic.lower()).strip("-")


def squashed(text: str) -> str:
    """Text as it is searched: `3.4 ×` is found by `3.4x`, `over-smoothing` by `oversmoothing`."""
    return re.sub(r"[\s\u00ad\u2010-\u2015-]+", "", text.lower().replace("\N{MULTIPLICATION SIGN}", "x"))


def words_of(views: Sequence[ClaimView]) -> str:
    """Every word of these claims once, as it is searched, so that a short table finds what long pages say."""
    found: dict[str, None] = {}
    for view in views:
        card, claim = view.card, view.claim
        text = " ".join((card.slug, card.name, card.title, card.authors, card.venue, card.topic, card.data, card.idea,
                         view.id, claim.says, claim.paper_says, *card.methods, *card.datasets.names()))  # fmt: skip
        found |= dict.fromkeys(squashed(word).strip(".,;:()[]'\"") for word in text.split())
        found |= dict.fromkeys((squashed(view.reported_text), squashed(view.lead.estimate)))
    return " ".join(word for word in found if len(word) > 1)


@dataclass(frozen=True)
class OnData:
    """A paper on one data set, in one profile: its claims whose verdicts rest on both, and what was measured there."""

    card: Card
    views: list[ClaimView]
    profile: Profile
    tables: list[Table]


def by_dataset(
    results: Mapping[tuple[str, Profile], Result], views: Sequence[ClaimView]
) -> dict[str, list[OnData]]:  # fmt: skip
    """Data sets that a leading verdict rests on, each with its papers; a claim stands under the profile that judged it.

    A name that is none of a data set, as a damaged result may hold, has no page.
    """
    found: dict[str, list[OnData]] = {}
    cards = {view.card.slug: view.card for view in views}
    for slug, card in cards.items():
        own = [view for view in views if view.card.slug == slug]
        for profile in reversed(PROFILES):
            judged = [view for view in own if view.lead.profile == profile]
            rows: dict[str, list[Row]] = {}
            for row in results[slug, profile].rows if (slug, profile) in results else ():
                rows.setdefault(str(row.setting.get("dataset", "")), []).append(row)
            for name in filter(SLUG.fullmatch, rows):
                here = _on_data(card, judged, profile, rows[name], name)
                if here.views:
                    found.setdefault(name, []).append(here)
    return dict(sorted(found.items()))


def _on_data(card: Card, views: list[ClaimView], profile: Profile, rows: list[Row], name: str) -> OnData:
    measured = {(row.experiment, row.metric) for row in rows}
    judged: dict[tuple[str, str], None] = {}
    chosen = []
    for view in views:
        here = {key for key in _judged(view, name) if key in measured}
        if here:
            chosen.append(view)
            judged |= dict.fromkeys(sorted(here))
    shown = [row for row in rows if (row.experiment, row.metric) in judged]
    return OnData(card, chosen, profile, measurement_tables(shown, list(card.methods)))


def _judged(view: ClaimView, name: str) -> set[tuple[str, str]]:
    """(experiment, metric) of what a claim judges, unless it is about another data set."""
    found = set()
    for test in view.claim.tests():
        if test.where.get("dataset", name) == name and test.experiment:
            atoms = [atom for atom in test.expression().atoms() if atom.knobs.get("dataset", name) == name]
            metrics = {atom.metric or test.metric for atom in atoms}
            found |= {(test.experiment, metric) for metric in metrics if metric}
    return found

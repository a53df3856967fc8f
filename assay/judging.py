"""Every claim judged by what has been measured in this checkout, for commands, pages and tables."""

from __future__ import annotations

from collections.abc import Mapping

from assay import ROOT, problems
from assay.card import Card, Profile
from assay.errors import RecordError
from assay.record import Result, load_result, result_path
from assay.verdict import UNTESTED, Verdict, judge

UNJUDGED = "the card's claim cannot be judged: "


def result_of(profile: str, slug: str) -> Result | None:
    """The result of a paper, or None where there is none that can be read; a damaged one is named."""
    path = result_path(ROOT, profile, slug)
    try:
        return load_result(path) if path.exists() else None
    except RecordError as error:
        problems.name(str(error))
        return None


def judge_all(cards: Mapping[str, Card], profile: Profile) -> list[Verdict]:
    """The verdict of every claim. One that cannot be judged as it is written says so and stops no other."""
    found = []
    for slug, card in cards.items():
        result = result_of(profile, slug)
        for claim_id, claim in card.claims.items():
            try:
                found.append(judge(card, claim_id, result, profile))
            except Exception as error:  # whatever it is, the other claims are judged
                reason = UNJUDGED + problems.explain(error)
                found.append(
                    Verdict(slug, claim_id, claim.kind, claim.says, UNTESTED, reason, profile, claim.of,
                            device=None if result is None else str(result.provenance.get("gpu") or "CPU"))
                )  # fmt: skip
    return found

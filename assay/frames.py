"""Results as tables, for a notebook: `assay.load("pres")` and `assay.verdicts()` give pandas DataFrames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay import ROOT
from assay.card import PROFILES, Profile, find_cards, load_card
from assay.errors import RecordError
from assay.problems import known
from assay.record import load_result, result_path

if TYPE_CHECKING:
    import pandas


def load(slug: str, profile: Profile | None = None) -> pandas.DataFrame:
    """The measurements of a paper, a row each, with a column for each knob; `profile` defaults to the largest that ran.

    Columns: profile, experiment, metric, method, the knobs, seed, rank, repeat, value, unit, evidence, reason.

    Raises:
        AssayError: no such paper, or nothing was run.
    """
    import pandas

    known([slug], find_cards(ROOT), "paper")
    ran = [p for p in reversed(PROFILES) if profile in (None, p) and result_path(ROOT, p, slug).exists()]
    if not ran:
        raise RecordError(f"{slug}: nothing was run in profile {profile or 'quick, standard or gpu'}; "
                          f"assay run {slug} --profile {profile or 'quick'} makes a result")  # fmt: skip
    rows = load_result(result_path(ROOT, ran[0], slug)).rows
    knobs = dict.fromkeys(knob for row in rows for knob in row.setting)
    table = pandas.DataFrame(
        [
            {"profile": ran[0], "experiment": row.experiment, "metric": row.metric, "method": row.method,
             **{knob: row.setting.get(knob) for knob in knobs}, "seed": row.seed, "rank": row.rank,
             "repeat": row.repeat, "value": row.value, "unit": row.unit, "evidence": row.evidence,
             "reason": row.reason}
            for row in rows
        ]
    )  # fmt: skip
    return table.astype({"value": float})


def verdicts(profile: Profile | None = None, papers: list[str] | None = None) -> pandas.DataFrame:
    """Every claim with its verdict in a profile, or in each that ran: the columns of `assay verdicts --json`.

    `low` and `high` are the ends of the interval.

    Raises:
        AssayError: no such paper, or a card that is wrong.
    """
    import pandas

    from assay.judging import judge_all

    paths = find_cards(ROOT)
    known(papers or [], paths, "paper")
    cards = {slug: load_card(paths[slug]) for slug in papers or paths}
    found = []
    for each in PROFILES if profile is None else [profile]:
        there = {slug: card for slug, card in cards.items() if profile or result_path(ROOT, each, slug).exists()}
        for verdict in judge_all(there, each):
            low, high = verdict.interval or (None, None)
            found.append({**verdict.json(), "low": low, "high": high})
    return pandas.DataFrame(found)

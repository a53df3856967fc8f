"""A summary a paper for `dvc metrics show`: one row a paper, the same columns for all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from assay.card import Card
from assay.errors import RecordError
from assay.record import load_result, result_path, write_atomically
from assay.verdict import UNTESTED, VERDICTS, Verdict


def write_metrics(
    root: Path, profile: str, verdicts: Sequence[Verdict], slugs: Iterable[str], headlines: Mapping[str, Any]
) -> None:
    """Write `results/<profile>/metrics/<slug>.json`: the headline, claims by verdict, failed jobs, rows, seconds.

    The columns `own_...` count the checks of our own; the others are the paper's claims alone. A paper of `slugs`
    without verdicts, whose card cannot be read, has zeros.
    """
    for slug in slugs:
        counts = Counter((v.of, v.verdict) for v in verdicts if v.paper == slug)
        summary: dict[str, Any] = {**headlines.get(slug, {})} | {
            f"{prefix}{verdict.replace(' ', '_')}": counts[whose, verdict]
            for whose, prefix in (("paper", ""), ("ours", "own_"))
            for verdict in VERDICTS
        }
        path = result_path(root, profile, slug)
        with suppress(RecordError):  # damaged, which the verdicts say
            if path.exists():
                result = load_result(path)
                summary |= {
                    "failed_jobs": len(result.failures()),
                    "rows": len(result.rows),
                    "seconds": result.provenance.get("duration_s", 0),
                }
        write_atomically(path.parent / "metrics" / f"{slug}.json", json.dumps(summary, indent=1) + "\n")


def headline_numbers(card: Card, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The first headline of a card that was judged, in the last of `verdicts` that did: its numbers and its verdict.

    Of a claim with several parts, the numbers are those of the part that its verdict rests on.
    """
    for claim_id in card.headlines():
        judged = [v for v in verdicts if (v.paper, v.claim) == (card.slug, claim_id) and v.verdict != UNTESTED]
        if judged:
            v = judged[-1]
            low, high = v.interval or (None, None)
            return {"headline": claim_id, "ours": v.estimate, "low": low, "high": high, "unit": v.unit,
                    "reported": _reported(v.reported), "verdict": v.verdict, "profile": v.profile}  # fmt: skip
    return {"headline": next(iter(card.headlines()), None), "verdict": UNTESTED}


def _reported(reported: Mapping[str, Any] | None) -> float | None:
    """One number: of a range, the end that is given, its upper one first."""
    return None if reported is None else reported.get("value", reported.get("high", reported.get("low")))

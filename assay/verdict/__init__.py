"""Claim + measurements -> verdict.

    verdict = judge(card, "depth-holds", result, "standard")

One number per replicate (`reduce`), one t interval (`stats`), one acceptance region (`regions`).
"""

from __future__ import annotations

from assay.verdict.claim import Verdict, judge
from assay.verdict.regions import CONTRADICTED, DIRECTION_ONLY, INCONCLUSIVE, REPRODUCED, UNTESTED, VERDICTS
from assay.verdict.stats import VerdictError, bh, clopper_pearson, expected_false

__all__ = [
    "CONTRADICTED",
    "DIRECTION_ONLY",
    "INCONCLUSIVE",
    "REPRODUCED",
    "UNTESTED",
    "VERDICTS",
    "Verdict",
    "VerdictError",
    "bh",
    "clopper_pearson",
    "expected_false",
    "judge",
]

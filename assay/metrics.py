"""A summary a paper for `dvc metrics show`: one row a paper, the same columns for all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from assay.errors import RecordError
from assay.record import load_result, result_path, write_atomically
from assay.verdict import VERDICTS, Verdict


def write_metrics(root: Path, profile: str, verdicts: Sequence[Verdict]) -> None:
    """Write `results/<profile>/metrics/<slug>.json`: claims by verdict, failed jobs, rows, seconds.

    The columns `own_...` count the checks of our own; the others are the paper's claims alone.
    """
    for slug, found in groupby(verdicts, key=lambda v: v.paper):
        counts = Counter((v.of, v.verdict) for v in found)
        summary: dict[str, float] = {
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

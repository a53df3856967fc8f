"""The summary of each paper that `dvc metrics show` compares."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from assay.metrics import write_metrics
from assay.record import result_path, save_result
from assay.verdict import Verdict
from tests.assay.claims import job, result_of, rows

WORDS = ("reproduced", "direction only", "inconclusive", "contradicted", "untested")


def verdict(word: str, of: str = "paper", paper: str = "toy") -> Verdict:
    return Verdict(paper, "c", "effect", "", word, "", "quick", of=of)


def summary(root: Path, paper: str = "toy") -> dict[str, float]:
    return json.loads((root / "results" / "quick" / "metrics" / f"{paper}.json").read_text())


def test_the_papers_claims_and_our_own_checks_are_counted_apart(tmp_path: Path) -> None:
    found = [verdict("reproduced"), verdict("reproduced"), verdict("direction only"), verdict("reproduced", "ours"),
             verdict("contradicted", "ours"), verdict("untested", paper="other")]  # fmt: skip
    write_metrics(tmp_path, "quick", found)
    assert summary(tmp_path) == {
        **{f"{whose}{word.replace(' ', '_')}": 0 for whose in ("", "own_") for word in WORDS},
        "reproduced": 2, "direction_only": 1, "own_reproduced": 1, "own_contradicted": 1,
    }  # fmt: skip
    assert {word: count for word, count in summary(tmp_path, "other").items() if count} == {"untested": 1}


def test_what_a_run_took_and_lost_stands_beside_the_counts(tmp_path: Path) -> None:
    jobs = [job(0), job(1, "failed", "no"), job(2, "killed", "no")]
    result = result_of(rows("a", [1.0, 2.0, 3.0]), jobs=jobs, profile="quick")
    result = replace(result, provenance={"duration_s": 4.5})
    save_result(result, result_path(tmp_path, "quick", "toy"))
    write_metrics(tmp_path, "quick", [verdict("reproduced")])
    found = summary(tmp_path)
    assert (found["failed_jobs"], found["rows"], found["seconds"]) == (2, 3, 4.5)


def test_a_damaged_result_leaves_the_counts(tmp_path: Path) -> None:
    path = result_path(tmp_path, "quick", "toy")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    write_metrics(tmp_path, "quick", [verdict("untested")])
    assert summary(tmp_path)["untested"] == 1
    assert "rows" not in summary(tmp_path)

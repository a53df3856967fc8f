"""The summary of each paper that `dvc metrics show` compares."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from assay.metrics import headline_numbers, write_metrics
from assay.record import result_path, save_result
from assay.verdict import Verdict
from tests.assay.claims import card_of, job, result_of, rows

WORDS = ("reproduced", "direction only", "inconclusive", "contradicted", "untested")


def verdict(word: str, of: str = "paper", paper: str = "toy") -> Verdict:
    return Verdict(paper, "c", "effect", "", word, "", "quick", of=of)


def summary(root: Path, paper: str = "toy") -> dict[str, float]:
    return json.loads((root / "results" / "quick" / "metrics" / f"{paper}.json").read_text())


def test_the_papers_claims_and_our_own_checks_are_counted_apart(tmp_path: Path) -> None:
    found = [verdict("reproduced"), verdict("reproduced"), verdict("direction only"), verdict("reproduced", "ours"),
             verdict("contradicted", "ours"), verdict("untested", paper="other")]  # fmt: skip
    write_metrics(tmp_path, "quick", found, ["toy", "other"], {})
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
    write_metrics(tmp_path, "quick", [verdict("reproduced")], ["toy"], {})
    found = summary(tmp_path)
    assert (found["failed_jobs"], found["rows"], found["seconds"]) == (2, 3, 4.5)


def test_a_damaged_result_leaves_the_counts(tmp_path: Path) -> None:
    path = result_path(tmp_path, "quick", "toy")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    write_metrics(tmp_path, "quick", [verdict("untested")], ["toy", "unread"], {})
    assert summary(tmp_path)["untested"] == 1
    assert "rows" not in summary(tmp_path)
    assert set(summary(tmp_path, "unread").values()) == {0}


def test_the_headline_is_that_of_the_largest_profile_that_judged_it(tmp_path: Path) -> None:
    card = card_of(value="a - b", bar="> 0")
    quick = replace(verdict("reproduced"), estimate=1.0, interval=(0.5, 1.5), unit="points", reported={"value": 3.4})
    large = replace(quick, profile="standard", estimate=2.0, verdict="contradicted", interval=(1.5, None))
    numbers = headline_numbers(card, [quick, large, replace(quick, profile="gpu", verdict="untested")])
    assert numbers == {"headline": "c", "ours": 2.0, "low": 1.5, "high": None, "unit": "points", "reported": 3.4,
                       "verdict": "contradicted", "profile": "standard"}  # fmt: skip
    assert headline_numbers(card, []) == {"headline": "c", "verdict": "untested"}
    write_metrics(tmp_path, "quick", [quick], ["toy"], {"toy": numbers})
    assert next(iter(summary(tmp_path).items())) == ("headline", "c")

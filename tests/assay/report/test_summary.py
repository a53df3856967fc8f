"""How `make reproduce` ends: a line for each paper, then what failed, in full."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assay.report.view import claim_views
from assay.terminal import print_summary
from tests.assay.report.example import Example, many, with_own_checks


def summary(example: Example, profile: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    found = [v for v in example.verdicts if v.profile == profile]
    print_summary(profile, found, claim_views(example.cards.values(), example.verdicts))
    return capsys.readouterr().out.replace("\N{NARROW NO-BREAK SPACE}", " ").splitlines()


def test_a_line_has_the_counts_of_the_profile_and_the_headline_of_the_largest_run(
    example: Example, capsys: pytest.CaptureFixture[str]
) -> None:
    dagnn = next(line for line in summary(example, "quick", capsys) if line.startswith("dagnn"))
    assert dagnn.split()[1:6] == ["2", "·", "1", "·", "·"]
    assert dagnn.endswith("reproduced (quick)")
    pres = next(line for line in summary(example, "standard", capsys) if line.startswith("pres"))
    assert "(standard)" in pres
    assert "reported 0 pp" in pres


def test_what_is_contradicted_is_told_in_full(example: Example, capsys: pytest.CaptureFixture[str]) -> None:
    lines = summary(example, "standard", capsys)
    (at,) = [i for i, line in enumerate(lines) if line.startswith("contradicted: ")]
    assert lines[at].startswith("contradicted: pres ")
    assert "the whole interval" in lines[at + 1]


def test_our_own_checks_are_not_counted_among_the_papers_claims(
    example: Example, capsys: pytest.CaptureFixture[str]
) -> None:
    def counted(found: Example) -> int:
        total = next(line for line in summary(found, "standard", capsys) if line.startswith("profile standard"))
        return sum(map(int, total.split()[2:]))

    assert counted(example) - counted(with_own_checks(example)) == 3


def test_fifty_one_papers_take_less_than_seventy_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = many(tmp_path, papers=51, claims=2)
    quiet = replace(example, verdicts=[v for v in example.verdicts if v.verdict != "contradicted"])
    assert 51 <= len(summary(quiet, "quick", capsys)) < 70

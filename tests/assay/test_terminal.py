"""What a person reads in a terminal says all that a verdict rests on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from assay import terminal
from assay.record import Result
from assay.terminal import estimate_text, print_card, print_cards, print_claim, print_verdicts, progress
from assay.verdict import Verdict
from tests.assay.claims import card_of, job, judged, result_of, rows, versus


def verdict(word: str = "reproduced", **fields: object) -> Verdict:
    return Verdict(**{"paper": "toy", "claim": "c", "kind": "effect", "says": "", "verdict": word, "reason": "why",
                      "profile": "quick", **fields})  # fmt: skip


def test_a_claim_shows_its_parts_and_whose_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    parts = [{"value": "a - b", "bar": ">= 1"}, {"value": "b - a", "bar": ">= 1"}]
    found = judged(versus([2.0, 2.1, 2.2]), all=parts, of="ours")
    print_claim(card_of(all=parts, of="ours"), "c", [found])
    shown = capsys.readouterr().out
    assert "whose:     a check of our own, which the paper does not claim" in shown
    assert "compared:  a - b; b - a" in shown
    assert "  part 1, a - b >= 1: reproduced; the whole interval meets >= 1" in shown
    assert "  part 2, b - a >= 1: contradicted; " in shown


def test_only_what_went_wrong_is_said_while_jobs_run(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("toy quick", 2) as report:
        report("e #0", job(0))  # type: ignore[arg-type]
        report("e #1", job(1, "failed", "[red]no\x1b[2J"))  # type: ignore[arg-type]
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "e #1: failed: [red]no\\x1b[2J\n")


def test_a_paper_says_what_made_its_results_and_where_they_differ(capsys: pytest.CaptureFixture[str]) -> None:
    plain = result_of(rows("a", [1.0, 2.0]))
    known = {"commit": "0123456789abcdef", "cpu": "a CPU", "differs": {"numpy": {"2.4.6": 1, "2.5.0": 2}}}
    results: dict[str, Result] = {"standard": replace(plain, provenance=known), "gpu": replace(plain, provenance={})}
    print_card(card_of(value="a - b", bar="> 0"), results, [])
    shown = capsys.readouterr().out
    assert "\nstandard: 2 jobs, 2 rows, commit 0123456789, on a CPU\n  numpy differs: 2.4.6 (1 jobs), 2.5.0 (2" in shown
    assert "\ngpu: 2 jobs, 2 rows, commit not recorded, on an unknown machine" in shown
    assert "proposed  a" in shown


def test_lists_and_counts_keep_our_own_checks_apart(capsys: pytest.CaptureFixture[str]) -> None:
    card = card_of(value="a - b", bar="> 0")
    own = card.claims["c"].model_copy(update={"of": "ours"})
    print_cards([card.model_copy(update={"claims": {**card.claims, "d": own}})])
    assert "1 claims + 1 of ours" in capsys.readouterr().out
    print_verdicts([verdict(of="ours"), verdict("contradicted"), verdict("contradicted", changed=True)])
    claims, own = capsys.readouterr().out.split("our own checks, which no paper claims")
    assert "claims of papers: 2 contradicted\n" in claims
    assert claims.count("card changed since the run; why") == 1
    assert "checks of our own: 1 reproduced\n" in own


def test_an_open_end_is_infinite_and_no_interval_prints_none() -> None:
    assert estimate_text(verdict(estimate=2.0, interval=(None, 3.0), unit="x")) == "2 [-inf, 3] x"
    assert estimate_text(verdict(estimate=2.0, interval=(1.0, None))) == "2 [1, inf]"
    assert estimate_text(verdict(estimate=2.0)) == "2"
    assert estimate_text(verdict(interval=(1.0, None))) == ""


def test_eighty_columns_are_enough(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(terminal, "out", Console(width=80, force_terminal=True, color_system=None, highlight=False))
    slug, claim, text = "a_paper_of_a_long_name", "a-claim-with-a-name-of-forty-characters-", "a long sentence " * 20
    plain = card_of(value="a - b", bar="> 0")
    long = plain.claims["c"].model_copy(update={"says": text, "why": text})
    card = plain.model_copy(update={"slug": slug, "title": "Title " * 20, "idea": text, "authors": "Name, " * 20,
                                    "claims": {claim: long}})  # fmt: skip
    found = [verdict("contradicted", paper=slug, claim=claim, reason=text, estimate=1.0, interval=(0.12345, 2.3456),
                     unit="rank contrast", bar=">= 1; >= 2", changed=True)] * 2  # fmt: skip
    print_cards([card])
    print_card(card, {}, found)
    print_claim(card, claim, found)
    print_verdicts(found)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = "\n".join(lines)
    assert shown.count(f"contradicted   {claim}\n") == 4
    assert f"{slug}, quick\n" in shown
    assert "1 [0.123, 2.35] rank contrast; bar >= 1; >= 2; card changed since the run; a" in " ".join(shown.split())
    assert lines[0].startswith(slug)
    assert lines[0].endswith("1 claims")

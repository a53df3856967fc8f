from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assay.report.view import ClaimView, apart, claim_views, counts, judged_by_interval, reported_text
from assay.verdict import VERDICTS, Verdict, bh
from tests.assay.claims import with_tests
from tests.assay.report.example import Example, with_own_checks, with_simulation


@pytest.fixture
def views(example: Example) -> dict[str, ClaimView]:
    return {view.id: view for view in claim_views(example.cards.values(), example.verdicts)}


def verdict(word: str, profile: str, **fields: object) -> Verdict:
    known = {
        "paper": "pres",
        "claim": "speedup-3p4",
        "kind": "effect",
        "says": "",
        "reason": "",
        "device": "CPU",
        "n": 5,
    }
    return Verdict(verdict=word, profile=profile, **{**known, **fields})


def lead_of(example: Example, *verdicts: Verdict) -> tuple[str, str]:
    view = next(v for v in claim_views([example.cards["pres"]], verdicts) if v.id == "speedup-3p4")
    return view.lead.word, view.lead.profile


def test_the_example_holds_every_verdict(views: dict[str, ClaimView]) -> None:
    assert {view.lead.word for view in views.values()} == set(VERDICTS)


@pytest.mark.parametrize("standard", ["inconclusive", "contradicted", "direction only"])
def test_the_larger_profile_leads_whatever_it_says(example: Example, standard: str) -> None:
    assert lead_of(example, verdict("reproduced", "quick"), verdict(standard, "standard")) == (standard, "standard")
    assert lead_of(example, verdict(standard, "gpu"), verdict("reproduced", "standard")) == (standard, "gpu")


def test_a_profile_that_could_not_judge_does_not_hide_one_that_did(example: Example) -> None:
    assert lead_of(example, verdict("reproduced", "standard"), verdict("untested", "gpu")) == ("reproduced", "standard")


def test_a_profile_that_never_ran_is_not_shown(example: Example) -> None:
    assert lead_of(example, verdict("untested", "gpu", device=None)) == ("untested", "")


def test_a_claim_without_any_verdict_is_untested_and_shows_its_bar(example: Example) -> None:
    view = next(v for v in claim_views([example.cards["pres"]], []) if v.id == "speedup-3p4")
    assert (view.lead.word, view.lead.reason, view.lead.bar) == ("untested", "not run yet", "≥ 2.5")


def test_what_a_quick_run_could_not_judge_is_not_marked_as_its_verdict(example: Example) -> None:
    for word, small in (("untested", False), ("reproduced", True)):
        claim = example.cards["dagnn"].claims["depth-holds"]
        found = verdict(word, "quick", paper="dagnn", claim="depth-holds", kind=claim.kind)
        view = next(v for v in claim_views([example.cards["dagnn"]], [found]) if v.id == "depth-holds")
        assert (view.lead.profile, view.lead.small) == ("quick", small)


def test_a_claim_that_cannot_be_tested_says_why(views: dict[str, ClaimView]) -> None:
    assert views["wall-gpu"].lead.reason.startswith("needs the paper's data")


def test_parts_of_a_conjunction_carry_their_own_numbers(views: dict[str, ClaimView]) -> None:
    lead = views["batch-4x-no-loss"].lead
    assert [(part.word, part.bar, part.core) for part in lead.parts] == [
        ("contradicted", "≥ −0.5", False),
        ("reproduced", "> 0", True),
    ]
    assert not lead.estimate


def test_parts_that_were_never_judged_still_show_their_bars(example: Example) -> None:
    view = next(v for v in claim_views([example.cards["pres"]], []) if v.id == "batch-4x-no-loss")
    assert [(part.word, part.bar) for part in view.lead.parts] == [("untested", "≥ −0.5"), ("untested", "> 0")]
    assert view.lead.bar == ""


def test_a_conjunction_that_could_not_be_judged_and_one_of_a_single_part_are_shown(example: Example) -> None:
    card = example.cards["pres"]
    claim = card.claims["batch-4x-no-loss"]
    card = card.model_copy(update={"claims": {"two": claim, "one": claim}})
    card = with_tests(card, "one", [claim.tests()[0].model_dump()])
    found = [
        verdict("untested", "standard", claim="two", reason="needs 4 ranks"),
        verdict("reproduced", "standard", claim="one", estimate=0.1, interval=(-0.2, 0.4), unit="pp"),
    ]
    two, one = (view.lead for view in claim_views([card], found))
    assert (len(two.parts), two.reason) == (2, "needs 4 ranks")
    assert (one.parts, one.bar, one.interval) == ((), "≥ −0.5", "−0.20 to 0.40")


def test_replicates_are_named_by_their_unit(views: dict[str, ClaimView]) -> None:
    named = {views[name].lead.replicates for name in ("discontinuity", "speedup-3p4", "released-code-equivalence")}
    assert named == {"10 seeds", "5 processes", "exact"}


def test_a_reported_number_outside_our_interval_is_flagged_and_an_upper_limit_is_not(
    views: dict[str, ClaimView],
) -> None:
    assert views["depth-holds"].lead.outside
    assert not views["speedup-3p4"].lead.outside
    assert views["depth-holds"].weak_source


def test_a_card_that_changed_and_a_simulation_are_told(example: Example) -> None:
    found = verdict("direction only", "standard", changed=True, evidence="simulated")
    view = next(v for v in claim_views([example.cards["pres"]], [found]) if v.id == "speedup-3p4")
    assert [note.split()[0:2] for note in view.lead.notes] == [["The", "card"], ["Simulated,", "not"]]


def test_a_claim_that_a_model_answers_is_told_from_a_measured_one(example: Example) -> None:
    found = with_simulation(example)
    views = claim_views(found.cards.values(), found.verdicts)
    assert [view.id for view in views if view.simulated] == ["prediction-error"]


def test_q_corrects_over_leading_verdicts_alone(example: Example, views: dict[str, ClaimView]) -> None:
    judged = [view for view in views.values() if view.lead.p is not None]
    assert [view.q for view in judged] == pytest.approx(list(bh([view.lead.p for view in judged])))
    assert views["released-code-equivalence"].q is None
    assert views["wall-gpu"].q is None


def test_the_papers_claims_and_our_own_are_families_of_their_own(example: Example) -> None:
    found = with_own_checks(example)
    claims, own = apart(claim_views(found.cards.values(), found.verdicts))
    assert [view.id for view in own] == ["appnp-equal", "discontinuity", "released-code-equivalence"]
    for family in (claims, own):
        shown = [view for view in family if view.q is not None]
        np.testing.assert_allclose([view.q for view in shown], bh([view.lead.p for view in shown]))


def test_exact_and_untested_claims_cannot_be_false_by_chance(views: dict[str, ClaimView]) -> None:
    assert judged_by_interval(views.values()) == len(views) - 2
    assert sum(counts(views.values()).values()) == len(views)


def test_a_reported_range_reads_as_it_was_meant(example: Example) -> None:
    gap, fast = example.cards["dagnn"].reported["gap"], example.cards["pres"].reported["speed-up"]
    assert reported_text(gap).startswith("62 ± 1.1")
    assert reported_text(fast).startswith("up to 3.4")
    assert reported_text(fast.model_copy(update={"low": 1.2})).startswith("1.2 to 3.4")
    assert reported_text(fast.model_copy(update={"low": 1.2, "high": None})).startswith("at least 1.2")
    assert reported_text(None) == ""


def test_an_open_interval_is_shown(example: Example, tmp_path: Path) -> None:
    found = verdict("reproduced", "standard", estimate=3.0, interval=(2.6, None), unit="x")
    view = next(v for v in claim_views([example.cards["pres"]], [found]) if v.id == "speedup-3p4")
    assert view.lead.interval == "2.6 to ∞"
    assert replace(view, q=0.5).lead is view.lead

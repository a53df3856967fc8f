"""Papers side by side: headlines, topics and data sets say of each verdict what it rests on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay.card import Card
from assay.report.overview import OnData, by_dataset, commands, exports, headlines, squashed, why_untested, words_of
from assay.report.scoreboard import committed_views, results_readme
from assay.report.site import write_site
from assay.report.view import ClaimView, claim_views
from assay.verdict import Verdict, judge
from tests.assay.claims import with_tests
from tests.assay.report.example import Example, with_own_checks


def views_of(example: Example) -> list[ClaimView]:
    return claim_views(example.cards.values(), example.verdicts)


def with_claim(example: Example, slug: str, name: str, times: int = 1, **fields: object) -> Example:
    """The example, one claim of it being another."""
    card = example.cards[slug]
    of_claim = {key: fields.pop(key) for key in ("untested", "given_profiles", "reported") if key in fields}
    tests: list[dict[str, Any]] = [
        {**test.model_dump(exclude_unset=True), **fields} for test in card.claims[name].tests()
    ]
    cards = {**example.cards, slug: with_tests(card, name, tests * times, **of_claim)}
    verdicts = [v for v in example.verdicts if (v.paper, v.claim) != (slug, name)]
    verdicts += [judge(cards[slug], name, result, profile) for (paper, profile), result in example.results.items()
                 if paper == slug]  # fmt: skip
    return Example(cards, example.results, verdicts)


def on(example: Example, name: str) -> list[OnData]:
    return by_dataset(example.results, views_of(example)).get(name, [])


def test_a_data_set_shows_the_claims_that_were_judged_on_it_and_their_measurements_alone(example: Example) -> None:
    result = example.results["pres", "standard"]
    unjudged = replace(result.rows[0], metric="loss")  # measured there, and no claim asks for it
    results = {**example.results, ("pres", "standard"): replace(result, rows=[*result.rows, unjudged])}
    (pres,) = on(replace(example, results=results), "bitcoin_otc")
    assert [view.id for view in pres.views] == [
        "batch-4x-no-loss", "speedup-3p4", "discontinuity", "prediction-error",
    ]  # fmt: skip
    assert pres.profile == "standard"
    assert {(table.experiment, table.metric) for table in pres.tables} == {
        ("batch_sweep", "ap"), ("race", "time_s"), ("probe", "error"),
    }  # fmt: skip
    assert all("dataset bitcoin_otc" in table.fixed for table in pres.tables)


def test_a_verdict_of_another_profile_stands_on_no_data_set_that_this_profile_did_not_have(example: Example) -> None:
    # the quick run has movielens_100k; what leads is the standard run, which has not
    everywhere = with_claim(example, "pres", "discontinuity", where={})
    assert on(everywhere, "movielens_100k") == []
    smaller = replace(everywhere, verdicts=[v for v in everywhere.verdicts if v.profile == "quick"])
    card = smaller.cards["pres"]
    quick = {
        **card.claims,
        "discontinuity": card.claims["discontinuity"].model_copy(update={"given_profiles": ("quick",)}),
    }
    smaller = replace(smaller, cards={**smaller.cards, "pres": card.model_copy(update={"claims": quick})})
    (shown,) = on(smaller, "movielens_100k")
    assert ([view.id for view in shown.views], shown.profile) == (["discontinuity"], "quick")


def test_a_claim_that_names_its_data_in_an_expression_is_on_no_page_of_another(example: Example) -> None:
    batches = "pres[dataset={0}, batch=4] - plain[dataset={0}, batch=1]"
    for name, found in (("bitcoin_otc", True), ("movielens_100k", False)):
        moved = with_claim(example, "pres", "prediction-error", experiment="batch_sweep", metric="ap", where={},
                           value=batches.format(name))  # fmt: skip
        shown = [view.id for paper in on(moved, "bitcoin_otc") for view in paper.views]
        assert ("prediction-error" in shown) == found


def test_a_claim_about_one_data_set_is_on_no_page_of_another(example: Example) -> None:
    result = example.results["pres", "standard"]
    rows = [replace(row, setting={**row.setting, "dataset": "reddit"})
            for row in result.rows if "dataset" in row.setting]  # fmt: skip
    found = replace(example, results={("pres", "standard"): replace(result, rows=[*result.rows, *rows])})
    assert on(found, "reddit") == []
    assert len(on(found, "bitcoin_otc")) == 1


def test_a_claim_that_is_not_tested_rests_on_no_data_set(example: Example) -> None:
    never = with_claim(example, "pres", "speedup-3p4", untested="needs a GPU")
    assert "speedup-3p4" not in [view.id for paper in on(never, "bitcoin_otc") for view in paper.views]


def test_a_name_that_is_none_of_a_data_set_has_no_page(example: Example) -> None:
    result = example.results["dagnn", "quick"]
    rows = [replace(row, setting={**row.setting, "dataset": "../up"}) for row in result.rows]
    damaged = replace(example, results={("dagnn", "quick"): replace(result, rows=rows)})
    assert by_dataset(damaged.results, views_of(damaged)) == {}


def test_pages_of_data_mark_quick_runs_and_checks_of_our_own(example: Example, tmp_path: Path) -> None:
    found = with_own_checks(example)
    write_site(found.cards, found.results, found.verdicts, tmp_path)
    quick, standard = ((tmp_path / "data" / f"{name}.html").read_text() for name in ("csbm", "bitcoin_otc"))
    assert "quick: a small run</span></h2>" in quick
    assert "a small run" not in standard[standard.index("<main") :]
    for page in (quick, standard):
        assert page[page.index("<main") :].count('<span class="chip">ours</span>') == 1
    assert standard.count("card changed since the run") == 1
    paper = (tmp_path / "papers" / "pres.html").read_text()
    assert "card changed since the run" in paper[paper.index('class="numbers"') : paper.index("On this page")]
    claims = (tmp_path / "claims.html").read_text()
    assert '<span class="hush num">2 + 3 of ours</span>' in claims


def test_a_reported_number_in_another_unit_is_not_set_against_ours_without_a_word(
    example: Example, tmp_path: Path
) -> None:
    said = "in another unit"
    moved = with_claim(example, "pres", "batch-4x-no-loss", reported="speed-up")
    for found, flagged in ((example, False), (moved, True)):
        views = {view.id: view for view in views_of(found)}
        assert views["batch-4x-no-loss"].other_unit == flagged
        assert not views["speedup-3p4"].other_unit  # both are factors
        assert not views["wall-gpu"].other_unit  # nothing of ours to set it against
        write_site(found.cards, found.results, found.verdicts, tmp_path)
        for page in ("index", "claims", "papers/pres", "topics/dynamic-graphs"):
            assert (said in (tmp_path / f"{page}.html").read_text()) == flagged
        assert (said in results_readme(committed_views(found.cards, found.verdicts))) == flagged


def test_headlines_stand_in_the_order_of_the_card(example: Example) -> None:
    card = example.cards["pres"].model_copy(update={"headline": ("discontinuity", "batch-4x-no-loss")})
    found = headlines(claim_views([card], []))
    assert [view.id for view in found] == ["discontinuity", "batch-4x-no-loss"]


def test_without_a_headline_the_first_claim_of_the_paper_stands_for_it(example: Example) -> None:
    card = example.cards["dagnn"]
    first = card.claims["depth-holds"].model_copy(update={"of": "ours"})
    card = card.model_copy(update={"claims": {**card.claims, "depth-holds": first}})
    assert [view.id for view in headlines(claim_views([card], []))] == ["appnp-equal"]


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("needs the paper's data; none of it is here", "needs the paper's data"),
        ("one sentence. And another", "one sentence"),
        ("version 2.4 is needed", "version 2.4 is needed"),
        ("word " * 30, "word word word word word word word word word word word …"),
    ],
)
def test_why_a_claim_is_untested_fits_a_cell(example: Example, reason: str, shown: str) -> None:
    found = with_claim(example, "pres", "wall-gpu", untested=reason, given_profiles=("gpu",))
    view = next(view for view in views_of(found) if view.id == "wall-gpu")
    assert why_untested(view) == shown
    assert why_untested(next(view for view in views_of(found) if view.id == "speedup-3p4")) == ""


def test_words_of_the_search_are_those_of_the_card_and_of_its_numbers(example: Example) -> None:
    words = words_of([view for view in views_of(example) if view.card.slug == "pres"])
    assert squashed("Over\N{NON-BREAKING HYPHEN}smoothing 3.4 ×") == "oversmoothing3.4x"
    for asked in ("3.4x", "coherent", "Zou", "ICLR", "bitcoin_otc", "pres_s", "discontinuity", "1.728x"):
        assert squashed(asked) in words, asked
    assert len(words.split()) == len(set(words.split()))


def test_what_a_paper_exports_is_read_and_not_run(example: Example, tmp_path: Path) -> None:
    file = tmp_path / "toy" / "__init__.py"
    file.parent.mkdir()
    file.write_text('raise RuntimeError("run")\n__all__ = ["One", "Two"]\n')
    card: Card = example.cards["pres"].model_copy(update={"path": file.parent / "paper.yaml"})
    assert exports(card) == ["One", "Two"]
    assert exports(card.model_copy(update={"path": tmp_path / "none" / "paper.yaml"})) == []


def test_a_paper_is_imported_as_its_docstring_says_and_run_as_its_folder_allows(
    example: Example, tmp_path: Path
) -> None:
    folder = tmp_path / "pres"
    folder.mkdir()
    (folder / "__init__.py").write_text('__all__ = ["A", "B", "C", "D"]\n')
    card: Card = example.cards["pres"].model_copy(update={"path": folder / "paper.yaml"})
    assert [command for command, _ in commands(card)] == ["from methods.pres import A, B, C", "assay run pres"]
    (folder / "pres.py").write_text('"""A method.\n\n    from methods.pres import D\n    D()\n"""\n')
    (folder / "__main__.py").write_text("")
    assert [command for command, _ in commands(card)] == [
        "from methods.pres import D", "python -m methods.pres", "assay run pres",
    ]  # fmt: skip


def test_a_verdict_with_many_parts_says_how_many_are_not_shown(example: Example) -> None:
    part = {"verdict": "reproduced", "core": False, "reason": "", "estimate": 1.0, "interval": None, "unit": "x"}
    verdict = Verdict("pres", "batch-4x-no-loss", "effect", "", "reproduced", "", "standard", device="CPU",
                      parts=[part] * 5)  # fmt: skip
    found = with_claim(example, "pres", "batch-4x-no-loss", times=3)
    text = results_readme(committed_views({"pres": found.cards["pres"]}, [verdict]))
    assert "; and 2 more |" in text

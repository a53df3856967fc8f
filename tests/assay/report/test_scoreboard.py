from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from assay.errors import RecordError
from assay.report.scoreboard import END, START, committed_views, plain, readme_block, results_readme, write_scoreboard
from tests.assay.report.example import Example, hostile, many, with_own_checks, with_simulation

README = f"# Assay\n\nbefore\n\n{START}\nold\n{END}\n\nafter\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    return tmp_path


def cells(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in lines]


def test_quick_results_never_reach_the_scoreboard(example: Example) -> None:
    text = results_readme(committed_views(example.cards, example.verdicts))
    assert "quick" not in text
    depth = next(line for line in cells(text) if line[1].startswith("Decoupled propagation"))
    assert depth[5:7] == ["○ untested", "not run yet"]


def test_a_line_holds_the_claim_its_numbers_and_what_they_rest_on(example: Example) -> None:
    text = results_readme(committed_views(example.cards, example.verdicts)).replace("\N{NARROW NO-BREAK SPACE}", " ")
    line = next(line for line in cells(text) if "2.5 times faster" in line[1])
    assert line[2:] == [
        "up to 3.4 x", "1.728 x \\[1.692 to 1.765\\]", "≥ 2.5", "↗ direction only",
        "standard, CPU, measured, 5 processes", "1",
    ]  # fmt: skip


def test_a_number_that_nobody_read_in_the_paper_says_so(example: Example) -> None:
    text = results_readme(committed_views(example.cards, example.verdicts)).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert [line[2] for line in cells(text) if line[1].startswith("Decoupled")] == ["62 ± 1.1 pp (from memory)"]


def test_a_simulated_verdict_says_so(example: Example) -> None:
    for found, expected in ((example, 0), (with_simulation(example), 1)):
        views = committed_views(found.cards, found.verdicts)
        assert results_readme(views).count("(simulated)") == expected


def test_our_own_checks_stand_and_count_apart_from_the_papers_claims(example: Example) -> None:
    found = with_own_checks(example)
    views = committed_views(found.cards, found.verdicts)
    claims, own = results_readme(views).split("## Our own checks")
    assert [len(cells(part)) - 2 for part in (claims, own)] == [6, 3]
    assert "\n6 claims of 2 papers: 1 ✓ reproduced, 1 ↗ direction only, 0 ~ inconclusive, 1 ✗ contradicted" in claims
    assert "\n3 checks of our own, which no paper claims: 2 ✓ reproduced" in own
    assert "\n3 of them were judged by an interval" in claims
    assert "\n1 of them was judged by an interval" in own
    assert "loses accuracy as the batch grows" in own
    block = readme_block(views)
    assert "\n6 claims of 2 papers: 1 ✓ reproduced" in block
    assert "Apart from these, 3 checks of our own, which no paper claims: 2 ✓ reproduced" in block
    assert "loses accuracy as the batch grows" not in block


def test_a_bar_moved_after_the_run_shows_on_both_boards(example: Example) -> None:
    for found, times in ((example, 0), (with_own_checks(example), 1)):
        views = committed_views(found.cards, found.verdicts)
        for text in (results_readme(views), readme_block(views)):
            assert text.count("✓ reproduced** (card changed since the run)") == times


def test_every_line_has_a_cell_for_each_column(example: Example) -> None:
    for found in (example, hostile()):
        views = committed_views(found.cards, found.verdicts)
        for text, columns in ((results_readme(views), 8), (readme_block(views), 5)):
            assert {len(line) for line in cells(text)} == {columns}


def test_the_front_page_keeps_all_but_its_block(example: Example, root: Path) -> None:
    write_scoreboard(root, example.cards, example.verdicts)
    text = (root / "README.md").read_text(encoding="utf-8")
    assert text.startswith(
        f"# Assay\n\nbefore\n\n{START}\n| paper | headline claim | reported | ours [95%] | verdict |"
    )
    assert "\n9 claims of 2 papers: " in text
    assert text.endswith(f"{END}\n\nafter\n")
    assert "old" not in text
    assert text.count("| [") == 3


def test_writing_again_changes_nothing(example: Example, root: Path) -> None:
    write_scoreboard(root, example.cards, example.verdicts)
    first = {path: path.read_bytes() for path in root.rglob("*.md")}
    write_scoreboard(root, example.cards, reversed(example.verdicts))
    assert {path: path.read_bytes() for path in root.rglob("*.md")} == first
    assert len(first) == 2


@pytest.mark.parametrize("text", ["# Assay\n", f"{END}\n{START}\n", f"{START}\n{START}\n{END}\n"])
def test_a_front_page_without_a_place_is_refused_and_nothing_is_written(
    example: Example, tmp_path: Path, text: str
) -> None:
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match="needs the line"):
        write_scoreboard(tmp_path, example.cards, example.verdicts)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_missing_front_page_is_named(example: Example, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"README\.md: cannot be read"):
        write_scoreboard(tmp_path, example.cards, example.verdicts)


def test_no_results_say_how_to_make_one(example: Example, root: Path) -> None:
    write_scoreboard(root, example.cards, [])
    assert "assay run SLUG --profile standard" in (root / "README.md").read_text(encoding="utf-8")
    write_scoreboard(root, {}, [])
    assert "No paper has a card yet." in (root / "results" / "README.md").read_text(encoding="utf-8")


def test_the_block_shows_the_headlines_of_each_paper_alone(tmp_path: Path) -> None:
    example = many(tmp_path, papers=6, claims=8)
    verdicts = [replace(verdict, profile="standard") for verdict in example.verdicts if verdict.profile == "quick"]
    block = readme_block(committed_views(example.cards, verdicts))
    assert block.count("| [") == 6
    assert "48 claims of 6 papers" in block
    headline = {
        slug: card.model_copy(update={"headline": tuple(card.claims)[1:3]}) for slug, card in example.cards.items()
    }
    assert readme_block(committed_views(headline, verdicts)).count("| [") == 12


def test_a_headline_that_needs_a_gpu_says_so(example: Example) -> None:
    card = example.cards["pres"]
    gpu = card.claims["speedup-3p4"].model_copy(update={"given_profiles": ("gpu",)})
    card = card.model_copy(
        update={"claims": {**card.claims, "speedup-3p4": gpu}, "headline": ("speedup-3p4", "wall-gpu")}
    )
    block = readme_block(committed_views({"pres": card}, []))
    lines = [line for line in block.splitlines() if line.startswith("| [")]
    assert "| up to 3.4 x | needs a GPU | ○ untested |" in lines[0].replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "| needs the paper's data on a GPU | ○ untested |" in lines[1]


def test_text_of_a_card_cannot_leave_its_cell() -> None:
    assert plain("a|b\n<i> *c* [d](e) `f` ~g~ h_i") == r"a\|b &lt;i&gt; \*c\* \[d\](e) \`f\` \~g\~ h\_i"
    found = hostile()
    text = results_readme(committed_views(found.cards, found.verdicts))
    assert "<img" not in text
    assert "<script" not in text

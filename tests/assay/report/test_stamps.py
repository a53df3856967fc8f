"""Only pages whose inputs have changed are drawn again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from assay.report import site
from assay.verdict import Verdict
from tests.assay.report.example import Example

Drawn = Callable[..., set[str]]


@pytest.fixture
def drawn(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Write the site of the example, with a file for each paper; the papers whose pages were drawn."""
    sources = {}
    for slug in example.cards:
        sources[slug] = [tmp_path / f"{slug}.json"]
        sources[slug][0].write_text("measured")
    plain, seen = site._Pages.paper_files, set()

    def paper_files(self: site._Pages, card: site.Card, *rest: object) -> dict[str, str]:
        seen.add(card.slug)
        return plain(self, card, *rest)

    monkeypatch.setattr(site._Pages, "paper_files", paper_files)

    def write(verdicts: Sequence[Verdict] = example.verdicts) -> set[str]:
        seen.clear()
        pages = site.write_site(example.cards, example.results, verdicts, tmp_path / "site", sources=sources)
        assert pages == len(list((tmp_path / "site").rglob("*.html")))
        return set(seen)

    assert write() == set(example.cards)
    return write


def test_nothing_is_drawn_where_nothing_changed_and_no_file_is_written(drawn: Drawn, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "site").rglob("*.*") if path.name != site.STAMPS}
    assert drawn() == set()
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_changed_result_or_verdict_draws_its_own_page(drawn: Drawn, example: Example, tmp_path: Path) -> None:
    one, *_ = example.cards
    (tmp_path / f"{one}.json").write_text("measured again")
    assert drawn() == {one}
    assert drawn() == set()
    changed = [replace(v, reason="another") if i == 0 else v for i, v in enumerate(example.verdicts)]
    assert drawn(changed) == {example.verdicts[0].paper}


@pytest.mark.parametrize("damage", ["lost", "edited", "half a stamp", "no stamp"])
def test_what_was_lost_or_edited_is_drawn_again(drawn: Drawn, example: Example, tmp_path: Path, damage: str) -> None:
    one, *_ = example.cards
    page, stamps = tmp_path / "site" / "papers" / f"{one}.html", tmp_path / "site" / site.STAMPS
    text = page.read_text()
    if damage == "lost":
        page.unlink()
    elif damage == "edited":
        page.write_text(text.replace("<body", "<body hidden"))
    elif damage == "no stamp":
        stamps.unlink()
    else:
        stamps.write_text(stamps.read_text()[:100])
    assert drawn() == ({one} if damage in ("lost", "edited") else set(example.cards))
    assert page.read_text() == text


def test_another_template_draws_every_page(drawn: Drawn, example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "digest_of_code", lambda *places: "other code")
    assert drawn() == set(example.cards)

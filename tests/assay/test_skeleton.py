"""A new paper gets a name that means nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.card import load_card
from assay.errors import AssayError
from assay.skeleton import create


@pytest.mark.parametrize(
    ("slug", "reason"),
    [
        ("class", "word of Python"), ("lambda", "word of Python"), ("match", "word of Python"),
        ("no", "YAML"), ("none", "YAML"), ("true", "YAML"), ("on", "YAML"), ("null", "YAML"),
        ("log", "on a card"), ("value", "on a card"), ("rank", "on a card"),
        ("torch", "imported already"), ("numpy", "imported already"), ("datasets", "imported already"),
        ("assay", "imported already"), ("json", "imported already"),
        ("shared", "of this name"), ("experiments", "of this name"), ("constant", "of this name"),
        ("run", "of this name"), ("contenders", "of this name"),
        ("Ring", "is no slug"), ("1ring", "is no slug"), ("ring-memory", "is no slug"), ("", "is no slug"),
        ("../ring", "is no slug"), ("r\n", "is no slug"),
    ],
)  # fmt: skip
def test_a_name_that_means_something_else_is_refused_and_nothing_is_written(
    tmp_path: Path, slug: str, reason: str
) -> None:
    with pytest.raises(AssayError, match=reason):
        create(tmp_path, slug)
    assert list(tmp_path.iterdir()) == []


def test_any_other_name_gives_a_card_that_is_read(tmp_path: Path) -> None:
    for slug in ("ring_memory", "ring2", "x_"):
        create(tmp_path, slug)
        assert load_card(tmp_path / "methods" / slug / "paper.yaml").methods[slug] == "proposed"


def test_a_paper_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    card = create(tmp_path, "ring_memory")[0]
    card.write_text("mine")
    with pytest.raises(AssayError, match="exists already"):
        create(tmp_path, "ring_memory")
    assert card.read_text() == "mine"

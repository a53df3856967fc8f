"""CONTRIBUTING.md lists every field of a card, and what it shows can be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay import ROOT
from assay.card import Card, load_card
from assay.errors import AssayError
from assay.line import CLAUSES, FORMS, read_clauses, read_line
from assay.reference import BEGIN, END, SECTIONS, reference, write, written
from tests.checkout import CARD


def test_contributing_has_the_reference_of_today() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert written(text) == text, "run `assay reference` and commit it"


def test_every_field_of_every_model_is_described() -> None:
    text = reference()
    for title, model in SECTIONS:
        assert f"### {title}" in text
        for name, field in model.model_fields.items():
            assert field.exclude or (field.description and f"| `{field.alias or name}` |" in text), name


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_reference_can_be_read(form: str) -> None:
    assert all("kind" in fields for fields in read_line(form))


@pytest.mark.parametrize("clause", CLAUSES)
def test_every_clause_of_the_reference_can_be_read(clause: str) -> None:
    example = clause.replace("NAME", "cora").replace("KNOB", "depth").replace("VALUE", "64")
    assert len(read_clauses([example.replace("UNIT", "B").replace("EXPERIMENT", "fit")])) == 1


def test_a_stale_reference_is_named_and_a_lost_place_too(tmp_path: Path) -> None:
    file = tmp_path / "CONTRIBUTING.md"
    file.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    with pytest.raises(AssayError, match="run `assay reference`"):
        write(tmp_path, check=True)
    write(tmp_path, check=False)
    write(tmp_path, check=True)
    assert file.read_text().startswith("above")
    assert file.read_text().endswith("below\n")
    file.write_text("nothing\n")
    with pytest.raises(AssayError, match="has no place for the reference"):
        write(tmp_path, check=True)


def test_the_card_of_the_tests_has_only_fields_of_the_reference(tmp_path: Path) -> None:
    (tmp_path / "paper.yaml").write_text(CARD)
    assert isinstance(load_card(tmp_path / "paper.yaml"), Card)

"""The fields of a card as a reference in CONTRIBUTING.md, written from the models that read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from assay.acceptance import REPLICATES
from assay.card import Card, Claim, Figure, Head
from assay.errors import AssayError
from assay.line import CLAUSES, FORMS, METHODS

BEGIN, END = "<!-- assay reference: written by `assay reference` -->", "<!-- end of the reference -->"
SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("`paper.yaml`", Card), ("Each of `experiments`", Head), ("Each of `claims`", Claim), ("Each of `figures`", Figure),
)  # fmt: skip


def reference() -> str:
    """Tables of all fields, then what a line of `test` can say."""
    parts = [part for title, model in SECTIONS for part in (f"### {title}", _table("field", _fields(model)))]
    repeated = ", ".join(f"`{words}`" for words in REPLICATES)
    return "\n\n".join([
        *parts,
        "### A line of `test`",
        "What is compared and the region that it must lie in; then clauses, each after a comma, in any order.",
        _table("form", FORMS),
        "Sides of a comparison are made of `+`, `-`, `*`, `/`, `log(...)`, brackets, numbers and methods:",
        _table("method", METHODS),
        "Clauses stand in a line, in the claim's `each` or in the experiment's, and the nearer one counts:",
        _table("clause", CLAUSES),
        f"What is repeated, in `replicate`: {repeated}. Of splits the numbers are those that are tested and not.",
    ])  # fmt: skip


def written(text: str) -> str:
    """CONTRIBUTING.md with the reference of today in its place. Raises AssayError where it has no place for it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise AssayError(f"CONTRIBUTING.md has no place for the reference: put the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{reference()}\n\n{END}{after}"


def write(root: Path, *, check: bool) -> None:
    path = root / "CONTRIBUTING.md"
    text = path.read_text(encoding="utf-8")
    if check and written(text) != text:
        raise AssayError("CONTRIBUTING.md has another reference than the card's models: run `assay reference`")
    if not check:
        path.write_text(written(text), encoding="utf-8")


def _fields(model: type[BaseModel]) -> dict[str, str]:
    """Name -> what it says, of the fields that a card may have."""
    found = {}
    for name, field in model.model_fields.items():
        if not field.exclude:
            needed = "**required**; " if field.is_required() else ""
            found[field.alias or name] = needed + (field.description or "")
    return found


def _table(head: str, lines: Mapping[str, str]) -> str:
    def cell(text: str) -> str:
        return text.replace("|", "\\|")

    rows = [f"| `{cell(name)}` | {cell(text)} |" for name, text in lines.items()]
    return "\n".join([f"| {head} | |", "|---|---|", *rows])

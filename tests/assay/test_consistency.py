"""Every card against its experiments and the committed results; and what the check says where they differ."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from assay import ROOT
from assay.card import PROFILES, Card, find_cards, load_card
from assay.consistency import unmeasured, wrong_numbers
from assay.experiment import experiments_of
from assay.record import Artifact, Curve, Result, load_result, result_path
from tests.assay.claims import result_of, rows

CARDS = find_cards(ROOT)
TOY = """title: A toy
authors: Nobody
venue: Nowhere 2020
idea: None.
setting_of_paper: none
methods: {a: proposed, b: baseline}
experiments:
  e: {metrics: {m: "%"}, replicate: 3 seeds changing init}
claims:
  better: {says: a beats b., test: "a - b >= 1, from e", why: a test}
figures:
  - {title: A, experiment: e, x: n, y: m}
"""


@cache
def committed(slug: str) -> list[Result]:
    paths = [result_path(ROOT, profile, slug) for profile in ("standard", "gpu")]
    return [load_result(path) for path in paths if path.exists()]


@pytest.mark.parametrize("slug", CARDS)
def test_a_card_plans_what_its_experiments_run_and_names_what_they_measure(slug: str) -> None:
    card = load_card(CARDS[slug])
    declared = experiments_of(importlib.import_module(f"methods.{slug}.experiments"))
    for profile in PROFILES:
        planned = {name: e.replicates(profile) for name, e in declared.items() if profile in e.profiles}
        assert wrong_numbers(card, profile, planned) == []
    assert unmeasured(card, committed(slug)) == []


def toy(tmp_path: Path, old: str = "", new: str = "") -> Card:
    (tmp_path / "experiments.py").write_text("@experiment(quick=dict())\ndef e(run): ...\n")
    (tmp_path / "paper.yaml").write_text(TOY.replace(old, new))
    return load_card(tmp_path / "paper.yaml")


MEASURED = result_of(rows("a", [1, 2, 3], n=1, unit="%") + rows("b", [1, 2, 3], n=1, unit="%"))


def test_nothing_is_said_of_a_card_that_is_right(tmp_path: Path) -> None:
    assert unmeasured(toy(tmp_path), [MEASURED]) == []
    assert wrong_numbers(toy(tmp_path), "standard", MEASURED.replicates) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("y: m", "y: loss", "figures.0: e measures no `loss`; it measures m"),
        ("b: baseline", "b: baseline, c: variant", "methods.c: no experiment runs it; remove it"),
        ('m: "%"', "m: points", "experiments.e.metrics: m is in `points` here and in `%` in the rows; a right card"),
    ],
)
def test_what_nothing_measures_is_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    (said,) = unmeasured(toy(tmp_path, old, new), [MEASURED])
    assert said.startswith(problem)


def test_a_curve_and_an_artifact_are_drawn_too_and_a_method_may_need_what_has_not_run(tmp_path: Path) -> None:
    curve, sample = Curve("e", "loss", "n", [1.0], [2.0], "a", {}), Artifact("e", "cloud", "", "a")
    for name, more in (("loss", {"curves": [curve]}), ("cloud", {"artifacts": [sample]})):
        assert unmeasured(toy(tmp_path, "y: m", f"y: {name}"), [replace(MEASURED, **more)]) == []
    card = toy(tmp_path, "b: baseline", "b: baseline, c: variant")
    (tmp_path / "experiments.py").write_text(
        "@experiment(gpu=dict())\ndef e(run): ...\n@experiment()\ndef f(run): ...\n"
    )
    assert unmeasured(card, [MEASURED]) == []


def test_a_number_of_replicates_that_was_not_run_is_named(tmp_path: Path) -> None:
    card = toy(tmp_path, "3 seeds", "5 seeds")
    (said,) = wrong_numbers(card, "standard", MEASURED.replicates)
    assert said.startswith("claims.better: plans 5 replicates, and e has 3 in profile standard: run as many, or plan")
    assert wrong_numbers(card, "quick", MEASURED.replicates) == []  # standard decides

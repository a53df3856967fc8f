"""Tuning is fair: as many trials for each method, on seeds that no result uses, judged by validation alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import methods
from assay.card import Card
from assay.errors import AssayError
from assay.tune import load_tuned, tune
from tests.assay.claims import card_of

SCORE = """
import torch
TRIED = []

def validation_score(method, hyperparameters, seed):
    TRIED.append((method, seed, hyperparameters["lr"], torch.initial_seed()))
    return float(hyperparameters["score"])
"""


def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: dict[str, object], source: str = SCORE) -> Card:
    """The card of a paper that can be imported, whose contenders have these search spaces."""
    slug = f"tuned_{tmp_path.name}".lower()
    folder = tmp_path / "methods" / slug
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "experiments.py").write_text(source)
    (folder / "contenders.py").write_text(
        f"from types import SimpleNamespace as S\nCONTENDERS = {{k: S(space=v) for k, v in {search!r}.items()}}\n"
    )
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path / "methods")])
    fields = card_of(untested="not here").model_dump(exclude_unset=True, exclude={"heads", "reported"})
    return Card.model_validate({**fields, "slug": slug, "path": folder / "paper.yaml"})


def test_each_method_gets_the_same_trials_on_seeds_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {"a": (1, 2, 3, 4), "b": (5, 6, 7), "c": (8, 9)}
    found = card(tmp_path, monkeypatch, {name: {"lr": lr, "score": (0,)} for name, lr in rates.items()})
    path = tune(tmp_path, found, 3)
    tried = __import__(f"methods.{found.slug}.experiments", fromlist=["TRIED"]).TRIED
    seeds = {name: [seed for method, seed, _, _ in tried if method == name] for name in "abc"}
    assert seeds == {"a": [1000, 1001, 1002], "b": [1000, 1001, 1002], "c": [1000, 1001]}
    assert len({lr for _, _, lr, _ in tried}) == len(tried)  # no setting twice
    assert all(seed == torch_seed for _, seed, _, torch_seed in tried)
    stored = json.loads(path.read_text())
    assert (stored["trials"], stored["first_seed"]) == (3, 1000)
    assert {name: best["trials"] for name, best in stored["methods"].items()} == {"a": 3, "b": 3, "c": 2}


def test_the_best_is_the_highest_finite_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = card(tmp_path, monkeypatch, {"a": {"lr": (1,), "score": ("nan", "inf", "0.5", "0.75", "-inf", "0.25")}})
    path = tune(tmp_path, found, 6)
    assert json.loads(path.read_text())["methods"]["a"]["score"] == 0.75
    assert load_tuned(path.parent, "a") == {"lr": 1, "score": "0.75"}
    with pytest.raises(AssayError, match=r"no tuned hyperparameters of 'b'.*run `assay tune`"):
        load_tuned(path.parent, "b")


def test_a_method_that_always_diverges_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = card(tmp_path, monkeypatch, {"a": {"lr": (1, 2), "score": ("nan",)}})
    with pytest.raises(AssayError, match="method a: none of 2 trials gave a finite validation score"):
        tune(tmp_path, found, 9)
    assert not (tmp_path / "methods" / found.slug / "tuned.json").exists()


def test_what_tuning_needs_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = card(tmp_path, monkeypatch, {"a": {"lr": (1,)}}, source="")
    with pytest.raises(AssayError, match="has no function validation_score"):
        tune(tmp_path, found, 1)
    (tmp_path / "methods" / found.slug / "contenders.py").unlink()
    del sys.modules[f"methods.{found.slug}.contenders"]
    with pytest.raises(AssayError, match=r"contenders: gives no CONTENDERS"):
        tune(tmp_path, found, 1)


def test_a_paper_without_a_search_space_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssayError, match="no contender has a `space`"):
        tune(tmp_path, card(tmp_path, monkeypatch, {}), 1)

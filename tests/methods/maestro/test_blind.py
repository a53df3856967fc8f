"""The lasso, the ranks and what training cost rest on no test image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

import datasets
from methods.maestro import study
from tests.methods.blindness import assert_blind, run_small
from tests.methods.claims import assert_claims_find_rows

DIGITS: dict[str, Any] = dict(dataset="digits", host="mlp", train_size=200)
SMALL = {
    "truncation": dict(**DIGITS, shares=[25, 100], separate=[25]),
    "lasso": dict(**DIGITS, lambdas=[0.0, 1e-3]),
    "single_pair": DIGITS,
    "footprint": dict(**DIGITS, budgets=[75]),
}
WITHOUT: dict[str, dict[str, Any]] = {
    "svd_recovery": dict(steps=40), "pca_recovery": dict(steps=40), "data_order": dict(steps=40),
    "step_time": dict(pairs=1),
}  # fmt: skip


@contextmanager
def other_test_images() -> Iterator[None]:
    load = datasets.load

    def others(name: str, **options: Any) -> Any:
        data = load(name, **options)
        return data._replace(test_x=1 - data.test_x.flip(2), test_y=data.test_y.roll(1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", others)
        yield


def test_nothing_rests_on_test_images_and_every_claim_finds_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(study.RECIPES, "mlp", replace(study.RECIPES["mlp"], epochs=2))
    monkeypatch.setitem(study.PUFFERFISH_WARMUP, "mlp", 1)
    monkeypatch.setattr(study, "VALIDATION", 60)
    reasons = dict.fromkeys(WITHOUT, "exact problems and clocks, without a test set")
    runs = assert_blind("maestro", SMALL, other_test_images, {"accuracy", "matched_accuracy"}, reasons)
    runs |= {name: run_small("maestro", name, **parameters) for name, parameters in WITHOUT.items()}
    assert_claims_find_rows("maestro", runs)

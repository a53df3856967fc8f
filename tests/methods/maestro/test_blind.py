"""The lasso, the ranks and what training cost rest on no test image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from methods.maestro import study
from methods.maestro.training import Trained
from tests.methods.blindness import assert_blind, other_test_images, run_small
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


def test_nothing_rests_on_test_images_and_every_claim_finds_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(study.RECIPES, "mlp", replace(study.RECIPES["mlp"], epochs=2))
    monkeypatch.setitem(study.PUFFERFISH_WARMUP, "mlp", 1)
    monkeypatch.setattr(study, "VALIDATION", 60)
    reasons = dict.fromkeys(WITHOUT, "exact problems and clocks, without a test set")
    nets: dict[str, list[tuple[str, Trained]]] = {name: [] for name in SMALL}
    plain = study.Study.trained

    def trained(self: study.Study, name: str, *arguments: Any, **options: Any) -> Trained:
        nets[self.run.experiment].append((name, plain(self, name, *arguments, **options)))
        return nets[self.run.experiment][-1][1]

    monkeypatch.setattr(study.Study, "trained", trained)
    runs = assert_blind("maestro", SMALL, other_test_images, {"accuracy", "matched_accuracy"}, reasons)
    for experiment, made in nets.items():  # few rows show what a net has learned: the nets themselves are compared
        for (name, net), (other, blind) in zip(made[: len(made) // 2], made[len(made) // 2 :], strict=True):
            weights = zip(net.model.state_dict().values(), blind.model.state_dict().values(), strict=True)
            assert name == other
            assert all(torch.equal(one, two) for one, two in weights if isinstance(one, torch.Tensor)), (
                f"{name} of {experiment} has seen the test images"
            )
    runs |= {name: run_small("maestro", name, **parameters) for name, parameters in WITHOUT.items()}
    assert_claims_find_rows("maestro", runs)

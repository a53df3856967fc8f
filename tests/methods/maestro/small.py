"""Every experiment of Maestro made small, and its test images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from torch import nn

from assay.experiment import MethodRows
from methods.maestro import contenders, study
from methods.maestro.contenders import Plan
from tests.methods.blindness import other_test_images
from tests.methods.paper import numbers_of

DIGITS: dict[str, Any] = dict(dataset="digits", host="mlp", train_size=200)
SMALL = {
    "truncation": dict(**DIGITS, shares=[25, 100], separate=[25]),
    "lasso": dict(**DIGITS, lambdas=[0.0, 1e-3]),
    "single_pair": DIGITS,
    "footprint": dict(**DIGITS, budgets=[75]),
}
UNTRAINED: dict[str, dict[str, Any]] = {
    "svd_recovery": dict(steps=40), "pca_recovery": dict(steps=40), "data_order": dict(steps=40),
    "step_time": dict(pairs=1),
}  # fmt: skip
WITHOUT = dict.fromkeys(UNTRAINED, "exact problems and clocks, without a test set")
TEST_METRICS = {"accuracy", "matched_accuracy"}
_PLAN = Plan(lr=0.05, epochs=4, batch_size=16, weight_decay=0.01)
RECIPES = {
    "maestro": replace(_PLAN, lambda_gl=1e-3),
    "plain_factorised": replace(_PLAN, share=0.5),
    "pufferfish": replace(_PLAN, warmup=2),
}
FIXED = {
    "lambda_gl": "Maestro's alone; see test_the_lasso_is_the_largest_within_a_point_of_the_dense_net",
    "warmup": "Pufferfish's alone; see test_pufferfish_trains_as_many_epochs_as_all_and_counts_both_parts",
    "share": "of plain factors alone; see test_truncation_cuts_nets_of_one_recipe",
}


@contextmanager
def made_small() -> Iterator[None]:
    """Short recipes; and beside each score the sum of the net's numbers, since few rows show what it has learned."""
    record = study.Study.record

    def with_weights(self: study.Study, m: MethodRows, model: nn.Module, *more: Any, **options: Any) -> None:
        record(self, m, model, *more, **options)
        m.record(f"{options.get('prefix', '')}weights", sum(numbers_of(model)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(contenders.RECIPES, "mlp", replace(contenders.RECIPES["mlp"], epochs=2, warmup=1))
        patch.setattr(study, "VALIDATION", 60)
        patch.setattr(study.Study, "record", with_weights)
        yield


test_data_permuted = other_test_images

"""Learning rates are chosen by validation: with other test images every choice is the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import datasets
from tests.methods.blindness import assert_blind, experiments

SMALL: dict[str, dict[str, Any]] = {
    "deep_training": dict(dataset="digits", depths=[3], n=8, steps=10, lrs=[0.03, 0.3]),
    "aspect_ratio": dict(dataset="digits", weights=1_000, depths=[2, 3], steps=10, lrs=[0.3, 1.0], nets=1),
}


@contextmanager
def other_test_images() -> Iterator[None]:
    load = datasets.load

    def others(name: str, **options: Any) -> Any:
        data = load(name, **options)
        return data._replace(test_x=1 - data.test_x.flip(2), test_y=data.test_y.roll(1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", others)
        yield


def test_no_choice_rests_on_test_images() -> None:
    without = dict.fromkeys(set(experiments("dl_theory")) - set(SMALL), "no test set: theory, ensembles, kernels")
    runs = assert_blind("dl_theory", SMALL, other_test_images, {"accuracy", "accuracy_by_ratio"}, without)
    assert {"best_lr", "validation_accuracy"} <= {row.metric for run in runs.values() for row in run.rows}

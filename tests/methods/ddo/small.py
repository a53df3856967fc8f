"""Every experiment of DDO made small, and the samples and images that results are reported on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from methods.ddo import contenders
from methods.ddo.contenders import Plan
from methods.ddo.plane import PlaneStudy
from tests.methods.blindness import other_test_images

TINY: dict[str, Any] = dict(steps=60, round_steps=4, rounds=2, points=300, pool=200)
PAIRS, RATES = [(1.0, 1.0), (4.0, 0.3)], [1e-3, 1e-4]
SMALL: dict[str, dict[str, Any]] = {
    "plane": dict(**TINY, width=8, candidates=PAIRS, rates=RATES, likelihood_points=20, more=True),
    "capacity": dict(**TINY, widths=[16, 64]),
    "images": dict(dataset="digits", size=8, channels=4, levels=2, steps=10, batch_size=16, lr=1e-3, round_steps=2,
                   finetuning_lr=1e-2, rounds=2, samples=40, classifier_steps=10, candidates=PAIRS, rates=[1.0, 0.1]),
}  # fmt: skip
UNTRAINED: dict[str, dict[str, Any]] = {
    "start": {}, "stability": {}, "misfit": dict(steps=5), "optima": {}, "grid_chain": dict(steps=4, round_steps=2),
    "bits": dict(hidden=8, steps=4, round_steps=2, rounds=1, candidates=PAIRS),
}  # fmt: skip
WITHOUT = dict.fromkeys(UNTRAINED, "exact, or measured on draws that are made when all is chosen")
TEST_METRICS = {
    "inside", "log_density", "cell_tv", "mode_tv", "sliced_w2", "reverse_kl", "forward_kl", "log_likelihood",
    "frechet", "frechet_few", "accuracy", "samples",
}  # fmt: skip
RECIPES = {"ddo": Plan(steps=4, batch_size=16, lr=1e-2, half_life=2.0, pool_size=20)}


@contextmanager
def made_small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contenders, "WEIGHTS", [0.5, 2.0])
        yield


@contextmanager
def test_data_permuted() -> Iterator[None]:
    """Other images; on the plane other noise that reported samples start from, and other data to hold them against."""
    made = PlaneStudy.of

    def others(*sizes: int, **more: int) -> PlaneStudy:
        study = made(*sizes, **more)
        return replace(study, test_noise=-study.test_noise.roll(1, 1), test_data=0.9 * study.test_data)

    with pytest.MonkeyPatch.context() as patch, other_test_images():
        patch.setattr(PlaneStudy, "of", others)
        yield

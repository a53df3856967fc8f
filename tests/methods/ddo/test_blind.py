"""Nothing is chosen on what is reported: pools and images of the test are others, and every choice is the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from methods.ddo import experiments
from methods.ddo.plane import PlaneStudy
from tests.methods.blindness import assert_blind, other_test_images, run_small
from tests.methods.claims import assert_claims_find_rows

TINY: dict[str, Any] = dict(steps=60, round_steps=4, rounds=2, points=300, pool=200)
PAIRS, RATES = [(1.0, 1.0), (4.0, 0.3)], [1e-3, 1e-4]
SMALL: dict[str, dict[str, Any]] = {
    "plane": dict(**TINY, width=8, candidates=PAIRS, rates=RATES, likelihood_points=20, more=True),
    "capacity": dict(**TINY, widths=[16, 64]),
    "images": dict(dataset="digits", size=8, channels=4, levels=2, steps=10, batch_size=16, lr=1e-3, round_steps=2,
                   finetuning_lr=1e-2, rounds=2, samples=40, classifier_steps=10, candidates=PAIRS, rates=[1.0, 0.1]),
}  # fmt: skip
EXACT: dict[str, dict[str, Any]] = {
    "start": {}, "stability": {}, "misfit": dict(steps=5), "optima": {}, "grid_chain": dict(steps=4, round_steps=2),
    "bits": dict(hidden=8, steps=4, round_steps=2, rounds=1, candidates=PAIRS),
}  # fmt: skip
OF_SAMPLES = {
    "inside", "log_density", "cell_tv", "mode_tv", "sliced_w2", "reverse_kl", "forward_kl", "log_likelihood",
    "frechet", "frechet_few", "accuracy",
}  # fmt: skip


@contextmanager
def plane_tested_on_others() -> Iterator[None]:
    made = PlaneStudy.of

    def others(*sizes: int, **more: int) -> PlaneStudy:
        study = made(*sizes, **more)
        return replace(study, test_noise=-study.test_noise.roll(1, 1), test_data=0.9 * study.test_data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlaneStudy, "of", others)
        yield


def test_nothing_is_chosen_on_the_test_data_and_every_claim_finds_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "WEIGHTS", [0.5, 2.0])
    without = dict.fromkeys(EXACT, "exact, or measured on draws that are made when all is chosen")
    # samples of the plane are what the test noise becomes; those of images start from noise that stays
    plane = {name: SMALL[name] for name in ("plane", "capacity")}
    runs = assert_blind("ddo", plane, plane_tested_on_others, {*OF_SAMPLES, "samples"}, {**without, "images": ""})
    images = {"images": SMALL["images"]}
    runs |= assert_blind("ddo", images, other_test_images, OF_SAMPLES, {**without, **dict.fromkeys(plane, "")})
    chosen = {row.method for name in ("plane", "images") for row in runs[name].rows if row.metric == "validation"}
    assert chosen >= {"ddo", "mle", "mle_tuned", "mle_compute", "mle_compute_fixed", "discriminator_guidance"}
    runs |= {name: run_small("ddo", name, **parameters) for name, parameters in EXACT.items()}
    assert_claims_find_rows("ddo", runs)

"""No network, and no number of its training, rests on the right-hand sides that solvers are tested on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.dcdm import experiments, poisson, workloads
from methods.dcdm.poisson import Poisson
from tests.methods.blindness import assert_blind, run_small
from tests.methods.claims import assert_claims_find_rows

TINY: dict[str, Any] = dict(size=8, steps=50, channels=4, vectors=64, ritz=60)
ROUGH = {**TINY, "size": 6, "steps": 20, "channels": 2}
CUBES = {**TINY, "dim": 3, "steps": 10, "channels": 2}
SMALL: dict[str, dict[str, Any]] = {
    "iterations": dict(
        training={**TINY, "size": 6, "steps": 20, "channels": 2}, scales=[1, 2, 4], systems=["box", "disc", "bunny"]
    ),
    "conjugation": dict(training=TINY, scales=[1], systems=["box", "bunny"]),
    "energy": dict(training=TINY, systems=["box", "sealed"]),
    "retrained": dict(training=TINY, steps={8: 30, 12: 30}, systems=["box"]),
    "three_dimensions": dict(training=CUBES, scales=[1, 2], systems=["box"]),
}
TESTED = {"iterations_4", "iterations_6", "missed_4", "missed_6", "fallbacks", "energy_ratio", "residual"}
TIMED: dict[str, dict[str, Any]] = {
    "seconds": dict(training=TINY, cases=[("box", 8, 1)], pairs=1),
    "seconds_three_dimensions": dict(training=CUBES, cases=[("bunny", 8, 1)], pairs=1),
    "seconds_gpu": dict(training=CUBES, cases=[("bunny", 8, 1)], pairs=1),
    "parts": dict(training=TINY, sizes=[8], pairs=1),
}
WITHOUT = {
    "training": "solves nothing; its losses are compared below",
    **dict.fromkeys(TIMED, "times what others train"),
}


@contextmanager
def right_hand_sides_shuffled() -> Iterator[None]:
    def shuffled(A: Poisson, name: str, generator: torch.Generator) -> Tensor:
        b = poisson.right_hand_side(A, name, generator)
        moved = torch.zeros_like(b)
        moved[A.fluid] = b[A.fluid][torch.randperm(A.unknowns, generator=torch.Generator().manual_seed(7))]
        return A.project(moved)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workloads, "right_hand_side", shuffled)
        yield


def test_no_network_has_seen_a_right_hand_side_of_the_tests_and_every_claim_finds_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("pyamg")
    for module in (workloads, experiments):
        monkeypatch.setattr(module, "PATIENCE", 45)
    runs = assert_blind("dcdm", SMALL, right_hand_sides_shuffled, TESTED, WITHOUT)
    runs.update({name: run_small("dcdm", name, **parameters) for name, parameters in TIMED.items()})
    assert_claims_find_rows("dcdm", runs)
    losses = []
    for context in (nullcontext, right_hand_sides_shuffled):
        with context():
            training = run_small("dcdm", "training", training=TINY)
        losses.append({row.method: row.value for row in training.rows if row.metric == "loss"})
    assert losses[0].keys() == {"dcdm", "one_shot"}
    assert losses[0] == losses[1]

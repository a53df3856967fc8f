"""Every experiment of DCDM made small, and the right-hand sides that solvers are tested on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.dcdm import experiments, poisson, workloads
from methods.dcdm.poisson import Poisson
from methods.dcdm.workloads import Training

TINY: dict[str, Any] = dict(size=8, steps=50, channels=4, vectors=64, ritz=60)
ROUGH = {**TINY, "size": 6, "steps": 20, "channels": 2}
CUBES = {**TINY, "dim": 3, "steps": 10, "channels": 2}
SMALL: dict[str, dict[str, Any]] = {
    "iterations": dict(training=ROUGH, scales=[1, 2], systems=["box", "disc", "bunny"]),
    "conjugation": dict(training=TINY, scales=[1], systems=["box"]),
    "energy": dict(training=ROUGH, systems=["box", "sealed"]),
    "retrained": dict(training=ROUGH, steps={6: 10, 8: 10}, systems=["box"]),
    "three_dimensions": dict(training=CUBES, scales=[1], systems=["box"]),
}
TEST_METRICS = {"iterations_4", "iterations_6", "missed_4", "missed_6", "fallbacks", "energy_ratio", "residual"}
UNTRAINED: dict[str, dict[str, Any]] = {
    "seconds": dict(training=TINY, cases=[("box", 8, 1)], pairs=1),
    "seconds_three_dimensions": dict(training=CUBES, cases=[("bunny", 8, 1)], pairs=1),
    "seconds_gpu": dict(training=CUBES, cases=[("bunny", 8, 1)], pairs=1),
    "parts": dict(training=ROUGH, sizes=[8], pairs=1),
}
WITHOUT = dict.fromkeys(UNTRAINED, "times what others train")
SMALL["training"] = dict(training=ROUGH)
SEALED = ("training",)  # it solves nothing
RECIPES = {"dcdm": Training(size=6, steps=6, channels=2, layout=64, vectors=8, ritz=8, batch_size=4)}
FIXED = {"size": "has to be even", "layout": "the layout of 128 is another network; see test_network"}


@contextmanager
def made_small() -> Iterator[None]:
    pytest.importorskip("pyamg")
    with pytest.MonkeyPatch.context() as patch:
        for module in (workloads, experiments):
            patch.setattr(module, "PATIENCE", 45)
        yield


@contextmanager
def test_data_permuted() -> Iterator[None]:
    def shuffled(A: Poisson, name: str, generator: torch.Generator) -> Tensor:
        b = poisson.right_hand_side(A, name, generator)
        moved = torch.zeros_like(b)
        moved[A.fluid] = b[A.fluid][torch.randperm(A.unknowns, generator=torch.Generator().manual_seed(7))]
        return A.project(moved)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workloads, "right_hand_side", shuffled)
        yield

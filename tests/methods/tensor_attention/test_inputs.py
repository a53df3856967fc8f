"""Inputs are drawn by the seed."""

from __future__ import annotations

import pytest

from tests.methods.blindness import run_small
from tests.methods.tensor_attention.small import UNTRAINED


@pytest.mark.parametrize("name", ["error_grid", "estimates", "distributions", "precision", "order_tradeoff"])
def test_another_seed_draws_other_inputs(name: str) -> None:
    runs = [run_small("tensor_attention", name, seed=seed, **UNTRAINED[name]) for seed in (0, 0, 1)]
    first, again, other = ([row.value for row in run.rows if row.metric != "wall_s"] for run in runs)
    assert first == again != other

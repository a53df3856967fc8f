"""Every experiment runs small, those of a GPU too, and every part of every claim finds its rows there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.methods.blindness import experiments, run_small
from tests.methods.claims import assert_claims_find_rows

GRID = dict(n=12, bounds=[0.5, 1.0, 1.5, 2.0])
SMALL: dict[str, dict[str, Any]] = {
    "scaling": dict(pairs=1, degree=2, fast=[16, 32], exact=[8, 16]),
    "crossover": dict(pairs=1, sizes={4: [4, 8]}),
    "crossover_memory": dict(sizes={4: [4, 8]}),
    "memory": dict(exact=[8], naive=[4], fast=[16]),
    "error_grid": GRID | dict(degrees=[2, 4, 6]),
    "rank_needed": GRID,
    "crossing": dict(degrees=[2]),
    "order_tradeoff": dict(degree=4, tuples=64, queries=4),
    "constructed": dict(sizes=[(16, 5), (31, 16), (101, 6), (499, 10)], draws=2),
    "trained": dict(modulus=8, n=3, steps=2, batch=4, draws=20),
    "estimates": dict(n=16, multiples=[1, 4]),
    "distributions": GRID | dict(degree=4),
    "precision": GRID | dict(degree=4),
    "kernel_time": dict(pairs=1, width=16, sizes={way: [8] for way in ("exact", "loop", "sdpa", "naive")}),
    "kernel_memory": dict(width=16, sizes=[8]),
}


def test_every_claim_finds_its_rows() -> None:
    """Nothing here has test data to be blind to: inputs are generated, networks are scored on fresh draws."""
    assert set(SMALL) == set(experiments("tensor_attention"))
    assert_claims_find_rows("tensor_attention", {n: run_small("tensor_attention", n, **p) for n, p in SMALL.items()})


@pytest.mark.parametrize("name", ["error_grid", "estimates", "distributions", "precision", "order_tradeoff"])
def test_another_seed_draws_other_inputs(name: str) -> None:
    runs = [run_small("tensor_attention", name, seed=seed, **SMALL[name]) for seed in (0, 0, 1)]
    first, again, other = ([row.value for row in run.rows if row.metric != "wall_s"] for run in runs)
    assert first == again != other

"""Every experiment of tensor attention made small, those of a GPU too."""

from __future__ import annotations

from typing import Any

from methods.tensor_attention.contenders import Recipe

GRID = dict(n=12, bounds=[0.5, 1.0, 1.5, 2.0])
UNTRAINED: dict[str, dict[str, Any]] = {
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
WITHOUT = dict.fromkeys(UNTRAINED, "inputs are generated, and networks are scored on fresh draws")
SMALL: dict[str, dict[str, Any]] = {}
_RECIPE = dict(width=4, steps=3, batch=8)
RECIPES = {"exact": Recipe(3, **_RECIPE), "ordinary": Recipe(2, **_RECIPE)}
FIXED = {"order": "2 or 3"}

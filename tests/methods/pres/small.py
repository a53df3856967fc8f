"""Every experiment of PRES made small, and its test events."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from methods.pres import experiments
from methods.pres.contenders import Recipe
from tests.methods.blindness import other_test_events

EVENTS = 400
SIZE: dict[str, Any] = dict(
    dataset="movielens_100k", events={"movielens_100k": EVENTS}, dim=4, neighbors=2, base_batch=30
)
RACE = dict(warm=120, length=120, pairs=1)
EXTRA = ("pres_s", "pres_v", "pres_released", "memoryless")
SWEEP = dict(epochs=2, multiples=dict(tgn=[1, 4], jodie=[1], apan=[4]), extra={name: [4] for name in EXTRA})
_UNTESTED: dict[str, dict[str, Any]] = {
    "prediction_error": dict(multiples=[1, 4]),
    "gradient_variance": dict(multiples=[4, 8], repeats=2),
    "released_gradient": {},
}

_TIMED_OR_EXACT: dict[str, dict[str, Any]] = {
    "epoch_time": SIZE | RACE,
    "epoch_time_all_nodes": SIZE | RACE,
    "throughput_peer": SIZE | RACE | dict(batch_size=60),
    "pending_events": dict(dataset="movielens_100k", sizes=[50]),
    "linear_drift": dict(dataset="linear_drift", gammas=[1.0], events=100),
}
# `patience`, so that an epoch is chosen, and `gamma` is that epoch's
SMALL = {"batch_sweep": SIZE | SWEEP | dict(patience=1)} | {name: SIZE | more for name, more in _UNTESTED.items()}
UNTRAINED = _TIMED_OR_EXACT
WITHOUT = dict.fromkeys(_TIMED_OR_EXACT, "nothing of it is chosen")
SEALED = tuple(_UNTESTED)
TEST_METRICS = set(experiments.TEST_METRICS)
RECIPES = {name: Recipe(dim=8, neighbors=2, batch_size=100, epochs=3, patience=2) for name in ("pres", "plain")}
FIXED = {"dim": "has to be even"}
FREE = ("seed",)


def test_data_permuted() -> AbstractContextManager[None]:
    return other_test_events(experiments)

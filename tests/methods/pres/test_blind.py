"""PRES's experiments run small, with other test events: only the rows of the test change."""

from __future__ import annotations

from typing import Any

from methods.pres import experiments
from methods.pres.experiments import TEST_METRICS
from tests.methods.blindness import assert_blind, other_test_events, rows_of, run_small
from tests.methods.claims import assert_claims_find_rows

EVENTS = 400
SIZE: dict[str, Any] = dict(
    dataset="movielens_100k", events={"movielens_100k": EVENTS}, dim=4, neighbors=2, base_batch=30
)
RACE = dict(warm=120, length=120, pairs=1)
EXTRA = ("pres_s", "pres_v", "pres_released", "memoryless")
SWEEP = dict(epochs=2, multiples=dict(tgn=[1, 4], jodie=[1], apan=[4]), extra={name: [4] for name in EXTRA})
UNTESTED = {  # these end before the test begins, so that none of their rows may change
    "prediction_error": dict(multiples=[1, 4]),
    "gradient_variance": dict(multiples=[4, 8], repeats=2),
    "released_gradient": {},
}

OTHERS: dict[str, dict[str, Any]] = {
    "epoch_time": SIZE | RACE,
    "epoch_time_all_nodes": SIZE | RACE,
    "throughput_peer": SIZE | RACE | dict(batch_size=60),
    "pending_events": dict(dataset="movielens_100k", sizes=[50]),
    "linear_drift": dict(dataset="linear_drift", gammas=[1.0], events=100),
}


def test_nothing_but_the_test_metrics_sees_the_test_events_and_every_claim_finds_its_rows() -> None:
    without = dict.fromkeys(OTHERS, "nothing of it is chosen") | dict.fromkeys(UNTESTED, "below")
    sweep = SIZE | SWEEP | dict(patience=1)  # so that an epoch is chosen, and `gamma` is that epoch's
    runs = assert_blind("pres", {"batch_sweep": sweep}, lambda: other_test_events(experiments), TEST_METRICS, without)
    for name, parameters in UNTESTED.items():
        runs[name] = run_small("pres", name, **SIZE | parameters)
        with other_test_events(experiments):
            assert rows_of(run_small("pres", name, **SIZE | parameters)) == rows_of(runs[name]), name
    runs |= {name: run_small("pres", name, **parameters) for name, parameters in OTHERS.items()}
    assert_claims_find_rows("pres", runs)

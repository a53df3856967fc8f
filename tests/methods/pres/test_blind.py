"""PRES's experiments run small, with other test events: only the rows of the test change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from datasets.temporal import EventStream
from methods.pres import experiments
from methods.pres.experiments import TEST_METRICS
from methods.pres.training import Task, make_task
from tests.methods.blindness import _rows, assert_blind, run_small
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


@contextmanager
def other_test_events(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Who meets whom in the test, and with which features; before splitting, indexing and drawing."""

    def permuted(stream: EventStream, *rest: Any) -> Task:
        first = int((stream.t <= stream.t.quantile(0.85)).sum())
        order = first + torch.randperm(len(stream) - first, generator=torch.Generator().manual_seed(0))
        order = torch.cat([torch.arange(first), order])
        return make_task(replace(stream, dst=stream.dst[order], edge_features=stream.edge_features[order]), *rest)

    with monkeypatch.context() as patch:
        patch.setattr(experiments, "make_task", permuted)
        yield


OTHERS: dict[str, dict[str, Any]] = {
    "epoch_time": SIZE | RACE,
    "epoch_time_all_nodes": SIZE | RACE,
    "throughput_peer": SIZE | RACE | dict(batch_size=60),
    "pending_events": dict(dataset="movielens_100k", sizes=[50]),
    "linear_drift": dict(dataset="linear_drift", gammas=[1.0], events=100),
}


def test_nothing_but_the_test_metrics_sees_the_test_events_and_every_claim_finds_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = dict.fromkeys(OTHERS, "nothing of it is chosen") | dict.fromkeys(UNTESTED, "below")
    runs = assert_blind(
        "pres", {"batch_sweep": SIZE | SWEEP}, lambda: other_test_events(monkeypatch), TEST_METRICS, without
    )
    for name, parameters in UNTESTED.items():
        runs[name] = run_small("pres", name, **SIZE | parameters)
        with other_test_events(monkeypatch):
            assert _rows(run_small("pres", name, **SIZE | parameters)) == _rows(runs[name]), name
    runs |= {name: run_small("pres", name, **parameters) for name, parameters in OTHERS.items()}
    assert_claims_find_rows("pres", runs)

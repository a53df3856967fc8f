"""The generated stream has the answer that it promises, to the last bit."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

import datasets
from assay.errors import DataError
from datasets.temporal import EventStream, LinearDrift


@pytest.fixture(scope="module")
def drift() -> LinearDrift:
    return datasets.load("linear_drift")


def test_it_is_an_event_stream_of_the_promised_size(drift: LinearDrift) -> None:
    assert isinstance(drift, EventStream)
    assert (len(drift), drift.num_nodes, drift.slope.shape, drift.start.shape) == (2_000, 50, (50, 8), (50, 8))
    assert drift.edge_features.shape == (2_000, 16)
    assert set(drift.src.tolist() + drift.dst.tolist()) == set(range(50))
    assert not (drift.src == drift.dst).any()
    assert bool((drift.t[1:] > drift.t[:-1]).all())
    assert (float(drift.t[0]) >= 0, float(drift.t[-1]) < 1) == (True, True)


def test_the_mean_increment_predicts_every_state_without_any_error(drift: LinearDrift) -> None:
    """Exact check 2 of PRES with gamma = 1: after a node's first update the predictor's slope is the true one."""
    last_time = torch.zeros(drift.num_nodes, dtype=torch.float64)
    last_state = drift.start.clone()
    total, count = torch.zeros_like(drift.start), torch.zeros(drift.num_nodes)
    predicted = 0
    for source, destination, t in zip(drift.src.tolist(), drift.dst.tolist(), drift.t, strict=True):
        for node in (source, destination):
            elapsed = t - last_time[node]
            truth = drift.state(torch.tensor([node]), t[None])[0]
            if count[node] > 0:
                assert torch.equal(last_state[node] + elapsed * total[node] / count[node], truth)
                predicted += 1
            if elapsed > 0:
                total[node] += (truth - last_state[node]) / elapsed
                count[node] += 1
                assert torch.equal(total[node] / count[node], drift.slope[node])
            last_time[node], last_state[node] = t, truth
    assert predicted > 3_900


def test_edge_features_are_the_true_states(drift: LinearDrift) -> None:
    states = torch.cat([drift.state(drift.src, drift.t), drift.state(drift.dst, drift.t)], dim=1)
    assert torch.equal(drift.edge_features.to(torch.float64), states)
    assert float(states.abs().max()) <= 1


def test_the_seed_decides_everything(drift: LinearDrift) -> None:
    again, other = datasets.load("linear_drift", seed=0), datasets.load("linear_drift", seed=1)
    assert torch.equal(again.slope, drift.slope)
    assert torch.equal(again.src, drift.src)
    assert not torch.equal(other.slope, drift.slope)


def test_the_draws_never_change_between_machines_and_versions(drift: LinearDrift) -> None:
    arrays = (drift.src, drift.dst, drift.t, drift.slope, drift.start)
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
    assert digest == "977ceb3df2b56e2047d20cc24a24a850d21a9aac6f48d4e0335b94b5de52c46b"


def test_head_keeps_the_answer_of_the_nodes_that_are_left(drift: LinearDrift) -> None:
    first = drift.head(10)
    assert (len(first), first.num_nodes) == (10, 20)
    assert torch.equal(first.src, drift.src[:10])
    states = torch.cat([first.state(first.src, first.t), first.state(first.dst, first.t)], dim=1)
    assert torch.equal(first.edge_features.to(torch.float64), states)


@pytest.mark.parametrize(("num_nodes", "num_events"), [(2, 1), (3, 2), (7, 4), (51, 300)])
def test_every_node_occurs(num_nodes: int, num_events: int) -> None:
    small = datasets.load("linear_drift", num_nodes=num_nodes, num_events=num_events, dim=1)
    assert set(small.src.tolist() + small.dst.tolist()) == set(range(num_nodes))


@pytest.mark.parametrize("options", [{"num_nodes": 1}, {"dim": 0}, {"num_nodes": 10, "num_events": 4}])
def test_sizes_that_do_not_fit_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(DataError, match="linear_drift: needs num_nodes >= 2"):
        datasets.load("linear_drift", **options)

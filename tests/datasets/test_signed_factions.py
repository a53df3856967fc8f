"""The stream of two factions has the best answer that it promises."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

import datasets
from assay.errors import DataError
from datasets.signed_factions import factions
from datasets.temporal import EventStream


@pytest.fixture(scope="module")
def stream() -> EventStream:
    return datasets.load("signed_factions")


def auc_of_an_oracle(events: EventStream, faction: torch.Tensor) -> float:
    """Of a score with two values: the mean of the shares of positive and of negative signs that it gets right."""
    same, positive = faction[events.src] == faction[events.dst], events.edge_features[:, 0] > 0
    return float((same[positive].double().mean() + (~same[~positive]).double().mean()) / 2)


def test_it_is_a_stream_of_the_promised_size(stream: EventStream) -> None:
    assert (len(stream), stream.num_nodes, stream.num_src) == (8_000, 200, None)
    assert stream.edge_features.shape == (8_000, 1)
    assert set(stream.edge_features.unique().tolist()) == {-1, 1}
    assert torch.equal(stream.t, torch.arange(8_000, dtype=torch.float64))
    assert not (stream.src == stream.dst).any()


def test_factions_are_halves(stream: EventStream) -> None:
    assert torch.bincount(factions()).tolist() == [100, 100]
    assert not torch.equal(factions(), factions(seed=1))


@pytest.mark.parametrize(("flip", "seed"), [(0.1, 0), (0.1, 1), (0.1, 2), (0.3, 0), (0.0, 0)])
def test_an_oracle_has_the_promised_auc(flip: float, seed: int) -> None:
    events = datasets.load("signed_factions", flip=flip, seed=seed)
    deviation = (flip * (1 - flip) / 8_000) ** 0.5
    assert abs(auc_of_an_oracle(events, factions(seed=seed)) - (1 - flip)) <= 4 * deviation
    assert abs(auc_of_an_oracle(events, factions(seed=seed + 1)) - 0.5) < 0.1  # who knows others knows nothing


def test_both_signs_are_about_equally_frequent(stream: EventStream) -> None:
    # 99 of 199 other users are of the own faction
    expected = 99 / 199 * 0.9 + 100 / 199 * 0.1
    assert float((stream.edge_features > 0).double().mean()) == pytest.approx(expected, abs=4 * (0.25 / 8_000) ** 0.5)


def test_pairs_are_uniform_over_all_ordered_pairs_of_different_users() -> None:
    events = datasets.load("signed_factions", num_users=4, num_events=12_000)
    counts = torch.bincount(events.src * 4 + events.dst, minlength=16).view(4, 4).numpy()
    wanted = 1_000 * (1 - np.eye(4))
    assert np.all(np.abs(counts - wanted) <= 4.5 * (wanted * 11 / 12) ** 0.5)


def test_nodes_are_numbered_by_appearance_so_factions_hold_for_every_beginning(stream: EventStream) -> None:
    first = stream.head(20)
    assert first.num_nodes < 40
    assert torch.equal(first.src, stream.src[:20])
    assert torch.equal(first.dst, stream.dst[:20])
    noiseless = datasets.load("signed_factions", flip=0).head(20)
    faction = factions()
    agree = faction[noiseless.src] == faction[noiseless.dst]
    assert torch.equal(noiseless.edge_features[:, 0], torch.where(agree, 1.0, -1.0))


def test_fewer_events_are_the_beginning_of_more(stream: EventStream) -> None:
    fewer = datasets.load("signed_factions", num_events=500)
    for part in ("src", "dst", "t", "edge_features"):
        assert torch.equal(getattr(fewer, part), getattr(stream, part)[:500])


def test_the_seed_decides_everything(stream: EventStream) -> None:
    again, other = (datasets.load("signed_factions", seed=seed) for seed in (0, 1))
    assert torch.equal(again.src, stream.src)
    assert torch.equal(again.edge_features, stream.edge_features)
    assert not torch.equal(other.src, stream.src)
    assert not torch.equal(other.edge_features, stream.edge_features)


def test_the_draws_never_change_between_machines_and_versions(stream: EventStream) -> None:
    arrays = (stream.src, stream.dst, stream.edge_features, factions())
    digest = hashlib.sha256(b"".join(array.numpy().tobytes() for array in arrays)).hexdigest()
    assert digest == "87d59d4abe1d29c052108377585ef1962ca9c3cf61810e02d5d4dafd523d5448"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_events": 0}, "num_events >= 1"),
        ({"flip": -0.1}, r"flip in \[0, 1\]; got num_events=8000, flip=-0.1"),
        ({"flip": float("nan")}, r"flip in \[0, 1\]"),
        ({"num_users": 199}, "num_users must be even and 2 or more; got 199"),
        ({"num_users": 0}, "num_users must be even and 2 or more; got 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        datasets.load("signed_factions", **options)

"""Batches, last occurrences, neighbours and scores against brute force; the layers against torch's own."""

from __future__ import annotations

import pytest
import torch

from datasets.temporal import EventStream
from methods.shared.temporal import (
    NeighborIndex,
    batches,
    last_occurrence,
    segment_softmax,
    select,
)


def random_stream(events: int = 200, nodes: int = 12, seed: int = 0, features: int = 2) -> EventStream:
    """A stream with ties in time and self loops."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randint(nodes, (2, events), generator=generator)
    t = torch.randint(events // 2, (events,), generator=generator).double().sort().values
    return EventStream(ends[0], ends[1], t, torch.randn(events, features, generator=generator), nodes)


def test_batches_cover_the_range_once_and_in_order() -> None:
    stream = random_stream(23)
    parts = list(batches(stream, 5, 2, 21))
    assert [len(part) for part in parts] == [5, 5, 5, 4]
    assert torch.equal(torch.cat([part.t for part in parts]), stream.t[2:21])
    assert torch.equal(parts[0].ends, torch.stack([stream.src[2:7], stream.dst[2:7]], dim=1).flatten())


def test_last_occurrence_is_the_last_one() -> None:
    rows = torch.randint(7, (40,), generator=torch.Generator().manual_seed(3))
    distinct, place = last_occurrence(rows, 9)
    wanted = {int(value): i for i, value in enumerate(rows)}
    assert dict(zip(distinct.tolist(), place.tolist(), strict=True)) == wanted
    assert distinct.tolist() == sorted(wanted)


def test_recent_neighbours_are_the_latest_strictly_before_and_nothing_else() -> None:
    stream = random_stream()
    index = NeighborIndex(stream)
    nodes = torch.arange(stream.num_nodes).repeat(10)
    t = torch.arange(10).repeat_interleave(stream.num_nodes).double() * 12 - 1
    near = index.recent(nodes, t, 4)
    for query in range(len(nodes)):
        wanted = []
        for event in range(len(stream)):
            if stream.t[event] >= t[query]:
                break
            src, dst = int(stream.src[event]), int(stream.dst[event])
            wanted += [(dst, event)] * (src == nodes[query]) + [(src, event)] * (dst == nodes[query])
        got = near.owner == query
        assert near.node[got].tolist() == [node for node, _ in wanted[-4:]]
        events = [event for _, event in wanted[-4:]]
        assert torch.equal(near.edge_features[got], stream.edge_features[events])
        torch.testing.assert_close(near.age[got], (t[query] - stream.t[events]).float())


@pytest.mark.parametrize("n", [3, None])
def test_latest_neighbours_are_those_of_the_first_events_and_nothing_else(n: int | None) -> None:
    stream = random_stream()
    index = NeighborIndex(stream)
    nodes = torch.tensor([5, 0, 11, 5])
    for seen in (0, 1, 73, len(stream)):
        owner, other, event = index.latest(nodes, seen, n)
        for query, node in enumerate(nodes.tolist()):
            ends = [(e, int(stream.src[e]), int(stream.dst[e])) for e in range(seen)]
            wanted = [(e, b) for e, a, b in ends if a == node] + [(e, a) for e, a, b in ends if b == node]
            wanted = sorted(wanted, key=lambda pair: pair[0])[-n if n else None :]
            got = owner == query
            assert event[got].tolist() == [e for e, _ in wanted]
            assert other[got].tolist() == [node for _, node in wanted]


def test_a_drawn_earlier_neighbour_is_a_real_and_every_real_one_is_drawn() -> None:
    stream = random_stream(60, 6)
    index = NeighborIndex(stream)
    time = float(stream.t[30])
    past = stream.t < time
    for node in range(stream.num_nodes):
        known = set(stream.dst[past & (stream.src == node)].tolist()) | set(
            stream.src[past & (stream.dst == node)].tolist()
        )
        query = torch.full((500,), node)
        drawn, found = index.any_earlier(query, torch.full((500,), time).double(), torch.Generator().manual_seed(0))
        assert bool(found.all()) == bool(known)
        assert not known or set(drawn.tolist()) == known
    _, found = index.any_earlier(torch.arange(6), torch.zeros(6).double() - 1, torch.Generator())
    assert not found.any()


def test_selecting_events_keeps_the_nodes() -> None:
    stream = random_stream()
    part = select(stream, stream.src == 3)
    assert part.num_nodes == stream.num_nodes
    assert set(part.src.tolist()) == {3}


def test_segment_softmax_is_the_softmax_of_each_owners_entries() -> None:
    scores, owner = torch.randn(2, 6, dtype=torch.float64), torch.tensor([0, 0, 0, 2, 2, 3])
    shares = segment_softmax(scores, owner, 4)
    for first, last in ((0, 3), (3, 5), (5, 6)):
        torch.testing.assert_close(shares[:, first:last], scores[:, first:last].softmax(1))


def test_nodes_out_of_range_and_batches_of_nothing_are_refused() -> None:
    k = torch.arange(4)
    stream = EventStream(k % 2, k % 2 + 1, k.double(), torch.zeros(4, 1), 3)
    index, end = NeighborIndex(stream), torch.full((1,), 9.0, dtype=torch.float64)
    for node in (-1, 3):
        with pytest.raises(IndexError, match=rf"node {node} is outside 0 \.\. 2"):
            index.recent(torch.tensor([node]), end, 2)
        with pytest.raises(IndexError, match=rf"node {node} is outside"):
            index.latest(torch.tensor([node]), 4, None)
    for size in (0, -1):
        with pytest.raises(ValueError, match="batches: size must be at least 1"):
            next(batches(stream, size))

"""Temporal graphs, without a Python loop over events: batches, the last occurrence of a node, recent neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.temporal import EventStream


@dataclass(frozen=True)
class Batch:
    """b consecutive events: src, dst (b,) int64; t (b,) float64; edge_features (b, F)."""

    src: Tensor
    dst: Tensor
    t: Tensor
    edge_features: Tensor

    def __len__(self) -> int:
        return self.src.shape[0]

    @property
    def ends(self) -> Tensor:
        """(2b,) both nodes of every event in the order of the stream: src 0, dst 0, src 1, dst 1, ..."""
        return torch.stack([self.src, self.dst], dim=1).flatten()


def batches(stream: EventStream, size: int, first: int = 0, last: int | None = None) -> Iterator[Batch]:
    """Cut the events first .. last - 1 of a stream into consecutive batches; the last one may be smaller."""
    last = len(stream) if last is None else last
    for begin in range(first, last, size):
        part = slice(begin, min(begin + size, last))
        yield Batch(stream.src[part], stream.dst[part], stream.t[part], stream.edge_features[part])


def select(stream: EventStream, mask: Tensor) -> EventStream:
    """The events where `mask` (E,) holds; nodes keep their ids, so that models of the whole stream still fit."""
    return EventStream(
        stream.src[mask], stream.dst[mask], stream.t[mask], stream.edge_features[mask],
        stream.num_nodes, stream.num_src,
    )  # fmt: skip


def to_device(stream: EventStream, device: torch.device) -> EventStream:
    """The same stream with its tensors on `device`."""
    return EventStream(
        stream.src.to(device), stream.dst.to(device), stream.t.to(device), stream.edge_features.to(device),
        stream.num_nodes, stream.num_src,
    )  # fmt: skip


def last_occurrence(rows: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Where each distinct value occurs for the last time.

    The winner is a maximum over places. Writing with repeated indices would do the same on a CPU, but on CUDA
    such a write has no defined winner.

    Args:
        rows: (m,) int64 values in 0 .. size - 1.
        size: number of possible values.

    Returns:
        distinct: (k,) the values that occur, ascending. place: (k,) the last position of each in `rows`.
    """
    place = torch.full((size,), -1, dtype=torch.int64, device=rows.device)
    positions = torch.arange(rows.shape[0], device=rows.device)
    place.scatter_reduce_(0, rows, positions, "amax")
    distinct = (place >= 0).nonzero().squeeze(1)
    return distinct, place[distinct]


@dataclass(frozen=True)
class Neighbors:
    """The most recent neighbours of Q queries: a ragged list of P, query by query, oldest first.

    owner: (P,) int64, ascending, the query of each. node: (P,) int64. age: (P,) float32, time since the event.
    edge_features: (P, F) of the event.
    """

    owner: Tensor
    node: Tensor
    age: Tensor
    edge_features: Tensor


class NeighborIndex:
    """Recent neighbours of any node at any time of a stream, by one binary search per query.

    Every event is filed under both of its ends, sorted once by (node, place in the stream). A query sees the
    events strictly before its time and nothing else: neither itself, nor events at the same instant, nor the
    future. So the whole stream may be filed beforehand without a leak, earlier events of the same batch are
    seen (as the definition "strictly before t" asks, and as a buffer that is filled batch by batch would not),
    and nothing must be rewound between epochs. O(E) memory, O(log E) per query.
    """

    def __init__(self, stream: EventStream) -> None:
        num_events, device = len(stream), stream.src.device
        event = torch.arange(num_events, device=device).repeat(2)
        key = torch.cat([stream.src, stream.dst]) * num_events + event
        self._key, order = key.sort(stable=True)
        self._event = event[order]
        self._other = torch.cat([stream.dst, stream.src])[order]
        nodes = torch.arange(stream.num_nodes + 1, device=device)
        self._begin = torch.searchsorted(self._key, nodes * num_events)
        self._stream = stream

    def recent(self, node: Tensor, t: Tensor, n: int) -> Neighbors:
        """The n most recent neighbours of node (Q,) strictly before t (Q,); fewer where there were fewer."""
        begin, end = self._filed_before(node, t)
        back = torch.arange(-n, 0, device=node.device)  # places counted from the end
        owner, slot = (begin.unsqueeze(1) <= end.unsqueeze(1) + back).nonzero().T.contiguous()
        place = end.index_select(0, owner) + back.index_select(0, slot)
        event = self._event.index_select(0, place)
        age = (t.index_select(0, owner) - self._stream.t.index_select(0, event)).float()
        return Neighbors(owner, self._other.index_select(0, place), age, self._stream.edge_features[event])

    def any_earlier(self, node: Tensor, t: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One neighbour strictly before t, drawn uniformly over the node's earlier events.

        Returns:
            node: (Q,) the neighbour (meaningless where there is none). found: (Q,) bool.
        """
        begin, end = self._filed_before(node, t)
        share = torch.rand(node.shape[0], generator=generator).to(node.device)
        drawn = (begin + (share * (end - begin)).long()).clamp_(max=self._other.shape[0] - 1)
        return self._other[drawn], end > begin

    def _filed_before(self, node: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Range of the node's files strictly before t."""
        earlier_events = torch.searchsorted(self._stream.t, t)  # left: events at t itself do not count
        end = torch.searchsorted(self._key, node * len(self._stream) + earlier_events)
        return self._begin[node], end

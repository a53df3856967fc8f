"""What memory models of temporal graphs share, without a Python loop over events.

Batches, the last occurrence of a node, recent neighbours; the state of a model; sums over the entries of an owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datasets.temporal import EventStream
from methods.shared.checks import check_sizes


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
    """Cut the events first .. last - 1 of a stream into consecutive batches; the last one may be smaller.

    Raises:
        TypeError, ValueError: a size that is no whole number of at least 1.
    """
    check_sizes("batches", size=size)
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
        self.stream = stream

    def recent(self, node: Tensor, t: Tensor, n: int) -> Neighbors:
        """The n most recent neighbours of node (Q,) strictly before t (Q,); fewer where there were fewer."""
        owner, place = _latest(*self._filed_before(node, t), n)
        event = self._event.index_select(0, place)
        age = (t.index_select(0, owner) - self.stream.t.index_select(0, event)).float()
        return Neighbors(owner, self._other.index_select(0, place), age, self.stream.edge_features[event])

    def latest(self, node: Tensor, seen: int, n: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """The n most recent neighbours of node (Q,) among the first `seen` events of the stream; None for all of them.

        Returns:
            owner: (P,) int64, ascending, the query of each neighbour. other: (P,) the neighbour. event: (P,) place of
            the event in the stream. A query's neighbours are in the order of the stream.
        """
        owner, place = _latest(*self._filed_among(node, seen), n)
        return owner, self._other.index_select(0, place), self._event.index_select(0, place)

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
        return self._filed_among(node, torch.searchsorted(self.stream.t, t))  # left: events at t itself do not count

    def _filed_among(self, node: Tensor, seen: Tensor | int) -> tuple[Tensor, Tensor]:
        """Range of the node's files among the first `seen` events. Raises IndexError if a node is out of range."""
        if len(node):
            low, high = node.aminmax()
            if low < 0 or high >= self.stream.num_nodes:
                wrong = int(low if low < 0 else high)
                raise IndexError(f"NeighborIndex: node {wrong} is outside 0 .. {self.stream.num_nodes - 1}")
        return self._begin[node], torch.searchsorted(self._key, node * len(self.stream) + seen)


def _latest(begin: Tensor, end: Tensor, n: int | None) -> tuple[Tensor, Tensor]:
    """The last n places of each range begin .. end - 1, range by range: the range (P,) and the place (P,)."""
    count = end - begin if n is None else (end - begin).clamp_(max=n)
    owner = torch.repeat_interleave(count)
    last = count.cumsum(0)  # one past a range's last slot of the list
    return owner, torch.arange(len(owner), device=begin.device) + (end - last).index_select(0, owner)


class StreamModel(nn.Module):
    """A model whose buffers are what a stream has written, and zero before it."""

    def reset(self) -> None:
        """Forget the stream: memory, messages and statistics become zero."""
        for buffer in self.buffers():
            buffer.zero_()

    def state(self) -> dict[str, Tensor]:
        """A copy of everything that the stream has written."""
        return {name: buffer.clone() for name, buffer in self.named_buffers()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a state."""
        for name, buffer in self.named_buffers():
            buffer.copy_(state[name])


def rewound(model: Any, action: Callable[[], object]) -> Callable[[], None]:
    """An action that starts, whenever it is called, from the state of the stream that the model is in now."""
    start = model.state()

    def again() -> None:
        model.restore(start)
        action()

    return again


def segment_sum(x: Tensor, owner: Tensor, num: int) -> Tensor:
    """Sums of x (h, P) over the entries of each owner: (h, num)."""
    return x.new_zeros(x.shape[0], num).index_add(1, owner, x)


def segment_softmax(scores: Tensor, owner: Tensor, num: int) -> Tensor:
    """Softmax of scores (h, P) over the entries of each owner."""
    peak = scores.new_full((scores.shape[0], num), -torch.inf)
    peak = peak.scatter_reduce(1, owner.expand_as(scores), scores.detach(), "amax")
    raised = (scores - peak.index_select(1, owner)).exp()
    return raised / segment_sum(raised, owner, num).index_select(1, owner)

"""Streams of timed events between nodes: the data that temporal graph networks learn from.

Three things live here: the stream itself, the chronological split used by memory-based models
(JODIE, TGN, APAN, PRES), and the exact count of what a temporal batch loses.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from assay.errors import DataError


@dataclass(frozen=True, eq=False)
class EventStream:
    """E events between N nodes, sorted by time; events with the same time keep the order of their file.

    Node ids are 0-based and there is no padding id. In a bipartite stream the sources are `0 .. num_src - 1`
    and the destinations `num_src .. num_nodes - 1`. The loaders of this package number the nodes of each side
    in the order of their first appearance, so an id also says how many nodes were seen before it.

    Attributes:
        src: (E,) int64, the node that acts (a user, the person who rates).
        dst: (E,) int64, the node that is acted on.
        t: (E,) float64, never decreasing; seconds, unless the data set's description says otherwise.
        edge_features: (E, F) float32; F may be 0.
        num_nodes: N.
        num_src: number of source nodes of a bipartite stream, None where any node may be on either side.

    Raises:
        DataError: a tensor of another shape or dtype, times that are not sorted or not finite, an id that is
            out of range.
    """

    src: Tensor
    dst: Tensor
    t: Tensor
    edge_features: Tensor
    num_nodes: int
    num_src: int | None = None

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_values(self)

    def __len__(self) -> int:
        return self.src.shape[0]

    def head(self, n: int) -> EventStream:
        """The first `n` events, with only the nodes that occur in them.

        Nodes are renumbered without gaps, in the order of first appearance on their side, so models sized by
        `num_nodes` do not pay for nodes that never act. Fewer than `n` events: the whole stream, renumbered.
        """
        if n < 0:
            raise DataError(f"head({n}): the number of events must be 0 or more")
        src, dst, num_nodes, num_src = number_by_appearance(
            self.src[:n], self.dst[:n], bipartite=self.num_src is not None
        )
        return EventStream(src, dst, self.t[:n], self.edge_features[:n], num_nodes, num_src)

    def split(self, train: float = 0.70, val: float = 0.85, *, new_share: float = 0.10, seed: int = 0) -> Split:
        """The chronological split: see `chronological_split`."""
        return chronological_split(self, train, val, new_share=new_share, seed=seed)


@dataclass(frozen=True, eq=False)
class LinearDrift(EventStream):
    """A stream whose nodes have states s_i(t) = start_i + slope_i * t: see `datasets/linear_drift.py`.

    Attributes:
        slope: (N, d) float64, a_i in units of state per unit of `t`.
        start: (N, d) float64, s_i(0).
    """

    slope: Tensor = field(kw_only=True)
    start: Tensor = field(kw_only=True)

    def state(self, node: Tensor, t: Tensor) -> Tensor:
        """The true states of `node` (B,) at times `t` (B,): (B, d) float64."""
        return self.start[node] + self.slope[node] * t.to(torch.float64)[:, None]

    def head(self, n: int) -> LinearDrift:
        """The first `n` events; node ids do not change, because they are in the order of first appearance."""
        events = super().head(n)
        return replace(
            self,
            src=events.src,
            dst=events.dst,
            t=events.t,
            edge_features=events.edge_features,
            num_nodes=events.num_nodes,
            slope=self.slope[: events.num_nodes],
            start=self.start[: events.num_nodes],
        )


@dataclass(frozen=True, eq=False)
class Split:
    """Masks over the events of a stream, all (E,) bool; and over its nodes, (N,) bool.

    Attributes:
        train: events up to the first quantile that touch no held-out node.
        val: events after the first quantile, up to the second.
        test: events after the second quantile.
        inductive_val: the events of `val` that touch a node without any training event.
        inductive_test: the events of `test` that touch a node without any training event.
        held_out: (N,) nodes whose training events were removed on purpose.
        unseen: (N,) nodes without any training event: the held-out ones, and those that came later anyway.
    """

    train: Tensor
    val: Tensor
    test: Tensor
    inductive_val: Tensor
    inductive_test: Tensor
    held_out: Tensor
    unseen: Tensor


def chronological_split(
    stream: EventStream, train: float = 0.70, val: float = 0.85, *, new_share: float = 0.10, seed: int = 0
) -> Split:
    """Split by quantiles of time; hide some nodes from training to test what is said about new nodes.

    Of the nodes that occur after the first quantile, `new_share` (rounded down) are drawn and all of their
    training events are removed. Val and test keep every event. The same seed always holds out the same nodes.
    (The released code of TGN and PRES draws among the same nodes, but as many as `new_share` of *all* nodes.)

    Args:
        stream: the events.
        train: quantile of `t` up to which events are for training (inclusive).
        val: quantile of `t` up to which events are for validation (inclusive).
        new_share: share of the later nodes to hold out, in [0, 1].
        seed: seed of the draw.

    Raises:
        DataError: an empty stream, or shares that are out of order.
    """
    if not 0 < train < val < 1 or not 0 <= new_share <= 1:
        raise DataError(
            f"split(train={train}, val={val}, new_share={new_share}): "
            "needs 0 < train < val < 1 and a new_share in [0, 1]"
        )
    if len(stream) == 0:
        raise DataError("split: the stream has no events")
    src, dst, t = stream.src.cpu().numpy(), stream.dst.cpu().numpy(), stream.t.cpu().numpy()
    val_time, test_time = np.quantile(t, [train, val])

    late = t > val_time
    candidates = np.unique(np.concatenate([src[late], dst[late]]))
    drawn = np.random.default_rng(seed).choice(candidates, int(new_share * len(candidates)), replace=False)
    held_out = _node_mask(drawn, stream.num_nodes)

    in_train = ~late & ~held_out[src] & ~held_out[dst]
    unseen = ~_node_mask(np.concatenate([src[in_train], dst[in_train]]), stream.num_nodes)
    in_test = t > test_time
    in_val = late & ~in_test
    touches_unseen = unseen[src] | unseen[dst]
    masks = (in_train, in_val, in_test, in_val & touches_unseen, in_test & touches_unseen, held_out, unseen)
    return Split(*(torch.from_numpy(mask).to(stream.src.device) for mask in masks))


def pending_statistics(stream: EventStream, batch_size: int) -> tuple[float, float]:
    """What a temporal batch loses, counted exactly over consecutive batches of `batch_size` events.

    Returns:
        pending: share of events that share a node with an earlier event of their batch, so that they are
            processed with a memory that is out of date.
        dropped: share of the 2E messages (one to each end of an event) that are thrown away when only the
            last message of a node is kept.

    Raises:
        DataError: an empty stream, or a batch size below 1.
    """
    if batch_size < 1 or len(stream) == 0:
        raise DataError(
            "pending_statistics: needs at least one event and a batch size of 1 or more; "
            f"got {len(stream)} events and batch size {batch_size}"
        )
    num_events = len(stream)
    ends = torch.stack([stream.src, stream.dst], dim=1).cpu().numpy()
    batch = np.arange(num_events) // batch_size
    node_in_batch = batch[:, None] * stream.num_nodes + ends
    # np.unique returns the first place of each value, and row-major places are in the order of the events.
    distinct, first_place, which = np.unique(node_in_batch, return_index=True, return_inverse=True)
    first_event = (first_place // 2)[which.reshape(num_events, 2)]
    pending = (first_event < np.arange(num_events)[:, None]).any(axis=1)
    return float(pending.mean()), 1.0 - len(distinct) / (2 * num_events)


def number_by_appearance(src: Tensor, dst: Tensor, *, bipartite: bool) -> tuple[Tensor, Tensor, int, int | None]:
    """Number nodes 0, 1, ... in the order in which they first appear.

    Args:
        src, dst: (E,) integer labels in the order of time. They need not be 0-based or without gaps.
        bipartite: the two sides are numbered apart (the same label on both sides is two nodes), destinations
            after the sources. Otherwise one numbering for both; within an event the source comes first.

    Returns:
        src, dst (both (E,) int64), the number of nodes, and the number of sources (None unless bipartite).
    """
    if bipartite:
        source, num_src = _ranks_of_appearance(src)
        destination, num_dst = _ranks_of_appearance(dst)
        return source, destination + num_src, num_src + num_dst, num_src
    both, num_nodes = _ranks_of_appearance(torch.stack([src, dst], dim=1).reshape(-1))
    return both[0::2].contiguous(), both[1::2].contiguous(), num_nodes, None


def stream_from_columns(
    src: np.ndarray, dst: np.ndarray, t: np.ndarray, edge_features: np.ndarray, *, bipartite: bool
) -> EventStream:
    """Build a stream from the columns of a file: sort by time (stably) and number the nodes.

    Args:
        src, dst: (E,) integer labels, any range. t: (E,) numbers. edge_features: (E, F) numbers.
        bipartite: as for `number_by_appearance`.
    """
    if np.any(t[1:] < t[:-1]):
        order = np.argsort(t, kind="stable")
        src, dst, t, edge_features = src[order], dst[order], t[order], edge_features[order]
    source, destination, num_nodes, num_src = number_by_appearance(
        torch.from_numpy(src), torch.from_numpy(dst), bipartite=bipartite
    )
    time = torch.from_numpy(np.ascontiguousarray(t, dtype=np.float64))
    features = torch.from_numpy(np.ascontiguousarray(edge_features, dtype=np.float32))
    return EventStream(source, destination, time, features, num_nodes, num_src)


def _ranks_of_appearance(labels: Tensor) -> tuple[Tensor, int]:
    _, first_place, which = np.unique(labels.cpu().numpy(), return_index=True, return_inverse=True)
    rank = np.empty(len(first_place), dtype=np.int64)
    rank[np.argsort(first_place)] = np.arange(len(first_place))
    return torch.from_numpy(rank[which]).to(labels.device), len(first_place)


def _node_mask(nodes: np.ndarray, num_nodes: int) -> np.ndarray:
    mask = np.zeros(num_nodes, dtype=bool)
    mask[nodes] = True
    return mask


def _check_shapes(stream: EventStream) -> None:
    num_events = stream.src.shape[0] if stream.src.ndim == 1 else -1
    wanted = {"src": torch.int64, "dst": torch.int64, "t": torch.float64, "edge_features": torch.float32}
    for name, dtype in wanted.items():
        tensor: Tensor = getattr(stream, name)
        ndim = 2 if name == "edge_features" else 1
        if tensor.ndim != ndim or tensor.dtype != dtype or tensor.shape[0] != num_events:
            shape = "(E, F)" if ndim == 2 else "(E,)"
            raise DataError(
                f"EventStream.{name}: needs shape {shape} and dtype {dtype}, one row for each event of src; "
                f"got shape {tuple(tensor.shape)} and dtype {tensor.dtype} "
                f"(src has shape {tuple(stream.src.shape)})"
            )


def _check_values(stream: EventStream) -> None:
    if not bool(torch.isfinite(stream.t).all()):
        event = int((~torch.isfinite(stream.t)).nonzero()[0])
        raise DataError(f"EventStream.t: event {event} has time {float(stream.t[event])}; times must be finite")
    # The extremes carry any nan or infinity, and unlike isfinite over all features they need no second copy.
    if stream.edge_features.numel() and not all(map(torch.isfinite, torch.aminmax(stream.edge_features))):
        event = int((~torch.isfinite(stream.edge_features)).any(dim=1).nonzero()[0])
        raise DataError(f"EventStream.edge_features: event {event} holds a value that is not finite")
    backwards = (stream.t[1:] < stream.t[:-1]).nonzero()
    if len(backwards):
        event = int(backwards[0]) + 1
        raise DataError(
            f"EventStream.t: event {event} is at {float(stream.t[event])}, before event {event - 1} at "
            f"{float(stream.t[event - 1])}; sort the events by time, stably"
        )
    if stream.num_src is not None and not 0 <= stream.num_src <= stream.num_nodes:
        raise DataError(f"EventStream.num_src: {stream.num_src} is outside 0 .. num_nodes ({stream.num_nodes})")
    first_dst = 0 if stream.num_src is None else stream.num_src
    end_src = stream.num_nodes if stream.num_src is None else stream.num_src
    _check_range("src", stream.src, 0, end_src)
    _check_range("dst", stream.dst, first_dst, stream.num_nodes)


def _check_range(name: str, ids: Tensor, low: int, end: int) -> None:
    wrong = ((ids < low) | (ids >= end)).nonzero()
    if len(wrong):
        event = int(wrong[0])
        raise DataError(f"EventStream.{name}: event {event} has node {int(ids[event])}, outside {low} .. {end - 1}")

"""What an event stream promises, the split of memory-based models, and the exact pending table of PRES."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import Tensor

import datasets
from assay.errors import DataError
from datasets.temporal import EventStream, number_by_appearance, pending_statistics, stream_from_columns

needs_mirror = pytest.mark.skipif(
    not os.environ.get("ASSAY_MIRROR"), reason="Bitcoin data comes from upstream or a mirror: set ASSAY_MIRROR"
)
PENDING_TABLE = {
    "movielens_100k": {
        50: (0.9468, 0.4811),
        200: (0.9734, 0.5350),
        800: (0.9875, 0.6780),
        3200: (0.9955, 0.8464),
    },
    "bitcoin_otc": {
        50: (0.6918, 0.5296),
        200: (0.8389, 0.6614),
        800: (0.9327, 0.7772),
        3200: (0.9756, 0.8549),
    },
    "bitcoin_alpha": {
        50: (0.6871, 0.5290),
        200: (0.8459, 0.6719),
        800: (0.9393, 0.7916),
        3200: (0.9790, 0.8686),
    },
}


@pytest.fixture(scope="module")
def movielens() -> EventStream:
    return datasets.load("movielens_100k")


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def stream(src: Tensor, dst: Tensor, t: Tensor | None = None, **fields: object) -> EventStream:
    t = torch.arange(len(src), dtype=torch.float64) if t is None else t
    return EventStream(src, dst, t, torch.zeros(len(src), 0), **({"num_nodes": 4} | fields))


# --- the pending table


@pytest.mark.parametrize("batch_size", [50, 200, 800, 3200])
def test_pending_table_of_movielens(movielens: EventStream, batch_size: int) -> None:
    figures = pending_statistics(movielens, batch_size)
    assert tuple(round(figure, 4) for figure in figures) == PENDING_TABLE["movielens_100k"][batch_size]


@needs_mirror
@pytest.mark.parametrize("batch_size", [50, 200, 800, 3200])
@pytest.mark.parametrize("name", ["bitcoin_otc", "bitcoin_alpha"])
def test_pending_table_of_bitcoin(
    name: str, batch_size: int, tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.sources.CACHE", tmp_path)
    figures = pending_statistics(datasets.load(name), batch_size)
    assert tuple(round(figure, 4) for figure in figures) == PENDING_TABLE[name][batch_size]


def test_first_6000_events_of_movielens(movielens: EventStream) -> None:
    first = movielens.head(6_000)
    assert (first.num_src, first.num_nodes - first.num_src) == (72, 1_013)
    assert [round(figure, 4) for figure in pending_statistics(first, 50)] == [0.9540, 0.4823]
    assert [round(figure, 4) for figure in pending_statistics(first, 200)] == [0.9783, 0.5448]


def test_pending_statistics_agree_with_a_plain_count() -> None:
    rng = np.random.default_rng(3)
    ends = torch.from_numpy(rng.integers(0, 9, size=(101, 2)))
    events = stream(ends[:, 0], ends[:, 1], num_nodes=9)
    for batch_size in (1, 2, 7, 50, 101, 500):
        pending = dropped = 0
        for start in range(0, 101, batch_size):
            seen: set[int] = set()
            batch = ends[start : start + batch_size].tolist()
            for source, destination in batch:
                pending += source in seen or destination in seen
                seen |= {source, destination}
            dropped += 2 * len(batch) - len(seen)
        assert pending_statistics(events, batch_size) == pytest.approx((pending / 101, dropped / 202), abs=1e-12)


def test_a_batch_of_one_event_loses_nothing(movielens: EventStream) -> None:
    assert pending_statistics(movielens, 1) == (0.0, 0.0)


def test_pending_statistics_need_events_and_a_batch() -> None:
    with pytest.raises(DataError, match="got 2 events and batch size 0"):
        pending_statistics(stream(ints(0, 1), ints(2, 3)), 0)
    with pytest.raises(DataError, match="at least one event"):
        pending_statistics(stream(ints(), ints()), 5)


# --- the stream


def test_nodes_are_numbered_by_first_appearance_on_each_side() -> None:
    src, dst, num_nodes, num_src = number_by_appearance(ints(7, 3, 7, 9), ints(3, 3, 5, 7), bipartite=True)
    assert src.tolist() == [0, 1, 0, 2]
    assert dst.tolist() == [3, 3, 4, 5]
    assert (num_nodes, num_src) == (6, 3)


def test_nodes_of_one_kind_share_one_numbering() -> None:
    src, dst, num_nodes, num_src = number_by_appearance(ints(7, 3, 9), ints(3, 7, 7), bipartite=False)
    assert (src.tolist(), dst.tolist(), num_nodes, num_src) == ([0, 1, 2], [1, 0, 0], 3, None)


def test_equal_times_keep_the_order_of_the_file() -> None:
    src, dst = np.arange(6), np.arange(6) + 10
    t = np.array([5, 1, 5, 1, 0, 5])
    events = stream_from_columns(src, dst, t, src[:, None], bipartite=False)
    assert events.edge_features[:, 0].tolist() == [4, 1, 3, 0, 2, 5]
    assert events.t.tolist() == [0, 1, 1, 5, 5, 5]


def test_head_keeps_events_and_drops_nodes_that_never_act(movielens: EventStream) -> None:
    first = movielens.head(100)
    assert len(first) == 100
    assert torch.equal(first.t, movielens.t[:100])
    assert torch.equal(first.edge_features, movielens.edge_features[:100])
    assert torch.equal(first.src, movielens.src[:100])
    assert torch.equal(first.dst - first.num_src, movielens.dst[:100] - movielens.num_src)
    assert set(first.src.tolist() + first.dst.tolist()) == set(range(first.num_nodes))


def test_head_of_everything_changes_nothing(movielens: EventStream) -> None:
    again = movielens.head(10**9)
    assert torch.equal(again.src, movielens.src)
    assert torch.equal(again.dst, movielens.dst)
    assert (again.num_nodes, again.num_src) == (movielens.num_nodes, movielens.num_src)


def test_head_of_nothing_is_an_empty_stream(movielens: EventStream) -> None:
    empty = movielens.head(0)
    assert (len(empty), empty.num_nodes, empty.num_src) == (0, 0, 0)


def test_head_refuses_a_negative_number(movielens: EventStream) -> None:
    with pytest.raises(DataError, match=r"head\(-1\)"):
        movielens.head(-1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"t": torch.tensor([0.0, 2.0, 1.0], dtype=torch.float64)}, r"t: event 2 is at 1\.0, before event 1 at 2\.0"),
        ({"t": torch.tensor([0.0, float("nan"), 1.0], dtype=torch.float64)}, "t: event 1 has time nan"),
        ({"t": torch.zeros(3)}, r"t: needs shape \(E,\) and dtype torch.float64.*dtype torch.float32"),
        ({"t": torch.zeros(2, dtype=torch.float64)}, r"t: needs shape .* got shape \(2,\)"),
        ({"src": ints(0, 1, 4)}, r"src: event 2 has node 4, outside 0 \.\. 3"),
        ({"src": ints(0, -1, 0)}, r"src: event 1 has node -1"),
        ({"src": ints(0, 2, 1), "num_src": 2}, r"src: event 1 has node 2, outside 0 \.\. 1"),
        ({"dst": ints(3, 3, 1), "num_src": 2}, r"dst: event 2 has node 1, outside 2 \.\. 3"),
        ({"dst": torch.zeros(3, dtype=torch.int32)}, "dst: needs shape .* dtype torch.int64"),
        ({"num_src": 5}, r"num_src: 5 is outside 0 \.\. num_nodes \(4\)"),
        ({"edge_features": torch.zeros(3)}, r"edge_features: needs shape \(E, F\)"),
        ({"edge_features": torch.zeros(2, 1)}, "edge_features: needs shape"),
        ({"edge_features": torch.tensor([[0.0], [float("inf")], [1.0]])}, "edge_features: event 1 holds a value"),
        ({"edge_features": torch.tensor([[0.0], [1.0], [float("nan")]])}, "edge_features: event 2 holds a value"),
    ],
)
def test_a_stream_that_cannot_be_is_refused(fields: dict[str, object], message: str) -> None:
    good = {
        "src": ints(0, 1, 0),
        "dst": ints(2, 3, 2),
        "t": torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64),
        "edge_features": torch.zeros(3, 2),
        "num_nodes": 4,
    }
    EventStream(**good)
    with pytest.raises(DataError, match=message):
        EventStream(**(good | fields))


# --- the split


def test_split_is_chronological_at_the_quantiles_of_time(movielens: EventStream) -> None:
    split = movielens.split()
    val_time, test_time = np.quantile(movielens.t.numpy(), [0.70, 0.85])
    assert float(movielens.t[split.train].max()) <= val_time
    assert torch.equal(split.val, (movielens.t > val_time) & (movielens.t <= test_time))
    assert torch.equal(split.test, movielens.t > test_time)
    assert (int(split.val.sum()), int(split.test.sum())) == (14_999, 15_000)


def test_an_event_at_a_quantile_belongs_to_the_earlier_part() -> None:
    events = stream(torch.zeros(21, dtype=torch.int64), torch.ones(21, dtype=torch.int64))
    split = events.split(new_share=0.0)
    assert split.train.nonzero().flatten().tolist() == list(range(15))
    assert split.val.nonzero().flatten().tolist() == [15, 16, 17]
    assert split.test.nonzero().flatten().tolist() == [18, 19, 20]


def test_held_out_nodes_are_a_tenth_of_the_later_ones_and_never_seen_in_training(movielens: EventStream) -> None:
    split = movielens.split(seed=1)
    late = split.val | split.test
    later_nodes = torch.unique(torch.cat([movielens.src[late], movielens.dst[late]]))
    held_out = split.held_out.nonzero().flatten()
    assert len(held_out) == int(0.1 * len(later_nodes))
    assert set(held_out.tolist()) <= set(later_nodes.tolist())
    assert not (split.held_out[movielens.src] | split.held_out[movielens.dst])[split.train].any()


def test_only_events_of_held_out_nodes_are_missing_from_training(movielens: EventStream) -> None:
    split = movielens.split(seed=1)
    early = ~(split.val | split.test)
    touches_held_out = split.held_out[movielens.src] | split.held_out[movielens.dst]
    assert torch.equal(early & ~touches_held_out, split.train)
    assert bool((early & touches_held_out).any())


def test_inductive_events_touch_a_node_without_training_events(movielens: EventStream) -> None:
    split = movielens.split(seed=1)
    trained = torch.unique(torch.cat([movielens.src[split.train], movielens.dst[split.train]]))
    knows = torch.zeros(movielens.num_nodes, dtype=torch.bool)
    knows[trained] = True
    new = ~(knows[movielens.src] & knows[movielens.dst])
    assert torch.equal(split.inductive_test, split.test & new)
    assert torch.equal(split.inductive_val, split.val & new)
    assert torch.equal(split.unseen, ~knows)


def test_the_seed_alone_decides_which_nodes_are_held_out(movielens: EventStream) -> None:
    assert torch.equal(movielens.split(seed=5).held_out, movielens.split(seed=5).held_out)
    assert not torch.equal(movielens.split(seed=5).held_out, movielens.split(seed=6).held_out)


def test_nothing_held_out_trains_on_every_early_event(movielens: EventStream) -> None:
    split = movielens.split(new_share=0.0)
    assert torch.equal(split.train, ~(split.val | split.test))


@pytest.mark.parametrize("arguments", [(0.9, 0.8), (0.0, 0.5), (0.5, 1.0)])
def test_quantiles_out_of_order_are_refused(movielens: EventStream, arguments: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="needs 0 < train < val < 1"):
        movielens.split(*arguments)


def test_an_empty_stream_cannot_be_split() -> None:
    with pytest.raises(DataError, match="no events"):
        stream(ints(), ints()).split()

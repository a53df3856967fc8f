"""A stream is cut where the quantiles of its times are, and every part has events."""

from __future__ import annotations

import pytest
import torch

from datasets.temporal import EventStream
from methods.shared.tasks import cut_by_time


def stream_at(times: list[float]) -> EventStream:
    n = len(times)
    ends = torch.arange(n) % 5
    return EventStream(ends, (ends + 1) % 5, torch.tensor(times).double(), torch.ones(n, 1), 5)


def test_validation_and_test_begin_after_the_quantiles_of_time_which_starts_at_zero() -> None:
    cut = cut_by_time(stream_at([100.0 + i for i in range(21)]))
    assert float(cut.stream.t[0]) == 0
    assert (cut.first_val, cut.first_test) == (15, 18)  # the quantiles are at 14 and 17, events at them are before
    assert cut.split.train.nonzero().flatten().tolist() == list(range(15))


def test_events_at_one_instant_are_in_one_part() -> None:
    cut = cut_by_time(stream_at([0.0] * 16 + [1.0, 1.0, 2.0, 3.0]))
    assert (cut.first_val, cut.first_test) == (16, 18)


def test_held_out_nodes_lose_their_training_events_and_the_parts_begin_where_they_did() -> None:
    plain, cut = (cut_by_time(stream_at(list(range(100))), new_share=share, seed=1) for share in (0.0, 0.4))
    assert (cut.first_val, cut.first_test) == (plain.first_val, plain.first_test)
    held_out = cut.split.held_out
    assert int(held_out.sum()) == 2
    touches = held_out[cut.stream.src] | held_out[cut.stream.dst]
    assert torch.equal(cut.split.train, plain.split.train & ~touches)


@pytest.mark.parametrize(
    ("times", "message"),
    [([], "the stream has no events"), ([0.0] * 10, "of 10 events none falls into the part 'val'")],
)
def test_a_part_without_events_is_refused(times: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut_by_time(stream_at(times))

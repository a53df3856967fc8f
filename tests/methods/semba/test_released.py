"""The departures of the released code, each seen on its own."""

from __future__ import annotations

import torch

from datasets.temporal import EventStream
from methods.semba.released import ReleasedSEMBA, two_sided
from methods.semba.semba import ENEMIES, FRIENDS
from methods.shared.temporal import Batch, NeighborIndex, batches

WIDTHS = dict(memory_dim=6, time_dim=4, heads=2)


def one_event(weight: float) -> Batch:
    return Batch(torch.tensor([1]), torch.tensor([3]), torch.tensor([5.0]).double(), torch.tensor([[weight]]))


def released() -> ReleasedSEMBA:
    model = ReleasedSEMBA(10, 8, **WIDTHS).eval()
    model.memory.memory.copy_(torch.randn(2, 10, 6))
    return model


def two_events() -> EventStream:
    """0 rates 1 well, then 1 rates 2 badly."""
    return two_sided(
        EventStream(
            torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([0.0, 1.0]).double(),
            torch.tensor([[2.0], [-9.0]]), 3,
        )
    )  # fmt: skip


def test_only_negative_events_speak_to_the_enemies_memory_and_each_speaks_twice() -> None:
    memory = released().memory
    assert len(memory.messages(ENEMIES, one_event(+1.0))[0]) == 0
    receiver, message, _ = memory.messages(ENEMIES, one_event(-1.0))
    assert receiver.tolist() == [1, 3, 1, 3]
    heard = message[receiver == 1][:, 6:12]
    assert torch.equal(heard, memory.memory[[ENEMIES, FRIENDS], 3])


def test_a_memory_to_which_nothing_is_said_is_updated_by_zeros() -> None:
    model = released()
    before = model.memory.memory.clone()
    batch = one_event(+1.0)
    model.commit(batch, model.memory.measure(batch.ends.unique()))
    after = model.memory.measure(torch.arange(10)).memory.detach()
    zeros = torch.zeros(2, model.memory.message.shape[2])
    torch.testing.assert_close(after[ENEMIES, [1, 3]], model.memory.cells[ENEMIES](zeros, before[ENEMIES, [1, 3]]))
    assert torch.equal(after[:, 0], before[:, 0])


def test_a_user_who_rates_is_another_node_than_the_same_user_when_rated() -> None:
    stream = two_events()
    assert (stream.num_nodes, stream.num_src) == (6, 3)
    assert stream.dst.tolist() == [4, 5]
    assert not set(stream.src.tolist()) & set(stream.dst.tolist())


def test_only_who_is_rated_has_neighbours() -> None:
    stream, model = two_events(), ReleasedSEMBA(6, 8, **WIDTHS)
    owner, other, event = model.neighbors(torch.tensor([0, 1, 4, 5]), NeighborIndex(stream), 2)
    assert (owner.tolist(), other.tolist(), event.tolist()) == ([2, 3], [0, 1], [0, 1])


def test_the_event_to_be_predicted_and_its_size_are_among_the_neighbours() -> None:
    stream, model = two_events(), ReleasedSEMBA(6, 8, **WIDTHS)
    assert model.leak
    assert model.num_neighbors is None
    seen = []
    for size in (9.0, 1.0):
        version = EventStream(
            stream.src, stream.dst, stream.t, torch.tensor([[2.0], [-size]]), stream.num_nodes, stream.num_src
        )
        z, _ = model.eval().embed(torch.tensor([1, 5]), NeighborIndex(version), 0, 2)
        seen.append(z)
    assert torch.equal(seen[0][0], seen[1][0])
    assert not torch.equal(seen[0][1], seen[1][1])


def test_messages_of_every_event_reach_both_memories_of_a_released_batch() -> None:
    stream, model = two_events(), ReleasedSEMBA(6, 8, **WIDTHS)
    index = NeighborIndex(stream)
    for number, batch in enumerate(batches(stream, 1)):
        _, measured = model.embed(batch.ends.unique(), index, number, number + 1)
        model.commit(batch, measured)
    assert model.memory.waiting[:, [0, 1, 4, 5]].all()
    assert not model.memory.waiting[:, [2, 3]].any()

"""The departures of the released code, each seen on its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from datasets.temporal import EventStream
from methods.semba.released import ReleasedSEMBA, two_sided
from methods.semba.semba import ENEMIES, FRIENDS
from methods.shared.temporal import Batch, NeighborIndex

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


def heard(model: ReleasedSEMBA, memory: int, *partners: Tensor) -> Tensor:
    """Memory of node 1 after the mean of messages that hold `partners`, of the event at t = 5 with the size 1."""
    own, phi = model.memory.memory[memory, 1], model.time_encoder(torch.tensor(5.0))
    messages = [torch.cat([own, partner, torch.ones(1), phi]) for partner in partners]
    return model.memory.cells[memory](torch.stack(messages).mean(0, keepdim=True), own.unsqueeze(0))[0]


@torch.no_grad()
@pytest.mark.parametrize("sign", [+1, -1])
def test_only_negative_events_speak_to_the_enemies_memory_and_each_speaks_twice(sign: int) -> None:
    model = released().train()
    model.memory._store(*said(sign))
    after = model.memory.measure(torch.arange(10)).memory
    of_other = model.memory.memory[:, 3]
    friends, enemies = after[:, 1]
    if sign > 0:
        torch.testing.assert_close(friends, heard(model, FRIENDS, of_other[FRIENDS]))
        zeros = torch.zeros(1, 2 * 6 + 1 + 4)
        torch.testing.assert_close(enemies, model.memory.cells[1](zeros, model.memory.memory[ENEMIES, 1:2])[0])
    else:
        torch.testing.assert_close(friends, heard(model, FRIENDS, of_other[ENEMIES]))
        torch.testing.assert_close(enemies, heard(model, ENEMIES, of_other[ENEMIES], of_other[FRIENDS]))


def said(sign: int) -> tuple[Tensor, Tensor]:
    """What waits after `one_event`, and who takes part."""
    takes_part = torch.zeros(2, 10, dtype=torch.bool)
    takes_part[0 if sign > 0 else 1, [1, 3]] = True
    kind = 0.0 if sign > 0 else 1.0
    return torch.tensor([[kind, 1, 3, 5, 1], [kind, 3, 1, 5, 1]]).double(), takes_part


@torch.no_grad()
def test_messages_are_applied_again_until_a_batch_has_an_event_of_their_sign() -> None:
    memory = released().train().memory
    sizes = []
    for weight in (+1.0, -1.0, -1.0, +1.0):
        batch = one_event(weight)
        memory.commit(batch, memory.measure(batch.ends.unique()))
        sizes.append(sorted(memory.waiting[:, 0].tolist()))
    assert sizes == [[0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]


@torch.no_grad()
def test_the_way_to_evaluation_applies_all_messages_and_forgets_them() -> None:
    memory = released().train().memory
    memory._store(*said(-1))
    wanted = memory.measure(torch.arange(10)).memory
    memory.eval()
    assert torch.equal(memory.memory, wanted)
    assert len(memory.waiting) == 0
    assert torch.equal(memory.measure(torch.arange(10)).memory, wanted)  # read as they are
    batch = one_event(+1.0)
    memory.commit(batch, memory.measure(batch.ends.unique()))
    assert not torch.equal(memory.memory[:, [1, 3]], wanted[:, [1, 3]])  # applied at once
    assert torch.equal(memory.memory[:, [0, 2]], wanted[:, [0, 2]])


def test_a_state_holds_the_messages_that_wait() -> None:
    model = released().train()
    batch = one_event(+1.0)
    model.commit(batch, model.memory.measure(batch.ends.unique()))
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    model.reset()
    assert len(model.memory.waiting) == 0
    model.load_state_dict(kept)
    assert len(model.memory.waiting) == 2


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

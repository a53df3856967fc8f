"""The message table, the symmetries of the two memories, the order of a batch, and torch-geometric's parts as twins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, MeanAggregator, TGNMemory

from datasets.temporal import EventStream
from methods.semba import SEMBA, TGN
from methods.semba.baselines import GCN, SGCN
from methods.semba.layers import NeighborAttention
from methods.semba.peer import PeerSEMBA, double_cover
from methods.semba.released import ReleasedSEMBA, two_sided
from methods.semba.semba import BALANCE, ENEMIES, FRIENDS, Rule
from methods.semba.tasks import Task, make_task
from methods.semba.training import score, train_batch
from methods.shared.temporal import Batch, NeighborIndex, batches

SMALL: dict[str, Any] = dict(memory_dim=6, time_dim=4, heads=2, num_neighbors=3)
MESSAGE = slice(6, 12)  # where a message of width 6 + 6 + 1 + 4 holds the other end's memory


def signed_stream(events: int = 120, nodes: int = 15, seed: int = 0, positive: float = 0.6) -> EventStream:
    """Weights -10 .. 10 without 0, ties in time."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randint(nodes, (2, events), generator=generator)
    t = torch.randint(events, (events,), generator=generator).double().sort().values
    sign = torch.where(torch.rand(events, generator=generator) < positive, 1.0, -1.0)
    weight = sign * torch.randint(1, 11, (events,), generator=generator)
    return EventStream(ends[0], ends[1], t, weight[:, None], nodes)


def run_through(model: Any, stream: EventStream, size: int = 20) -> None:
    """Embed the ends of each batch, then insert it."""
    index = NeighborIndex(stream)
    for number, batch in enumerate(batches(stream, size)):
        _, measured = model.embed(batch.ends.unique(), index, number * size, number * size + len(batch))
        model.commit(batch, measured)


def up_to_date(model: Any) -> Tensor:
    """All memories with their waiting messages applied: (M, N, d)."""
    return model.memory.measure(torch.arange(model.memory.memory.shape[1])).memory.detach()


def one_event(weight: float) -> Batch:
    return Batch(torch.tensor([1]), torch.tensor([3]), torch.tensor([5.0]).double(), torch.tensor([[weight]]))


@pytest.mark.parametrize(
    ("weight", "friends_hear", "enemies_hear"), [(+7.0, FRIENDS, ENEMIES), (-4.0, ENEMIES, FRIENDS)]
)
def test_a_message_holds_the_memories_that_balance_theory_names(
    weight: float, friends_hear: int, enemies_hear: int
) -> None:
    memory = SEMBA(5, 8, **SMALL).memory
    memory.memory.copy_(torch.randn(2, 5, 6))
    for into, hears in ((FRIENDS, friends_hear), (ENEMIES, enemies_hear)):
        receiver, message, t = memory.messages(into, one_event(weight))
        assert receiver.tolist() == [1, 3]
        assert t.tolist() == [5.0, 5.0]
        for row, (own, other) in enumerate(((1, 3), (3, 1))):
            assert torch.equal(message[row, :6], memory.memory[into, own])
            assert torch.equal(message[row, MESSAGE], memory.memory[hears, other])
            assert float(message[row, 12]) == abs(weight)
        torch.testing.assert_close(message[:, 13:], memory.time_encoder(torch.tensor([5.0, 5.0])))


def test_without_balance_a_memory_hears_of_its_own_sign_only() -> None:
    memory = SEMBA(5, 8, balance=False, **SMALL).memory
    memory.memory.copy_(torch.randn(2, 5, 6))
    for weight, hears, silent in ((+7.0, FRIENDS, ENEMIES), (-4.0, ENEMIES, FRIENDS)):
        assert torch.equal(memory.messages(hears, one_event(weight))[1][0, MESSAGE], memory.memory[hears, 3])
        assert len(memory.messages(silent, one_event(weight))[0]) == 0


def test_the_table_maps_into_itself_when_friends_and_enemies_change_places() -> None:
    swapped = {Rule(1 - rule.into, rule.sign, 1 - rule.partner) for rule in BALANCE}
    assert swapped == set(BALANCE)


def with_equal_cells(model: SEMBA) -> SEMBA:
    model.memory.cells[1].load_state_dict(model.memory.cells[0].state_dict())
    return model.eval()


def test_with_equal_grus_the_two_memories_never_part_whatever_the_signs() -> None:
    model = with_equal_cells(SEMBA(15, 8, **SMALL))
    run_through(model, signed_stream())
    friends, enemies = up_to_date(model)
    assert bool(friends.any())
    assert torch.equal(friends, enemies)


def test_different_grus_part_the_memories_at_the_first_event() -> None:
    model = SEMBA(15, 8, **SMALL).eval()
    run_through(model, signed_stream(1))
    friends, enemies = up_to_date(model)
    assert not torch.equal(friends, enemies)


def test_without_balance_equal_grus_part_as_soon_as_a_node_sees_one_sign() -> None:
    model = with_equal_cells(SEMBA(15, 8, balance=False, **SMALL))
    run_through(model, signed_stream(1, positive=1.0))
    friends, enemies = up_to_date(model)
    assert bool(friends.any())
    assert not bool(enemies.any())


def test_on_positive_events_the_friends_memory_is_that_of_a_tgn() -> None:
    stream = signed_stream(positive=1.0)
    model, tgn = SEMBA(15, 8, **SMALL).eval(), TGN(15, 8, **SMALL).eval()
    tgn.memory.cells[0].load_state_dict(model.memory.cells[0].state_dict())
    tgn.time_encoder.load_state_dict(model.time_encoder.state_dict())
    run_through(model, stream)
    run_through(tgn, stream)
    assert torch.equal(up_to_date(model)[FRIENDS], up_to_date(tgn)[0])


def test_a_tgn_does_not_see_signs() -> None:
    stream, tgn = signed_stream(), TGN(15, 8, **SMALL).eval()
    run_through(tgn, stream)
    first = up_to_date(tgn)
    tgn.reset()
    run_through(tgn, replace(stream, edge_features=stream.edge_features.abs()))
    assert torch.equal(first, up_to_date(tgn))


def test_memories_are_those_of_torch_geometrics_tgn_on_the_double_cover() -> None:
    # Every node is in every batch, for TGNMemory builds a message when it is applied and ours when its batch ends. And
    # TGNMemory has a node without a message updated by zeros; without biases that leaves an empty memory empty.
    nodes = torch.arange(6)
    src, dst = nodes.repeat(4), torch.cat([(nodes + shift) % 6 for shift in (1, 2, 3, 4)])
    weight = torch.tensor([1.0, -2.0, 3.0, -4.0, -5.0]).repeat(5)[:24, None]
    stream = EventStream(src, dst, torch.arange(24).double(), weight, 6)
    model = with_equal_cells(SEMBA(6, 8, **SMALL))
    for cell in model.memory.cells:
        torch.nn.init.zeros_(cell.bias_ih)
        torch.nn.init.zeros_(cell.bias_hh)
    message = IdentityMessage(1, 6, 4)
    twin = TGNMemory(12, 1, 6, 4, message_module=message, aggregator_module=MeanAggregator())
    twin.gru.load_state_dict(model.memory.cells[0].state_dict())
    twin.time_enc.lin.load_state_dict(model.time_encoder.lin.state_dict())
    run_through(model, stream, 6)
    for batch in batches(stream, 6):
        doubled_src, doubled_dst, t, size = double_cover(batch, 6)
        twin.update_state(doubled_src, doubled_dst, t.long(), size)
    wanted, _ = twin(torch.arange(12))
    torch.testing.assert_close(up_to_date(model).flatten(0, 1), wanted.detach())


def test_attention_is_torch_geometrics_with_the_same_weights() -> None:
    torch.manual_seed(0)
    ours = NeighborAttention(5, 8, 2, dropout=0.5, edge_dim=3).double().eval()
    twin = TransformerConv(5, 4, heads=2, dropout=0.5, edge_dim=3).double().eval()
    twin.load_state_dict(ours.state_dict())
    x, edge_attr = torch.randn(7, 5, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    query, near, owner = torch.tensor([4, 0, 6]), torch.tensor([1, 2, 4, 6, 6, 0]), torch.tensor([0, 0, 0, 0, 2, 2])
    wanted = twin(x, torch.stack([near, query[owner]]), edge_attr)[query]  # query 1 has no neighbour
    got = ours(x, query, near, owner, edge_attr)
    torch.testing.assert_close(got, wanted)
    slopes = torch.randn_like(got)
    for hand, auto in zip(
        torch.autograd.grad(got, tuple(ours.parameters()), slopes),
        torch.autograd.grad(wanted, [twin.get_parameter(name) for name, _ in ours.named_parameters()], slopes),
        strict=True,
    ):
        torch.testing.assert_close(hand, auto)


def test_attention_refuses_heads_that_do_not_divide_its_width() -> None:
    with pytest.raises(ValueError, match="not a multiple of heads=3"):
        NeighborAttention(5, 8, 3, edge_dim=1)


MODELS: dict[str, Callable[[Task], Any]] = {
    "semba": lambda task: SEMBA(15, 8, **SMALL),
    "semba_no_balance": lambda task: SEMBA(15, 8, balance=False, **SMALL),
    "tgn": lambda task: TGN(15, 8, **SMALL),
    "gcn": lambda task: GCN(8),
    "sgcn": lambda task: SGCN(8),
    "peer": lambda task: PeerSEMBA(task.stream, 8, **SMALL),
    "semba_leak": lambda task: SEMBA(15, 8, leak=True, **SMALL),
    "tgn_leak": lambda task: TGN(15, 8, leak=True, **SMALL),
    "semba_released": lambda task: ReleasedSEMBA(30, 8, memory_dim=6, time_dim=4, heads=2),
}
SIZE, CHANGED = 20, 60  # events from the fourth batch on are changed


def scores_of_batch_before_and_after_a_change(name: str) -> tuple[Tensor, Tensor]:
    """Scores of all events before, and of the changed batch's old pairs, with the stream as it is and as it is not."""
    stream = signed_stream()
    changed = replace(
        stream,
        edge_features=torch.cat([stream.edge_features[:CHANGED], -stream.edge_features[CHANGED:].roll(7, 0)]),
        dst=torch.cat([stream.dst[:CHANGED], stream.dst[CHANGED:].roll(5)]),
    )
    seen = []
    for version in (stream, changed):
        if name == "semba_released":
            version = two_sided(version)
        task = make_task(version)
        torch.manual_seed(0)
        model = MODELS[name](task).eval()
        parts = []
        for number, batch in enumerate(batches(task.stream, SIZE, 0, CHANGED + SIZE)):
            first = number * SIZE
            asked = torch.stack([stream.src[first : first + SIZE], stream.dst[first : first + SIZE]])
            if name == "semba_released":
                asked[1] += 15
            (_, logits), measured = score(model, task, first, batch, asked)
            model.commit(batch, measured)
            parts.append(logits.detach())
        seen.append(torch.cat(parts))
    return seen[0], seen[1]


@pytest.mark.parametrize("name", ["semba", "semba_no_balance", "tgn", "gcn", "sgcn", "peer"])
def test_scores_of_a_batch_do_not_depend_on_the_batch_or_on_what_follows(name: str) -> None:
    before, after = scores_of_batch_before_and_after_a_change(name)
    assert bool(before[CHANGED:].std() > 0)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["semba_leak", "tgn_leak", "semba_released"])
def test_the_released_order_lets_a_batch_see_itself(name: str) -> None:
    before, after = scores_of_batch_before_and_after_a_change(name)
    assert torch.equal(before[:CHANGED], after[:CHANGED])
    assert float((before[CHANGED:] - after[CHANGED:]).abs().max()) > 1e-3


def test_a_step_teaches_every_weight_and_leaves_no_gradient_in_the_state() -> None:
    task = make_task(signed_stream())
    model = SEMBA(15, 8, **SMALL)
    optimizer, before = torch.optim.SGD(model.parameters(), lr=1.0), {}
    for number, batch in enumerate(batches(task.stream, 20, 0, 60)):  # the third batch is the first to read a memory
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        train_batch(model, optimizer, task, "sign_class", 20 * number, batch, torch.Generator())
    for name, weight in model.named_parameters():
        # all scores of a query move alike with the bias of its keys, and the softmax does not see it
        assert not torch.equal(weight, before[name]) or name == "attention.lin_key.bias", name
    assert not any(buffer.requires_grad for buffer in model.buffers())


def test_a_restored_state_is_that_point_of_the_stream() -> None:
    stream, model = signed_stream(), SEMBA(15, 8, **SMALL).eval()
    run_through(model, stream)
    state, memory = model.state(), up_to_date(model)
    run_through(model, stream)
    assert not torch.equal(up_to_date(model), memory)
    model.restore(state)
    assert torch.equal(up_to_date(model), memory)

"""TGN, JODIE and APAN against slow references that process one event at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, TGNMemory

from datasets.temporal import EventStream, pending_statistics
from methods.pres import APAN, JODIE, PRES, TGN
from methods.pres.baselines import Memoryless, MemoryModel, Roots
from methods.shared.temporal import NeighborIndex, batches

NODES, WIDTH, FEATURES = 9, 4, 2
GAPS = ((3.0, 2.0), (5.0, 4.0))


def stream_of(events: int = 60, seed: int = 0) -> EventStream:
    """Events with ties in time, and no self loops."""
    generator = torch.Generator().manual_seed(seed)
    src = torch.randint(NODES, (events,), generator=generator)
    dst = (src + torch.randint(1, NODES, (events,), generator=generator)) % NODES
    t = torch.randint(events, (events,), generator=generator).double().sort().values
    return EventStream(src, dst, t, torch.randn(events, FEATURES, generator=generator), NODES)


def make(kind: type[MemoryModel], correction: PRES | None = None) -> MemoryModel:
    torch.manual_seed(0)
    gaps = {"gaps": GAPS} if kind is JODIE else {}
    return kind(NODES, FEATURES, WIDTH, num_neighbors=3, correction=correction, **gaps).double().eval()


def run_through(model: MemoryModel, stream: EventStream, size: int) -> None:
    index = NeighborIndex(stream)
    for batch in batches(stream, size):
        model.commit(batch, model.score(batch, batch.dst.flip(0).unsqueeze(0), index), index)


@torch.no_grad()
def naive_memory(model: MemoryModel, stream: EventStream, size: int) -> tuple[Tensor, Tensor]:
    """Memory and last update after the stream: a loop over batches, nodes and events, with dictionaries."""
    memory = torch.zeros(NODES, WIDTH).double()
    last, waiting = [0.0] * NODES, {}
    for begin in range(0, len(stream), size):
        events = range(begin, min(begin + size, len(stream)))
        nodes = {int(end[k]) for k in events for end in (stream.src, stream.dst)}
        for node in nodes & waiting.keys():
            message, last[node] = waiting[node]
            memory[node] = model.updater(message.unsqueeze(0), memory[node].unsqueeze(0))[0]
        for k in events:
            for i, j in ((stream.src[k], stream.dst[k]), (stream.dst[k], stream.src[k])):
                t = float(stream.t[k])
                encoded = torch.cos(model.time_encoder.weight * (t - last[int(i)]) + model.time_encoder.bias)
                waiting[int(i)] = (torch.cat([memory[i], memory[j], stream.edge_features[k].double(), encoded]), t)
    return memory, torch.tensor(last).double()


@pytest.mark.parametrize("kind", [TGN, JODIE])
@pytest.mark.parametrize("size", [1, 7, 60])
def test_memory_equals_a_loop_over_events(kind: type[MemoryModel], size: int) -> None:
    model, stream = make(kind), stream_of()
    run_through(model, stream, size)
    memory, last = naive_memory(model, stream, size)
    torch.testing.assert_close(model.memory, memory)
    assert torch.equal(model.last_update, last)
    assert size == 60 or float(model.memory.abs().max()) > 0.01


def test_one_event_at_a_time_leaves_nothing_pending() -> None:
    assert pending_statistics(stream_of(), 1) == (0.0, 0.0)


@pytest.mark.parametrize("kind", [TGN, JODIE, APAN])
def test_advancing_without_scoring_leaves_the_same_state(kind: type[MemoryModel]) -> None:
    scored, advanced, stream = make(kind), make(kind), stream_of()
    run_through(scored, stream, 7)
    index = NeighborIndex(stream)
    for batch in batches(stream, 7):
        advanced.advance(batch, index)
    for name, buffer in scored.named_buffers():
        torch.testing.assert_close(buffer, advanced.get_buffer(name), msg=name)


@pytest.mark.parametrize("kind", [TGN, JODIE, APAN, Memoryless])
def test_updating_all_nodes_gives_the_scores_of_updating_the_involved_ones(kind: type[MemoryModel]) -> None:
    stream = stream_of()
    index, scores = NeighborIndex(stream), []
    for all_nodes in (False, True):
        model = make(kind, PRES(NODES, WIDTH))
        model.all_nodes = all_nodes
        for batch in batches(stream, 9):
            step = model.score(batch, batch.dst.flip(0).unsqueeze(0), index)
            model.commit(batch, step, index)
            scores.append(step.logits)
    half = len(scores) // 2
    torch.testing.assert_close(torch.cat(scores[:half], 1), torch.cat(scores[half:], 1))


def naive_tgn(model: TGN, stream: EventStream, node: int, t: float, memory: Tensor) -> Tensor:
    """z of one node at one time, from a scan over all events."""
    seen = [(int(j), k) for k in range(len(stream)) if float(stream.t[k]) < t
            for i, j in ((stream.src[k], stream.dst[k]), (stream.dst[k], stream.src[k])) if int(i) == node]  # fmt: skip
    keys = [torch.cat([memory[j], stream.edge_features[k].double(), model.time_encoder((t - stream.t[k]).view(1))[0],
                       torch.ones(1).double()]) for j, k in seen[-3:]]  # fmt: skip
    own = memory[node].unsqueeze(0)
    query = torch.cat([own, torch.cos(model.time_encoder.bias).unsqueeze(0)], dim=1)
    key = torch.stack(keys) if keys else query.new_zeros(0, 2 * WIDTH + FEATURES + 1)
    return model.merge(model.attention(query, key, torch.zeros(len(keys), dtype=torch.int64)), own)[0]


@torch.no_grad()
def test_tgn_scores_equal_a_scan_over_all_events() -> None:
    model, stream = make(TGN), stream_of()
    index = NeighborIndex(stream)
    for batch in batches(stream, 10):
        up_to_date = model.memory.clone()
        waiting = model.waiting.nonzero().squeeze(1)
        up_to_date[waiting] = model.updater(model.message[waiting], model.memory[waiting])
        negatives = batch.dst.flip(0).unsqueeze(0)
        step = model.score(batch, negatives, index)
        for k in range(len(batch)):
            z, good, bad = (
                naive_tgn(model, stream, int(node[k]), float(batch.t[k]), up_to_date)
                for node in (batch.src, batch.dst, negatives[0])
            )
            wanted = torch.cat([model.decoder(z, good), model.decoder(z, bad)])
            torch.testing.assert_close(step.logits[:, k], wanted)
        model.commit(batch, step, index)


def test_jodie_without_gap_and_bias_is_the_memory_and_sides_have_their_own_statistics() -> None:
    model = make(JODIE)
    run_through(model, stream_of(), 10)
    with torch.no_grad():
        model.projection.bias.zero_()
    update = model.measure(torch.tensor([2, 5]))
    mean_gap = torch.tensor([GAPS[0][0], GAPS[1][0]]).double()
    at_mean = Roots(torch.tensor([0, 1]), update.time + mean_gap, acts=torch.tensor([True, False]))
    torch.testing.assert_close(model.embed(update, at_mean), update.after)
    swapped = Roots(at_mean.rows, at_mean.t, acts=torch.tensor([False, True]))
    assert not torch.allclose(model.embed(update, swapped), update.after)


@torch.no_grad()
def test_apan_mailboxes_equal_a_delivery_mail_by_mail() -> None:
    model, stream = make(APAN), stream_of()
    index, boxes = NeighborIndex(stream), {node: [] for node in range(NODES)}
    for batch in batches(stream, 10):
        step = model.score(batch, batch.dst.flip(0).unsqueeze(0), index)
        model.commit(batch, step, index)
        arriving: dict[int, list[tuple[Tensor, float]]] = {}
        for k in range(len(batch)):
            for side, (i, j) in enumerate(((0, 1), (1, 0))):
                ends = batch.ends[2 * k : 2 * k + 2]
                mail = torch.cat([step.z[2 * k + i], step.z[2 * k + j], batch.edge_features[k].double()])
                near = index.recent(ends[side : side + 1], batch.t[k : k + 1], 3)
                for receiver in [int(ends[side]), *near.node.tolist()]:
                    arriving.setdefault(receiver, []).append((mail, float(batch.t[k])))
        for receiver, mails in arriving.items():
            mean = torch.stack([mail for mail, _ in mails]).mean(0)
            boxes[receiver] = [*boxes[receiver], (mean, max(t for _, t in mails))][-10:]
    for node, box in boxes.items():
        got = sorted(zip(model.mail_time[node].tolist(), model.mail[node].tolist(), strict=True))[10 - len(box) :]
        wanted = sorted((t, mail.tolist()) for mail, t in box)
        assert len(box) == min(int(model.received[node]), 10)
        torch.testing.assert_close(torch.tensor([m for _, m in got]), torch.tensor([m for _, m in wanted]))
        assert [t for t, _ in got] == [t for t, _ in wanted]


def test_memory_equals_torch_geometrics_where_every_node_acts_in_every_batch() -> None:
    """There, and with a GRU that keeps zeros at zero, its messages are built from the same memory as ours."""
    events = 36
    pairs = torch.stack([torch.randperm(NODES - 1, generator=torch.Generator().manual_seed(i)) for i in range(9)])
    src, dst = pairs[:, :4].flatten(), pairs[:, 4:].flatten()
    stream = EventStream(src, dst, torch.arange(events).double() * 3, torch.randn(events, FEATURES), NODES - 1)
    torch.manual_seed(0)
    ours = TGN(NODES - 1, FEATURES, WIDTH)
    theirs = TGNMemory(NODES - 1, FEATURES, WIDTH, WIDTH, IdentityMessage(FEATURES, WIDTH, WIDTH), LastAggregator())
    with torch.no_grad():
        ours.updater.bias_ih.zero_()
        ours.updater.bias_hh.zero_()
        theirs.time_enc.lin.weight.copy_(ours.time_encoder.weight.unsqueeze(1))
        theirs.time_enc.lin.bias.copy_(ours.time_encoder.bias)
    theirs.gru.load_state_dict(ours.updater.state_dict())
    theirs.train()
    index = NeighborIndex(stream)
    for batch in batches(stream, 8):  # two rounds of all 8 nodes
        ours.advance(batch, index)
        theirs.update_state(batch.src, batch.dst, batch.t.long(), batch.edge_features)
        theirs.detach()
        torch.testing.assert_close(ours.memory, theirs.memory)
    assert float(ours.memory.abs().max()) > 0.1


def scores_of(model: MemoryModel, stream: EventStream, negatives: Tensor, size: int) -> Tensor:
    """Logits (2, E) of a pass from an empty memory."""
    model.reset()
    index, logits = NeighborIndex(stream), []
    for number, batch in enumerate(batches(stream, size)):
        drawn = negatives[number * size : number * size + len(batch)].unsqueeze(0)
        step = model.score(batch, drawn, index)
        model.commit(batch, step, index)
        logits.append(step.logits.detach())
    return torch.cat(logits, dim=1)


def with_changed(stream: EventStream, event: int, change: Callable[[EventStream], dict[str, Tensor]]) -> EventStream:
    fields = {"src": stream.src, "dst": stream.dst, "t": stream.t, "edge_features": stream.edge_features}
    fields = {name: value.clone() for name, value in fields.items()}
    for name, value in change(stream).items():
        fields[name][event] = value
    return EventStream(**fields, num_nodes=NODES)


@pytest.mark.parametrize("kind", [TGN, JODIE, APAN, Memoryless])
@pytest.mark.parametrize("pres", [False, True])
def test_no_score_sees_its_own_event_or_the_future(kind: type[MemoryModel], pres: bool) -> None:
    model, stream = make(kind, PRES(NODES, WIDTH) if pres else None), stream_of()
    negatives = torch.randint(NODES, (60,), generator=torch.Generator().manual_seed(5))
    before = scores_of(model, stream, negatives, 10)
    reached = False
    for event in (0, 14, 33, 45):
        featured = with_changed(stream, event, lambda s, k=event: {"edge_features": s.edge_features[k] + 3})
        after = scores_of(model, featured, negatives, 10)
        torch.testing.assert_close(after[:, : event + 1], before[:, : event + 1])
        reached |= not torch.allclose(after, before)
        moved = with_changed(stream, event, lambda s, k=event: {"dst": (s.dst[k] + 4) % NODES})
        after = scores_of(model, moved, negatives, 10)
        torch.testing.assert_close(after[:, :event], before[:, :event])
        torch.testing.assert_close(after[1, event], before[1, event])  # its negative's score is not its own
    assert reached  # the change is seen later, so the test is not blind

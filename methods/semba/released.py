"""What the released code of SEMBA does (claws-lab/semba), which is not what the paper says. Each departure has a test.

1. Leak: the batch is inserted into the graph before its embeddings are computed (`leak=True`).
2. Messages to s- come from negative events alone, and there are two of them: [s-_i ; s-_j] and [s-_i ; s+_j].
3. Where nothing is said, zeros are said: each node that is asked for has both memories updated, by a message of zeros
   where none waits, and then counts as last updated at time 0.
4. Who rates and who is rated are two nodes, even where they are one user; a memory never meets its other half.
   (`two_sided` makes such a stream.) Arcs lead from rater to rated only, so a rater's embedding reads no neighbour.
5. Messages are built whenever they are applied, from the memories of that moment, and are never used up: those of a
   node's last batch with an event of a sign are applied again and again, until a batch has an event of that sign.
   What is kept of a node is computed again, from the messages of the signs that its events in the batch have.
6. On the way to evaluation all messages are applied and thrown away; in evaluation a batch's messages are applied at
   once, and an embedding reads the memories as they are.
7. A sign is called positive where the *logit* is above 0.5, a probability of 0.622 (`THRESHOLD`), and the learning rate
   is scheduled for a maximum of a loss (`fit(plateau=True)`).
8. All events seen are attended to, although neighbour samplers are built (`num_neighbors=None`).

Left as in `SEMBA`: time starts at 0 (released: in 1970); the target of a negative weight is the weight (released: zero,
a product with the class label); the epoch is chosen by validation (released: the last); pairs without an event are of
no later period (released: of all nodes). Scores by familiarity come from one pass over the test (released: from
passes after the whole test was inserted).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from datasets.temporal import EventStream
from methods.semba.layers import TimeEncoder
from methods.semba.semba import BALANCE, ENEMIES, FRIENDS, Measured, TemporalModel
from methods.shared.kernels.temporal import gru_update
from methods.shared.temporal import Batch, NeighborIndex

THRESHOLD = 0.5
POSITIVE, NEGATIVE = 0, 1


@dataclass(frozen=True)
class Said:
    """Departures 2 and 5: what events of `sign` say, into memory `into`, of the other end's memory `partner`.

    It is heard by nodes with an event of sign `heard` in the batch, and dated from the last update of that sign.
    """

    into: int
    sign: int
    partner: int
    heard: int


RELEASED = (
    Said(FRIENDS, POSITIVE, FRIENDS, POSITIVE), Said(FRIENDS, NEGATIVE, ENEMIES, NEGATIVE),
    Said(ENEMIES, NEGATIVE, ENEMIES, NEGATIVE), Said(ENEMIES, NEGATIVE, FRIENDS, POSITIVE),
)  # fmt: skip


class ReleasedMemory(nn.Module):
    """The two memories of the released code: departures 2, 3, 5 and 6.

    waiting: (m, 5) float64, the messages that wait: sign, receiver, other end, time and size of the event.
    """

    def __init__(self, num_nodes: int, memory_dim: int, time_encoder: TimeEncoder) -> None:
        super().__init__()
        self.time_encoder = time_encoder
        width = 2 * memory_dim + 1 + time_encoder.out_channels
        self.cells = nn.ModuleList(nn.GRUCell(width, memory_dim) for _ in range(2))
        self.register_buffer("memory", torch.zeros(2, num_nodes, memory_dim))
        self.register_buffer("last_update", torch.zeros(2, num_nodes, dtype=torch.float64))
        self.set_extra_state(torch.zeros(0, 5, dtype=torch.float64))

    def get_extra_state(self) -> Tensor:
        """Part of `state_dict`, as its length changes."""
        return self.waiting

    def set_extra_state(self, state: Tensor) -> None:
        self.waiting = state

    def measure(self, nodes: Tensor) -> Measured:
        """The memories of distinct nodes (U,), ascending, that an embedding reads; changes no state."""
        if self.training:
            return self.updated(nodes, torch.ones(2, len(nodes), dtype=torch.bool, device=nodes.device))
        return Measured(nodes, self.memory.index_select(1, nodes), self.last_update.index_select(1, nodes))

    def updated(self, nodes: Tensor, hears: Tensor) -> Measured:
        """Both memories of distinct nodes (U,), ascending, after all that waits for those that hear it (2, U)."""
        row = nodes.new_full((self.memory.shape[1],), -1)
        row[nodes] = torch.arange(len(nodes), device=nodes.device)
        memories, times = [], []
        for into, cell in enumerate(self.cells):
            heard = [self._messages(said, row, hears) for said in RELEASED if said.into == into]
            receiver, message, t = (torch.cat(column) for column in zip(*heard, strict=True))
            count = torch.bincount(receiver, minlength=len(nodes)).clamp(min=1).unsqueeze(1)
            total = message.new_zeros(len(nodes), message.shape[1]).index_add_(0, receiver, message)
            times.append(t.new_zeros(len(nodes)).scatter_reduce_(0, receiver, t, "amax"))
            weights = cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
            memories.append(gru_update(total / count, self.memory[into].index_select(0, nodes), *weights))
        return Measured(nodes, torch.stack(memories), torch.stack(times))

    @torch.no_grad()
    def _messages(self, said: Said, row: Tensor, hears: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Row of the receiver (k,), message (k, W) and time (k,)."""
        sign, receiver, other = self.waiting[:, :3].long().unbind(1)
        of_row = row[receiver]
        counts = ((sign == said.sign) & (of_row >= 0)).nonzero().squeeze(1)
        counts = counts[hears[said.heard][of_row[counts]]]
        receiver, other, (t, size) = receiver[counts], other[counts], self.waiting[counts, 3:].unbind(1)
        own, partner = self.memory[said.into][receiver], self.memory[said.partner][other]
        encoded = self.time_encoder((t - self.last_update[said.heard][receiver]).to(own.dtype))
        return of_row[counts], torch.cat([own, partner, size.to(own.dtype).unsqueeze(1), encoded], dim=1), t

    @torch.no_grad()
    def commit(self, batch: Batch, measured: Measured) -> None:
        """Update the nodes of the batch, each by what it hears; store the messages of the batch before or after."""
        sign = (batch.edge_features[:, 0] < 0).long().repeat(2)
        receiver, other = torch.cat([batch.src, batch.dst]), torch.cat([batch.dst, batch.src])
        columns = sign, receiver, other, batch.t.repeat(2), batch.edge_features[:, 0].abs().repeat(2)
        said = torch.stack([column.double() for column in columns], dim=1)
        takes_part = torch.zeros(self.last_update.shape, dtype=torch.bool, device=receiver.device)
        takes_part[sign, receiver] = True
        if self.training:
            self._keep(takes_part)
            self._store(said, takes_part)
        else:
            self._store(said, takes_part)
            self._keep(takes_part)

    def _keep(self, takes_part: Tensor) -> None:
        nodes = takes_part.any(0).nonzero().squeeze(1)
        hears = takes_part[:, nodes]
        updated = self.updated(nodes, hears)
        self.memory[:, nodes] = updated.memory
        self.last_update[:, nodes] = torch.where(hears, updated.time, self.last_update[:, nodes])

    def _store(self, said: Tensor, takes_part: Tensor) -> None:
        sign, receiver = self.waiting[:, :2].long().unbind(1)
        self.waiting = torch.cat([self.waiting[~takes_part[sign, receiver]], said])

    @torch.no_grad()
    def train(self, mode: bool = True) -> ReleasedMemory:
        if self.training and not mode:
            self._keep(torch.ones_like(self.last_update, dtype=torch.bool))
            self.waiting = self.waiting[:0]
        return super().train(mode)


class ReleasedSEMBA(TemporalModel):
    """SEMBA as released, for a stream made by `two_sided`. Arguments as for `TemporalModel`."""

    def __init__(
        self, num_nodes: int, out_channels: int = 64, num_scores: int = 1, *, memory_dim: int = 64, **options: object
    ) -> None:
        settings: dict[str, Any] = {"leak": True, "num_neighbors": None, "memory_dim": memory_dim} | options
        super().__init__(num_nodes, out_channels, num_scores, rules=BALANCE, **settings)
        self.memory = ReleasedMemory(num_nodes, memory_dim, self.time_encoder)

    def reset(self) -> None:
        super().reset()
        self.memory.waiting = self.memory.waiting[:0]

    def neighbors(self, nodes: Tensor, index: NeighborIndex, seen: int) -> tuple[Tensor, Tensor, Tensor]:
        """Departure 4: only who is rated has neighbours. Raters have the lower ids."""
        assert index.stream.num_src is not None
        raters = int((nodes < index.stream.num_src).sum())
        owner, other, event = super().neighbors(nodes[raters:], index, seen)
        return owner + raters, other, event


def two_sided(stream: EventStream) -> EventStream:
    """Departure 4: the same events between 2 N nodes; node v as one who is rated is node v + N."""
    count = stream.num_nodes
    return replace(stream, dst=stream.dst + count, num_nodes=2 * count, num_src=count)

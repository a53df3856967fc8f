"""What the released code of SEMBA does, which is not what the paper says. Each departure has a test.

1. Leak: the batch is inserted into the graph before its embeddings are computed (`leak=True`).
2. Messages to s- come from negative events alone, and there are two of them: [s-_i ; s-_j] and [s-_i ; s+_j].
3. A node of the batch without a message to one of its memories has that memory updated by a message of zeros.
4. Who rates and who is rated are two nodes, even where they are one user; a memory never meets its other half.
   (`two_sided` makes such a stream.) Arcs lead from rater to rated only, so a rater's embedding reads no neighbour.
5. A sign is called positive where the *logit* is above 0.5, a probability of 0.622 (`THRESHOLD`), and the learning rate
   is scheduled for a maximum of a loss (`fit(plateau=True)`).
6. All events seen are attended to, although neighbour samplers are built (`num_neighbors=None`).

Left as in `SEMBA`: messages are built when a batch ends (released: when they are applied); the target of a negative
weight is the weight (released: zero, a product with the class label); the epoch is chosen by validation (released: the
last). Scores by familiarity come from one pass over the test (released: from passes after the whole test was inserted).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from datasets.temporal import EventStream
from methods.semba.semba import ENEMIES, FRIENDS, Rule, SignedMemory, TemporalModel
from methods.shared.temporal import Batch, NeighborIndex

THRESHOLD = 0.5
RELEASED = (
    Rule(FRIENDS, +1, FRIENDS), Rule(FRIENDS, -1, ENEMIES), Rule(ENEMIES, -1, ENEMIES), Rule(ENEMIES, -1, FRIENDS),
)  # fmt: skip


class ReleasedMemory(SignedMemory):
    """Departure 3: where nothing is said, zeros are said."""

    @torch.no_grad()
    def commit(self, batch: Batch, measured: object) -> None:
        super().commit(batch, measured)  # type: ignore[arg-type]
        nodes = batch.ends.unique()
        for m in range(len(self.cells)):
            silent = nodes[~self.waiting[m, nodes]]
            self.message[m, silent] = 0.0
            self.message_time[m, silent] = self.last_update[m, silent]
            self.waiting[m, silent] = True


class ReleasedSEMBA(TemporalModel):
    """SEMBA as released, for a stream made by `two_sided`. Arguments as for `TemporalModel`."""

    def __init__(
        self, num_nodes: int, out_channels: int = 64, num_scores: int = 1, *, memory_dim: int = 64, **options: object
    ) -> None:
        settings: dict[str, Any] = {"leak": True, "num_neighbors": None, "memory_dim": memory_dim} | options
        super().__init__(num_nodes, out_channels, num_scores, rules=RELEASED, **settings)
        self.memory = ReleasedMemory(num_nodes, RELEASED, memory_dim, self.time_encoder)

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

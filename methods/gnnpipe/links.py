"""How rows travel between workers: inside one process, over `torch.distributed`, or nowhere.

Worker (stage, way) of a grid has rank stage * W + way. Messages between stages are sent without waiting and their
receives are posted at the start of a pass, so that the wire works while the stage computes and no order of sends and
receives can lock two workers.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from methods.gnnpipe.partition import Grid

Shape = tuple[int, int]


class Links(Protocol):
    """What a worker needs of the others."""

    def agree(self, everywhere: dict[str, int], in_stage: dict[str, int]) -> None:
        """Raise ValueError, on every worker, where a number differs between workers, or between those of a stage."""

    def expect(self, source: int, stage: int, shapes: list[Shape]) -> None:
        """Announce what will arrive from stage `source`, in this order."""

    def receive(self, source: int, stage: int) -> Tensor:
        """The next message from stage `source`, of the announced shape."""

    def send(self, stage: int, target: int, message: Tensor) -> None:
        """Give a message away; it may not be written to before `finish`."""

    def finish(self) -> None:
        """Return when everything is sent."""

    def exchange(
        self, buffer: Tensor, rows: Tensor, send_splits: list[int], receive_splits: list[int]
    ) -> Tensor | None:
        """Send buffer[rows] to the other ways of the stage, split by way; returns theirs, or None for a single way."""

    def sum_gradients(self, weights: list[torch.nn.Parameter]) -> None:
        """Replace every `.grad` by the sum over the ways of the stage."""


class Mailbox:
    """All stages in one process, one way."""

    def __init__(self) -> None:
        self._boxes: dict[int, deque[Tensor]] = {}

    def agree(self, everywhere: dict[str, int], in_stage: dict[str, int]) -> None:
        pass

    def expect(self, source: int, stage: int, shapes: list[Shape]) -> None:
        self._boxes[stage] = deque()

    def receive(self, source: int, stage: int) -> Tensor:
        return self._boxes[stage].popleft()

    def send(self, stage: int, target: int, message: Tensor) -> None:
        self._boxes[target].append(message)

    def finish(self) -> None:
        pass

    def exchange(
        self, buffer: Tensor, rows: Tensor, send_splits: list[int], receive_splits: list[int]
    ) -> Tensor | None:
        return None

    def sum_gradients(self, weights: list[torch.nn.Parameter]) -> None:
        pass


class Alone(Mailbox):
    """One way of several without the others, to see how long it computes: their rows are zeros."""

    def exchange(
        self, buffer: Tensor, rows: Tensor, send_splits: list[int], receive_splits: list[int]
    ) -> Tensor | None:
        buffer.index_select(0, rows)  # what is sent is gathered all the same
        return buffer.new_zeros(sum(receive_splits), buffer.shape[1])


class Wire:
    """One worker per process of the default process group. All processes build theirs, in the same order.

    Raises ValueError where the grid does not fit the number of processes.
    """

    def __init__(self, grid: Grid, like: Tensor) -> None:
        if dist.get_world_size() != grid.workers:
            raise ValueError(f"{grid} needs {grid.workers} processes and there are {dist.get_world_size()}")
        self._ways, self._like = grid.ways, like
        self._stage, self._way = divmod(dist.get_rank(), grid.ways)
        groups = [list(range(s * grid.ways, (s + 1) * grid.ways)) for s in range(grid.stages)]
        # every process takes part in the making of every group
        made = [dist.new_group(ranks) for ranks in groups] if grid.ways > 1 else [None] * grid.stages
        self._group = made[self._stage]
        self._arriving: deque[tuple[dist.Work, Tensor]] = deque()
        self._leaving: list[tuple[dist.Work, Tensor]] = []

    def agree(self, everywhere: dict[str, int], in_stage: dict[str, int]) -> None:
        own = torch.tensor([*everywhere.values(), *in_stage.values()], device=self._like.device)
        every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(every, own)
        values = torch.stack(every).cpu()
        groups = [range(len(every))] * len(everywhere) + [
            range(self._stage * self._ways, (self._stage + 1) * self._ways)
        ] * len(in_stage)
        for i, (name, ranks) in enumerate(zip((*everywhere, *in_stage), groups, strict=True)):
            if len(set(held := values[list(ranks), i].tolist())) > 1:
                different = ", ".join(f"rank {rank} has {value}" for rank, value in zip(ranks, held, strict=True))
                raise ValueError(f"GNNPipe: all ranks need the same {name}; {different}")

    def expect(self, source: int, stage: int, shapes: list[Shape]) -> None:
        rank = source * self._ways + self._way
        for shape in shapes:
            message = self._like.new_empty(shape)
            self._arriving.append((dist.irecv(message, rank), message))

    def receive(self, source: int, stage: int) -> Tensor:
        work, message = self._arriving.popleft()
        work.wait()
        return message

    def send(self, stage: int, target: int, message: Tensor) -> None:
        message = message.contiguous()
        self._leaving.append((dist.isend(message, target * self._ways + self._way), message))

    def finish(self) -> None:
        for work, _ in self._leaving:
            work.wait()
        self._leaving.clear()

    def exchange(
        self, buffer: Tensor, rows: Tensor, send_splits: list[int], receive_splits: list[int]
    ) -> Tensor | None:
        if self._ways == 1:
            return None
        received = buffer.new_empty(sum(receive_splits), buffer.shape[1])
        arriving, leaving = received.split(receive_splits), buffer.index_select(0, rows).split(send_splits)
        others = [(self._way + step) % self._ways for step in range(1, self._ways)]
        # receives first: gloo's all_to_all announces them after what it sends, and so fills one direction at a time
        messages = [(dist.irecv, arriving[way], way) for way in reversed(others)]
        messages += [(dist.isend, leaving[way], way) for way in others]
        first = self._stage * self._ways
        batch = [dist.P2POp(op, rows, first + way, self._group) for op, rows, way in messages if len(rows)]
        for work in dist.batch_isend_irecv(batch) if batch else ():
            work.wait()
        return received

    def sum_gradients(self, weights: list[torch.nn.Parameter]) -> None:
        if self._ways == 1:
            return
        flat = torch.cat([weight.grad.flatten() for weight in weights])
        dist.all_reduce(flat, group=self._group)
        for weight, gradient in zip(weights, flat.split([weight.numel() for weight in weights]), strict=True):
            weight.grad.copy_(gradient.view_as(weight))

"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from datasets.temporal import EventStream
from methods.semba.baselines import SGCN, TGN
from methods.semba.semba import SEMBA
from methods.semba.tasks import Task, make_task
from methods.semba.training import train_batch
from methods.shared.temporal import batches

EVENTS, NODES, BATCH = 4_000, 1_000, 1_000
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _task() -> Task:
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(NODES, (2, EVENTS), generator=generator)
    t = torch.rand(EVENTS, generator=generator, dtype=torch.float64).sort().values * 1e6
    sign = torch.where(torch.rand(EVENTS, 1, generator=generator) < 0.9, 1.0, -1.0)
    return make_task(EventStream(ends[0], ends[1], t, sign, NODES), DEVICE)


def _train(kind: type[torch.nn.Module], *sizes: int) -> Callable[[], object]:
    torch.manual_seed(0)
    task, generator = _task(), torch.Generator().manual_seed(0)
    model: Any = kind(*sizes).to(DEVICE).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)

    def step(number: int) -> object:
        first = number * BATCH
        batch = next(batches(task.stream, BATCH, first))
        return train_batch(model, optimizer, task, "sign_class", first, batch, generator)

    step(0)
    return lambda: step(1)


def semba_batch() -> Callable[[], object]:
    return _train(SEMBA, NODES)


def tgn_batch() -> Callable[[], object]:
    return _train(TGN, NODES)


def sgcn_batch() -> Callable[[], object]:
    return _train(SGCN)


def latest_neighbors() -> Callable[[], object]:
    task = _task()
    nodes = torch.arange(NODES, device=task.stream.src.device)
    return lambda: task.index.latest(nodes, EVENTS, 10)

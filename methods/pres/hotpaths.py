"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable

import torch

from datasets.temporal import EventStream
from methods.pres.baselines import APAN, JODIE, TGN, MemoryModel
from methods.pres.pres import PRES
from methods.pres.training import draw, make_task, train_batch
from methods.shared.temporal import NeighborIndex, batches

EVENTS, NODES, WIDTH, BATCH = 2_000, 1_000, 64, 200
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _stream() -> EventStream:
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(NODES, (2, EVENTS), generator=generator)
    t = torch.rand(EVENTS, generator=generator, dtype=torch.float64).sort().values * 1e6
    return EventStream(ends[0], ends[1], t, torch.randn(EVENTS, 1, generator=generator), NODES)


def _train(kind: type[MemoryModel], pres: bool) -> Callable[[], object]:
    torch.manual_seed(0)
    task = make_task(_stream(), DEVICE)
    correction = PRES(NODES, WIDTH, time_unit=task.time_unit) if pres else None
    gaps = {"gaps": task.gaps} if kind is JODIE else {}
    model = kind(NODES, 1, WIDTH, correction=correction, **gaps).to(DEVICE).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    warm, batch = list(batches(task.train, BATCH, 0, 1_000)), next(batches(task.train, BATCH, 1_000))
    negatives = draw(task.destinations, (1, BATCH), torch.Generator().manual_seed(0))
    for part in warm:
        train_batch(model, optimizer, part, negatives, task.train_index)
    return lambda: train_batch(model, optimizer, batch, negatives, task.train_index)


def tgn_batch() -> Callable[[], object]:
    return _train(TGN, pres=False)


def tgn_pres_batch() -> Callable[[], object]:
    return _train(TGN, pres=True)


def jodie_pres_batch() -> Callable[[], object]:
    return _train(JODIE, pres=True)


def apan_pres_batch() -> Callable[[], object]:
    return _train(APAN, pres=True)


def recent_neighbors() -> Callable[[], object]:
    stream = make_task(_stream(), DEVICE).full
    index = NeighborIndex(stream)
    return lambda: index.recent(stream.src, stream.t, 10)

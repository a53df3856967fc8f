"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable

import torch

from methods.pytorch_direct.requests import requests
from methods.pytorch_direct.sampling import Batch, Graph, graph_of, sample
from methods.pytorch_direct.training import GraphSAGE, in_turn, train
from methods.pytorch_direct.workloads import distinct_rows, gathers, host_table, way_of

NODES, WIDTH, ROWS, CLASSES = 20_000, 602, 4096, 16


def _gather(name: str) -> Callable[[], object]:
    table = host_table(NODES, WIDTH)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return gathers([name], table, distinct_rows(table, ROWS, seed=0), device)[name]


def gather_direct() -> Callable[[], object]:
    return _gather("direct")


def gather_staged() -> Callable[[], object]:
    return _gather("staged")


def gather_staged_pinned() -> Callable[[], object]:
    return _gather("staged_pinned")


def _batch() -> tuple[Graph, Callable[[], Batch]]:
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(NODES, (2, 10 * NODES), generator=generator)
    graph = graph_of(torch.cat([ends, ends.flip(0)], dim=1), NODES)
    return graph, lambda: sample(graph, torch.arange(200), (5, 10), generator)


def sample_batch() -> Callable[[], object]:
    return _batch()[1]


def train_step() -> Callable[[], object]:
    _, draw = _batch()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch, labels = draw().to(device), torch.arange(NODES, device=device) % CLASSES
    way = way_of("direct", host_table(NODES, WIDTH), device)
    model = GraphSAGE(WIDTH, CLASSES).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    return lambda: train(model, optimizer, [batch], in_turn(way, [batch]), labels)


def count_requests() -> Callable[[], object]:
    index = torch.randint(NODES, (ROWS,), generator=torch.Generator().manual_seed(0))
    return lambda: requests("shift", WIDTH, index)

"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

import datasets
from methods.gnnpipe.baselines import FullGraph, grid_of
from methods.gnnpipe.partition import make_partition, make_shards
from methods.gnnpipe.training import Model, Task, make_task, pipeline, worker

LAYERS, WIDTH, CHUNKS = 8, 64, 16


def _task(model: str) -> Task:
    return make_task(datasets.load("csbm_mixed"), model).to("cuda" if torch.cuda.is_available() else "cpu")


def _epochs(engine: object) -> Callable[[], object]:
    numbers = itertools.count()
    run = engine.epoch  # type: ignore[attr-defined]
    return lambda: run(next(numbers))


def full_graph_epoch() -> Callable[[], object]:
    return _epochs(FullGraph(_task("gcnii"), Model("gcnii", LAYERS, WIDTH)))


def pipeline_epoch() -> Callable[[], object]:
    task = _task("gcnii")
    partition = make_partition(task.adjacency, 1, CHUNKS, "metis")
    return _epochs(pipeline(task, Model("gcnii", LAYERS, WIDTH), 4, partition)[0])


def graph_parallel_worker_epoch() -> Callable[[], object]:
    task = _task("gcn")
    grid = grid_of("graph", 8, 1)
    (shard,) = make_shards(task.adjacency, make_partition(task.adjacency, 8, 1, "metis"), [0])
    return _epochs(worker(task, Model("gcn", LAYERS, WIDTH), grid, shard, 0, alone=True))


def cut_into_shards() -> Callable[[], object]:
    task = _task("gcn")
    partition = make_partition(task.adjacency, 4, CHUNKS, "metis")
    return lambda: make_shards(task.adjacency, partition)

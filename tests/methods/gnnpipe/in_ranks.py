"""What the processes of a test run. Apart from the tests, whose imports would cost every process seconds."""

from __future__ import annotations

import torch

from methods.gnnpipe.gnnpipe import GNNPipe, Techniques
from methods.gnnpipe.links import Wire
from methods.gnnpipe.partition import make_partition, make_shards
from methods.gnnpipe.ranks import count_bytes
from methods.gnnpipe.training import make_stage, worker

TECHNIQUES = Techniques(period=2)


def train(engine, epochs):
    """Losses, and the final weights of the stages that live here."""
    optimizer = torch.optim.Adam(list(engine.parameters()), lr=0.01)
    losses = []
    for epoch in range(epochs):
        losses.append(engine.epoch(epoch))
        optimizer.step()
    return losses, [weight.detach() for weight in engine.parameters()]


def train_in_rank(rank, world_size, task, model, grid, partition, epochs):
    (shard,) = make_shards(task.adjacency, partition, [rank % grid.ways])
    return train(worker(task, model, grid, shard, rank, TECHNIQUES), epochs)


def train_and_count(rank, world_size, training, counting):
    return train_in_rank(rank, world_size, *training), count_bytes(rank, world_size, *counting)


def build_in_rank(rank, world_size, task, cases):
    """What the building of an engine is refused with, in each case (grid, how rank 0 builds it, how rank 1 does)."""
    messages = []
    for grid, *builds in cases:
        messages.append("")
        try:
            build(rank, task, grid, **builds[rank])
        except ValueError as error:
            messages[-1] = str(error)
    return messages


def build(rank, task, grid, model, cut, techniques, scale_weights=1.0):
    (shard,) = make_shards(task.adjacency, make_partition(task.adjacency, *cut), [rank % grid.ways])
    blocks = model.build(task)
    with torch.no_grad():
        for weight in blocks.parameters():
            weight.mul_(scale_weights)
    number, links = rank // grid.ways, Wire(grid, task.x)
    stage = make_stage(task, model, blocks, grid, number, shard, links, techniques)
    GNNPipe([stage], [number], grid.stages, links, seed=model.seed)

"""What the processes of a test run. Apart from the tests, whose imports would cost every process seconds."""

from __future__ import annotations

import torch

from methods.gnnpipe.gnnpipe import Techniques
from methods.gnnpipe.partition import make_shards
from methods.gnnpipe.training import worker

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

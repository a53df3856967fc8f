"""The engine that is attributed to the authors, dreaming-panda/Mithril_MultiGPU, at ba326a4 (branch main).

Its GCN (`applications/gcn.cc`: three layers without biases, each multiplies by W and then aggregates) was trained by
its engine for one process on a CPU, Adam 0.01 and weight decay 5e-4, on the graph, features and weights below. The
engine for GPUs needs several of them; its chunks are held against autograd in `test_gnnpipe.py`.

Its Adam, on CPU and GPU alike, loads the number of the step from a copy that is never written back, so that every step
is corrected for bias as if it were the first. From the third loss on that differs from torch's Adam, which we use.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from methods.gnnpipe.gnnpipe import GNNPipe, Techniques
from methods.gnnpipe.layers import GCN
from methods.gnnpipe.links import Mailbox
from methods.gnnpipe.partition import Grid, make_partition, make_shards
from methods.gnnpipe.training import Model, make_stage, make_task

LOSSES = [1.100790830, 1.098576640, 1.096111391, 1.094869279, 1.094072559, 1.093403420, 1.093228303, 1.092845995]
NODES, WIDTHS = 12, (5, 4, 4, 3)


def wave(*shape):
    return torch.sin(0.37 * torch.arange(math.prod(shape), dtype=torch.float64) + 0.11).view(shape)


class Last(GCN):
    def forward(self, h, z, h0):
        return self.linear(z)


def engine_of(stages):
    pairs = [(i, j) for i in range(NODES) for j in ((i + 1) % NODES, (5 * i + 3) % NODES) if i != j]
    arcs = torch.tensor(pairs + [pair[::-1] for pair in pairs]).t().unique(dim=1)
    data = Data(x=wave(NODES, WIDTHS[0]), edge_index=arcs, y=torch.arange(NODES) % WIDTHS[-1])
    task, model = make_task(data, "gcn", dtype=torch.float64), Model("gcn", 3, WIDTHS[1])
    kinds = zip((GCN, GCN, Last), WIDTHS[:-1], WIDTHS[1:], strict=True)
    blocks = nn.ModuleList(kind(a, b) for kind, a, b in kinds).double()
    with torch.no_grad():
        for block in blocks:
            block.linear.weight.copy_(2 * wave(*block.linear.weight.t().shape).t())
            block.linear.bias.zero_()
    (shard,) = make_shards(task.adjacency, make_partition(task.adjacency, 1, 1, "order"))
    links, grid = Mailbox(), Grid(stages, 1, 1)
    made = [make_stage(task, model, blocks, grid, s, shard, links, Techniques()) for s in range(stages)]
    return GNNPipe(made, range(stages), stages, links), [block.linear.weight for block in blocks]


@pytest.mark.parametrize("stages", [1, 3])
def test_loss_and_first_step_are_the_released_engines(stages):
    engine, weights = engine_of(stages)
    optimizer, losses = torch.optim.Adam(weights, lr=0.01, weight_decay=5e-4), []
    for epoch in range(3):
        losses.append(engine.epoch(epoch))
        optimizer.step()
    assert losses[:2] == pytest.approx(LOSSES[:2], rel=1e-6)
    assert losses[2] != pytest.approx(LOSSES[2], rel=1e-4)


def test_with_the_released_adam_all_losses_are_the_released_engines():
    engine, weights = engine_of(2)
    moments = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in weights]
    for epoch, expected in enumerate(LOSSES):
        assert engine.epoch(epoch) == pytest.approx(expected, rel=1e-6)
        with torch.no_grad():
            for weight, (first, second) in zip(weights, moments, strict=True):
                gradient = weight.grad + 5e-4 * weight
                first.lerp_(gradient, 0.1)
                second.lerp_(gradient.square(), 0.001)
                weight -= 0.01 * (first / 0.1) / ((second / 0.001).sqrt() + 1e-8)

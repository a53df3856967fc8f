from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.network import Network
from methods.gnnpipe.baselines import grid_of
from methods.gnnpipe.cluster import GridTimes, epoch_time, loads_of, time_grid
from methods.gnnpipe.partition import make_partition, make_shards
from methods.gnnpipe.training import Model, make_task
from methods.gnnpipe.volume import border_bytes, count_mirrors, mirror_bytes
from methods.shared.graph import load_graph

WIDTH, LAYERS = 8, 6
FAST = Network(1e18, 0.0)


def set_up(method, name="gcnii", workers=4, chunks=3, stages=2):
    data = load_graph("csbm", num_nodes=120, num_blocks=8, num_classes=4, degree=6, homophily=0.5)
    task, model, grid = make_task(data, name), Model(name, LAYERS, WIDTH), grid_of(method, workers, chunks, stages)
    partition = make_partition(task.adjacency, grid.ways, grid.chunks, "metis")
    return task, model, grid, partition, make_shards(task.adjacency, partition)


@pytest.mark.parametrize("method", ["graph", "pipeline", "hybrid", "naive"])
def test_the_loads_of_a_grid_are_the_closed_forms(method):
    task, model, grid, partition, shards = set_up(method)
    loads = loads_of(task, model, grid, shards)
    assert 2 * loads.borders.sum() == border_bytes(120, WIDTH, grid.stages, tensors=2)
    mirrors = (count_mirrors(matrix, partition) for matrix in (task.adjacency, task.transpose))
    assert loads.exchange.sum() == mirror_bytes(*mirrors, [WIDTH] * LAYERS)
    assert loads.layers.sum() == LAYERS
    assert bool(loads.weights.any()) == (grid.ways > 1)


@pytest.mark.parametrize("method", ["graph", "pipeline", "hybrid", "naive"])
def test_every_worker_is_timed_for_every_chunk_and_leaves_the_wire_alone(method):
    task, model, grid, _, shards = set_up(method)
    times = time_grid(task, model, grid, shards, repeats=1)
    assert times.forward.shape == times.backward.shape == (grid.stages, grid.ways, grid.chunks)
    assert times.forward.min() > 0 < times.backward.min()
    assert not torch.distributed.is_initialized()


def test_on_an_infinitely_fast_wire_only_computing_and_the_bubble_are_left():
    for method, ticks in (("graph", 1), ("naive", 4), ("pipeline", 3 + 4 - 1)):
        task, model, grid, _, shards = set_up(method)
        ones = np.ones((grid.stages, grid.ways, grid.chunks))
        epoch = epoch_time(GridTimes(ones, ones), loads_of(task, model, grid, shards), FAST)
        assert epoch.seconds == pytest.approx(2 * ticks, rel=1e-6)


def test_a_slow_wire_costs_graph_parallelism_every_layer_and_the_pipeline_its_borders():
    seconds = {}
    for method in ("graph", "pipeline"):
        task, model, grid, _, shards = set_up(method, "gcn")
        nothing = np.full((grid.stages, grid.ways, grid.chunks), 1e-9)
        seconds[method] = epoch_time(GridTimes(nothing, nothing), loads_of(task, model, grid, shards), Network(1e6, 0))
    assert seconds["graph"].seconds > seconds["pipeline"].seconds
    assert seconds["graph"].communication_s == pytest.approx(seconds["graph"].seconds, rel=0.05)

"""From a grid of workers to what the simulator needs: seconds that each computes, bytes that each sends."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from assay.network import Network
from methods.gnnpipe.gnnpipe import GNNPipe
from methods.gnnpipe.partition import Grid, Shard
from methods.gnnpipe.simulator import EpochTime, graph_parallel_epoch, hybrid_epoch
from methods.gnnpipe.training import Model, Task, stage_sizes, worker
from methods.gnnpipe.volume import ITEM_BYTES


@dataclass(frozen=True)
class GridTimes:
    """Seconds that worker (s, w) computes for chunk k, (S, W, K)."""

    forward: np.ndarray
    backward: np.ndarray


@dataclass(frozen=True)
class Loads:
    """Bytes of an epoch.

    borders: (S-1, W, K) from stage s to s+1 forward, and as much back. exchange: (2, S, K, W, W) from way to way,
    mirrors' rows forward and their gradients backward, in all layers of a stage together. layers: (S,) how many those
    are. weights: (S,) of a stage's weights, 0 where nobody shares them.
    """

    borders: np.ndarray
    exchange: np.ndarray
    layers: np.ndarray
    weights: np.ndarray


def loads_of(task: Task, model: Model, grid: Grid, shards: list[Shard]) -> Loads:
    """The bytes of a grid whose ways have these shards, without running it."""
    blocks = model.build(task)
    sizes = stage_sizes(len(blocks), grid.stages)
    cuts = np.cumsum([0, *sizes])
    runs = [blocks[a:b] for a, b in itertools.pairwise(cuts)]
    layers = np.array([sum(block.aggregates for block in run) for run in runs])
    weights = np.array([sum(w.numel() for w in run.parameters()) * ITEM_BYTES for run in runs])
    row = model.hidden_channels * ITEM_BYTES
    rows = np.array([[shard.rows(k) for k in range(grid.chunks)] for shard in shards])  # (W, K)
    borders = np.broadcast_to(rows * row * model.border_tensors, (grid.stages - 1, *rows.shape))
    halos = [[shard.forward for shard in shards], [shard.backward for shard in shards]]
    sent = np.array([[halo.send_splits for halo in ways] for ways in halos]).swapaxes(1, 2)  # (2, K, W, W)
    exchange = layers[:, None, None, None] * sent[:, None] * row
    return Loads(borders, exchange, layers, weights * (grid.ways > 1))


def time_grid(task: Task, model: Model, grid: Grid, shards: list[Shard], repeats: int) -> GridTimes:
    """Time every worker of a grid by itself, one after the other."""
    found = [
        time_worker(worker(task, model, grid, shards[rank % grid.ways], rank, alone=True), repeats)
        for rank in range(grid.workers)
    ]
    forward, backward = np.array(found).reshape(grid.stages, grid.ways, 2, grid.chunks).transpose(2, 0, 1, 3)
    return GridTimes(forward, backward)


def time_worker(engine: GNNPipe, repeats: int) -> np.ndarray:
    """Seconds (2, K) of the forward and of the backward pass of each chunk: medians over epochs, one more to warm up.

    The engine has one stage and nobody to talk to (`worker(..., alone=True)`): zeros stand for what would arrive.
    """
    (stage,) = engine.stages
    chunks, x = stage.shard.chunks, stage.vertices.x
    clock = _clock(x.device)
    seconds = np.zeros((repeats + 1, 2, chunks))
    for epoch in range(repeats + 1):
        order = engine.order(epoch)
        stage.begin(epoch)
        passes = ((stage.forward, stage.first == 0, order), (stage.backward, stage.last, order[::-1]))
        for direction, (run, starts_here, chunks_in_order) in enumerate(passes):
            for chunk in chunks_in_order:
                received = None if starts_here else x.new_zeros(stage.shape(chunk))
                start = clock()
                run(chunk, received)
                seconds[epoch, direction, chunk] = clock() - start
        stage.end()
    return np.median(seconds[1:], axis=0)


def _clock(device: torch.device) -> Callable[[], float]:
    """Seconds; on a GPU, when it has done what it was given."""

    def after_the_gpu() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return after_the_gpu if device.type == "cuda" else time.perf_counter


def by_layer(times: GridTimes, loads: Loads) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Graph parallelism in equal layers: seconds forward and backward (P, L), bytes from way to way (2, L, P, P)."""
    layers = int(loads.layers[0])
    forward, backward = (np.repeat(seconds[0] / layers, layers, axis=1) for seconds in (times.forward, times.backward))
    return forward, backward, np.repeat(loads.exchange[:, 0] / layers, layers, axis=1)


def epoch_time(times: GridTimes, loads: Loads, network: Network) -> EpochTime:
    """Simulate an epoch of any grid."""
    if times.forward.shape[::2] == (1, 1):
        return graph_parallel_epoch(*by_layer(times, loads), loads.weights[0], network)
    return hybrid_epoch(times.forward, times.backward, loads.borders, loads.exchange, loads.layers, loads.weights,
                        network)  # fmt: skip

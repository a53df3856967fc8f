"""The simulated epochs on real ranks and a real wire: what `simulator` is held against.

A GPU is a rank. Computing is replaced by sleeping, which takes no core from the other ranks, so that the order of
things and the wire are all that is under test. Messages are sent by gloo on a network of the given speed. All are
asked for at the start of an epoch: gloo asks on the connection whose data goes the other way, and a request that
waits behind data makes a full-duplex wire half as fast. (`all_to_all_single` asks late, so it isn't used.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from numpy.typing import NDArray

from assay.network import Network
from assay.ranks import run_ranks
from methods.gnnpipe.cluster import GridTimes, Loads, by_layer

Array = NDArray[Any]


def replay(times: GridTimes, loads: Loads, network: Network) -> float:
    """s of an epoch as `cluster.epoch_time` has it, of a grid with one way or with one stage and chunk; no weights."""
    stages, ways, chunks = times.forward.shape
    if stages == chunks == 1:
        return replay_graph_parallel(*by_layer(times, loads), network)
    assert ways == 1, "a hybrid is not replayed"
    return replay_pipeline(times.forward[:, 0], times.backward[:, 0], loads.borders[:, 0], network)


def replay_pipeline(forward: Array, backward: Array, border_bytes: Array, network: Network, repeats: int = 3) -> float:
    """s of the fastest of some epochs with one rank per stage. Arguments as in `pipeline_epoch`."""
    return _fastest(_pipeline, len(forward), (forward, backward, border_bytes.astype(int)), network, repeats)


def replay_graph_parallel(
    forward: Array, backward: Array, exchange: Array, network: Network, repeats: int = 3
) -> float:
    """s of the fastest of some epochs with one rank per part. Arguments as in `graph_parallel_epoch`; no weights."""
    return _fastest(_graph_parallel, len(forward), (forward, backward, exchange.astype(int)), network, repeats)


def _fastest(epoch: Callable[..., None], ranks: int, args: tuple[Any, ...], network: Network, repeats: int) -> float:
    spans = run_ranks(_spans, ranks, args=(epoch, repeats, *args), network=network)
    return min(max(end for _, end in epochs) - max(start for start, _ in epochs) for epochs in zip(*spans, strict=True))


def _spans(rank: int, world_size: int, epoch: Callable[..., None], repeats: int, *args: Any) -> list[tuple[float, ...]]:
    found = []
    for _ in range(repeats):
        dist.barrier()
        start = time.perf_counter()  # of a clock that all processes of the machine share
        epoch(rank, world_size, *args)
        found.append((start, time.perf_counter()))
    return found


def _pipeline(rank: int, world_size: int, forward: Array, backward: Array, border_bytes: Array) -> None:
    chunks, first, last, sent = range(forward.shape[1]), rank == 0, rank == world_size - 1, []
    inputs = [] if first else [_receive(border_bytes[rank - 1, k], rank - 1, k) for k in chunks]
    gradients = [] if last else [_receive(border_bytes[rank, k], rank + 1, k) for k in chunks]
    for k in chunks:
        if not first:
            inputs[k].wait()
        time.sleep(forward[rank, k])
        if not last:
            sent.append(_send(border_bytes[rank, k], rank + 1, k))
    for k in reversed(chunks):
        if not last:
            gradients[k].wait()
        time.sleep(backward[rank, k])
        if not first:
            sent.append(_send(border_bytes[rank - 1, k], rank - 1, k))
    for message in sent:
        message.wait()


def _graph_parallel(rank: int, world_size: int, forward: Array, backward: Array, exchange: Array) -> None:
    peers = [(rank + i) % world_size for i in range(1, world_size)]
    steps = [*zip(exchange[0], forward[rank], strict=True),
             *zip(exchange[1, ::-1], backward[rank, ::-1], strict=True)]  # fmt: skip
    received = [
        [_receive(bytes_[q, rank], q, i) for q in peers if bytes_[q, rank]] for i, (bytes_, _) in enumerate(steps)
    ]
    for i, (bytes_, seconds) in enumerate(steps):
        sent = [_send(bytes_[rank, q], q, i) for q in peers if bytes_[rank, q]]
        for message in received[i] + sent:
            message.wait()
        time.sleep(seconds)


def _receive(size: int, source: int, tag: int) -> Any:
    return dist.irecv(torch.empty(size, dtype=torch.uint8), source, tag=tag)


def _send(size: int, target: int, tag: int) -> Any:
    return dist.isend(torch.empty(size, dtype=torch.uint8), target, tag=tag)

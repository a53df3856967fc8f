"""What runs in the processes of a distributed experiment: one worker each, its bytes counted or its epochs raced.

Nothing here imports torch-geometric, whose import would take longer than most of these processes live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from assay.measure.communication import count_communication
from assay.measure.time import race
from assay.network import FRAME, PAYLOAD, Network
from methods.gnnpipe.cluster import GridTimes, epoch_time, loads_of, time_worker
from methods.gnnpipe.gnnpipe import GNNPipe
from methods.gnnpipe.partition import Grid, Partition, Shard, make_shards
from methods.gnnpipe.training import Model, Task, worker
from methods.gnnpipe.volume import border_bytes, count_mirrors, mirror_bytes, ring_bytes

Row = dict[str, Any]
COUNTED = ("send", "all_reduce")


@dataclass(frozen=True)
class Case:
    """A method on a grid of workers, with a model and a partition."""

    method: str
    model: Model
    grid: Grid
    partition: Partition

    @property
    def setting(self) -> dict[str, Any]:
        return {"model": self.model.name, "layers": self.model.num_layers}


def _workers(rank: int, tasks: dict[str, Task], cases: Iterable[Case]) -> Iterable[tuple[Case, Task, GNNPipe]]:
    """The rank's engine of each case; shards are cut once for each partition and kind of adjacency."""
    shards: dict[tuple[int, int], Shard] = {}
    for case in cases:
        task = tasks[case.model.name]
        key = (id(case.partition), id(task))
        if key not in shards:
            (shards[key],) = make_shards(task.adjacency, case.partition, [rank % case.grid.ways])
        yield case, task, worker(task, case.model, case.grid, shards[key], rank)


def count_bytes(rank: int, world_size: int, tasks: dict[str, Task], cases: list[Case]) -> list[Row]:
    """Bytes of payload that an epoch sends, all ranks together, beside the closed forms. Rank 0 returns rows.

    Two epochs are counted: they must send the same, for what is sent depends on no value. Raises RuntimeError where
    they do not.
    """
    rows: list[Row] = []
    for case, task, engine in _workers(rank, tasks, cases):
        counts = [_bytes_of_epoch(engine, epoch) for epoch in range(2)]
        if counts[0] != counts[1]:
            raise RuntimeError(f"{case.method}, {case.setting}: two epochs sent {counts[0]} and {counts[1]} bytes")
        weights = sum(weight.numel() for weight in engine.parameters()) if rank % case.grid.ways == 0 else 0
        total = torch.tensor([*(counts[0].get(name, 0) for name in COUNTED), weights])
        dist.all_reduce(total)
        rows_sent, reduced, weights = total.tolist()
        widths = [case.model.hidden_channels] * case.model.num_layers
        formula = border_bytes(len(task.y), widths[0], case.grid.stages, case.model.border_tensors)
        mirrors = (count_mirrors(matrix, case.partition) for matrix in (task.adjacency, task.transpose))
        formula += mirror_bytes(*mirrors, widths)
        values = {"bytes": rows_sent, "formula_bytes": formula, "weight_bytes": reduced,
                  "ring_bytes": ring_bytes(case.grid.ways, weights)}  # fmt: skip
        rows += [
            {"method": case.method, "setting": case.setting, "metric": metric, "value": value, "unit": "B",
             "evidence": "counted"}
            for metric, value in values.items()
        ]  # fmt: skip
    return rows if rank == 0 else []


def _bytes_of_epoch(engine: GNNPipe, epoch: int) -> dict[str, int]:
    with count_communication() as counter:
        engine.epoch(epoch)
    sent: dict[str, int] = {}
    for row in counter.rows():
        sent[row.collective] = sent.get(row.collective, 0) + row.sent_bytes
    unexpected = sorted(name for name, count in sent.items() if count and name not in COUNTED)
    if unexpected:
        raise RuntimeError(f"an epoch sent bytes by {', '.join(unexpected)}, which no closed form knows")
    return sent


def race_epochs(
    rank: int, world_size: int, tasks: dict[str, Task], cases: list[Case], pairs: int, repeats: int,
    network: Network | None,
) -> list[Row]:  # fmt: skip
    """Race whole epochs (forward, backward, update) of the cases on all ranks in step. Rank 0 returns rows.

    All ranks run the same race, whose order is fixed, and every epoch ends with a barrier: rank 0's clock shows the
    time of the slowest rank. network: where it is given, all ranks first measure what each of them computes, at the
    same time, without the wire, in `repeats` epochs; the simulator makes of it and of the bytes the time to expect.
    """
    if dist.get_backend() == "nccl":
        tasks = {name: task.to("cuda") for name, task in tasks.items()}
    expected = {case.method: _expected_s(rank, tasks, case, repeats, network) for case in cases if network}
    contenders = {case.method: _epochs(engine) for case, _, engine in _workers(rank, tasks, cases)}
    settings = {case.method: case.setting for case in cases}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    rows: list[Row] = []
    for sample in race(contenders, pairs=pairs, warmup=2):
        times[sample.name].append(sample.seconds)
        rows.append({"metric": "time_s", "value": sample.seconds, "unit": "s", "repeat": sample.repeat,
                     "method": sample.name})  # fmt: skip
    for name, seconds in expected.items():
        ratio = seconds / float(np.median(times[name]))
        rows.append({"metric": "expected_over_measured", "value": ratio, "unit": "x", "method": name})
        rows.append({"metric": "expected_s", "value": seconds, "unit": "s", "evidence": "simulated", "method": name})
    return [{**row, "setting": settings[row["method"]]} for row in rows] if rank == 0 else []


def _epochs(engine: GNNPipe) -> Callable[[], None]:
    optimizer = torch.optim.Adam(list(engine.parameters()), lr=0.01, weight_decay=5e-4, fused=True)
    epochs = iter(range(10**9))

    def run() -> None:
        engine.epoch(next(epochs))
        optimizer.step()
        dist.barrier()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


def _expected_s(rank: int, tasks: dict[str, Task], case: Case, repeats: int, network: Network) -> float:
    """The simulated time of an epoch from what all ranks compute when all compute at once."""
    task, grid = tasks[case.model.name], case.grid
    shards = make_shards(task.adjacency, case.partition)
    alone = worker(task, case.model, grid, shards[rank % grid.ways], rank, alone=True)
    dist.barrier()  # so that all compute at once, as they do in the race
    own = torch.from_numpy(time_worker(alone, repeats))  # (2, K)
    every = [torch.empty_like(own) for _ in range(grid.workers)]
    dist.all_gather(every, own)
    forward, backward = torch.stack(every).view(grid.stages, grid.ways, 2, grid.chunks).permute(2, 0, 1, 3).numpy()
    payload = Network(network.bandwidth_bps * PAYLOAD / FRAME, network.latency_s)
    loads = loads_of(task, case.model, grid, shards)
    return epoch_time(GridTimes(forward, backward), loads, payload).seconds

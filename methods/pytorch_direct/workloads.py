"""What the experiments share: tables, ways to gather from them, sampled batches, and the training on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from assay.experiment import Run
from assay.measure.time import order_of_round
from datasets.power_law import NUM_CLASSES
from methods.pytorch_direct import kernels
from methods.pytorch_direct.baselines import Path
from methods.pytorch_direct.contenders import MAPPING, way_of
from methods.pytorch_direct.sampling import Batch, Graph, batches, graph_of
from methods.pytorch_direct.training import LEARNING_RATE, GraphSAGE, Rows, in_turn, prefetched, train
from methods.shared.interpreter import interpreted

Call = Callable[[], object]


def host_table(rows: int, width: int) -> Tensor:
    """(rows, width) float32 in host memory, every page touched, the first element on a line as the paper has it.

    What torch allocates on the CPU begins 64 bytes into a line; then no row of a multiple of 128 bytes is aligned.
    """
    line = kernels.LINE_BYTES // 4
    flat = torch.empty(rows * width + line)
    skip = -(flat.data_ptr() // 4) % line
    return flat[skip : skip + rows * width].fill_(1.0).view(rows, width)


def as_rows(table: Tensor, width: int, rows: int | None = None) -> Tensor:
    """The same memory in rows of another width; as many as there are, or the first `rows`."""
    rows = table.numel() // width if rows is None else rows
    return table.view(-1)[: rows * width].view(rows, width)


def distinct_rows(table: Tensor, rows: int, seed: int) -> Tensor:
    """Distinct rows in random order: a repeated one would be found in a cache."""
    return torch.randperm(len(table), generator=torch.Generator().manual_seed(seed))[:rows]


def by_kernel(name: str, features: Tensor, device: torch.device) -> Rows:
    """The same, by the method's kernel in any case: in Triton's interpreter where the device is the CPU."""
    return Interpreted(features, MAPPING[name]) if device.type == "cpu" else way_of(name, features, device)


def gathers(names: Iterable[str], features: Tensor, index: Tensor, device: torch.device) -> dict[str, Call]:
    """What is timed: the same rows by each way, into the same memory of the device."""
    out = torch.empty((len(index), features.shape[1]), device=device)
    ways = {name: way_of(name, features, device) for name in names}
    return {name: lambda way=way: way.gather_into(out, index) for name, way in ways.items()}


def load(run: Run, **options: int) -> tuple[Graph, Tensor]:
    """The job's graph and labels (N,); where a data set has none, the vertex's id modulo the number of classes."""
    from methods.shared.graph import load_graph  # torch-geometric takes seconds to import, and most jobs need none

    data = load_graph(run.dataset or "", **options)
    labels = torch.arange(data.num_nodes) % NUM_CLASSES if data.y is None else data.y
    return graph_of(data.edge_index, data.num_nodes), labels


def sampled(run: Run, graph: Graph, batch_size: int, fanouts: list[int], steps: int) -> list[Batch]:
    """The first batches of an epoch, sampled before anything is timed: the paper hides sampling behind processes."""
    generator = torch.Generator().manual_seed(run.seed)
    seeds = torch.randperm(graph.num_nodes, generator=generator)[: batch_size * steps]
    return list(batches(graph, seeds, batch_size, tuple(fanouts), generator))


def trainings(
    run: Run, ways: Mapping[str, Rows], parts: list[Batch], labels: Tensor
) -> dict[str, Callable[[], Tensor]]:
    """For each way the training on the batches, from equal weights; the call returns the losses."""
    parts, labels = [part.to(run.device) for part in parts], labels.to(run.device)

    def training(name: str, way: Rows) -> Callable[[], Tensor]:
        torch.manual_seed(run.seed)
        model = GraphSAGE(way.shape[1], NUM_CLASSES, num_layers=len(parts[0].layers)).to(run.device)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        rows = prefetched if name.endswith("_prefetched") else in_turn
        return lambda: train(model, optimizer, parts, rows(way, parts), labels)

    return {name: training(name, way) for name, way in ways.items()}


class Interpreted(Path):
    """Rows by a kernel in Triton's interpreter: right, and slow."""

    def __init__(self, features: Tensor, mapping: str) -> None:
        super().__init__(features, "cpu")
        self.mapping = mapping

    def gather_into(self, out: Tensor, index: Tensor) -> Tensor:
        return interpreted(kernels).gather(self.features, index, out, self.mapping)


def cpu_seconds(run: Run, contenders: Mapping[str, Call], pairs: int) -> None:
    """A race in the order of `run.race` by the time of the CPU, all threads of this process: rows `cpu_s`."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender()
    for repeat in range(pairs):
        for name in order_of_round(list(contenders), repeat):
            start = time.process_time()
            contenders[name]()
            seconds[name].append(time.process_time() - start)
    for name, taken in seconds.items():
        with run.method(name) as m:
            for repeat, value in enumerate(taken):
                m.record("cpu_s", value, unit="s", repeat=repeat)


def keep_on(call: Call, seconds: float, device: torch.device) -> None:
    """Repeat a call for some seconds: an energy counter moves too slowly for a single one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

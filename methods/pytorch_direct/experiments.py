"""The experiments of PyTorch-Direct: requests, bits, transfer times, training, and what the CPU has to do for it.

Methods: `direct` is UnifiedTensor with the shifted kernel, `direct_naive` and `direct_rowaligned` with the other maps,
`direct_prefetched` gathers one batch ahead; `staged`, `staged_pinned`, `resident` are in `baselines.py`. Without a GPU
the device is the CPU, and a path is its passes over memory: the profiles quick and standard say nothing about a link.
"""

from __future__ import annotations

import difflib
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from assay.experiment import Run, experiment
from assay.measure.energy import EnergyMeter
from datasets.power_law import hashed_features
from methods.pytorch_direct.contenders import BASELINES, MAPPING, way_of
from methods.pytorch_direct.contention import hogs
from methods.pytorch_direct.pytorch_direct import UnifiedTensor
from methods.pytorch_direct.requests import count, ideal_lines, lines_touched, naive_requests, phase_pairs, requests
from methods.pytorch_direct.sampling import Graph
from methods.pytorch_direct.training import Rows
from methods.pytorch_direct.workloads import (
    as_rows,
    by_kernel,
    cpu_seconds,
    distinct_rows,
    gathers,
    host_table,
    keep_on,
    load,
    sampled,
    trainings,
)

REDDIT = 602  # float32 columns: 2,408 bytes, no multiple of a line
PAPER = [100, 128, 293, 343, REDDIT, 800]  # widths of the paper's six graphs (from memory)
KERNELS = ("direct", "direct_naive", "direct_rowaligned")
THREE = ("staged", "staged_pinned", "direct")
GIB = 2**30
GPU_CORES = 16  # the staged paths gather with as many threads


@experiment(
    quick=dict(datasets=[], widths=[*range(40, 700, 60), *PAPER]),
    standard=dict(datasets=[], widths=[*range(33, 701, 5), *PAPER]),
    gpu=dict(datasets=[], widths=[*range(33, 701, 5), *PAPER]),
)
def request_model(run: Run, widths: list[int]) -> None:
    """Requests of a row by width, averaged over all places of rows, and the worst row.

    `worst_excess`: most requests above the lines that the row touches, over all places. `departure`: of the counted
    mean from the closed form, for the lines (rows without a method) and for the naive map.
    """
    for width in dict.fromkeys(widths):
        places = phase_pairs(width)
        lines = lines_touched(width, places[1])
        mean_lines = float(lines.double().mean())
        run.value("requests_per_row", mean_lines, width=width)
        run.value("departure", abs(mean_lines - float(ideal_lines(width))), width=width)
        for name in KERNELS:
            with run.method(name, width=width) as m:
                counted = count(MAPPING[name], width, *places)
                mean = float(counted.double().mean())
                m.record("requests_per_row", mean, evidence="counted")
                m.record("worst_excess", int((counted - lines).max()), evidence="counted")
                if name == "direct_naive":
                    m.record("departure", abs(mean - float(naive_requests(width))), evidence="counted")


@experiment(
    quick=dict(widths=PAPER, batch_size=100, fanouts=[5, 10], steps=2),
    standard=dict(widths=PAPER, batch_size=1000, fanouts=[10, 25], steps=4),
    gpu=dict(widths=PAPER, batch_size=1000, fanouts=[10, 25], steps=20),
)
def request_stream(run: Run, widths: list[int], batch_size: int, fanouts: list[int], steps: int) -> None:
    """Requests of a row for the rows that sampled batches really ask for, beside the model's random ones."""
    graph, _ = load(run)
    parts = sampled(run, graph, batch_size, fanouts, steps)
    for width in widths:
        for name in KERNELS:
            with run.method(name, width=width) as m:
                counts = torch.cat([requests(MAPPING[name], width, part.nodes) for part in parts])
                m.record("requests_per_row", float(counts.double().mean()), evidence="counted")


@experiment(
    quick=dict(datasets=[], table_rows=20_000, rows=8192),
    standard=dict(datasets=[], table_rows=100_000, rows=32_768),
    gpu=dict(datasets=[], table_rows=1_000_000, rows=131_072),
)
def traffic(run: Run, table_rows: int, rows: int) -> None:
    """Bytes of host memory and of the link for each useful byte, as the paths count them, leg by leg, in one gather.

    `peak_bytes`: memory that a gather holds beside table and destination; on the CPU only, where all of it is host's.
    """
    table = host_table(table_rows, REDDIT)
    index = distinct_rows(table, rows, run.seed)
    for name in (*BASELINES, "direct"):
        with run.method(name) as m:
            way = way_of(name, table, run.device)
            out = way[index]
            m.record("host_bytes_per_byte", way.traffic.host / out.nbytes, evidence="counted")
            m.record("link_bytes_per_byte", way.traffic.link / out.nbytes, evidence="counted")
        if run.device.type == "cpu":
            run.memory(name, lambda name=name, out=out: way_of(name, table, out.device).gather_into(out, index))


@experiment(
    quick=dict(datasets=[], widths=[100, 128, REDDIT], rows=32),
    standard=dict(datasets=[], widths=[1, 31, 32, 33, *PAPER], rows=64),
    gpu=dict(datasets=[], widths=[1, 31, 32, 33, *PAPER, 4096], rows=50_000),
)
def kernel_identity(run: Run, widths: list[int], rows: int) -> None:
    """Elements in which a kernel's output is not X[index], over indices of four kinds.

    On a GPU the compiled kernels from host memory; elsewhere the same kernels in Triton's interpreter.
    """
    generator = torch.Generator().manual_seed(run.seed)
    for width in widths:
        features = hashed_features(torch.arange(2 * rows), width)
        drawn = torch.randint(2 * rows, (rows,), generator=generator)
        indices = {"random": drawn, "sorted": drawn.sort().values, "repeated": drawn[:1].expand(rows).contiguous(),
                   "ends": torch.tensor([0, 2 * rows - 1]).repeat(rows // 2)}  # fmt: skip
        for name in KERNELS:
            way = by_kernel(name, features, run.device)
            for kind, index in indices.items():
                with run.method(name, width=width, index=kind) as m:
                    # no number equals NaN, so an element that is never written counts as wrong
                    got = way.gather_into(torch.full((rows, width), torch.nan, device=run.device), index)
                    m.record("wrong_elements", int((got.cpu() != features[index]).sum()), evidence="counted")


@experiment(
    quick=dict(datasets=[], num_nodes=4_000, steps=20),
    standard=dict(datasets=[], num_nodes=20_000, steps=100),
    gpu=dict(datasets=[], num_nodes=100_000, steps=100),
)
def two_line_change(run: Run, num_nodes: int, steps: int) -> None:
    """The two reference scripts: lines in which they differ, and steps at which their losses do.

    `staged` compares the staged script with itself at another seed: the control that a difference can be seen.
    """
    from methods.pytorch_direct import train_direct, train_staged  # they import torch-geometric

    run.value("changed_lines", changed_lines(Path(train_staged.__file__), Path(train_direct.__file__)), unit="lines")
    staged = train_staged.main(num_nodes, steps=steps, seed=run.seed)
    for name, main, seed in (("direct", train_direct.main, run.seed), ("staged", train_staged.main, run.seed + 1)):
        with run.method(name) as m:
            losses = main(num_nodes, steps=steps, seed=seed)
            different = sum(a != b for a, b in zip(staged, losses, strict=True))
            m.record("different_losses", different, unit="steps", evidence="counted")


def changed_lines(before: Path, after: Path) -> int:
    """Lines that have to be touched to make one file the other: added ones and replaced ones."""
    matcher = difflib.SequenceMatcher(None, before.read_text().splitlines(), after.read_text().splitlines(), False)
    return sum(max(b - a, d - c) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal")


@experiment(
    quick=dict(width=100, batch_size=10, fanouts=[2, 3], steps=10),
    standard=dict(width=REDDIT, batch_size=10, fanouts=[2, 3], steps=20),
    gpu=dict(width=REDDIT, batch_size=1000, fanouts=[10, 25], steps=50),
)
def loss_identity(run: Run, width: int, batch_size: int, fanouts: list[int], steps: int) -> None:
    """Steps at which the loss is not, bit for bit, that of the staged path; equal weights, batches and dropout.

    Without a GPU the three kernels run in Triton's interpreter, and the prefetched path only takes turns of buffers.
    """
    graph, labels = load(run)
    features = hashed_features(torch.arange(graph.num_nodes), width)
    ways = {name: way_of(name, features, run.device) for name in (*BASELINES, *MAPPING)}
    ways |= {name: by_kernel(name, features, run.device) for name in KERNELS}
    found = trainings(run, ways, sampled(run, graph, batch_size, fanouts, steps), labels)
    losses: dict[str, Tensor] = {}
    for name, training in found.items():
        with run.method(name) as m:
            losses[name] = training()
            different = int((losses[name] != losses["staged"]).sum())
            m.record("different_losses", different, unit="steps", evidence="counted")


@experiment(
    quick=dict(datasets=[], table_rows=50_000, rows=[2048, 8192, 32768], pairs=10),
    standard=dict(
        datasets=[], replicates=3, table_rows=160_000, rows=[1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072],
        pairs=10,
    ),
    timed=True,
)  # fmt: skip
def row_sweep(run: Run, table_rows: int, rows: list[int], pairs: int) -> None:
    """Time to gather by the number of rows, 2,408 bytes each, where the destination is host memory as well."""
    table = host_table(table_rows, REDDIT)
    for number in rows:
        contenders = gathers(THREE, table, distinct_rows(table, number, run.seed), run.device)
        run.race(contenders, pairs=pairs, rows=number)


@experiment(
    standard=dict(datasets=[], replicates=5, table_rows=131_072, rows=[8192, 32768],
                  widths=[64, 128, 256, 512, 513, REDDIT, 1024], pairs=30),
    timed=True, timeout=1800,
)  # fmt: skip
def transfer_cpu(run: Run, table_rows: int, rows: list[int], widths: list[int], pairs: int) -> None:
    """One pass over memory against two: what is left of the paper's saving where there is no link."""
    memory = host_table(table_rows, max(widths))
    for width in widths:
        table = as_rows(memory, width, table_rows)
        for number in rows:
            contenders = gathers(THREE, table, distinct_rows(table, number, run.seed), run.device)
            run.race(contenders, pairs=pairs, width=width, rows=number)


@experiment(
    standard=dict(datasets=[], replicates=5, table_rows=100_000, rows=8192, pairs=30),
    timed=True,
)
def fetch_peer(run: Run, table_rows: int, rows: int, pairs: int) -> None:
    """The CPU's gather beside what a user would call today: torch's, and torch-geometric's for its loaders."""
    from torch_geometric.loader.utils import index_select  # seconds to import, and nothing else here needs it

    table = host_table(table_rows, REDDIT)
    index = distinct_rows(table, rows, run.seed)
    unified = UnifiedTensor(table, run.device)
    run.race(
        {
            "direct": lambda: unified[index],
            "torch_select": lambda: torch.index_select(table, 0, index),
            "pyg_fetch": lambda: index_select(table, index),
        },
        pairs=pairs,
    )


@experiment(
    standard=dict(replicates=5, batch_size=1000, fanouts=[5, 10], steps=4, pairs=10),
    timed=True,
)
def fetch_cpu(run: Run, batch_size: int, fanouts: list[int], steps: int, pairs: int) -> None:
    """Seconds of CPU time that the rows of training batches take, where the destination is host memory as well."""
    _fetch(run, load(run)[0], batch_size, fanouts, steps, pairs)


@experiment(
    gpu=dict(replicates=5, batch_size=1000, fanouts=[10, 25], steps=5, pairs=30),
    requires="gpu", timed=True, threads=GPU_CORES, timeout=1800,
)  # fmt: skip
def fetch_gpu(run: Run, batch_size: int, fanouts: list[int], steps: int, pairs: int) -> None:
    """Seconds of CPU time that the rows of training batches take on their way to the GPU, waiting excepted."""
    _fetch(run, load(run, num_nodes=1_000_000)[0], batch_size, fanouts, steps, pairs)


def _fetch(run: Run, graph: Graph, batch_size: int, fanouts: list[int], steps: int, pairs: int) -> None:
    parts = sampled(run, graph, batch_size, fanouts, steps)
    table = host_table(graph.num_nodes, REDDIT)
    out = torch.empty((max(len(part.nodes) for part in parts), REDDIT), device=run.device)
    ways = {name: way_of(name, table, run.device) for name in THREE}

    def fetch(way: Rows) -> None:
        for part in parts:
            way.gather_into(out[: len(part.nodes)], part.nodes)
        if out.is_cuda:
            # a blocking event: by default a wait for the GPU spins, and would count as work of the CPU
            done = torch.cuda.Event(blocking=True)
            done.record()
            done.synchronize()

    cpu_seconds(run, {name: lambda way=way: fetch(way) for name, way in ways.items()}, pairs)


@experiment(
    standard=dict(datasets=[], replicates=3, table_rows=100_000, rows=8192, busy=[0, 1, 2], pairs=15),
    timed=True, timeout=1200,
)  # fmt: skip
def contention(run: Run, table_rows: int, rows: int, busy: list[int], pairs: int) -> None:
    """Time to gather beside processes that copy memory without pause: `hogs` of them, on two cores."""
    _beside_hogs(run, host_table(table_rows, REDDIT), rows, busy, pairs)


def _beside_hogs(run: Run, table: Tensor, rows: int, busy: list[int], pairs: int) -> None:
    contenders = gathers(THREE, table, distinct_rows(table, rows, run.seed), run.device)
    for number in busy:
        with hogs(number):
            run.race(contenders, pairs=pairs, hogs=number)


@experiment(
    gpu=dict(datasets=[], replicates=5, table_gib=16, rows=[8192, 65_536, 262_144],
             widths=[64, REDDIT, 1024, 4096], pairs=30),
    requires=("gpu", "memory:48GiB"), timed=True, threads=GPU_CORES, timeout=3600,
)  # fmt: skip
def transfer(run: Run, table_gib: float, rows: list[int], widths: list[int], pairs: int) -> None:
    """Time to bring scattered rows of host memory to the GPU, by their number and width.

    The table is locked before anything is timed; how long that takes is recorded once, as `page_lock_s`.
    """
    table = host_table(int(table_gib * GIB) // 4 // 1024, 1024)
    start = time.perf_counter()
    with UnifiedTensor(table, run.device):
        run.value("page_lock_s", time.perf_counter() - start, unit="s", evidence="measured", gib=table_gib)
        for width in widths:
            part = as_rows(table, width)
            for number in rows:
                contenders = gathers(THREE, part, distinct_rows(part, number, run.seed), run.device)
                run.race(contenders, pairs=pairs, width=width, rows=number)


@experiment(
    gpu=dict(datasets=[], replicates=5, table_gib=16, widths=[128, REDDIT, 800, 1024], pairs=30),
    requires=("gpu", "memory:48GiB"), timed=True, threads=GPU_CORES, timeout=1800,
)  # fmt: skip
def alignment(run: Run, table_gib: float, widths: list[int], pairs: int) -> None:
    """The three kernels, torch's own through the alias, and a plain copy of as much page-locked memory: 1 GiB each.

    `pinned_copy` is the ceiling: what the link gives to one large copy in the same process.
    """
    table = host_table(int(table_gib * GIB) // 4 // 1024, 1024)
    with UnifiedTensor(table, run.device):
        for width in widths:
            part = as_rows(table, width)
            index = distinct_rows(part, GIB // 4 // width, run.seed)
            index = index.to(run.device)  # before the clock: the kernels are what is compared
            contenders = gathers(KERNELS, part, index, run.device)
            out, alias = torch.empty((len(index), width), device=run.device), UnifiedTensor(part, run.device).alias
            contenders["torch_alias"] = partial(torch.index_select, alias, 0, index, out=out)
            contenders["pinned_copy"] = partial(out.copy_, part[: len(index)], non_blocking=True)
            run.race(contenders, pairs=pairs, width=width)


@experiment(
    gpu=dict(datasets=[], replicates=5, table_gib=4, rows=65_536, busy=[0, GPU_CORES // 2, GPU_CORES], pairs=30),
    requires="gpu", timed=True, threads=GPU_CORES, timeout=1800,
)  # fmt: skip
def contention_gpu(run: Run, table_gib: float, rows: int, busy: list[int], pairs: int) -> None:
    """Time to bring rows to the GPU beside processes that copy memory without pause: `hogs` of them."""
    _beside_hogs(run, host_table(int(table_gib * GIB) // 4 // REDDIT, REDDIT), rows, busy, pairs)


TRAINED = dict(num_nodes=1_000_000, batch_size=1000, fanouts=[10, 25])


@experiment(
    gpu=dict(replicates=5, **TRAINED, widths=[100, REDDIT], steps=5, pairs=30),
    requires=("gpu", "memory:48GiB"), timed=True, threads=GPU_CORES, timeout=3600,
)  # fmt: skip
def training(
    run: Run, num_nodes: int, batch_size: int, fanouts: list[int], widths: list[int], steps: int, pairs: int
) -> None:
    """Time of training steps by the way in which features arrive, sampling excepted."""
    graph, labels = load(run, num_nodes=num_nodes)
    parts = sampled(run, graph, batch_size, fanouts, steps)
    for width in widths:
        features = hashed_features(torch.arange(num_nodes), width)
        with UnifiedTensor(features, run.device):
            names = (*BASELINES, "direct", "direct_prefetched")
            ways = {name: way_of(name, features, run.device) for name in names}
            run.race(trainings(run, ways, parts, labels), pairs=pairs, width=width)


@experiment(
    gpu=dict(replicates=5, **TRAINED, steps=5, seconds=3.0, pairs=10),
    requires=("gpu", "memory:48GiB"), timed=True, threads=GPU_CORES, timeout=3600,
)  # fmt: skip
def training_power(
    run: Run, num_nodes: int, batch_size: int, fanouts: list[int], steps: int, seconds: float, pairs: int
) -> None:
    """Energy of the GPU over seconds of training (`energy_j` over `time_s` is its power), and the CPU packages' power.

    `package_w` is read in a pass of its own; it is missing, with the reason, where RAPL cannot be read.
    """
    graph, labels = load(run, num_nodes=num_nodes)
    features = hashed_features(torch.arange(num_nodes), REDDIT)
    ways = {name: way_of(name, features, run.device) for name in ("staged", "direct")}
    found = trainings(run, ways, sampled(run, graph, batch_size, fanouts, steps), labels)
    contenders = {name: partial(keep_on, training, seconds, run.device) for name, training in found.items()}
    run.race(contenders, pairs=pairs, warmup=1)
    meter = EnergyMeter("cpu")
    for name, contender in contenders.items():
        with run.method(name) as m:
            start = time.perf_counter()
            meter.start()
            contender()
            used, taken = meter.stop(), time.perf_counter() - start
            watts = None if used.joules is None else used.joules / taken
            m.record("package_w", watts, unit="W", reason=used.reason)

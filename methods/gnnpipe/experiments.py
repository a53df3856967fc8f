"""The experiments of GNNPipe: bytes of payload, epoch times, accuracy, and the bias of chunked gradients."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.contenders import spent
from assay.experiment import MethodRows, Run, experiment
from assay.network import Network
from methods.gnnpipe.baselines import FullGraph, grid_of
from methods.gnnpipe.cluster import epoch_time, loads_of, time_grid, time_worker
from methods.gnnpipe.contenders import VARIANTS, Recipe, train
from methods.gnnpipe.gnnpipe import Techniques
from methods.gnnpipe.layers import MODELS, run_blocks
from methods.gnnpipe.partition import Shard, make_partition, make_shards
from methods.gnnpipe.ranks import Case, count_bytes, race_epochs
from methods.gnnpipe.replay import replay
from methods.gnnpipe.simulator import EpochTime, crossover
from methods.gnnpipe.training import History, Model, Task, evaluate, make_task, pipeline, worker

REACH = 0.95  # of the full graph's best validation accuracy
CURVE_STEP = 5  # epochs between two points of a curve
GIGABIT, LATENCY_S = 1e9, 20e-6
PARTS = ("compute_s", "bubble_s", "communication_s", "imbalance_s")
BIG = dict(num_nodes=200_000, degree=50)


def load_task(run: Run, model: str, num_features: int, **graph: object) -> Task:
    from methods.shared.graph import load_graph  # torch-geometric, which no process of a distributed run needs

    return make_task(load_graph(str(run.dataset), **graph), model, num_features=num_features).to(run.device)


@experiment(
    quick=dict(datasets=["movielens_100k"], world_sizes=[2], layers=[8, 32], hidden=16, chunks=4, hybrid_stages=2),
    standard=dict(
        datasets=["movielens_100k", "csbm_local", "csbm_mixed", "csbm_dense", "cora"], world_sizes=[2, 4, 8],
        layers=[8, 16, 32], hidden=64, chunks=4, hybrid_stages=2,
    ),
    requires="ranks:8", timeout=3600,
)  # fmt: skip
def traffic(run: Run, world_sizes: list[int], layers: list[int], hidden: int, chunks: int, hybrid_stages: int) -> None:
    """Bytes of payload that an epoch sends between real processes, beside the closed forms. METIS cuts the graph.

    The number of chunks changes no byte; few of them make short epochs where processes share a core.
    """
    tasks = {name: load_task(run, name, hidden) for name in MODELS}
    adjacency = tasks["gcn"].adjacency
    for world_size in world_sizes:
        methods = ["graph", "pipeline"] + ["hybrid"] * (world_size > hybrid_stages)
        grids = {name: grid_of(name, world_size, chunks, hybrid_stages) for name in methods}
        parts = {name: make_partition(adjacency, grid.ways, grid.chunks, "metis") for name, grid in grids.items()}
        cases = [
            Case(name, Model(model, depth, hidden), grids[name], parts[name])
            for name in methods
            for model in MODELS
            for depth in layers
        ]
        run.ranks(count_bytes, world_size, args=(tasks, cases), timeout=1200)


@experiment(
    quick=dict(
        replicates=1, datasets=["csbm"], num_layers=8, hidden=32, stages=4, chunks=8, epochs=30, variants=["pipeline"]
    ),
    standard=dict(
        replicates=6, datasets=["cora", "citeseer", "csbm_mixed"], num_layers=8, hidden=32, stages=4, chunks=16,
        epochs=150, variants=["pipeline"],
    ),
    timeout=3600,
)  # fmt: skip
def accuracy(
    run: Run, num_layers: int, hidden: int, stages: int, chunks: int, epochs: int, variants: list[str]
) -> None:
    """GCNII trained on the whole graph and in chunks, from the same weights, for the same number of epochs.

    `accuracy` (%): on the test vertices at the best validation accuracy, by exact inference. `epochs_to_reach`: epochs
    until the validation accuracy is 95 % of the full graph's best one; `epochs` where it never is, censored there.
    """
    task = load_task(run, "gcnii", hidden)
    recipe = Recipe(Model("gcnii", num_layers, hidden, seed=run.seed), stages, chunks, epochs)
    goal = math.inf
    for name in ("full", *variants):
        with run.method(name, epochs=epochs) as m:
            blocks, history = train(name, task, recipe)
            if name == "full":
                goal = REACH * max(history.val)
            _record(m, history, blocks, task, goal, epochs)
            spent(m, blocks, steps=epochs)


def _record(m: MethodRows, history: History, blocks: nn.ModuleList, task: Task, goal: float, epochs: int) -> None:
    m.record("accuracy", history.test, unit="%")
    m.record("final_accuracy", evaluate(blocks, task)[1], unit="%")
    m.record("train_loss", exact_loss(blocks, task))
    m.record("epochs_to_reach", history.epochs_to(goal) or epochs, unit="epochs")
    shown = slice(CURVE_STEP - 1, None, CURVE_STEP)
    m.curve("val_accuracy", x=history.epochs[shown], y=history.val[shown], x_name="epoch", unit="%")


@torch.no_grad()
def exact_loss(blocks: nn.ModuleList, task: Task) -> float:
    """The training loss of an exact forward pass: a chunked epoch's own loss has seen history."""
    logits = run_blocks(blocks, task.x, task.adjacency, task.transpose)
    return float(F.cross_entropy(logits[task.train], task.y[task.train]))


@experiment(
    standard=dict(
        replicates=6, datasets=["csbm"], num_layers=8, hidden=32, stages=4, chunks=32, epochs=150,
        variants=VARIANTS,
    ),
    timeout=3600,
)  # fmt: skip
def ablation(
    run: Run, num_layers: int, hidden: int, stages: int, chunks: int, epochs: int, variants: list[str]
) -> None:
    """The same with one technique left out at a time, at the paper's K = 32."""
    accuracy.function(run, num_layers, hidden, stages, chunks, epochs, variants)


@experiment(
    standard=dict(replicates=6, datasets=["csbm"], num_nodes=800, num_layers=4, hidden=16, chunks=40, orders=40),
)
def gradient_bias(run: Run, num_nodes: int, num_layers: int, hidden: int, chunks: int, orders: int) -> None:
    """How much of the true gradient a chunked epoch has in expectation, by hops between the weight and the loss.

    The weights are frozen and the history is exact, so that only the order of the chunks matters. `share`: projection
    of the mean gradient over `orders` random orders on the true one, as a share of it. `theory`: a path of m hops
    counts if its m + 1 chunks come in one order of (m + 1)!, and each of the m hops doubles it where it is scaled.
    The graph has no communities, chunks are random, and most vertices train, so that nearly all hops lead to another
    chunk and few orders make a good mean.
    """
    task = load_task(
        run, "gcn", hidden, num_nodes=num_nodes, num_blocks=4, num_classes=4, homophily=0.25, train=0.8, seed=run.seed
    )
    model = Model("gcn", num_layers, hidden, seed=run.seed)
    reference = FullGraph(task, model)
    reference.epoch(0)
    partition = make_partition(task.adjacency, 1, chunks, "random", seed=run.seed)
    for name, factor in (("pipeline", 2), ("no_scaling", 1)):
        techniques = Techniques(period=1, scale=factor == 2)  # the history is exact after the first epochs
        engine, blocks = pipeline(task, model, 2, partition, techniques)
        mean = [torch.zeros_like(weight) for weight in blocks.parameters()]
        for epoch in range(num_layers + 1 + orders):
            engine.epoch(epoch)
            if epoch > num_layers:  # the history is exact now
                for total, weight in zip(mean, blocks.parameters(), strict=True):
                    total += weight.grad / orders
        for hops, share in _shares(blocks, mean, reference.blocks, num_layers):
            with run.method(name, hops=hops) as m:
                m["share"] = share
                m.record("theory", factor**hops / math.factorial(hops + 1), evidence="counted")


def _shares(
    blocks: nn.ModuleList, mean: list[Tensor], reference: nn.ModuleList, num_layers: int
) -> Iterator[tuple[int, float]]:
    """(hops, share) for every block that aggregates, from the last to the first, by its weight matrix."""
    place = {id(weight): i for i, weight in enumerate(blocks.parameters())}
    truth = list(reference.parameters())
    for hops in range(num_layers):
        index = place[id(blocks[num_layers - hops].linear.weight)]
        true = truth[index].grad
        yield hops, float((mean[index] * true).sum() / true.square().sum())


@experiment(
    standard=dict(replicates=5, datasets=["movielens_100k"], num_layers=32, hidden=64, chunks=8, gbit=0.2, pairs=30,
                  repeats=5),
    requires=["ranks:2", "network"], timed=True, timeout=1800,
)  # fmt: skip
def wire_time(run: Run, num_layers: int, hidden: int, chunks: int, gbit: float, pairs: int, repeats: int) -> None:
    """Epochs of GCNII by two real ranks, each behind a real network interface of limited speed, raced in step.

    `expected_s` is what the simulator makes of the computing times of the same two ranks and the bytes;
    `expected_over_measured` its ratio to the median of the measured epochs.
    """
    task, cases = _contest(run, num_layers, hidden, chunks, 2, {})
    network = Network(gbit * GIGABIT)
    run.ranks(race_epochs, 2, args=(task, cases, pairs, repeats, network), network=network, timeout=1200)


def _contest(
    run: Run, num_layers: int, hidden: int, chunks: int, workers: int, graph: dict[str, int]
) -> tuple[dict[str, Task], list[Case]]:
    """GCNII by graph parallelism, by GNNPipe and by a pipeline without overlap, on so many workers."""
    task, model = load_task(run, "gcnii", hidden, **graph), Model("gcnii", num_layers, hidden)
    cases = []
    for name in ("graph", "pipeline", "naive"):
        grid = grid_of(name, workers, chunks)
        cases.append(Case(name, model, grid, make_partition(task.adjacency, grid.ways, grid.chunks, "metis")))
    return {"gcnii": task.to("cpu")}, cases


@experiment(
    gpu=dict(replicates=5, datasets=["csbm_mixed"], graph=BIG, num_layers=32, hidden=100, chunks=32, pairs=30),
    requires="gpu:2", timed=True, timeout=3600,
)  # fmt: skip
def gpu_ranks(run: Run, graph: dict[str, int], num_layers: int, hidden: int, chunks: int, pairs: int) -> None:
    """The same race over NCCL, with a rank on every GPU of the machine, at most one for each block of the model."""
    workers = min(torch.cuda.device_count(), num_layers + 2)
    task, cases = _contest(run, num_layers, hidden, chunks, workers, graph)
    run.ranks(race_epochs, workers, args=(task, cases, pairs, 0, None), backend="nccl", timeout=3000)


@experiment(
    quick=dict(replicates=1, datasets=["csbm"], graph={}, layers=[8], hidden=32, chunks=8, world_sizes=[8],
               hybrid_stages=4, gbits=[0.2, 1, 25], repeats=1),
    standard=dict(replicates=3, datasets=["csbm_mixed"], graph={}, layers=[8, 32], hidden=64, chunks=16,
                  world_sizes=[8, 16, 32, 64], hybrid_stages=8, gbits=[0.2, 1, 10, 25, 100, 200], repeats=3),
    gpu=dict(replicates=3, datasets=["csbm_mixed"], graph=BIG, layers=[8, 16, 32], hidden=100, chunks=32,
             world_sizes=[4, 8, 16, 32, 64], hybrid_stages=4, gbits=[1, 10, 25, 100, 200], repeats=5),
    timed=True, timeout=3600,
)  # fmt: skip
def simulated_time(
    run: Run, graph: dict[str, int], layers: list[int], hidden: int, chunks: int, world_sizes: list[int],
    hybrid_stages: int, gbits: list[float], repeats: int,
) -> None:  # fmt: skip
    """Epochs of GCN on clusters that are not here: what each worker computes is measured, the wire is simulated.

    `epoch_s` and its parts, by bandwidth. `crossover_gbit`: where GNNPipe and graph parallelism take equally long.
    """
    task = load_task(run, "gcn", hidden, **graph)
    cut = functools.cache(functools.partial(_shards, task))
    for world_size, depth in itertools.product(world_sizes, layers):
        model, seconds = Model("gcn", depth, hidden), {}
        for name in ("graph", "pipeline", "naive", "hybrid"):
            if not _fits(name, world_size, depth, hybrid_stages):
                for gbit in gbits:
                    with run.method(name, layers=depth, world_size=world_size, gbit=gbit) as m:
                        _record_misfit(m, f"{name} cannot spread {depth} layers over {world_size} workers")
                continue
            grid = grid_of(name, world_size, chunks, hybrid_stages)
            shards = cut(grid.ways, grid.chunks)
            times, loads = time_grid(task, model, grid, shards, repeats), loads_of(task, model, grid, shards)
            epochs = [epoch_time(times, loads, Network(gbit * GIGABIT, LATENCY_S)) for gbit in gbits]
            seconds[name] = [epoch.seconds for epoch in epochs]
            for gbit, epoch in zip(gbits, epochs, strict=True):
                with run.method(name, layers=depth, world_size=world_size, gbit=gbit) as m:
                    _record_epoch(m, epoch)
        if "pipeline" in seconds:
            with run.method("pipeline", layers=depth, world_size=world_size) as m:
                _record_crossover(m, gbits, seconds["graph"], seconds["pipeline"])


@experiment(
    standard=dict(replicates=3, datasets=["movielens_100k"], num_layers=32, hidden=64, chunks=8, world_sizes=[2, 4, 8],
                  gbits=[0.2, 1], repeats=3),
    requires=["ranks:8", "network"], timed=True, timeout=1800,
)  # fmt: skip
def replayed_time(
    run: Run, num_layers: int, hidden: int, chunks: int, world_sizes: list[int], gbits: list[float], repeats: int
) -> None:
    """The simulator against real ranks on a real limited wire, which sleep for as long as GCNII would compute.

    `wire_time` asks whether the whole prediction holds where ranks, their messages and the wire itself share two
    cores. Sleeping takes none, so this asks the simulator alone, and of more ranks than there are cores.
    """
    task, model = load_task(run, "gcnii", hidden), Model("gcnii", num_layers, hidden)
    for world_size, name in itertools.product(world_sizes, ("graph", "pipeline")):
        grid = grid_of(name, world_size, chunks)
        shards = _shards(task, grid.ways, grid.chunks)
        loads = replace(loads_of(task, model, grid, shards), weights=np.zeros(grid.stages))
        times = time_grid(task, model, grid, shards, repeats)
        for gbit in gbits:
            network = Network(gbit * GIGABIT)
            with run.method(name, layers=num_layers, world_size=world_size, gbit=gbit) as m:
                expected, measured = epoch_time(times, loads, network.payload).seconds, replay(times, loads, network)
                m.record("expected_over_measured", expected / measured, unit="x")


def _shards(task: Task, ways: int, chunks: int) -> list[Shard]:
    return make_shards(task.adjacency, make_partition(task.adjacency, ways, chunks, "metis"))


def _fits(method: str, world_size: int, num_layers: int, hybrid_stages: int) -> bool:
    """Whether a method can use so many workers: each stage needs a block, and a hybrid more than one way."""
    stages = {"graph": 1, "hybrid": hybrid_stages}.get(method, world_size)
    return stages <= num_layers + 2 and (method != "hybrid" or world_size >= 2 * hybrid_stages)


def _record_epoch(m: MethodRows, epoch: EpochTime) -> None:
    m.record("epoch_s", epoch.seconds, unit="s", evidence="simulated")
    for part in PARTS:
        m.record(part, getattr(epoch, part), unit="s", evidence="simulated")


def _record_misfit(m: MethodRows, reason: str) -> None:
    for metric in ("epoch_s", *PARTS):
        m.record(metric, None, unit="s", evidence="simulated", reason=reason)


def _record_crossover(m: MethodRows, gbits: list[float], graph: list[float], chunked: list[float]) -> None:
    found = crossover([gbit * GIGABIT for gbit in gbits], graph, chunked)
    faster = "GNNPipe" if chunked[0] < graph[0] else "graph parallelism"
    reason = None if found else f"{faster} is faster at every bandwidth from {gbits[0]} to {gbits[-1]} Gbit/s"
    m.record("crossover_gbit", found and found / GIGABIT, unit="Gbit/s", evidence="simulated", reason=reason)


@experiment(
    standard=dict(datasets=["csbm_mixed"], graph={}, num_layers=32, hidden=64, chunks=16, workers=8),
    gpu=dict(datasets=["csbm_mixed"], graph=BIG, num_layers=32, hidden=100, chunks=32, workers=8),
    timeout=3600,
)
def memory(run: Run, graph: dict[str, int], num_layers: int, hidden: int, chunks: int, workers: int) -> None:
    """Peak bytes of one worker's epoch, of the second stage and of the first way, and of the whole in one process."""
    task, model = load_task(run, "gcn", hidden, **graph), Model("gcn", num_layers, hidden)
    run.memory("full", lambda: FullGraph(task, model).epoch(0), workers=1)
    for name, rank in (("graph", 0), ("pipeline", 1)):
        grid = grid_of(name, workers, chunks)
        shard = _shards(task, grid.ways, grid.chunks)[0]
        one = functools.partial(worker, task, model, grid, shard, rank, alone=True)
        run.memory(name, lambda one=one: time_worker(one(), 1), workers=workers)

"""The experiments of OneFlow: bytes of boxing and of whole plans, the search for plans, and the actor runtime."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import datasets
from assay.experiment import Run, experiment
from methods.oneflow.actor import DeadlockError
from methods.oneflow.baselines import EXPERT_PLANS, prefetcher, sequential
from methods.oneflow.contenders import PLANS, RULES, RUNTIMES, least, raced
from methods.oneflow.graph import matmul_chain, mlp_step
from methods.oneflow.plan import Machine, optimise, search
from methods.oneflow.ranks import (
    Case,
    compare_plans,
    count_boxings,
    make_inputs,
    parallelism_of,
    race_boxings,
    race_steps,
)
from methods.oneflow.sbp import B, S
from methods.oneflow.simulation import cycle_graph, random_graph, simulate, skip_graph, stage_chain
from methods.oneflow.threads import run as run_actors

LR = 0.1
CLUSTER = Machine(speed=5e12, link=1.25e9)  # a V100 at what it reaches in float32, and 1/8 of a node's 100 Gbit/s
DESK = Machine(speed=2e9, link=1e9)  # slow enough that parallelism pays for nets which run here in milliseconds
TIGHT = Machine(speed=2e9, link=1e9, memory_price=1e-8)
STAGES = (1, 3, 2)  # times of the pipeline's stages, in units
Sizes = tuple[int, int, int, int]  # batch, width, hidden, classes


@experiment(
    quick=dict(shape=[64, 32], world_sizes=[2], disjoint=[[1, 1]]),
    standard=dict(shape=[256, 256], world_sizes=[2, 4, 8], disjoint=[[2, 2], [2, 3]]),
    requires="ranks:8", timeout=900,
)  # fmt: skip
def boxing(run: Run, shape: list[int], world_sizes: list[int], disjoint: list[list[int]]) -> None:
    """Every pair of SBPs over real processes: what it puts on the wire, beside the table, and DTensor's bytes.

    All parts are of equal sizes, for the table knows no others.
    """
    for size in world_sizes:
        everyone = list(range(size))
        run.ranks(count_boxings, size, args=(tuple(shape), everyone, everyone), timeout=300)
    for p1, p2 in disjoint:
        rows = shape[0] * 3 // 2, shape[1] * 3 // 2  # 2 and 3 divide both sides
        groups = list(range(p1)), list(range(p1, p1 + p2))
        run.ranks(count_boxings, p1 + p2, args=(rows, *groups), timeout=300)


@experiment(
    standard=dict(replicates=5, world_size=2, sides=[128, 1024, 4096], pairs=30),
    requires="ranks:2", timed=True, timeout=900,
)  # fmt: skip
def boxing_time(run: Run, world_size: int, sides: list[int], pairs: int) -> None:
    """Seconds of a boxing, ours and DTensor's, from 64 KiB to 64 MiB, all ranks in step."""
    run.ranks(race_boxings, world_size, args=(sides, pairs), timeout=600)


def expert_cases(
    sizes: Sizes, world_size: int, machine: Machine, names: Sequence[str] = tuple(EXPERT_PLANS)
) -> list[Case]:
    """The plans that an expert would fix, on so many ranks; a hybrid needs four."""
    graph, cases = mlp_step(*sizes, lr=LR), []
    for name in names:
        dimensions, fixed = EXPERT_PLANS[name]
        if dimensions == 1 or world_size >= 4:
            mesh = (world_size,) if dimensions == 1 else (2, world_size // 2)
            cases.append(Case.of(name, sizes, optimise(graph, mesh, machine, fixed), LR))
    return cases


@experiment(
    quick=dict(world_sizes=[2], batch=64, hidden=32, steps=10),
    standard=dict(world_sizes=[2, 4], batch=512, hidden=64, steps=20),
    requires="ranks:4", timeout=600,
)  # fmt: skip
def equivalence(run: Run, world_sizes: list[int], batch: int, hidden: int, steps: int) -> None:
    """A net with one hidden layer on digits, trained by each expert's plan and by one process, in both precisions.

    4 ranks split the 10 classes into uneven parts.
    """
    images = datasets.load("digits")
    x = torch.as_tensor(images.train_x[:batch]).reshape(batch, -1)
    labels = torch.as_tensor(images.train_y[:batch])
    sizes = (batch, x.shape[1], hidden, 10)
    for size in world_sizes:
        cases = expert_cases(sizes, size, DESK)
        given = [_with_data(make_inputs(sizes, run.seed, dtype), x, labels) for dtype in (torch.float32, torch.float64)]
        every = [(case, inputs) for case in cases for inputs in given]
        run.ranks(compare_plans, size, args=([c for c, _ in every], [i for _, i in every], steps, False), timeout=300)


def _with_data(inputs: dict[str, Tensor], x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return {**inputs, "x": x.to(inputs["w1"].dtype), "labels": labels}


@experiment(standard=dict(devices=4, lengths=[1, 2, 3, 4], sizes=[8, 64]), timeout=1800)
def signatures(run: Run, devices: int, lengths: list[int], sizes: list[int]) -> None:
    """Every chain of matmuls with sides from `sizes` and inputs that lie as S(0), S(1) or B; the output is wanted as B.

    The cost is boxing alone. `released` is the compiler's rule, whose own costs are coarser. `optimal_share`: chains at
    the least cost of all combinations; `worst`: the largest ratio to a least cost above 0; `free_missed`: chains that
    pay where paying nothing was possible.
    """
    machine = Machine(speed=math.inf, link=1.0)
    for length in lengths:
        ratios: dict[str, list[float]] = {method: [] for method in RULES}
        for sides in itertools.product(sizes, repeat=length + 2):
            graph = matmul_chain(list(sides))
            inputs = [name for name, node in graph.nodes.items() if node.op is None]
            for sbps in itertools.product((S(0), S(1), B), repeat=length + 1):
                fixed = {name: (sbp,) for name, sbp in zip(inputs, sbps, strict=True)}
                asked = (graph, (devices,), machine, fixed)
                best = least(*asked)
                for method, rule in RULES.items():
                    ratios[method].append(_ratio(rule.build(*asked), best))
        for method, values in ratios.items():
            with run.method(method, length=length) as m:
                finite = [value for value in values if math.isfinite(value)]
                m.record("optimal_share", float(np.mean(np.array(values) == 1.0)), evidence="counted")
                m.record("worst", max(finite), unit="x", evidence="counted")
                m.record("free_missed", len(values) - len(finite), evidence="counted")
                m.record("chains", len(values), evidence="counted")


def _ratio(cost: float, least: float) -> float:
    """1 where they are equal to rounding; infinite where something was paid and nothing would have done."""
    if math.isclose(cost, least, rel_tol=1e-12, abs_tol=1e-12):
        return 1.0
    return cost / least if least else math.inf


@experiment(
    quick=dict(devices=4, width=8192, batches=[1024, 262144]),
    standard=dict(devices=8, width=8192, batches=[256, 1024, 4096, 16384, 65536, 262144]),
    timeout=1800,
)
def plan_search(run: Run, devices: int, width: int, batches: list[int]) -> None:
    """Modelled seconds of a training step against the batch: the plan that is found, and those that an expert fixes.

    `cost`: computing and boxing on `CLUSTER`. `wire_bytes`: of a step. And what `parallelism_of` says of the plan.
    """
    meshes = [(devices,), *((k, devices // k) for k in (2, 4) if k < devices)]
    for batch in batches:
        graph = mlp_step(batch, width, width, width, lr=LR)
        for name, contender in PLANS.items():
            with run.method(name, batch=batch) as m:
                plan = contender.build(graph, meshes, CLUSTER)
                m.record("cost", plan.cost(CLUSTER), unit="s", evidence="simulated")
                m.record("wire_bytes", plan.bytes, unit="B", evidence="counted")
                for metric, number in parallelism_of(plan).items():
                    m.record(metric, number, evidence="counted")


@experiment(
    quick=dict(world_sizes=[2], batches=[512, 16], width=64, steps=3),
    standard=dict(world_sizes=[2, 4], batches=[2048, 128, 16], width=128, steps=5),
    requires="ranks:4", timeout=900,
)  # fmt: skip
def plans(run: Run, world_sizes: list[int], batches: list[int], width: int, steps: int) -> None:
    """Found plans and experts' over real processes, by our runtime, by DTensor, and by hand: bytes and losses.

    `found` is the best for `DESK`, `tight` the best where memory is scarce. All sides divide evenly, as DTensor needs.
    """
    for size, batch in itertools.product(world_sizes, batches):
        sizes = (batch, width, width, width // 2)
        graph = mlp_step(*sizes, lr=LR)
        meshes = [(size,)] if size < 4 else [(size,), (2, size // 2)]
        cases = expert_cases(sizes, size, DESK)
        for name, machine in (("found", DESK), ("tight", TIGHT)):
            cases.append(Case.of(name, sizes, search(graph, meshes, machine), LR))
        inputs = [make_inputs(sizes, run.seed)] * len(cases)
        run.ranks(compare_plans, size, args=(cases, inputs, steps, True), timeout=400)


@experiment(
    standard=dict(replicates=5, world_size=2, sizes=[[1024, 256, 256, 64], [64, 1024, 1024, 64]], pairs=30),
    requires="ranks:2", timed=True, timeout=900,
)  # fmt: skip
def step_time(run: Run, world_size: int, sizes: list[list[int]], pairs: int) -> None:
    """Seconds of a training step: data parallelism on a small net with a large batch, model parallelism on a large net.

    The same plan by our runtime and by DTensor, and the program that one writes by hand.
    """
    cases = [expert_cases(tuple(shape), world_size, DESK, [name])[0]
             for name, shape in zip(("data", "model"), sizes, strict=True)]  # fmt: skip
    run.ranks(race_steps, world_size, args=(cases, pairs), timeout=600)


def _sleeper(seconds: float) -> Callable[[Any], Any]:
    def stage(item: Any) -> Any:
        time.sleep(seconds)
        return item

    return stage


@experiment(standard=dict(replicates=5, batches=20, unit_s=0.002, pairs=30), timed=True, timeout=900)
def pipeline_time(run: Run, batches: int, unit_s: float, pairs: int) -> None:
    """Batches through stages of 1, 3 and 2 units that sleep, which takes no core: the protocol's own speed."""
    stages = [_sleeper(units * unit_s) for units in STAGES]
    run.race(raced(stages, batches, registers=(1, 2, 3, 4)), pairs=pairs, warmup=1)


@experiment(standard=dict(replicates=5, elements=4_000_000, side=256, batches=16, pairs=30), timed=True, timeout=900,
            requires="ranks:2")  # fmt: skip
def overlap(run: Run, elements: int, side: int, batches: int, pairs: int) -> None:
    """Memory copies overlap with matrix products: an actor copies a batch into its register, the next computes on it.

    The products of a batch are repeated until they take as long as a copy, which is measured first: where one stage is
    much longer than the other, there is little to hide.
    """
    source = torch.randn(elements)
    weights = torch.randn(side, side)
    buffer = torch.empty(elements)
    copy_s = _seconds(lambda: buffer.copy_(source))
    product_s = _seconds(lambda: weights @ weights)
    repeats = max(1, round(copy_s / product_s))

    def copy(_: object, out: Tensor) -> Tensor:
        return out.copy_(source)

    def compute(batch: Tensor) -> float:
        return _products(batch[: side * side].view(side, side), weights, repeats)

    buffers = itertools.cycle([buffer, torch.zeros(elements)])  # made before the race, as registers are
    memory = {"stage0": lambda: next(buffers)}
    actors = {registers: RUNTIMES["actors"].build([copy, compute], registers, **memory) for registers in (1, 2)}
    run.race({
        "actors[registers=1]": lambda: actors[1](batches),
        "actors[registers=2]": lambda: actors[2](batches),
        "sequential": lambda: sequential([lambda i: copy(i, buffer), compute], range(batches)),
    }, pairs=pairs)  # fmt: skip


def _products(value: Tensor, weights: Tensor, repeats: int) -> float:
    for _ in range(repeats):
        product = value @ weights
    return float(product[0, 0])


def _seconds(call: Callable[[], object], repeats: int = 10) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


@experiment(
    quick=dict(items=200, ratio=10, unit_s=2e-4),
    standard=dict(items=1000, ratio=10, unit_s=2e-4),
)
def back_pressure(run: Run, items: int, ratio: int, unit_s: float) -> None:
    """A producer that is `ratio` times as fast as its consumer.

    `in_flight`: the most items that the producer had begun and the consumer had not ended. The stages count them, so
    that no runtime is asked about itself.
    """
    lock, now, most = threading.Lock(), 0, 0

    def count(change: int) -> None:
        nonlocal now, most
        with lock:
            now += change
            most = max(most, now)

    def produce(item: int) -> int:
        count(1)
        time.sleep(unit_s)
        return item

    def consume(item: int) -> None:
        time.sleep(ratio * unit_s)
        count(-1)

    for registers in (0, 1, 2, 3):
        most = 0
        name, options = ("actors", dict(registers=registers)) if registers else ("queues", {})
        with run.method(name, registers=registers) as m:
            RUNTIMES[name].build([produce, consume], **options)(items)
            m.record("in_flight", most, evidence="counted")


@experiment(quick=dict(graphs=400, batches=5), standard=dict(graphs=400, batches=20), timeout=300)
def schedules(run: Run, graphs: int, batches: int) -> None:
    """The protocol where it could go wrong: random graphs, skip edges, cycles.

    `finished`: share of random graphs that end on threads with the results of the discrete-event run. `cycles`: 1 where
    a cycle is refused without a token and runs with one. `period`: units between batches of `skip_graph`.
    """
    with run.method("actors") as m:
        ended = [run_actors(random_graph(i), batches).results == simulate(random_graph(i), batches).results
                 for i in range(graphs)]  # fmt: skip
        m.record("finished", float(np.mean(ended)), evidence="counted")
        m.record("cycles", float(_cycle_needs_a_token()), evidence="counted")
    for registers in (1, 2, 3, 4):
        with run.method("actors", registers=registers) as m:
            long, short = (simulate(skip_graph(registers), n).seconds for n in (120, 60))
            m.record("period", (long - short) / 60, unit="units", evidence="simulated")


def _cycle_needs_a_token() -> bool:
    try:
        run_actors(cycle_graph(), 5)
    except DeadlockError:
        return run_actors(cycle_graph(0), 5).results["out"] == [0, 1, 3, 6, 10]
    return False


@experiment(gpu=dict(replicates=5, width=4096, batches=40, pairs=30), requires="gpu", timed=True,
            timeout=1200)  # fmt: skip
def gpu_pipeline(run: Run, width: int, batches: int, pairs: int) -> None:
    """Host-to-device copies, a matmul and device-to-host copies as three actors, each on a stream of its own.

    Square float32 batches of this width take a current GPU about as long to copy as to multiply. The buffers of the
    race are made before it; `peak_bytes` is of passes of their own, which make theirs.
    """
    device = run.device

    def on_device() -> Tensor:
        return torch.empty(width, width, device=device)

    def pinned() -> Tensor:
        return torch.empty(width, width, pin_memory=True)

    host, weight = [pinned().normal_() for _ in range(2)], on_device().normal_()
    torch.cuda.synchronize(device)  # other streams read the weight
    streams = threading.local()

    def on_stream(work: Callable[[], Any]) -> None:
        if not hasattr(streams, "own"):
            streams.own = torch.cuda.Stream(device)
        with torch.cuda.stream(streams.own):
            work()
        streams.own.synchronize()

    def upload(i: int, out: Tensor) -> None:
        on_stream(lambda: out.copy_(host[i % 2], non_blocking=True))

    def compute(x: Tensor, out: Tensor) -> None:
        on_stream(lambda: torch.mm(x, weight, out=out))

    def download(x: Tensor, out: Tensor) -> None:
        on_stream(lambda: out.copy_(x, non_blocking=True))

    def actors(registers: int, makes: Sequence[Callable[[], Tensor]]) -> None:
        memory = {f"stage{i}": make for i, make in enumerate(makes)}
        run_actors(stage_chain([upload, compute, download], registers, **memory), batches)

    def one_by_one(x: Tensor, y: Tensor, out: Tensor) -> None:
        for i in range(batches):
            upload(i, x)
            compute(x, y)
            download(y, out)

    makes = [on_device, on_device, pinned]
    made = [[make(), make()] for make in makes]
    takes = [itertools.cycle(pair).__next__ for pair in made]
    run.race({
        "actors[registers=1]": lambda: actors(1, takes),
        "actors[registers=2]": lambda: actors(2, takes),
        "sequential": lambda: one_by_one(*(pair[0] for pair in made)),
        "prefetcher": lambda: prefetcher(host, weight, batches, *made),
    }, pairs=pairs, warmup=1)  # fmt: skip
    run.memory("actors", lambda: actors(1, makes), registers=1)
    run.memory("actors", lambda: actors(2, makes), registers=2)
    run.memory("sequential", lambda: one_by_one(*(make() for make in makes)))
    run.memory("prefetcher", lambda: prefetcher(host, weight, batches, *([make(), make()] for make in makes)))

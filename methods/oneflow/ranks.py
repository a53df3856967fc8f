"""What runs in the processes of a distributed experiment: boxings and training steps, their bytes counted or raced."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from assay.measure.communication import count_communication
from assay.measure.time import race
from methods.oneflow.baselines import HandWritten, data_parallel, megatron, one_process
from methods.oneflow.boxing import box, table_bytes
from methods.oneflow.graph import mlp_step
from methods.oneflow.ops import NdSignature
from methods.oneflow.plan import Plan
from methods.oneflow.runtime import Engine, Ranks, next_inputs, run_step, train
from methods.oneflow.sbp import B, Mesh, NdSbp, P, S, Sbp, to_global, to_local

Row = dict[str, Any]
ATTRIBUTES = (S(0), S(1), B, P)
BY_HAND: dict[str, Callable[..., HandWritten]] = {"data": data_parallel, "model": megatron}


def _row(method: str, metric: str, value: float, setting: Mapping[str, Any], unit: str = "B", **more: Any) -> Row:
    return {"method": method, "metric": metric, "value": value, "unit": unit, "setting": dict(setting),
            "evidence": "counted", **more}  # fmt: skip


def _sum_over_ranks(value: int) -> int:
    total = torch.tensor([value])
    dist.all_reduce(total)
    return int(total)


def count_boxings(
    rank: int, world_size: int, shape: tuple[int, int], producers: Sequence[int], consumers: Sequence[int]
) -> list[Row]:
    """Bytes on the wire of every pair of SBPs, all ranks together, beside the table; and DTensor's, where it can.

    Each result is compared with the tensor: RuntimeError where one is wrong. Rank 0 returns rows.
    """
    tensor = torch.arange(float(shape[0] * shape[1])).view(shape)
    same = list(producers) == list(consumers)
    devices = "same" if same else f"{len(producers)}+{len(consumers)}"
    rows = []
    for source, target in itertools.product(ATTRIBUTES, ATTRIBUTES):
        local = _partial_everywhere(tensor, source, producers, rank)
        with count_communication() as counter:
            out = box(local, shape, source, target, producers, consumers, tensor)
        _check_boxing(out, tensor, target, consumers, f"{source} -> {target}")
        expected = table_bytes(source, target, tensor.numel() * 4, len(producers), None if same else len(consumers))
        setting = {"pair": f"{source}->{target}", "devices": devices}
        sent = _sum_over_ranks(counter.sent_bytes)
        rows.append(_row("oneflow", "bytes", sent, setting))
        rows.append(_row("oneflow", "table_bytes", expected, setting))
        if same and target.kind != "P":
            rows.append(_row("oneflow", "peer_bytes", sent, setting))
    if same:
        rows += _count_dtensor(tensor, world_size)
    return rows if rank == 0 else []


def _partial_everywhere(tensor: Tensor, sbp: Sbp, ranks: Sequence[int], rank: int) -> Tensor | None:
    """What a rank holds; of P a share that differs by rank, so that a rank that is left out would show."""
    if rank not in ranks:
        return None
    place, size = list(ranks).index(rank), len(ranks)
    if sbp.kind == "P":
        return tensor * (place + 1) / (size * (size + 1) / 2)
    return to_local(tensor, (sbp,), (size,))[place]


def _check_boxing(out: Tensor | None, tensor: Tensor, target: Sbp, consumers: Sequence[int], what: str) -> None:
    """Gather what the consumers have, outside the count, and compare."""
    held: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(held, out)
    placed = [part is not None for part in held] == [other in consumers for other in range(len(held))]
    if not placed or not hold([held[consumer] for consumer in consumers], tensor, (target,), (len(consumers),)):
        raise RuntimeError(
            f"boxing {what} from {dist.get_world_size()} ranks to {list(consumers)} gives another tensor"
        )


def hold(parts: Sequence[Tensor], tensor: Tensor, sbp: NdSbp, mesh: Mesh) -> bool:
    """Whether parts are those of a tensor: every single one, copies too; or, with partial values, what they make."""
    if any(attribute.kind == "P" for attribute in sbp):
        return torch.allclose(to_global(parts, sbp, mesh), tensor)
    expected = to_local(tensor, sbp, mesh)
    return all(a.shape == b.shape and torch.allclose(a, b) for a, b in zip(parts, expected, strict=True))


def _count_dtensor(tensor: Tensor, world_size: int) -> list[Row]:
    """`peer_bytes` of the pairs that DTensor has: it makes no partial values."""
    from methods.oneflow.peers import DTensors

    peer, rows = DTensors((world_size,)), []
    for source, target in itertools.product(ATTRIBUTES, ATTRIBUTES[:3]):
        value = peer.place(tensor, (source,))
        with count_communication() as counter:
            peer.box(value, tuple(tensor.shape), (source,), (target,))
        setting = {"pair": f"{source}->{target}", "devices": "same"}
        rows.append(_row("dtensor", "peer_bytes", _sum_over_ranks(counter.sent_bytes), setting))
    return rows


def race_boxings(rank: int, world_size: int, sides: Sequence[int], pairs: int) -> list[Row]:
    """Time each boxing that sends something, ours against DTensor, on square float32 tensors. Rank 0 returns rows."""
    from methods.oneflow.peers import DTensors

    peer, everyone, rows = DTensors((world_size,)), tuple(range(world_size)), []
    for side, (source, target) in itertools.product(sides, ((S(0), S(1)), (S(0), B), (P, S(0)), (P, B))):
        tensor = torch.ones(side, side)
        local, value = to_local(tensor, (source,), (world_size,))[rank], peer.place(tensor, (source,))
        contenders = {
            "oneflow": _in_step(box, local, (side, side), source, target, everyone, everyone, local),
            "dtensor": _in_step(lambda v, s, t: peer.box(v, (), (s,), (t,)).to_local(), value, source, target),
        }
        setting = {"pair": f"{source}->{target}", "tensor_bytes": 4 * side * side}
        for sample in race(contenders, pairs=pairs, warmup=2):
            rows.append({"method": sample.name, "metric": "time_s", "value": sample.seconds, "unit": "s",
                         "repeat": sample.repeat, "setting": setting})  # fmt: skip
    return rows if rank == 0 else []


def _in_step(call: Callable[..., object], *arguments: object) -> Callable[[], None]:
    """A call that ends when every rank's has: rank 0's clock shows the slowest."""

    def run() -> None:
        call(*arguments)
        dist.barrier()

    return run


@dataclass(frozen=True)
class Case:
    """A plan of `graph.mlp_step` that can be sent to a process. sizes: batch, width, hidden, classes."""

    name: str
    sizes: tuple[int, int, int, int]
    mesh: Mesh
    choice: dict[str, NdSignature]
    lr: float

    @classmethod
    def of(cls, name: str, sizes: tuple[int, int, int, int], plan: Plan, lr: float) -> Case:
        return cls(name, sizes, plan.mesh, plan.choice, lr)

    def plan(self, itemsize: int) -> Plan:
        return Plan(mlp_step(*self.sizes, lr=self.lr, itemsize=itemsize), self.mesh, self.choice)


def make_inputs(sizes: tuple[int, int, int, int], seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Random x, labels, w1 and w2 of `graph.mlp_step`."""
    batch, width, hidden, classes = sizes
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype) / shape[0] ** 0.5

    labels = torch.randint(0, classes, (batch,), generator=generator)
    return {"x": normal(batch, width) * batch**0.5, "labels": labels, "w1": normal(width, hidden),
            "w2": normal(hidden, classes)}  # fmt: skip


def parallelism_of(plan: Plan) -> dict[str, int]:
    """`splits_data`, `splits_model`: 1 where the plan's matmuls split the batch, a weight. `mesh_dimensions`."""
    return {
        "splits_data": int(plan.parallelism in ("data", "hybrid")),
        "splits_model": int(plan.parallelism in ("model", "hybrid")),
        "mesh_dimensions": len(plan.mesh),
    }


def compare_plans(
    rank: int, world_size: int, cases: list[Case], inputs: list[dict[str, Tensor]], steps: int, peer: bool
) -> list[Row]:
    """Train by each plan, beside one process, and count what a step sends. Rank 0 returns rows.

    `loss_difference`: largest relative difference of a step's loss. `bytes`: of one step, all ranks together;
    `predicted_bytes`: the planner's; and `parallelism_of`. inputs: for each case. peer: whether DTensor runs the same
    plans, and programs written by hand those of their names.
    """
    rows = []
    for case, given in zip(cases, inputs, strict=True):
        plan = case.plan(given["x"].element_size())
        expected, _ = one_process(given, steps, case.lr)
        setting = {"plan": case.name, "dtype": str(given["x"].dtype).removeprefix("torch."), "batch": case.sizes[0]}
        for method, engine in _engines(case.mesh, peer):
            losses, _ = train(plan, engine, given, steps)
            rows.append(_row(method, "loss_difference", _difference(losses, expected), setting, ""))
            rows.append(_row(method, "bytes", _sum_over_ranks(_bytes_of_step(plan, engine, given)), setting))
            rows.append(_row(method, "predicted_bytes", plan.bytes, setting))
        for metric, number in parallelism_of(plan).items():
            rows.append(_row("oneflow", metric, number, setting, ""))
        if peer and case.name in BY_HAND:
            trainer = BY_HAND[case.name](given, case.lr)
            with count_communication() as counter:
                first = float(trainer.step())
            losses = [first, *(float(trainer.step()) for _ in range(steps - 1))]
            rows.append(_row("by_hand", "loss_difference", _difference(losses, expected), setting, ""))
            rows.append(_row("by_hand", "bytes", _sum_over_ranks(counter.sent_bytes), setting))
    return rows if rank == 0 else []


def _engines(mesh: Mesh, peer: bool) -> Iterator[tuple[str, Engine]]:
    yield "oneflow", Ranks(mesh)
    if peer:
        from methods.oneflow.peers import DTensors

        yield "dtensor", DTensors(mesh)


def _difference(losses: Sequence[float], expected: Sequence[float]) -> float:
    return max(abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=True))


def _bytes_of_step(plan: Plan, engine: Engine, given: Mapping[str, Tensor]) -> int:
    held = {name: engine.place(tensor, plan.sbp(name)) for name, tensor in given.items()}
    with count_communication() as counter:
        next_inputs(plan, engine, held, run_step(plan, engine, held))
    return counter.sent_bytes


def race_steps(rank: int, world_size: int, cases: list[Case], pairs: int) -> list[Row]:
    """Time training steps of the same plans by our runtime, by DTensor, and by hand where there is one.

    Rank 0 returns rows.
    """
    rows = []
    for case in cases:
        given = make_inputs(case.sizes, 0, torch.float32)
        plan = case.plan(4)
        contenders = {name: _steps(plan, engine, given) for name, engine in _engines(case.mesh, peer=True)}
        if case.name in BY_HAND:
            contenders["by_hand"] = _in_step(BY_HAND[case.name](given, case.lr).step)
        for sample in race(contenders, pairs=pairs, warmup=2):
            rows.append({"method": sample.name, "metric": "time_s", "value": sample.seconds, "unit": "s",
                         "repeat": sample.repeat, "setting": {"plan": case.name}})  # fmt: skip
    return rows if rank == 0 else []


def _steps(plan: Plan, engine: Engine, given: Mapping[str, Tensor]) -> Callable[[], None]:
    held = {name: engine.place(tensor, plan.sbp(name)) for name, tensor in given.items()}

    def step() -> None:
        nonlocal held
        held = next_inputs(plan, engine, held, run_step(plan, engine, held))

    return _in_step(step)

"""Running a plan: every device has its copy of each operator, and boxing stands between them.

    engine = Ranks(plan.mesh)                      # in each process of a group
    losses, weights = train(plan, engine, inputs, steps=20)

`Ranks` boxes over real processes, `Simulated` keeps the parts of all devices in one process, and
`peers.DTensors` lets `torch.distributed.tensor` do the boxing of the same plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch.distributed as dist
from torch import Tensor

from methods.oneflow.boxing import reshard
from methods.oneflow.graph import Node
from methods.oneflow.ops import NdSignature, Shape
from methods.oneflow.plan import Plan
from methods.oneflow.sbp import B, Mesh, NdSbp, Region, places, region_of, to_global, to_local
from methods.shared.checks import check_sizes

Value = Any  # what an engine holds of a global tensor


class Engine(Protocol):
    """Where the values of a plan live."""

    def place(self, tensor: Tensor, sbp: NdSbp) -> Value:
        """Spread a global tensor that is known everywhere: nothing is sent."""

    def box(self, value: Value, shape: Shape, source: NdSbp, target: NdSbp) -> Value: ...

    def apply(self, node: Node, choice: NdSignature, values: Sequence[Value], shapes: Sequence[Shape]) -> Value:
        """Run an operator on inputs that lie as `choice` says. shapes: of the global inputs."""

    def whole(self, value: Value, shape: Shape, sbp: NdSbp) -> Tensor:
        """The global tensor. On processes each of them must ask, and it costs what boxing to copies costs."""


class Ranks:
    """This rank's parts, on a mesh of all ranks of the default process group."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.place_in_mesh = mesh, places(mesh)[dist.get_rank()]

    def place(self, tensor: Tensor, sbp: NdSbp) -> Tensor:
        return to_local(tensor, sbp, self.mesh)[dist.get_rank()]

    def box(self, value: Tensor, shape: Shape, source: NdSbp, target: NdSbp) -> Tensor:
        return reshard(value, shape, source, target, self.mesh)

    def apply(self, node: Node, choice: NdSignature, values: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        return node.op.local(values, regions(choice, shapes, self.mesh, self.place_in_mesh))

    def whole(self, value: Tensor, shape: Shape, sbp: NdSbp) -> Tensor:
        return self.box(value, shape, sbp, (B,) * len(self.mesh))


class Simulated:
    """The parts of all devices in one process, as a list."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    def place(self, tensor: Tensor, sbp: NdSbp) -> list[Tensor]:
        return to_local(tensor, sbp, self.mesh)

    def box(self, value: list[Tensor], shape: Shape, source: NdSbp, target: NdSbp) -> list[Tensor]:
        return to_local(to_global(value, source, self.mesh), target, self.mesh)

    def apply(
        self, node: Node, choice: NdSignature, values: Sequence[list[Tensor]], shapes: Sequence[Shape]
    ) -> list[Tensor]:
        return [node.op.local([value[rank] for value in values], regions(choice, shapes, self.mesh, place))
                for rank, place in enumerate(places(self.mesh))]  # fmt: skip

    def whole(self, value: list[Tensor], shape: Shape, sbp: NdSbp) -> Tensor:
        return to_global(value, sbp, self.mesh)


def regions(choice: NdSignature, shapes: Sequence[Shape], mesh: Mesh, place: Sequence[int]) -> list[Region]:
    """Where a device's parts of an operator's inputs lie in the global ones."""
    return [region_of(shape, sbp, mesh, place) for shape, sbp in zip(shapes, choice.inputs, strict=True)]


def run_step(plan: Plan, engine: Engine, inputs: Mapping[str, Value]) -> dict[str, Value]:
    """Every operator once, in topological order, its inputs boxed to what its signature wants."""
    values, nodes = dict(inputs), plan.graph.nodes
    for node in nodes.values():
        if node.op is None:
            continue
        choice, boxed = plan.choice[node.name], []
        for name, target in zip(node.inputs, choice.inputs, strict=True):
            source = plan.sbp(name)
            moved = values[name] if source == target else engine.box(values[name], nodes[name].shape, source, target)
            boxed.append(moved)
        values[node.name] = engine.apply(node, choice, boxed, [nodes[name].shape for name in node.inputs])
    return values


def next_inputs(
    plan: Plan, engine: Engine, inputs: Mapping[str, Value], values: Mapping[str, Value]
) -> dict[str, Value]:
    """The inputs of the following step: updated weights in place of the old, lying as these did."""
    following = dict(inputs)
    for new, old in plan.graph.feedback.items():
        source, target = plan.sbp(new), plan.sbp(old)
        same = source == target
        following[old] = values[new] if same else engine.box(values[new], plan.graph.nodes[new].shape, source, target)
    return following


def _check_inputs(plan: Plan, inputs: Mapping[str, Tensor]) -> None:
    wanted = {name: node.shape for name, node in plan.graph.nodes.items() if node.op is None}
    given = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise ValueError(f"train: input {name} has shape {given.get(name)}, the plan has {wanted.get(name)}")


def train(
    plan: Plan, engine: Engine, inputs: Mapping[str, Tensor], steps: int
) -> tuple[list[float], dict[str, Tensor]]:
    """Run a training step again and again on the same batch. inputs: global tensors.

    Returns the loss of each step, in which every device has it, and the global weights after the last.

    Raises ValueError for inputs that are not the graph's, or of another shape; IndexError for labels that are no class.
    """
    check_sizes("train", least=0, steps=steps)
    _check_inputs(plan, inputs)
    held = {name: engine.place(tensor, plan.sbp(name)) for name, tensor in inputs.items()}
    losses = []
    for _ in range(steps):
        values = run_step(plan, engine, held)
        losses.append(float(engine.whole(values["loss"], (), plan.sbp("loss"))))
        held = next_inputs(plan, engine, held, values)
    shapes = {old: plan.graph.nodes[old].shape for old in plan.graph.feedback.values()}
    return losses, {name: engine.whole(held[name], shape, plan.sbp(name)) for name, shape in shapes.items()}


def main() -> None:
    """Find a plan for a small net on four devices, run it on all of them in this process, and beside one device."""
    import torch

    from methods.oneflow.graph import mlp_step
    from methods.oneflow.plan import Machine, optimise, search

    sizes, machine = (64, 32, 48, 8), Machine(speed=2e9, link=1e9)
    graph = mlp_step(*sizes, lr=0.1)
    x, labels = torch.randn(64, 32), torch.arange(64) % 8
    inputs = {"x": x, "labels": labels, "w1": torch.randn(32, 48) / 6, "w2": torch.randn(48, 8) / 7}
    plans = {
        "one device": optimise(graph, (1,), machine),
        "found on four": search(graph, [(4,), (2, 2)], machine),
    }
    for name, plan in plans.items():
        engine = Simulated(plan.mesh)
        held = {key: engine.place(tensor, plan.sbp(key)) for key, tensor in inputs.items()}
        print(f"{name}: mesh {plan.mesh}, {plan.bytes:,.0f} bytes a step; x is {plan.sbp('x')}, w1 {plan.sbp('w1')}")
        for step in range(1, 21):
            values = run_step(plan, engine, held)
            held = next_inputs(plan, engine, held, values)
            if step % 10 == 0:
                print(f"  step {step}  loss {float(engine.whole(values['loss'], (), plan.sbp('loss'))):.6f}")

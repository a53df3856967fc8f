"""Plans: a signature for every operator, and the search for those of least cost.

    cost = boxing bytes / (p * link) + floating-point operations of a device / speed + price * bytes that a device holds

The boxing bytes are exact, those that `boxing` puts on the wire. The compute term is what makes the choice meaningful:
without it, doing everything on every device would be best, for it moves nothing. The price of memory is the multiplier
of a limit on it: where memory is scarce, weights are stored in parts and gathered for use, which is ZeRO.

`greedy` and `released` go in topological order, and each operator takes the signature that is best for its inputs:
`greedy` the one whose inputs are cheapest to box, by the bytes above; `released` as OneFlow's compiler does on one
dimension, which keeps inputs as they are and has coarser costs. Its own table of costs, used on meshes and by its later
search, is the one of `boxing` but for three things: B -> S costs 1, ? -> P costs 4 T (p1 + p2) more, so that P is never
chosen, and S -> P does not exist in graph mode, nor P -> P between other devices. Ours has all pairs, for what they
send. `optimise` is exact: costs belong to operators and to edges, so the sum is minimised by dynamic
programming, which eliminates one operator after another. On a chain that is the textbook recursion from node to node.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from methods.oneflow.boxing import route
from methods.oneflow.graph import Graph, Node
from methods.oneflow.ops import NdSignature
from methods.oneflow.sbp import B, Mesh, NdSbp, S, Sbp, check, region_of, sizes_of
from methods.shared.checks import check_sizes

Factor = tuple[tuple[str, ...], np.ndarray]  # the cost of the named operators' choices, an axis for each of them


@dataclass(frozen=True)
class Machine:
    """speed: operations/s of a device. link: bytes/s that a device can send. memory_price: s for each byte it holds.

    Infinite speeds cost nothing. Raises ValueError for what is no speed or price.
    """

    speed: float
    link: float
    memory_price: float = 0.0

    def __post_init__(self) -> None:
        if not (self.speed > 0 and self.link > 0 and 0 <= self.memory_price < math.inf):
            raise ValueError(f"{self}: speed and link must be above 0, the price finite and at least 0")


@dataclass(frozen=True, eq=False)
class Plan:
    """A graph, a mesh, and a signature for every node; that of an input has an output only."""

    graph: Graph
    mesh: Mesh
    choice: dict[str, NdSignature]

    def sbp(self, name: str) -> NdSbp:
        return self.choice[name].output

    def boxings(self) -> list[tuple[str, str, NdSbp, NdSbp]]:
        """(producer, consumer, from, to) of each edge that needs one, feedback included."""
        edges = [(a, b, self.sbp(a), self.choice[b].inputs[i]) for a, b, i in self.graph.edges()]
        edges += [(new, old, self.sbp(new), self.sbp(old)) for new, old in self.graph.feedback.items()]
        return [edge for edge in edges if edge[2] != edge[3]]

    @property
    def bytes(self) -> int:
        """On the wire in one step, all devices together."""
        nodes = self.graph.nodes
        return sum(edge_bytes(nodes[a], source, target, self.mesh) for a, _, source, target in self.boxings())

    @property
    def flops(self) -> float:
        """Of the busiest device."""
        nodes = self.graph.nodes
        return sum(node_flops(self.graph, nodes[name], choice, self.mesh) for name, choice in self.choice.items())

    @property
    def held_bytes(self) -> int:
        """Inputs and outputs of all operators on the fullest device."""
        return sum(node_bytes(self.graph.nodes[name], choice, self.mesh) for name, choice in self.choice.items())

    def cost(self, machine: Machine) -> float:
        """Seconds of the model in this file's first lines."""
        wire = self.bytes / (math.prod(self.mesh) * machine.link)
        return wire + self.flops / machine.speed + machine.memory_price * self.held_bytes

    @property
    def parallelism(self) -> str:
        """`data` where a matmul with a weight splits the batch, `model` where it splits the weight, or `hybrid`."""
        data = model = False
        for node in self.graph.nodes.values():
            if node.op is not None and node.op.name == "matmul" and self._is_input(node.inputs[1]):
                a, w = self.choice[node.name].inputs
                model |= any(attribute.kind == "S" for attribute in w)
                data |= any(x == S(0) and y == B for x, y in zip(a, w, strict=True))
        return {(1, 1): "hybrid", (1, 0): "data", (0, 1): "model", (0, 0): "replicated"}[data, model]

    def _is_input(self, name: str) -> bool:
        return self.graph.nodes[name].op is None

    def __str__(self) -> str:
        return "\n".join(f"{name}: {choice}" for name, choice in self.choice.items())


def edge_bytes(node: Node, source: NdSbp, target: NdSbp, mesh: Mesh) -> int:
    return route(node.shape, source, target, mesh)[1] * node.itemsize


def node_flops(graph: Graph, node: Node, choice: NdSignature, mesh: Mesh) -> float:
    """Of the first device, whose parts are the largest."""
    if node.op is None:
        return 0.0
    shapes = [_local(graph.nodes[i].shape, sbp, mesh) for i, sbp in zip(node.inputs, choice.inputs, strict=True)]
    return node.op.flops(shapes, _local(node.shape, choice.output, mesh))


def node_bytes(node: Node, choice: NdSignature, mesh: Mesh) -> int:
    return math.prod(_local(node.shape, choice.output, mesh)) * node.itemsize


def _local(shape: Sequence[int], sbp: NdSbp, mesh: Mesh) -> tuple[int, ...]:
    return sizes_of(region_of(shape, sbp, mesh, (0,) * len(mesh)))


def choices_of(node: Node, mesh: Mesh, fixed: NdSbp | None = None) -> list[NdSignature]:
    """What a node may do; `fixed`: its output's SBP. Raises ValueError where no signature gives it."""
    if node.op is None:
        whole = [*map(S, range(len(node.shape))), B]
        every = [NdSignature((), sbp) for sbp in itertools.product(whole, repeat=len(mesh))]
    else:
        every = node.op.nd_signatures(len(mesh))
    found = [choice for choice in every if fixed is None or choice.output == fixed]
    if not found:
        raise ValueError(f"{node.name}: no signature gives {fixed}; there are {'; '.join(map(str, every))}")
    return found


def factors_of(
    graph: Graph, mesh: Mesh, machine: Machine, fixed: Mapping[str, NdSbp]
) -> tuple[dict[str, list[NdSignature]], list[Factor]]:
    """Every node's choices, and the costs: of each node alone, and of each edge between two."""
    _check_plan(graph, mesh, fixed)
    choices = {name: choices_of(node, mesh, fixed.get(name)) for name, node in graph.nodes.items()}
    factors: list[Factor] = []
    for name, node in graph.nodes.items():
        alone = [node_flops(graph, node, choice, mesh) / machine.speed
                 + machine.memory_price * node_bytes(node, choice, mesh) for choice in choices[name]]  # fmt: skip
        factors.append(((name,), np.array(alone)))
    seconds = 1 / (math.prod(mesh) * machine.link)
    edges: list[tuple[str, str, int | None]] = [*graph.edges(), *((a, b, None) for a, b in graph.feedback.items())]
    for a, b, i in edges:
        sources = [choice.output for choice in choices[a]]
        targets = [choice.output if i is None else choice.inputs[i] for choice in choices[b]]
        factors.append(((a, b), seconds * _edge_table(graph.nodes[a], sources, targets, mesh)))
    return choices, factors


def _edge_table(node: Node, sources: list[NdSbp], targets: list[NdSbp], mesh: Mesh) -> np.ndarray:
    """Bytes from each source to each target. Many choices share an SBP, so each pair of these is routed once."""
    old, new = list(dict.fromkeys(sources)), list(dict.fromkeys(targets))
    table = np.array([[float(edge_bytes(node, a, b, mesh)) for b in new] for a in old])
    return table[np.ix_([old.index(a) for a in sources], [new.index(b) for b in targets])]


def _check_plan(graph: Graph, mesh: Mesh, fixed: Mapping[str, NdSbp]) -> None:
    check_sizes("a plan's mesh", **{f"dimension {i}": size for i, size in enumerate(mesh)})
    if unknown := sorted(set(fixed) - set(graph.nodes)):
        raise ValueError(f"fixed: {', '.join(unknown)} not in the graph, whose nodes are {', '.join(graph.nodes)}")
    for name, sbp in fixed.items():
        check(graph.nodes[name].shape, sbp, mesh)


def optimise(graph: Graph, mesh: Mesh, machine: Machine, fixed: Mapping[str, NdSbp] | None = None) -> Plan:
    """The plan of least cost. fixed: the output SBPs that the user has chosen, by node.

    Raises ValueError or TypeError for a mesh that is none, for what is fixed of a node that is not there or cannot lie
    so.
    """
    choices, factors = factors_of(graph, mesh, machine, fixed or {})
    best, _ = eliminate({name: len(options) for name, options in choices.items()}, factors)
    return Plan(graph, mesh, {name: options[best[name]] for name, options in choices.items()})


def search(graph: Graph, meshes: Sequence[Mesh], machine: Machine) -> Plan:
    """The best plan over several meshes of the same devices; of equal ones, that on the first mesh."""
    return min((optimise(graph, mesh, machine) for mesh in meshes), key=lambda plan: plan.cost(machine))


def greedy(graph: Graph, mesh: Mesh, fixed: Mapping[str, NdSbp] | None = None) -> Plan:
    """In topological order, each operator's cheapest signature by what its inputs cost to box, given those before it.

    A boxing that sends nothing counts as one byte, so that copies are not split for nothing. That is ours: the released
    compiler has such a rule with other costs; see `released`.
    """

    def cost(node: Node, sources: list[NdSbp], signature: NdSignature) -> float:
        pairs = zip(node.inputs, sources, signature.inputs, strict=True)
        return sum(max(1, edge_bytes(graph.nodes[i], old, new, mesh)) for i, old, new in pairs if old != new)

    return _one_by_one(graph, mesh, fixed or {}, cost)


def released(graph: Graph, mesh: Mesh, fixed: Mapping[str, NdSbp] | None = None) -> Plan:
    """The plan of OneFlow's own compiler in its graph ("lazy") mode on one dimension, `SortSbpSignatureListByCopyCost`.

    In topological order: the signature that leaves most inputs as they lie; of several, the one of least cost, where an
    input that changes costs its bytes, whatever is sent; a copy that is split is worse than any of these, and a tensor
    that is made partial worst. An axis shorter than the devices is not split. An operator whose output is fixed goes by
    cost alone. On meshes the compiler has another rule (`GreedilyFindMinCopyCostNdSbp`), which is not built.

    Raises:
        ValueError: a mesh of several dimensions, or an operator whose every signature splits a short axis.
    """
    if len(mesh) != 1:
        raise ValueError(f"released: a rule for one dimension, and the mesh is {mesh}; use `greedy`")
    fixed = fixed or {}

    def short(node: Node, signature: NdSignature) -> bool:
        shapes = [graph.nodes[i].shape for i in node.inputs]
        lies = [a for (a,) in signature.inputs]
        return any(a.kind == "S" and shape[a.axis] < mesh[0] for shape, a in zip(shapes, lies, strict=True))

    def cost(node: Node, sources: list[NdSbp], signature: NdSignature) -> tuple[bool, int, float]:
        pairs = [(graph.nodes[i], a, b) for i, (a,), (b,) in zip(node.inputs, sources, signature.inputs, strict=True)]
        kept = 0 if node.name in fixed else sum(a == b for _, a, b in pairs)
        return short(node, signature), -kept, sum(_released_cost(node, a, b) for node, a, b in pairs)

    plan = _one_by_one(graph, mesh, fixed, cost)
    for name, node in graph.nodes.items():
        if short(node, plan.choice[name]):
            raise ValueError(f"released: {name} can only be run with an axis shorter than {mesh[0]} devices split")
    return plan


def _released_cost(node: Node, source: Sbp, target: Sbp) -> float:
    """Of one input. The two large numbers are the largest of 64 and of 32 bits."""
    if source == target:
        return 0.0
    if target.kind == "P":
        return 2.0**63
    return float(2**31 - 1 if source.kind == "B" else math.prod(node.shape) * node.itemsize)


def _one_by_one(
    graph: Graph, mesh: Mesh, fixed: Mapping[str, NdSbp], cost: Callable[[Node, list[NdSbp], NdSignature], Any]
) -> Plan:
    """In topological order the signature of least cost, given those before it; of equal ones the first."""
    _check_plan(graph, mesh, fixed)
    choice: dict[str, NdSignature] = {}
    for name, node in graph.nodes.items():
        sources = [choice[i].output for i in node.inputs]
        choice[name] = min(choices_of(node, mesh, fixed.get(name)), key=partial(cost, node, sources))
    return Plan(graph, mesh, choice)


def eliminate(domains: Mapping[str, int], factors: Sequence[Factor]) -> tuple[dict[str, int], float]:
    """The choices that minimise a sum of factors, exactly, and the minimum. domains: number of choices by variable.

    A variable is eliminated by adding up the factors that it is in and minimising over it: what is left is a factor of
    its neighbours, and a note of which choice was best for each of theirs. The smallest table goes first; the notes
    are read in reverse.
    """
    left, open_factors = dict(domains), list(factors)
    notes: list[tuple[str, tuple[str, ...], np.ndarray]] = []
    total = 0.0
    while left:
        around = {v: tuple(dict.fromkeys(n for names, _ in open_factors if v in names for n in names if n != v))
                  for v in left}  # fmt: skip
        variable = min(left, key=lambda v: math.prod(domains[n] for n in (v, *around[v])))
        names = (variable, *around[variable])
        mine = [factor for factor in open_factors if variable in factor[0]]
        joint = sum((aligned(factor, names) for factor in mine), np.zeros([domains[n] for n in names]))
        notes.append((variable, names[1:], joint.argmin(0)))
        rest = joint.min(0)
        open_factors = [factor for factor in open_factors if variable not in factor[0]]
        if names[1:]:
            open_factors.append((names[1:], rest))
        else:
            total += float(rest)
        del left[variable]
    best: dict[str, int] = {}
    for variable, names, table in reversed(notes):
        best[variable] = int(table[tuple(best[n] for n in names)])
    return best, total


def aligned(factor: Factor, names: Sequence[str]) -> np.ndarray:
    """A factor's table with an axis for each of `names`, of length 1 for those that it does not know."""
    own, table = factor
    order = sorted(range(len(own)), key=lambda axis: names.index(own[axis]))
    return table.transpose(order).reshape([table.shape[own.index(n)] if n in own else 1 for n in names])

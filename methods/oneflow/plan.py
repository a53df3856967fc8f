"""Plans: a signature for every operator, and the search for those of least cost.

    cost = boxing bytes / (p * link) + floating-point operations of a device / speed + price * bytes that a device holds

The boxing bytes are exact, those that `boxing` puts on the wire. The compute term is what makes the choice meaningful:
without it, doing everything on every device would be best, for it moves nothing. The price of memory is the multiplier
of a limit on it: where memory is dear, weights are stored in parts and gathered for use, which is ZeRO.

`greedy` is what OneFlow's compiler does: in topological order, each operator takes the signature whose inputs are
cheapest to box. `optimise` is exact: costs belong to operators and to edges, so the sum is minimised by dynamic
programming, which eliminates one operator after another. On a chain that is the textbook recursion from node to node.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from methods.oneflow.boxing import route
from methods.oneflow.graph import Graph, Node
from methods.oneflow.ops import NdSignature
from methods.oneflow.sbp import B, Mesh, NdSbp, S, region_of, sizes_of

Factor = tuple[tuple[str, ...], np.ndarray]  # the cost of the named operators' choices, an axis for each of them


@dataclass(frozen=True)
class Machine:
    """speed: operations/s of a device. link: bytes/s that a device can send. memory_price: s for each byte it holds."""

    speed: float
    link: float
    memory_price: float = 0.0


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


def optimise(graph: Graph, mesh: Mesh, machine: Machine, fixed: Mapping[str, NdSbp] | None = None) -> Plan:
    """The plan of least cost. fixed: the output SBPs that the user has chosen, by node."""
    choices, factors = factors_of(graph, mesh, machine, fixed or {})
    best, _ = eliminate({name: len(options) for name, options in choices.items()}, factors)
    return Plan(graph, mesh, {name: options[best[name]] for name, options in choices.items()})


def search(graph: Graph, meshes: Sequence[Mesh], machine: Machine) -> Plan:
    """The best plan over several meshes of the same devices; of equal ones, that on the first mesh."""
    return min((optimise(graph, mesh, machine) for mesh in meshes), key=lambda plan: plan.cost(machine))


def greedy(graph: Graph, mesh: Mesh, fixed: Mapping[str, NdSbp] | None = None) -> Plan:
    """In topological order, each operator's cheapest signature by what its inputs cost to box, given those before it.

    A boxing that sends nothing counts as one byte, as in the released code, so that copies are not split for nothing.
    """
    choice: dict[str, NdSignature] = {}
    for name, node in graph.nodes.items():
        producers = [graph.nodes[i] for i in node.inputs]

        def cost(signature: NdSignature, producers: list[Node] = producers) -> int:
            pairs = [(p, choice[p.name].output, sbp) for p, sbp in zip(producers, signature.inputs, strict=True)]
            return sum(max(1, edge_bytes(p, old, new, mesh)) for p, old, new in pairs if old != new)

        choice[name] = min(choices_of(node, mesh, (fixed or {}).get(name)), key=cost)
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

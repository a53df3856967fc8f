"""The contenders: plans of a training step, rules that choose them, and runtimes that carry out a pipeline.

None has hyper-parameters. What a plan costs and moves, and what a runtime takes, is measured for all alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from assay.contenders import Contender
from methods.oneflow.baselines import EXPERT_PLANS, brute_force, queue_pipeline, sequential
from methods.oneflow.graph import Graph
from methods.oneflow.plan import Machine, Plan, eliminate, factors_of, greedy, optimise, released, search
from methods.oneflow.sbp import Mesh, NdSbp
from methods.oneflow.simulation import stage_chain
from methods.oneflow.threads import run as run_actors

Fixed = dict[str, NdSbp]


def _expert(name: str) -> Callable[[Graph, Sequence[Mesh], Machine], Plan]:
    """The best plan in which the SBPs that the expert fixes stay, over those meshes that have their dimensions."""
    dimensions, fixed = EXPERT_PLANS[name]

    def build(graph: Graph, meshes: Sequence[Mesh], machine: Machine) -> Plan:
        own = [mesh for mesh in meshes if len(mesh) == dimensions]
        return min((optimise(graph, mesh, machine, fixed) for mesh in own), key=lambda plan: plan.cost(machine))

    return build


PLANS = {**{name: Contender(_expert(name)) for name in ("data", "model", "hybrid")}, "oneflow": Contender(search)}
"""Name on the card -> `build(graph, meshes, machine)`, a plan."""


def _optimal(graph: Graph, mesh: Mesh, machine: Machine, fixed: Fixed) -> float:
    choices, factors = factors_of(graph, mesh, machine, fixed)
    return eliminate({name: len(options) for name, options in choices.items()}, factors)[1]


def _by_rule(rule: Callable[..., Plan]) -> Callable[[Graph, Mesh, Machine, Fixed], float]:
    return lambda graph, mesh, machine, fixed: rule(graph, mesh, fixed).bytes / mesh[0]


RULES = {
    "optimal": Contender(_optimal),
    "greedy": Contender(_by_rule(greedy)),
    "released": Contender(_by_rule(released)),
}
"""Name on the card -> `build(graph, mesh, machine, fixed)`, the bytes of boxing of what the rule chooses."""


def least(graph: Graph, mesh: Mesh, machine: Machine, fixed: Fixed) -> float:
    """The least cost of all combinations: what the rules are held against."""
    choices, factors = factors_of(graph, mesh, machine, fixed)
    return brute_force({name: len(options) for name, options in choices.items()}, factors)


def _actors(stages: Sequence[Callable[[Any], Any]], registers: int = 2, **memory: Any) -> Callable[[int], object]:
    graph = stage_chain(stages, registers, **memory)
    return lambda batches: run_actors(graph, batches)


RUNTIMES = {
    "actors": Contender(_actors),
    "sequential": Contender(lambda stages: lambda batches: sequential(stages, range(batches))),
    "queues": Contender(lambda stages: lambda batches: queue_pipeline(stages, range(batches))),
}
"""Name on the card -> `build(stages)`, which runs so many batches through them; of actors with `registers` too."""

CONTENDERS = PLANS | RULES | RUNTIMES


def raced(
    stages: Sequence[Callable[[Any], Any]], batches: int, registers: Sequence[int]
) -> dict[str, Callable[[], object]]:
    """Every runtime on the same stages, as a race takes them; actors once for each number of registers."""
    build = RUNTIMES["actors"].build
    made = {f"actors[registers={r}]": partial(_fresh, build, stages, r, batches) for r in registers}
    return {**made, **{name: partial(RUNTIMES[name].build(stages), batches) for name in ("sequential", "queues")}}


def _fresh(build: Callable[..., Callable[[int], object]], stages: Any, registers: int, batches: int) -> object:
    return build(stages, registers)(batches)

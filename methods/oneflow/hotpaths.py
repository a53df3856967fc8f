"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable

from methods.oneflow.actor import ActorGraph
from methods.oneflow.baselines import EXPERT_PLANS
from methods.oneflow.boxing import route
from methods.oneflow.graph import mlp_step
from methods.oneflow.plan import Machine, eliminate, factors_of, optimise
from methods.oneflow.ranks import make_inputs
from methods.oneflow.runtime import Simulated, run_step
from methods.oneflow.simulation import pipeline, simulate
from methods.oneflow.threads import run

MACHINE = Machine(speed=5e12, link=1.25e9)


def route_on_a_mesh() -> Callable[[], object]:
    from methods.oneflow.sbp import B, P, S

    def call() -> object:
        route.cache_clear()
        return route((64, 48), (S(0), P), (B, S(1)), (2, 4))

    return call


def search_on_a_mesh() -> Callable[[], object]:
    """The dynamic programme alone, its tables made before."""
    choices, factors = factors_of(mlp_step(4096, 1024, 1024, 1024), (2, 2), MACHINE, {})
    domains = {name: len(options) for name, options in choices.items()}
    return lambda: eliminate(domains, factors)


def simulated_hybrid_step() -> Callable[[], object]:
    sizes = (256, 128, 128, 64)
    plan = optimise(mlp_step(*sizes), (2, 2), MACHINE, EXPERT_PLANS["hybrid"][1])
    engine = Simulated(plan.mesh)
    inputs = {name: engine.place(tensor, plan.sbp(name)) for name, tensor in make_inputs(sizes, 0).items()}
    return lambda: run_step(plan, engine, inputs)


def actors_on_threads() -> Callable[[], object]:
    """The protocol's own cost: 300 batches of no work through three actors."""
    graph, last = ActorGraph(), []
    for i in range(3):
        last = [graph.actor(f"stage{i}", lambda x: x, last)]
    return lambda: run(graph, 300)


def actors_simulated() -> Callable[[], object]:
    return lambda: simulate(pipeline([1, 3, 2], 2), 300)

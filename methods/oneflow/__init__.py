"""OneFlow: Redesign the Distributed Deep Learning Framework from Scratch (Yuan et al.; 2021).

Find how a training step should be spread over four devices, and run it on your own tensors, all devices in one process:

    import torch
    from methods.oneflow import Machine, Simulated, mlp_step, search, train

    plan = search(mlp_step(16, 8, 12, 4, lr=0.1), [(4,), (2, 2)], Machine(speed=2e9, link=1e9))
    weights = {"w1": torch.randn(8, 12), "w2": torch.randn(12, 4)}
    inputs = {"x": torch.randn(16, 8), "labels": torch.arange(16) % 4, **weights}
    losses, trained = train(plan, Simulated(plan.mesh), inputs, steps=3)
"""

from methods.oneflow.actor import ActorGraph, DeadlockError
from methods.oneflow.boxing import box, reshard, route
from methods.oneflow.graph import Graph, mlp_step
from methods.oneflow.plan import Machine, Plan, greedy, optimise, released, search
from methods.oneflow.runtime import Ranks, Simulated, train
from methods.oneflow.sbp import P_MAX, B, P, S, Sbp, to_global, to_local
from methods.oneflow.simulation import simulate
from methods.oneflow.threads import run

__all__ = [
    "P_MAX",
    "ActorGraph",
    "B",
    "DeadlockError",
    "Graph",
    "Machine",
    "P",
    "Plan",
    "Ranks",
    "S",
    "Sbp",
    "Simulated",
    "box",
    "greedy",
    "mlp_step",
    "optimise",
    "released",
    "reshard",
    "route",
    "run",
    "search",
    "simulate",
    "to_global",
    "to_local",
    "train",
]

"""OneFlow: Redesign the Distributed Deep Learning Framework from Scratch (Yuan et al.; 2021)."""

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

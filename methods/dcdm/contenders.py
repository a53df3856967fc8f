"""The contenders: solvers of one system, the networks among them with the recipe that trains these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from scipy.sparse.linalg import cg as scipy_cg
from torch import Tensor

from assay.contenders import Contender
from assay.experiment import Run
from methods.dcdm import workloads
from methods.dcdm.baselines import one_shot, sine_transform_solve
from methods.dcdm.network import DirectionNet
from methods.dcdm.workloads import CLASSICAL, Grid, Solve, Training


@dataclass(frozen=True)
class System:
    """A grid to solve on, a right-hand side `b` as a grid, and the network of the contenders that have one."""

    grid: Grid
    b: Tensor
    network: DirectionNet | None = None


def _dcdm(memory: int | None) -> Callable[[System, Training], Solve]:
    return lambda system, recipe: system.grid.dcdm(system.network, memory)


def _classical(name: str) -> Callable[[System, None], Solve]:
    return lambda system, recipe: system.grid.classical(name, system.b)


def _one_shot(system: System, recipe: Training) -> Solve:
    direction = system.grid.direction(system.network)
    return partial(one_shot, system.grid.A, direction=direction, max_iterations=workloads.PATIENCE)


CONTENDERS = {
    "dcdm": Contender(_dcdm(2), Training(size=32, steps=800)),
    "dcdm_s0": Contender(_dcdm(0), Training(size=32, steps=800)),
    "dcdm_all": Contender(_dcdm(None), Training(size=32, steps=800)),
    "one_shot": Contender(_one_shot, Training(size=32, steps=800, line_search=False)),
    **{name: Contender(_classical(name)) for name in CLASSICAL},
    "scipy_cg": Contender(lambda system, recipe: lambda b, tol: scipy_cg(system.grid.matrix, b, rtol=tol)),
    "sine_transform": Contender(lambda system, recipe: lambda b, tol: sine_transform_solve(system.b.numpy())),
}
"""Name on the card -> what sets a solver up; then `solve(b=vector, tol=1e-4)`. Classical ones have nothing to tune."""


def train(name: str, task: None, recipe: Training, seed: int = 0) -> DirectionNet:
    """The network of a contender, trained on the empty box of its own size: there is no task to give."""
    return workloads.trained(Run(name, "quick", seed), recipe)[0]


def example(seed: int = 0) -> None:
    """Training sees its own grid alone."""

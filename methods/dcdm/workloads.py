"""What the experiments share: trained networks, solvers by name, and one grid with all that it takes to solve on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from assay.experiment import Run
from methods.dcdm.baselines import Deflation, cg, incomplete_cholesky, jacobi, multigrid, pcg, smooth_ritz_vectors
from methods.dcdm.dcdm import NetworkDirection, Solution, solve, train
from methods.dcdm.lanczos import training_vectors
from methods.dcdm.network import DirectionNet
from methods.dcdm.poisson import RIGHT_HAND_SIDES, right_hand_side, system

Solve = Callable[..., Solution]
PATIENCE = 1000  # iterations that a solve is given, by whatever method; the official script gives CG as many
DEFLATED = {"deflated_pcg": 16, "deflated_long": 64}  # steps of Lanczos: the official code's, and better ones
PRECONDITIONED = ("jacobi_pcg", "ic_pcg", "amg_pcg")
CLASSICAL = ("cg", "jacobi_pcg", "deflated_pcg", "deflated_long", "ic_pcg", "amg_pcg")


@dataclass(frozen=True)
class Training:
    """How a network is trained: on the empty box of size^dim cells. ritz: steps of Lanczos for its vectors."""

    size: int
    steps: int
    dim: int = 2
    channels: int = 8
    layout: int = 64
    vectors: int = 400
    ritz: int = 400
    batch_size: int = 16
    lr: float = 4e-3
    line_search: bool = True


def trained(run: Run, training: Training) -> tuple[DirectionNet, dict[str, Any]]:
    """The network, trained once for all experiments of this replicate, and its `losses` by step and seconds by part."""

    def build() -> dict[str, Any]:
        generator = torch.Generator().manual_seed(run.seed)
        start = time.perf_counter()
        A = system("box", training.size, training.dim, run.device)
        vectors = training_vectors(A, training.vectors, training.ritz, generator)
        ready = time.perf_counter()
        network = _network(training).to(run.device)
        losses = train(network, A, vectors, steps=training.steps, batch_size=training.batch_size, lr=training.lr,
                       generator=generator, line_search=training.line_search)  # fmt: skip
        seconds = dict(vectors_s=ready - start, train_s=time.perf_counter() - ready)
        return dict(network=network.state_dict(), losses=losses, **seconds)

    saved = run.cached(repr(asdict(training)), build)
    network = _network(training).to(run.device)
    network.load_state_dict(saved.pop("network"))
    return network.eval(), saved


def _network(training: Training) -> DirectionNet:
    return DirectionNet(training.dim, training.layout, training.channels)


class Grid:
    """One system in the form that its machine is fastest in, with right-hand sides and solvers by name.

    On a CPU vectors are numpy's, over the fluid cells, and products are scipy's CSR: up to 64^2 cells twice as fast as
    the stencil, and about as fast at 128^2. On a GPU vectors are grids and products the stencil; IC(0) and multigrid
    stay on the CPU, transfers included.
    """

    def __init__(self, name: str, size: int, dim: int = 2, device: torch.device | str = "cpu") -> None:
        self.poisson = system(name, size, dim, device)
        self.on_cpu = self.poisson.device.type == "cpu"
        self.A = self.matrix if self.on_cpu else self.poisson

    @cached_property
    def matrix(self) -> csr_matrix:
        return self.poisson.csr()

    def vector(self, grid: Tensor) -> Any:
        return self.poisson.vector(grid) if self.on_cpu else grid

    def right_hand_sides(self, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(10_000 + seed)  # not the stream that training has drawn from
        return {name: right_hand_side(self.poisson, name, generator) for name in RIGHT_HAND_SIDES}

    def direction(self, network: DirectionNet) -> Callable[[Any], Any]:
        of_grid = NetworkDirection(network, self.poisson)
        if not self.on_cpu:
            return of_grid
        return lambda r: self.poisson.vector(of_grid(self.poisson.grid(r)))

    def dcdm(self, network: DirectionNet, memory: int | None = 2) -> Solve:
        return partial(solve, self.A, direction=self.direction(network), memory=memory, max_iterations=PATIENCE)

    def classical(self, name: str, b: Tensor) -> Solve:
        """A method of CLASSICAL, set up. Deflation starts Lanczos at b. ImportError for amg_pcg without pyamg."""
        if name not in CLASSICAL:
            raise ValueError(f"no solver {name!r}; there are {', '.join(CLASSICAL)}")
        if name == "cg":
            return partial(cg, self.A, max_iterations=PATIENCE)
        if name in PRECONDITIONED:
            return partial(pcg, self.A, precondition=self._preconditioner(name), max_iterations=PATIENCE)
        return partial(self.deflation(b, DEFLATED[name]).solve, max_iterations=PATIENCE)

    def deflation(self, b: Tensor, steps: int) -> Deflation:
        """What deflated PCG prepares: 16 Ritz vectors of so many steps of Lanczos from b, and their products with A."""
        Z = smooth_ritz_vectors(self.poisson, b, steps)
        vectors = np.stack([self.poisson.vector(z) for z in Z]) if self.on_cpu else Z
        return Deflation(self.A, vectors, self._preconditioner("jacobi_pcg"))

    def _preconditioner(self, name: str) -> Callable[[Any], Any]:
        if name == "jacobi_pcg":
            return jacobi(self.matrix) if self.on_cpu else lambda r: r / self.poisson.diagonal.clamp(min=1)
        if name == "ic_pcg":
            of_vector = incomplete_cholesky(self.matrix, self.poisson.wavefront())
        else:
            of_vector = multigrid(self.matrix)
        return of_vector if self.on_cpu else lambda r: self.poisson.grid(of_vector(self.poisson.vector(r)))


def iterations_to(found: Solution, digits: int) -> int | None:
    """Iterations until the residual has lost so many orders; None if it never has."""
    return next((k for k, residual in enumerate(found.residuals) if residual <= 10.0**-digits), None)

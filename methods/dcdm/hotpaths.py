"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from methods.dcdm.baselines import incomplete_cholesky
from methods.dcdm.dcdm import NetworkDirection, loss, solve
from methods.dcdm.lanczos import training_vectors
from methods.dcdm.network import DirectionNet
from methods.dcdm.poisson import Poisson, right_hand_side, system
from methods.dcdm.workloads import Grid

SIZE = 64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _problem() -> tuple[Poisson, torch.Tensor]:
    A = system("bunny", SIZE, device=DEVICE)
    return A, right_hand_side(A, "modes", torch.Generator().manual_seed(0))


def _network() -> DirectionNet:
    torch.manual_seed(0)
    return DirectionNet(2, channels=8).to(DEVICE)


def stencil_product() -> Callable[[], object]:
    A, b = _problem()
    return lambda: A @ b


def network_direction() -> Callable[[], object]:
    A, b = _problem()
    direction = NetworkDirection(_network(), A)
    return lambda: direction(b)


def ten_iterations() -> Callable[[], object]:
    A, b = _problem()
    direction = NetworkDirection(_network(), A)
    return lambda: solve(A, b, direction, tol=0.0, max_iterations=10)


def train_step() -> Callable[[], object]:
    A, network = system("box", 32, device=DEVICE).to(dtype=torch.float32), _network()
    r = training_vectors(A.to(dtype=torch.float64), 16, 100, torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss(A, r, network(r)).backward()
        optimizer.step()

    return step


def make_training_vectors() -> Callable[[], object]:
    A = system("box", 32, device=DEVICE)
    return lambda: training_vectors(A, 200, 200, torch.Generator().manual_seed(0))


def factorise_incompletely() -> Callable[[], object]:
    A = system("bunny", SIZE)
    matrix, wavefront = A.csr(), A.wavefront()
    return lambda: incomplete_cholesky(matrix, wavefront)


def ic_pcg_solve() -> Callable[[], object]:
    grid = Grid("bunny", SIZE)
    b = grid.right_hand_sides(0)["modes"]
    return partial(grid.classical("ic_pcg", b), b=grid.vector(b))

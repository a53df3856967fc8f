"""What users pass: right-hand sides of any size, NaN, wrong shapes, options out of range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.dcdm import DirectionNet, NetworkDirection, Poisson, loss, solve, train, training_vectors
from methods.dcdm.baselines import Deflation, cg, jacobi, one_shot, pcg
from methods.dcdm.lanczos import ritz
from methods.dcdm.poisson import right_hand_side, system
from tests.methods.unusual import assert_takes_or_refuses

A = system("bunny", 12)
B = right_hand_side(A, "modes", torch.Generator().manual_seed(0))


def lopsided(r: Any) -> Any:
    return r + 0.3 * abs(r)


SOLVERS = {
    "dcdm": lambda matrix, b, **options: solve(matrix, b, lopsided, **options),
    "all": lambda matrix, b, **options: solve(matrix, b, lopsided, memory=None, **options),
    "cg": cg,
    "pcg": lambda matrix, b, **options: pcg(matrix, b, jacobi(A.csr()), **options),
    "deflation": lambda matrix, b, **options: Deflation(
        matrix, np.stack([A.vector(z) for z in ritz(A, B, 8)[1]]), jacobi(A.csr())
    ).solve(b, **options),
    "one_shot": lambda matrix, b, **options: one_shot(matrix, b, lambda r: r / 8, **options),
}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("power", [-1060, -700, 700, 1000])
def test_the_residual_is_relative_whatever_the_size_of_the_right_hand_side(name: str, power: int) -> None:
    """Squares of 1e-200 vanish and of 1e200 overflow: a right-hand side of 2^k b takes the very same iterations."""
    if name == "one_shot" and power < -1000:
        pytest.skip("its slow iterates are below the least float")
    matrix, b = A.csr(), A.vector(B)
    if power < -1000:  # below 2^-1022 digits are lost: what is left is 2^k b of fewer digits
        b = np.round(b * 2.0**8) / 2.0**8
    plain, moved = (SOLVERS[name](matrix, v, tol=1e-3) for v in (b, b * 2.0 ** (power // 2) * 2.0 ** (power // 2)))
    assert plain.residuals[0] == pytest.approx(1) or name == "deflation"
    assert plain.iterations > 2
    assert moved.residuals == plain.residuals
    assert np.allclose(moved.x * 2.0 ** -(power // 2), plain.x * 2.0 ** (power // 2), rtol=1e-2, atol=0)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_right_hand_side_that_is_not_finite_is_refused(name: str, bad: float) -> None:
    b = A.vector(B).copy()
    b[3] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        SOLVERS[name](A.csr(), b)
    with pytest.raises(ValueError, match="empty"):
        SOLVERS[name](A.csr(), b[:0])


@pytest.mark.parametrize("name", ["dcdm", "all", "cg", "one_shot"])
def test_a_matrix_of_nan_never_converges(name: str) -> None:
    matrix = A.csr() * 1.0
    matrix.data[7] = np.nan
    found = SOLVERS[name](matrix, A.vector(B), tol=1e-3)
    assert not found.converged
    assert found.iterations <= 1


def test_nothing_to_solve_is_solved_by_every_solver() -> None:
    for name, solver in SOLVERS.items():
        found = solver(A.csr(), 0 * A.vector(B))
        assert (found.converged, found.iterations, found.x.any()) == (True, 0, False), name


@pytest.mark.parametrize("name", ["dcdm", "cg"])
def test_a_matrix_that_is_not_positive_stops_the_iteration_unconverged(name: str) -> None:
    found = SOLVERS[name](-A.csr(), A.vector(B))
    assert not found.converged
    assert not found.x.any()


@pytest.mark.parametrize("seed", range(6))
def test_conjugation_against_all_keeps_its_orthogonality_to_the_end(seed: int) -> None:
    """A random linear f on 36 unknowns; with one pass of Gram-Schmidt four of six of these missed 1e-8."""
    box = system("box", 6)
    b = right_hand_side(box, "noise", torch.Generator().manual_seed(5))
    M = torch.randn(36, 36, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = solve(box, b, lambda r: (M @ r.ravel()).view_as(r), memory=None, tol=1e-12, max_iterations=36)
    assert found.converged
    assert found.iterations == 36
    assert found.fallbacks == 0


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_a_direction_may_have_any_scale(scale: float) -> None:
    plain, moved = (solve(A, B, lambda r, s=s: s * lopsided(r)) for s in (1.0, scale))
    assert moved.iterations == plain.iterations
    assert moved.fallbacks == 0


def test_a_training_that_diverges_is_an_error_and_not_a_network() -> None:
    vectors = training_vectors(system("box", 8), 8, 20, torch.Generator().manual_seed(0))
    network = DirectionNet(2, channels=2)
    torch.nn.init.constant_(network.last.weight, torch.inf)
    with pytest.raises(FloatingPointError, match="step 0"):
        train(network, system("box", 8), vectors, steps=2, batch_size=4, lr=1e-3, generator=torch.Generator())
    vectors[0, 0] = torch.nan
    with pytest.raises(ValueError, match="8 entries NaN"):
        train(network, system("box", 8), vectors, steps=2, batch_size=4, lr=1e-3, generator=torch.Generator())


def test_a_direction_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="the residual's shape"):
        solve(A, B, lambda r: r[:1])
    with pytest.raises(ValueError, match="12, 12"):
        A @ B[:1]  # would broadcast
    with pytest.raises(ValueError, match="too little fluid"):
        right_hand_side(Poisson(torch.full((2, 2), 2), outside=2), "noise", torch.Generator())


def _train(vectors: Tensor, steps: int, batch_size: int, lr: float) -> list[float]:
    network = DirectionNet(2, channels=2)
    return train(network, system("box", 8), vectors, steps=steps, batch_size=batch_size, lr=lr,
                 generator=torch.Generator().manual_seed(0))  # fmt: skip


def test_unusual_inputs_are_taken_or_refused() -> None:
    grid = system("disc", 8)
    r = A.project(torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    network = DirectionNet(2, channels=2).double()
    assert_takes_or_refuses(lambda b, tol, max_iterations, memory: solve(
        A, b, lopsided, tol=tol, max_iterations=max_iterations, memory=memory).x, b=B, tol=1e-4, max_iterations=4,
        memory=2)  # fmt: skip
    assert_takes_or_refuses(lambda r, f: loss(A, r, f), r=r, f=lopsided(r))
    assert_takes_or_refuses(DirectionNet, dim=2, layout=64, channels=2)
    assert_takes_or_refuses(network, r=r)
    assert_takes_or_refuses(lambda r: NetworkDirection(DirectionNet(2, channels=2), A)(r), r=r[0])
    assert_takes_or_refuses(lambda cells, outside: Poisson(cells, outside) @ B[:8, :8], cells=grid.cells, outside=1)
    assert_takes_or_refuses(lambda p: A @ p, p=r)
    assert_takes_or_refuses(A.project, v=r)
    assert_takes_or_refuses(lambda name, size, dim: system(name, size, dim).diagonal, name="bunny", size=8, dim=2)
    assert_takes_or_refuses(lambda count, steps: training_vectors(
        grid, count, steps, torch.Generator().manual_seed(0)), count=3, steps=9)  # fmt: skip
    assert_takes_or_refuses(_train, vectors=training_vectors(grid, 4, 20, torch.Generator().manual_seed(0)), steps=2,
                            batch_size=2, lr=1e-3)  # fmt: skip

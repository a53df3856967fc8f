"""The iteration's exact properties, whatever the network says, and the loss that it is trained with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import splu
from torch import Tensor

from methods.dcdm.baselines import cg
from methods.dcdm.dcdm import NetworkDirection, dot, loss, norm, solve, train
from methods.dcdm.lanczos import training_vectors
from methods.dcdm.network import DirectionNet
from methods.dcdm.poisson import Poisson, right_hand_side, system

GRIDS = [("box", 24), ("disc", 24), ("bunny", 24), ("box", 16)]


def problem(name: str, size: int, side: str = "modes") -> tuple[Poisson, Tensor]:
    A = system(name, size)
    return A, right_hand_side(A, side, torch.Generator().manual_seed(5))


def exact(A: Poisson) -> Callable[[Tensor], Tensor]:
    factor = splu(A.csr().tocsc())
    return lambda r: A.grid(factor.solve(A.vector(r)))


def random_network(A: Poisson) -> NetworkDirection:
    torch.manual_seed(0)
    return NetworkDirection(DirectionNet(2, channels=4), A)


def lopsided(r: Any) -> Any:
    """A direction that is neither linear nor good, but never orthogonal to r."""
    return r + 0.3 * abs(r)


def iterates(method: Callable[..., object], *args: object, **options: object) -> list[Tensor]:
    found: list[Tensor] = []
    method(*args, callback=lambda x: found.append(x), **options)
    return found


def textbook_cg(A: Poisson, b: Tensor, steps: int) -> list[Tensor]:
    x, r, p, found = torch.zeros_like(b), b.clone(), b.clone(), []
    for _ in range(steps):
        Ap = A @ p
        alpha = (r * r).sum() / (p * Ap).sum()
        x, new = x + alpha * p, r - alpha * Ap
        p, r = new + (new * new).sum() / (r * r).sum() * p, new
        found.append(x)
    return found


@pytest.mark.parametrize(("name", "size"), GRIDS)
def test_residuals_as_directions_give_cg(name: str, size: int) -> None:
    A, b = problem(name, size)
    ours = iterates(solve, A, b, lambda r: r, tol=0.0, max_iterations=30)
    for x, y in zip(ours, textbook_cg(A, b, 30), strict=True):
        assert (x - y).norm() <= 1e-10 * y.norm()
    assert solve(A, b, lambda r: r).iterations == cg(A, b).iterations


@pytest.mark.parametrize("scale", [1.0, -3.0, 1e-6])
def test_an_exact_direction_of_any_scale_ends_after_one_iteration(scale: float) -> None:
    A, b = problem("bunny", 16)
    inverse = exact(A)
    found = solve(A, b, lambda r: scale * inverse(r), tol=1e-10)
    assert found.iterations == 1
    assert found.converged
    r = torch.stack([b, problem("bunny", 16, "noise")[1]])
    assert loss(A, r, torch.stack([scale * inverse(one) for one in r])) < 1e-20


def test_the_loss_does_not_see_the_scale_of_f() -> None:
    A, _ = problem("disc", 16)
    r, f = torch.randn(2, 5, 16, 16, dtype=torch.float64)
    r, f = (A.project(v) for v in (r, f))
    r = r / r.flatten(1).norm(dim=1).view(-1, 1, 1)
    scales = torch.tensor([1.0, -1, 7, 1e-3, 100]).view(-1, 1, 1)
    assert abs(loss(A, r, f) - loss(A, r, scales * f)) < 1e-6 * loss(A, r, f)


def test_the_step_is_the_line_search_s_and_not_the_least_squares_one() -> None:
    """r'f / f'Af leaves more residual than r'Af / |Af|^2, which is the least by definition; and less A-norm error."""
    A, b = problem("box", 8)
    f = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    r, Af = b.unsqueeze(0), A @ f
    least = r - dot(r, Af) / dot(Af, Af) * Af
    assert loss(A, r, f) > dot(least, least) + 1e-6
    line, squares = dot(r, f) / dot(f, Af), dot(r, Af) / dot(Af, Af)
    torch.testing.assert_close(loss(A, r, f), (r - line * Af).square().sum())
    error = exact(A)(b) - torch.stack([line * f[0], squares * f[0]])
    energies = [(e * (A @ e)).sum() for e in error]
    assert energies[0] < energies[1]


def test_the_gradient_of_the_loss_goes_through_alpha() -> None:
    A, b = problem("disc", 6)
    f = torch.randn(2, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: loss(A, torch.stack([b, b]), f), f)
    # a loss that does not see the scale of f has no slope along f
    value = loss(A, torch.stack([b, b]), f)
    (gradient,) = torch.autograd.grad(value, f)
    assert abs(dot(gradient[0], f[0].detach())) < 1e-10


@pytest.mark.parametrize("memory", [0, 2, None])
@pytest.mark.parametrize("name", ["box", "bunny"])
def test_the_energy_of_the_error_never_grows_even_for_random_directions(name: str, memory: int | None) -> None:
    A, b = problem(name, 16)
    x = exact(A)(b)
    generator = torch.Generator().manual_seed(0)

    def guess(r: Tensor) -> Tensor:
        return A.project(torch.randn(r.shape, generator=generator, dtype=r.dtype))

    errors = [x - y for y in iterates(solve, A, b, guess, memory=memory, tol=0.0, max_iterations=40)]
    energies = [dot(e, A @ e) for e in [x, *errors]]
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(energies))
    assert energies[-1] < energies[0]


def test_consecutive_directions_are_conjugate_to_the_last_two() -> None:
    A, b = problem("bunny", 16)
    xs = iterates(solve, A, b, random_network(A), tol=0.0, max_iterations=15)
    steps = [after - before for before, after in pairwise([torch.zeros_like(b), *xs])]
    size = [dot(d, A @ d) ** 0.5 for d in steps]
    for k, d in enumerate(steps):
        for past in range(max(0, k - 2), k):
            assert abs(dot(d, A @ steps[past])) < 1e-10 * size[k] * size[past]
    far = [abs(dot(steps[k], A @ steps[k - 3])) / size[k] / size[k - 3] for k in range(3, 15)]
    assert max(far) > 1e-6  # and to no earlier one: s = 2


@pytest.mark.parametrize("kind", ["linear", "residual"])
def test_conjugation_against_all_ends_within_the_number_of_unknowns(kind: str) -> None:
    A, b = problem("box", 6, "noise")
    M = torch.randn(36, 36, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = solve(A, b, lambda r: (M @ r.ravel()).view_as(r) if kind == "linear" else r, memory=None, tol=1e-12,
                  max_iterations=36)  # fmt: skip
    assert found.fallbacks == 0
    assert min(found.residuals) < 1e-8
    assert found.residuals[-3] > 1e-3 or kind == "residual"  # it ends, where it had not converged


@pytest.mark.parametrize("bad", ["constant", "zero", "nan", "orthogonal"])
def test_a_useless_direction_falls_back_on_the_residual(bad: str) -> None:
    A, b = problem("disc", 12)
    directions = {
        "constant": lambda r: A.project(torch.ones_like(r)),
        "zero": torch.zeros_like,
        "nan": lambda r: torch.full_like(r, torch.nan),
        "orthogonal": lambda r: r.T - dot(r, r.T) / dot(r, r) * r,
    }
    found = solve(A, b, directions[bad], tol=1e-8)
    assert found.converged
    assert found.fallbacks > 0
    assert np.isfinite(found.residuals).all()


def test_the_iteration_stops_at_the_tolerance_and_gives_a_true_residual() -> None:
    A, b = problem("bunny", 16)
    found = solve(A, 1000 * b, lopsided, tol=1e-5)
    assert found.residuals[-1] <= 1e-5 < found.residuals[-2]
    assert abs(norm(1000 * b - A @ found.x) / 1000 - found.residuals[-1]) < 1e-12
    short = solve(A, b, lopsided, tol=1e-5, max_iterations=3)
    assert (short.iterations, short.converged) == (3, False)


def test_nothing_to_solve_takes_no_iteration() -> None:
    A, b = problem("box", 8)
    found = solve(A, 0 * b, lambda r: r)
    assert found.converged
    assert found.iterations == 0
    assert not found.x.any()


def test_scipy_matrices_and_numpy_vectors_are_solved_alike() -> None:
    A, b = problem("bunny", 16)
    grid, vector = solve(A, b, lopsided), solve(A.csr(), A.vector(b), lopsided)
    assert abs(grid.iterations - vector.iterations) <= 1  # rounding grows over a hundred iterations
    assert np.allclose(A.vector(grid.x), vector.x, atol=1e-3 * np.abs(vector.x).max())
    by_matrix = solve(torch.from_numpy(A.csr().toarray()), torch.from_numpy(A.vector(b)), lopsided, max_iterations=20)
    assert np.allclose(by_matrix.residuals, vector.residuals[:21], rtol=1e-6)


def test_a_singular_system_is_solved_without_drift_along_its_null_space() -> None:
    A, b = problem("sealed", 16)
    found = solve(A, b, random_network(A), tol=0.0, max_iterations=20)
    assert found.residuals[-1] < 0.9
    assert abs(found.x[A.sealed[0]].mean()) < 1e-10
    assert not found.x[~A.fluid].any()


def test_a_direction_leaves_cells_off_the_fluid_alone() -> None:
    A, b = problem("disc", 16)
    d = random_network(A)(b)
    assert d.dtype == torch.float64
    assert not d[~A.fluid].any()
    assert d[A.fluid].any()


def test_training_lowers_the_loss_and_then_halves_cg_s_iterations_where_it_has_not_trained() -> None:
    A = system("box", 16)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    vectors, network = training_vectors(A, 200, 200, generator), DirectionNet(2, channels=8)
    losses = train(network, A, vectors, steps=80, batch_size=16, lr=4e-3, generator=generator)
    assert len(losses) == 80
    assert 0.3 < losses[0] < 1.2
    assert np.mean(losses[-10:]) < 0.06
    for name in ("box", "bunny"):
        test, b = problem(name, 16)
        assert 2 * solve(test, b, NetworkDirection(network, test)).iterations < cg(test, b).iterations


def test_training_keeps_the_best_weights_and_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a rate that grows until the network is ruined, what comes back is far better than what it ended with."""
    growing = partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: 1.1**step)
    monkeypatch.setattr(torch.optim.lr_scheduler, "CosineAnnealingLR", lambda optimizer, steps: growing(optimizer))
    A = system("box", 8)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    vectors, network = training_vectors(A, 32, 60, generator), DirectionNet(2, channels=4)
    losses = train(network, A, vectors, steps=80, batch_size=16, lr=0.01, generator=generator)
    kept = float(loss(A.to(dtype=torch.float32), vectors, network(vectors)).detach())
    assert kept < 0.5 * np.mean(losses[-10:])

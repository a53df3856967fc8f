"""The baselines against textbook definitions, scipy and dense linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import cg as scipy_cg

from methods.dcdm.baselines import (
    Deflation,
    cg,
    incomplete_cholesky,
    jacobi,
    multigrid,
    one_shot,
    pcg,
    sine_transform_solve,
    smooth_ritz_vectors,
)
from methods.dcdm.poisson import SYSTEMS, Poisson, right_hand_side, system


def problem(name: str, size: int = 16, dim: int = 2) -> tuple[Poisson, scipy.sparse.csr_matrix, np.ndarray]:
    A = system(name, size, dim)
    return A, A.csr(), A.vector(right_hand_side(A, "modes", torch.Generator().manual_seed(2)))


def textbook_ic0(A: np.ndarray) -> np.ndarray:
    """The factor of Meijerink and van der Vorst, entry by entry, with the pattern of A's lower part."""
    L = np.tril(A)
    for k in range(len(L)):
        L[k, k] = np.sqrt(L[k, k])
        L[k + 1 :, k] /= L[k, k]
        for j in range(k + 1, len(L)):
            keep = (L[j:, k] != 0) & (L[j, k] != 0) & (A[j:, j] != 0)
            L[j:, j] -= np.where(keep, L[j:, k] * L[j, k], 0)
    return L


@pytest.mark.parametrize(("name", "dim"), [("box", 2), ("bunny", 2), ("disc", 3), ("ellipse", 3)])
def test_incomplete_cholesky_is_the_textbook_s(name: str, dim: int) -> None:
    A, matrix, b = problem(name, 10 if dim == 2 else 6, dim)
    L = textbook_ic0(matrix.toarray())
    ours = incomplete_cholesky(matrix, A.wavefront())(b)
    assert np.allclose(ours, np.linalg.solve(L @ L.T, b), rtol=1e-12, atol=1e-14)


def test_incomplete_cholesky_agrees_with_a_on_its_pattern() -> None:
    A, matrix, _ = problem("bunny", 8)
    apply = incomplete_cholesky(matrix, A.wavefront())
    M = np.linalg.inv(np.column_stack([apply(e) for e in np.eye(A.unknowns)]))
    pattern = matrix.toarray() != 0
    assert np.allclose(M[pattern], matrix.toarray()[pattern], atol=1e-10)
    assert np.abs(M[~pattern]).max() > 0.1


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_solver_reaches_the_tolerance_and_says_its_true_residual(name: str) -> None:
    A, matrix, b = problem(name)
    Z = smooth_ritz_vectors(A, A.grid(b), 40)
    deflation = Deflation(matrix, np.stack([A.vector(z) for z in Z]), jacobi(matrix))
    found = [
        cg(matrix, b, tol=1e-8),
        pcg(matrix, b, jacobi(matrix), tol=1e-8),
        pcg(matrix, b, incomplete_cholesky(matrix, A.wavefront()), tol=1e-8),
        deflation.solve(b, tol=1e-8),
    ]
    for solution in found:
        assert solution.converged
        assert solution.residuals[-1] <= 1e-8
        residual = np.linalg.norm(b - matrix @ solution.x) / np.linalg.norm(b)
        assert abs(residual - solution.residuals[-1]) < 1e-10


def test_cg_takes_as_many_iterations_as_scipy_s() -> None:
    _, matrix, b = problem("bunny")
    steps: list[np.ndarray] = []
    x, _ = scipy_cg(matrix, b, rtol=1e-6, callback=steps.append)
    ours = cg(matrix, b, tol=1e-6)
    assert ours.iterations == len(steps)
    assert np.allclose(ours.x, x, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "equal"), [("box", True), ("disc", True), ("boxes", True), ("ellipse", False)])
def test_jacobi_is_cg_where_the_diagonal_is_constant(name: str, equal: bool) -> None:
    """Removed cells are air, which leaves the diagonal as it is; solids do not."""
    _, matrix, b = problem(name)
    plain, scaled = (
        [method(matrix, b, **options, tol=0.0, max_iterations=k).x for k in (1, 5, 20)]
        for method, options in ((cg, {}), (pcg, {"precondition": jacobi(matrix)}))
    )
    same = [np.allclose(x, y, rtol=1e-10, atol=1e-12) for x, y in zip(plain, scaled, strict=True)]
    assert all(same) if equal else not any(same[1:])


def test_deflation_starts_exact_on_z_and_never_leaves() -> None:
    A, matrix, b = problem("ellipse")
    Z = np.stack([A.vector(z) for z in smooth_ritz_vectors(A, A.grid(b), 60)])
    deflation = Deflation(matrix, Z, jacobi(matrix))
    assert Z.shape == (16, A.unknowns)
    for k in (0, 3, 10):
        found = deflation.solve(b, tol=0.0, max_iterations=k)
        assert np.abs(Z @ (b - matrix @ found.x)).max() < 1e-10
    inside = matrix @ (np.arange(16) @ Z)
    assert deflation.solve(inside, tol=1e-10).iterations == 0


def test_the_official_deflation_saves_the_iterations_that_its_lanczos_has_made() -> None:
    """16 Ritz vectors of 16 steps at b span the Krylov space of CG's first 16 iterations; Jacobi is CG on the box."""
    A, matrix, b = problem("box", 32)
    Z = smooth_ritz_vectors(A, A.grid(b), 16)
    short = Deflation(matrix, np.stack([A.vector(z) for z in Z]), jacobi(matrix))
    assert cg(matrix, b).iterations - short.solve(b).iterations == 16
    longer = Deflation(matrix, np.stack([A.vector(z) for z in smooth_ritz_vectors(A, A.grid(b), 64)]), jacobi(matrix))
    assert longer.solve(b).iterations < short.solve(b).iterations - 10


def test_deflation_on_grids_is_the_one_on_vectors() -> None:
    A, matrix, b = problem("bunny")
    Z = smooth_ritz_vectors(A, A.grid(b), 40)
    on_grids = Deflation(A, Z, lambda r: r / A.diagonal.clamp(min=1)).solve(A.grid(b))
    on_vectors = Deflation(matrix, np.stack([A.vector(z) for z in Z]), jacobi(matrix)).solve(b)
    assert on_grids.iterations == on_vectors.iterations
    assert np.allclose(A.vector(on_grids.x), on_vectors.x, atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_sine_transform_solves_the_empty_box(dim: int) -> None:
    A, _, b = problem("box", 12, dim)
    grid = A.grid(b)
    assert (A @ torch.from_numpy(sine_transform_solve(grid.numpy())) - grid).norm() < 1e-13


@pytest.mark.parametrize(("name", "dim"), [("box", 2), ("bunny", 2), ("sealed", 2), ("bunny", 3)])
def test_multigrid_needs_a_few_iterations_on_any_grid(name: str, dim: int) -> None:
    pytest.importorskip("pyamg")
    counts = []
    for size in (16, 32):
        _, matrix, b = problem(name, size, dim)
        found = pcg(matrix, b, multigrid(matrix), tol=1e-8)
        assert np.linalg.norm(b - matrix @ found.x) < 1.1e-8 * np.linalg.norm(b)
        counts.append(found.iterations)
    assert max(counts) < 15
    assert counts[1] < 1.7 * counts[0]


def test_one_shot_needs_the_scale_that_a_line_search_would_find() -> None:
    _, matrix, b = problem("box", 8)
    inverse = np.linalg.inv(matrix.toarray())
    assert one_shot(matrix, b, lambda r: inverse @ r).iterations == 1
    slow = one_shot(matrix, b, lambda r: 0.5 * inverse @ r, tol=1e-3)
    assert slow.iterations == 10  # 2^-10 < 1e-3
    lost = one_shot(matrix, b, lambda r: 3 * inverse @ r)
    assert not lost.converged
    assert lost.residuals[-1] > 1e6

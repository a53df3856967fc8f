"""Ritz pairs, and the vectors that networks are trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from methods.dcdm.lanczos import EMPHASIS, lanczos, ritz, training_vectors
from methods.dcdm.poisson import system


def laplacian_1d(n: int) -> torch.Tensor:
    return (
        2 * torch.eye(n, dtype=torch.float64)
        - torch.diag(torch.ones(n - 1).double(), 1)
        - torch.diag(torch.ones(n - 1).double(), -1)
    )


def start(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("n", [30, 100])
def test_a_full_run_finds_the_eigenvalues_of_the_1d_laplacian(n: int) -> None:
    values, vectors = ritz(laplacian_1d(n), start(n), n)
    exact = 2 - 2 * np.cos(np.arange(1, n + 1) * np.pi / (n + 1))
    assert np.abs(values.numpy() - exact).max() < 1e-8
    assert (vectors @ vectors.T - torch.eye(n)).abs().max() < 1e-10


def test_long_runs_stay_orthonormal_and_have_no_ghosts() -> None:
    """300 steps on 400 unknowns; without re-orthogonalisation extreme Ritz values converge twice and more often."""
    A = system("bunny", 20)
    basis, diagonal, off = lanczos(A, A @ start(20, 20), 300)
    assert (basis @ basis.T - torch.eye(len(basis))).abs().max() < 1e-10
    projected = basis @ (A @ basis.view(-1, 20, 20)).flatten(1).T
    assert (projected - torch.diag(diagonal) - torch.diag(off, 1) - torch.diag(off, -1)).abs().max() < 1e-10


def test_a_run_ends_where_the_krylov_space_does() -> None:
    """A vector of three eigenvectors spans a Krylov space of dimension three."""
    _, eigenvectors = torch.linalg.eigh(laplacian_1d(20))
    basis, _, _ = lanczos(laplacian_1d(20), eigenvectors[:, [2, 9, 15]].sum(1), 10)
    assert len(basis) == 3


def test_training_vectors_are_units_made_of_smooth_parts_nine_times_as_much() -> None:
    """In the eigenbasis of the box, the rough and the smooth half have squared coefficients of 1 to 81."""
    A = system("box", 8)
    b = training_vectors(A, 2000, 64, torch.Generator().manual_seed(0))
    assert b.shape == (2000, 8, 8)
    assert b.dtype == torch.float32
    assert (b.flatten(1).norm(dim=1) - 1).abs().max() < 1e-5
    values, vectors = ritz(A, A @ start(8, 8), 64)
    power = (b.double().flatten(1) @ vectors.flatten(1).T).square().mean(0)
    smooth, rough = power[values < 3].mean(), power[values > 6].mean()
    assert abs(smooth / rough - EMPHASIS**2) < 0.1 * EMPHASIS**2


def test_training_vectors_of_a_singular_system_avoid_its_null_space() -> None:
    A = system("sealed", 12)
    b = training_vectors(A, 20, 60, torch.Generator().manual_seed(0))
    assert b.sum((1, 2)).abs().max() < 1e-5


def test_equal_seeds_give_equal_vectors() -> None:
    A = system("box", 8)
    one, two, other = (training_vectors(A, 5, 30, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)

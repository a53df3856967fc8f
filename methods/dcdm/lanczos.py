"""Training vectors for DCDM: right-hand sides made of Ritz vectors of A. No solution is needed, and none is computed.

m steps of Lanczos from `A g`, g ~ N(0, I), give an orthonormal basis q_1..q_m of a Krylov space and a tridiagonal T =
Q' A Q. Its eigenpairs (theta_j, u_j) give Ritz values theta_j and Ritz vectors y_j = Q u_j, close to eigenvectors of A.
A training vector is

    b = sum_j c_j y_j / ||.||,    c_j ~ 9 N(0, 1) for j <= m/2 + m/20, else N(0, 1),    values ascending in j:

smooth parts, which iterative solvers are slow at, weigh nine times as much, and rough ones are still there. (The paper
has m = 10,000 and 500 in place of m/20, the same share.)

In finite precision the basis loses its orthogonality, and copies of the same eigenvector ("ghosts") would be counted
as several: every step is orthogonalised against the whole basis, twice (in the released code once).
"""

from __future__ import annotations

import math

import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from methods.dcdm.poisson import Poisson
from methods.shared.checks import check_sizes

SMALLEST = 1e-8  # Ritz values below belong to the null space
EMPHASIS, SHIFT = 9.0, 0.05


def lanczos(A: Poisson | Tensor, start: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Basis (m, n) with orthonormal rows, diagonal (m,) and off-diagonal (m - 1,) of T, for m <= `steps`.

    A: anything for which `A @ x` has the shape of x. start: not zero, with n entries in any shape; dtype and device are
    taken from it. m is smaller than `steps` where the Krylov space ends before. Raises ValueError where it is 0 or NaN.
    """
    check_sizes("lanczos", steps=steps)
    if not 0 < float(start.norm()) < math.inf:
        raise ValueError(f"lanczos: start is a finite vector other than 0; got norm {float(start.norm())}")
    basis = torch.zeros(min(steps, start.numel()), start.numel(), dtype=start.dtype, device=start.device)
    basis[0] = start.flatten() / start.norm()
    diagonal, off = [], []
    for k in range(len(basis)):
        w = (A @ basis[k].view_as(start)).flatten()
        diagonal.append(float(basis[k] @ w))
        done = basis[: k + 1]
        for _ in range(2):
            w = w - done.T @ (done @ w)
        norm = float(w.norm())
        if k + 1 == len(basis) or norm < 1e4 * torch.finfo(start.dtype).eps * abs(diagonal[0]):
            break
        off.append(norm)
        basis[k + 1] = w / norm
    return basis[: len(diagonal)], torch.tensor(diagonal, dtype=torch.float64), torch.tensor(off, dtype=torch.float64)


def ritz(A: Poisson | Tensor, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Ritz values (m,) ascending, float64, and Ritz vectors (m, *start.shape), of norm 1."""
    basis, diagonal, off = lanczos(A, start, steps)
    values, vectors = eigh_tridiagonal(diagonal.numpy(), off.numpy())
    rotation = torch.from_numpy(vectors.T.copy()).to(basis)
    return torch.from_numpy(values), (rotation @ basis).view(-1, *start.shape)


def training_vectors(A: Poisson, count: int, steps: int, generator: torch.Generator) -> Tensor:
    """(count, *shape) float32 right-hand sides of norm 1, on A's device. steps: m, at most the number of unknowns."""
    check_sizes("training_vectors", count=count, steps=steps)
    noise = torch.randn(A.shape, generator=generator, dtype=torch.float64).to(A.device, A.dtype)
    values, vectors = ritz(A, A @ noise, min(steps, A.unknowns))
    vectors = vectors[(values >= SMALLEST).to(A.device)].flatten(1)
    coefficients = torch.randn(count, len(vectors), generator=generator, dtype=torch.float64)
    coefficients[:, : round((0.5 + SHIFT) * len(vectors))] *= EMPHASIS
    out = torch.empty(count, *A.shape, device=A.device)
    # in parts: 20,000 vectors of 64^3 cells are too many in float64
    for part, rows in zip(coefficients.split(1000), out.flatten(1).split(1000), strict=True):
        b = part.to(A.device, A.dtype) @ vectors
        rows.copy_(b / b.norm(dim=1, keepdim=True))
    return out

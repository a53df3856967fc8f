"""What a DCDM solve is compared with: the conjugate gradient family, a direct solver, and a network alone.

All of them stop at ||r|| <= tol ||b||, start at x = 0 (`Deflation` at the best x of its own space), and count one
iteration per product with A of the loop; DCDM's iterations have two. (The official script stops CG and deflated PCG at
an absolute residual, DCDM at a relative one.) `cg` and `pcg` take anything for
which `A @ x` works, like `methods.dcdm.dcdm.solve`; preconditioners are made of a scipy matrix and are functions of
numpy vectors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse
import torch
from scipy.sparse.linalg import splu
from torch import Tensor

from methods.dcdm.dcdm import Direction, Solution, dot, norm, scaled, times_power_of_two
from methods.dcdm.lanczos import SMALLEST, ritz
from methods.dcdm.poisson import Poisson
from methods.shared.checks import check_numbers, check_sizes

Preconditioner = Callable[[Any], Any]
STALLED = 100  # iterations without a new least residual after which `one_shot` gives up


def cg(A: Any, b: Any, *, tol: float = 1e-4, max_iterations: int = 5000) -> Solution:
    """Conjugate gradients (Hestenes and Stiefel), residual by recurrence."""
    return pcg(A, b, lambda r: r, tol=tol, max_iterations=max_iterations)


def pcg(A: Any, b: Any, precondition: Preconditioner, *, tol: float = 1e-4, max_iterations: int = 5000) -> Solution:
    """Preconditioned conjugate gradients. precondition: r -> M^{-1} r, linear, M symmetric and positive definite.

    Stops and refuses as `methods.dcdm.dcdm.solve` does.
    """
    return _pcg(A, b, lambda b: (b * 0.0, b), precondition, lambda z: z, tol, max_iterations)


def _pcg(A: Any, b: Any, start: Callable[[Any], tuple[Any, Any]], precondition: Preconditioner,
         deflate: Callable[[Any], Any], tol: float, max_iterations: int) -> Solution:  # fmt: skip
    """start: b -> x_0 and its residual. Every preconditioned residual goes through `deflate`."""
    check_numbers("pcg", least=0.0, tol=tol)
    check_sizes("pcg", least=0, max_iterations=max_iterations)
    b, power = scaled(b)
    size = norm(b)
    x, r = start(b)
    found = Solution(x, [norm(r) / size if size > 0 else 0.0])
    p, rz = None, 0.0
    while found.residuals[-1] > tol and found.iterations < max_iterations:
        z = precondition(r)
        before, rz = rz, dot(r, z)
        z = deflate(z)
        p = z if p is None else z + (rz / before) * p
        Ap = A @ p
        curvature = dot(p, Ap)
        if not 0 < curvature < math.inf:
            break
        alpha = rz / curvature
        found.x = found.x + alpha * p
        r = r - alpha * Ap
        found.residuals.append(norm(r) / size)
    found.x = times_power_of_two(found.x, power)
    found.converged = found.residuals[-1] <= tol
    return found


class Deflation:
    """PCG on what smooth Ritz vectors Z leave over, with the Jacobi preconditioner M.

        x_0 = Z (Z'AZ)^{-1} Z'b,    p = M^{-1} r + beta p - Z (Z'AZ)^{-1} Z'A M^{-1} r

    Args:
        A: scipy matrix (n, n), or a Poisson. Z: (count, n) or (count, *grid), independent and in the range of A. They
            come from Lanczos at a right-hand side (`smooth_ritz_vectors`), and others with the same A may use them too.
        precondition: M^{-1}.
    """

    def __init__(self, A: Any, Z: Any, precondition: Preconditioner) -> None:
        self.A, self.precondition, self.Z = A, precondition, Z.reshape(len(Z), -1)
        AZ = A @ Z if isinstance(A, Poisson) else (A @ Z.T).T
        self.AZ = AZ.reshape(len(Z), -1)
        inv = torch.linalg.inv if isinstance(Z, Tensor) else np.linalg.inv
        self.inverse = inv(self.Z @ self.AZ.T)

    def solve(self, b: Any, *, tol: float = 1e-4, max_iterations: int = 5000) -> Solution:
        return _pcg(self.A, b, self._start, self.precondition, self._deflate, tol, max_iterations)

    def _start(self, b: Any) -> tuple[Any, Any]:
        c = self.inverse @ (self.Z @ b.ravel())
        return (c @ self.Z).reshape(b.shape), b - (c @ self.AZ).reshape(b.shape)

    def _deflate(self, z: Any) -> Any:
        return z - ((self.inverse @ (self.AZ @ z.ravel())) @ self.Z).reshape(z.shape)


def smooth_ritz_vectors(A: Poisson, b: Tensor, steps: int, count: int = 16) -> Tensor:
    """The `count` Ritz vectors of lowest value, (count, *grid), after `steps` of Lanczos from b.

    The official code takes as many steps as vectors: Z then spans no more than what CG has seen after `count`
    iterations. More steps bring Ritz vectors that are close to eigenvectors.
    """
    values, vectors = ritz(A, b, steps)
    return vectors[(values >= SMALLEST).to(vectors.device)][:count]


def jacobi(A: scipy.sparse.csr_matrix) -> Preconditioner:
    """r / diag A."""
    inverse = 1 / A.diagonal()
    return lambda r: inverse * r


def incomplete_cholesky(A: scipy.sparse.csr_matrix, wavefront: np.ndarray) -> Preconditioner:
    """Zero-fill incomplete Cholesky, M = (D + L) D^{-1} (D + L'), with A's own strictly lower part L.

    Neighbours of a cell on a grid are never neighbours of one another, so IC(0) changes the diagonal alone: D_i =
    A_ii - sum_{j < i} A_ij^2 / D_j. The two triangular solves are SuperLU's of D + L in its natural order, ten times as
    fast as `spsolve_triangular`, which the official script calls and which sets up its factor anew each time.

    wavefront: (n,) numbers that grow along L, such as `Poisson.wavefront()`: pivots of equal number are found at once.
    """
    lower = scipy.sparse.tril(A, -1, format="csr")
    rows = np.repeat(np.arange(len(wavefront)), np.diff(lower.indptr))
    order = np.argsort(wavefront[rows], kind="stable")
    rows, columns, squares = rows[order], lower.indices[order], lower.data[order] ** 2
    diagonal = A.diagonal()
    D = diagonal.copy()
    ends = [0, *np.flatnonzero(np.diff(wavefront[rows])) + 1, len(rows)]
    for begin, end in itertools.pairwise(ends):
        np.subtract.at(D, rows[begin:end], squares[begin:end] / D[columns[begin:end]])
    D = np.where(1e-12 * diagonal < D, D, diagonal)  # where A is singular the last pivot may have vanished
    factor = splu((lower + scipy.sparse.diags(D)).tocsc(), permc_spec="NATURAL", diag_pivot_thresh=0.0,
                  options=dict(SymmetricMode=True))  # fmt: skip
    return lambda r: factor.solve(D * factor.solve(r), "T")


def multigrid(A: scipy.sparse.csr_matrix) -> Preconditioner:
    """One V-cycle of pyamg's smoothed aggregation, made for this A: what a user would take. Needs pyamg."""
    import pyamg

    return pyamg.smoothed_aggregation_solver(A).aspreconditioner(cycle="V").matvec


def sine_transform_solve(b: np.ndarray) -> np.ndarray:
    """A^{-1} b on the empty box with air around, b (N, ..., N): a direct solver, exact, in O(n log n)."""
    eigenvalues = 0.0
    for axis, n in enumerate(b.shape):
        k = np.arange(1, n + 1).reshape([-1 if a == axis else 1 for a in range(b.ndim)])
        eigenvalues = eigenvalues + 2 - 2 * np.cos(np.pi * k / (n + 1))
    return scipy.fft.idstn(scipy.fft.dstn(b, type=1) / eigenvalues, type=1)


def one_shot(A: Any, b: Any, direction: Direction, *, tol: float = 1e-4, max_iterations: int = 1000) -> Solution:
    """x <- x + ||r|| f(r / ||r||): a network as the solver, without line search or conjugation. f knows its scale.

    Stops where the residual is 1e6 times what it was at first, or 100 iterations have brought no lower one.
    """
    b, power = scaled(b)
    size = norm(b)
    found, r = Solution(b * 0.0, [1.0 if size > 0 else 0.0]), b
    least, since = 1.0, 0
    while tol < found.residuals[-1] < 1e6 and found.iterations < max_iterations and since < STALLED:
        found.x = found.x + norm(r) * direction(r / norm(r))
        r = b - A @ found.x
        found.residuals.append(norm(r) / size)
        since = 0 if found.residuals[-1] < least else since + 1
        least = min(least, found.residuals[-1])
    found.x = times_power_of_two(found.x, power)
    found.converged = found.residuals[-1] <= tol
    return found

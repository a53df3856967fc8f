"""Orthogonal matrices from parameters, three ways: products of reflections, Cayley's map, the exponential."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.shared.checks import check_sizes
from methods.shared.kernels.householder import reflections
from methods.shared.sheaf import wide


def householder(params: Tensor, dim: int) -> Tensor:
    """params (E, d (d - 1) / 2) -> orthogonal (E, d, d), of determinant (-1)^d.

    The parameters fill the triangle below a unit diagonal row by row; column v_k gives H_k = I - 2 v v^T / |v|^2,
    and Q = H_1 ... H_d. Differentiable once: a second derivative is refused.
    """
    vectors = _lower(params, dim) + torch.eye(dim, dtype=params.dtype, device=params.device)
    return reflections(vectors[:, :, : dim - 1].permute(2, 1, 0).contiguous()).permute(2, 0, 1)


def cayley(params: Tensor, dim: int) -> Tensor:
    """params (E, d (d - 1) / 2) -> (I - A/2)^-1 (I + A/2) in SO(d) with A skew-symmetric: (E, d, d)."""
    half = wide(_skew(params, dim)) / 2
    eye = torch.eye(dim, dtype=half.dtype, device=params.device)
    return torch.linalg.solve(eye - half, eye + half).to(params.dtype)


def exponential(params: Tensor, dim: int) -> Tensor:
    """params (E, d (d - 1) / 2) -> exp(A) in SO(d) with A skew-symmetric: (E, d, d)."""
    return torch.linalg.matrix_exp(wide(_skew(params, dim))).to(params.dtype)


def _skew(params: Tensor, dim: int) -> Tensor:
    """A = P - P^T with the parameters below the diagonal of P."""
    lower = _lower(params, dim)
    return lower - lower.mT


def _lower(params: Tensor, dim: int) -> Tensor:
    """params (E, d (d - 1) / 2) -> (E, d, d), zero but for them, row by row below the diagonal."""
    check_sizes("orthogonal maps", dim=dim)
    if not params.is_floating_point():
        raise TypeError(f"params: needs real numbers, got {params.dtype}")
    if params.dim() != 2 or params.shape[1] != dim * (dim - 1) // 2:
        raise ValueError(f"params: needs shape (E, {dim * (dim - 1) // 2}) for d = {dim}, got {tuple(params.shape)}")
    row, column = torch.tril_indices(dim, dim, -1, device=params.device)
    lower = params.new_zeros(params.shape[0], dim, dim)
    lower[:, row, column] = params
    return lower

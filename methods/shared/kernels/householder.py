"""Products of Householder reflections."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from methods.shared.checks import refuse_to_derive_again


def reflections(vectors: Tensor) -> Tensor:
    """v_k (d - 1, d, E) -> H_1 ... H_d (d, d, E) with H_k = I - 2 v v^T / |v|^2; v_d is always the last unit vector.

    Edges come last, so that every operation runs along them. Differentiable once.
    """
    return _Householder.apply(vectors)


def plain_reflections(vectors: Tensor) -> Tensor:
    d = vectors.shape[1]
    last = torch.ones(d, dtype=vectors.dtype)
    last[-1] = -1.0
    product = last.diag().to(vectors).expand(vectors.shape[2], d, d)
    for v in reversed(vectors.permute(0, 2, 1)):  # (E, d)
        projection = v.unsqueeze(2) * v.unsqueeze(1) / v.square().sum(1)[:, None, None]
        product = product - 2 * projection @ product
    return product.permute(1, 2, 0)


class _Householder(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        taus = 2 / vectors.square().sum(1)
        product = torch.eye(vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
        product[-1, -1] = -1.0
        product = product.unsqueeze(2).expand(-1, -1, vectors.shape[2])
        products = []  # [k] is the product right of H_k
        for v, tau in zip(reversed(vectors), reversed(taus), strict=True):
            products.append(product)
            product = product - (tau * v).unsqueeze(1) * (v.unsqueeze(1) * product).sum(0)
        ctx.save_for_backward(vectors, taus, *reversed(products))
        return product

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        refuse_to_derive_again("householder")
        vectors, taus, *products = ctx.saved_tensors
        result = []
        for v, tau, right in zip(vectors, taus, products, strict=True):
            # of H_k the gradient is M = (H_1 .. H_k-1)^T dQ right^T, and of v: -tau (M + M^T) v + tau^2 (v^T M v) v
            from_right, from_left = (v.unsqueeze(1) * right).sum(0), (v.unsqueeze(1) * gradient).sum(0)
            m_v = (gradient * from_right).sum(1)
            both = m_v + (right * from_left).sum(1)
            result.append(tau * (tau * (v * m_v).sum(0) * v - both))
            gradient = gradient - (tau * v).unsqueeze(1) * from_left
        return torch.stack(result) if result else torch.zeros_like(vectors)

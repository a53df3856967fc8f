"""All monomials of the rows of a matrix up to a degree."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def rank(width: int, degree: int) -> int:
    """r = C(d + g, g), the number of monomials of degree at most g in d variables."""
    return math.comb(width + degree, degree)


def starts_of(width: int, degree: int) -> list[int]:
    """Where, in a level's order, the monomials in the variables t, t + 1, ... alone begin, for each t.

    A level is ordered by its lowest variable, so these are its tail, of C(d - t + m - 1, m) monomials.
    """
    total = math.comb(width + degree - 1, degree)
    return [total - math.comb(width - t + degree - 1, degree) for t in range(width)]


def monomials(x: Tensor, degree: int) -> Tensor:
    """x^a for every |a| <= degree: (batch, n, d) -> (batch, r, n). Each is its parent times one coordinate."""
    return _Monomials.apply(x, degree)


def plain_monomials(x: Tensor, degree: int) -> Tensor:
    columns, levels = x.mT, [torch.ones_like(x.mT[:, :1])]
    for m in range(1, degree + 1):
        at = enumerate(starts_of(x.shape[2], m - 1))
        levels.append(torch.cat([levels[-1][:, start:] * columns[:, t : t + 1] for t, start in at], dim=1))
    return torch.cat(levels, dim=1)


class _Monomials(torch.autograd.Function):
    """Written in place, level by level: stacking the products would write every one of them twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, degree: int) -> Tensor:
        batch, n, width = x.shape
        columns = x.mT.contiguous()
        out = x.new_empty(batch, rank(width, degree), n)
        levels = _levels(out, width, degree)
        levels[0].fill_(1)
        for m in range(1, degree + 1):
            begin = 0
            for t, start in enumerate(starts_of(width, m - 1)):
                parents = levels[m - 1][:, start:]
                target = levels[m][:, begin : begin + parents.shape[1]]
                torch.mul(parents, columns[:, t : t + 1], out=target)
                begin += parents.shape[1]
        ctx.save_for_backward(x, out)
        ctx.degree = degree
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, out = ctx.saved_tensors
        if torch.is_grad_enabled():  # the derivative is to be derived again
            (found,) = torch.autograd.grad(plain_monomials(x, ctx.degree), x, grad, create_graph=True)
            return found, None
        columns, width = x.mT.contiguous(), x.shape[2]
        values, found = (_levels(y, width, ctx.degree) for y in (out, grad.clone()))
        dcolumns = torch.zeros_like(columns)
        for m in range(ctx.degree, 0, -1):
            begin = 0
            for t, start in enumerate(starts_of(width, m - 1)):
                parents = values[m - 1][:, start:]
                down = found[m][:, begin : begin + parents.shape[1]]
                dcolumns[:, t] += (down * parents).sum(dim=1)
                found[m - 1][:, start:] += down * columns[:, t : t + 1]
                begin += parents.shape[1]
        return dcolumns.mT, None


def _levels(features: Tensor, width: int, degree: int) -> list[Tensor]:
    """Views (batch, C(d + m - 1, m), n) of the monomials of each degree m."""
    return list(features.split([math.comb(width + m - 1, m) for m in range(degree + 1)], dim=1))

"""A linear map whose transpose is known: a sparse product, sums over arcs, a stencil."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def linear(x: Tensor, apply: Map, transpose: Map) -> Tensor:
    """apply(x), whose gradient is transpose(gradient): autograd would derive `apply` anew in every step."""
    return _Linear.apply(x, apply, transpose)


def plain_linear(x: Tensor, apply: Map, transpose: Map) -> Tensor:
    return apply(x)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, apply: Map, transpose: Map) -> Tensor:
        ctx.transpose = transpose
        return apply(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transpose(gradient), None, None

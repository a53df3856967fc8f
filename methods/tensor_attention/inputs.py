"""Generated queries, keys and values with entries up to B: the paper has no data, it has a bound on entries."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """q (n, d), and as many keys (n_i, d) as values (n_i, e)."""

    q: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    def flat(self) -> tuple[Tensor, ...]:
        """In the order of `tensor_attention`: q, keys, values."""
        return self.q, *self.keys, *self.values


def uniform(
    n: int,
    width: int,
    bound: float,
    seed: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Inputs:
    """Entries of q and keys from U(-bound, bound), values from U(0, 1): a mean that is not zero hides no error."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(5, n, width, generator=generator, dtype=torch.float64)
    q, k1, k2 = (2 * drawn[:3] - 1) * bound
    q, k1, k2, v1, v2 = (x.to(device, dtype) for x in (q, k1, k2, *drawn[3:]))
    return Inputs(q, (k1, k2), (v1, v2))


def signs(n: int, width: int, bound: float, seed: int, *, order: int = 3, keys: int = 0) -> Inputs:
    """Every entry of q and keys is +bound or -bound, of values +1 or -1: the largest logits, in float64.

    n: queries. keys: rows of each key, as many as queries by default.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = [n, *[keys or n] * (order - 1)]
    q, *k = (bound * _signs(m, width, generator) for m in rows)
    return Inputs(q, tuple(k), tuple(_signs(m, width, generator) for m in rows[1:]))


def gaussian(n: int, width: int, bound: float, seed: int) -> Inputs:
    """Entries of q and keys from N(0, 1), clipped to [-bound, bound]; values +1 or -1, in float64."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(3, n, width, generator=generator, dtype=torch.float64).clamp(-bound, bound)
    return Inputs(drawn[0], (drawn[1], drawn[2]), (_signs(n, width, generator), _signs(n, width, generator)))


def _signs(n: int, width: int, generator: torch.Generator) -> Tensor:
    return torch.randint(2, (n, width), generator=generator).double() * 2 - 1


def balanced(width: int, bound: float, keys: int = 4096) -> Inputs:
    """The inputs on which guarantee (7) is nearly attained: logits +M and -M share the weight equally, values differ.

    One query. The share of pairs with the logit M is 1 / (1 + e^{2M}), so that each group has half of the weight, up to
    the rounding to whole keys.
    """
    logit = bound**3
    rare = max(1, round(keys / (1 + math.exp(2 * logit))))
    sign = torch.ones(keys, 1, dtype=torch.float64)
    sign[rare:] = -1
    ones = torch.ones(1, width, dtype=torch.float64)
    return Inputs(bound * ones, (bound * ones, bound * sign * ones), (ones, sign * ones))


def largest_bound(holds: Callable[[float], bool], low: float = 0.05, high: float = 4.0) -> float:
    """By bisection, to 1e-6 of it, the largest entry bound for which `holds` is true; it is true below, false above."""
    if not holds(low) or holds(high):
        raise ValueError(f"largest_bound: no change between {low} and {high}")
    while high / low > 1 + 1e-6:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low

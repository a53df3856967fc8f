"""What tensor attention is compared with: other exact ways, ordinary attention, and estimates from some of the pairs.

All take (..., n, d) queries and keys and (..., n, e) values, as `tensor_attention` does, and scale by 1/d by default.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def naive_attention(
    q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], *, scale: float | None = None
) -> Tensor:
    """Attention of any order k = 1 + len(keys) with all n^k logits in memory at once."""
    scale = 1 / q.shape[-1] if scale is None else scale
    tuples = "jlmnop"[: len(keys)]
    logits = torch.einsum(f"...id,{','.join(f'...{t}d' for t in tuples)}->...i{tuples}", q * scale, *keys)
    weights = logits.flatten(-len(keys)).softmax(dim=-1).view_as(logits)
    return torch.einsum(f"...i{tuples},{','.join(f'...{t}e' for t in tuples)}->...ie", weights, *values)


def loop_attention(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, *, scale: float | None = None) -> Tensor:
    """Exact tensor attention, one first key at a time: n^2 logits in memory. Two passes, the first for the maximum."""
    scale = 1 / q.shape[-1] if scale is None else scale
    q = q * scale
    n_1 = k1.shape[-2]
    top = torch.full_like(q[..., :1], -torch.inf)
    for j in range(n_1):
        top = torch.maximum(top, ((q * k1[..., j : j + 1, :]) @ k2.mT).amax(dim=-1, keepdim=True))
    den, num = torch.zeros_like(top), torch.zeros((), dtype=q.dtype, device=q.device)
    for j in range(n_1):
        weights = ((q * k1[..., j : j + 1, :]) @ k2.mT - top).exp()
        den = den + weights.sum(dim=-1, keepdim=True)
        num = num + (weights @ v2) * v1[..., j : j + 1, :]
    return num / den


def sdpa_attention(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, *, scale: float | None = None) -> Tensor:
    """torch's attention over the n^2 products of keys and of values, each of which is written to memory."""
    scale = 1 / q.shape[-1] if scale is None else scale
    keys, values = ((a.unsqueeze(-2) * b.unsqueeze(-3)).flatten(-3, -2) for a, b in ((k1, k2), (v1, v2)))
    # torch's fast paths take four dimensions only
    four = [x.reshape(-1, 1, *x.shape[-2:]) for x in (q, keys, values)]
    return F.scaled_dot_product_attention(*four, scale=scale).reshape(*q.shape[:-1], v1.shape[-1])


def sampled_attention(
    q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, *, pairs: int, scale: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Monte Carlo: the softmax over `pairs` pairs (j, l) drawn uniformly, the same for all queries."""
    drawn = [torch.randint(k.shape[-2], (pairs,), generator=generator, device=q.device) for k in (k1, k2)]
    return _over_pairs(q, k1, k2, v1, v2, *drawn, scale)


def top_attention(
    q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, *, pairs: int, scale: float | None = None
) -> Tensor:
    """The softmax over at most `pairs` pairs: of the floor(sqrt(pairs)) longest first keys with as many second keys.

    One choice for the whole batch, by the mean of squared lengths.
    """
    lengths = (k.square().sum(dim=-1).reshape(-1, k.shape[-2]).mean(dim=0) for k in (k1, k2))
    kept = [length.topk(min(len(length), math.isqrt(pairs))).indices for length in lengths]
    first, second = torch.cartesian_prod(*kept).unbind(dim=-1)
    return _over_pairs(q, k1, k2, v1, v2, first, second, scale)


def _over_pairs(
    q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, first: Tensor, second: Tensor, scale: float | None
) -> Tensor:
    scale = 1 / q.shape[-1] if scale is None else scale
    keys, values = (a[..., first, :] * b[..., second, :] for a, b in ((k1, k2), (v1, v2)))
    return (q @ keys.mT * scale).softmax(dim=-1) @ values

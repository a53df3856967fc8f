"""Tensor attention in nearly linear time: exp replaced by a polynomial, whose matrix has a low rank.

Of a query q and keys k1, k2 let x = s <q, k1 * k2> be the logit. Where no logit leaves [-M, M], a polynomial
P(x) = sum_{m <= g} c_m x^m is near exp there, and x^m is a sum over the monomials of degree m:

    x^m = s^m sum_{|a| = m} (m! / a!) q^a k1^a k2^a,     a in N^d,  q^a = prod_t q_t^{a_t},  a! = prod_t a_t!     (4)

So the n x n^2 matrix P(logits) is U1 (U2 (/) U3)^T, a column for each of the r = C(d + g, g) multi-indices |a| <= g:

    U1[i,a] = c_|a| s^|a| (|a|!/a!) Q[i]^a,     U2[j,a] = K1[j]^a,     U3[l,a] = K2[l]^a                            (5)

exactly. As (A (/) B)^T (C (/) D) = (A^T C) * (B^T D), the n^2 pairs are never met:

    num = U1 [(U2^T V1) * (U3^T V2)],     den = U1 [(U2^T 1) * (U3^T 1)],     T~ = num / den                         (6)

in O(n r d) time. One pass over blocks of keys gathers the r x (d + 1) moments U2^T [V1, 1] and U3^T [V2, 1], one pass
over blocks of queries spends them: beside a block, memory holds no more than the result or a copy of one input. An
order k has k - 1 keys and values and as many factors in (4) to (6): k = 2 is ordinary, k = 3 tensor attention.

How good it is: where |P(x) - e^x| <= eps e^x on [-M, M] with eps < 1, all denominators are positive and

    |T~ - T| <= 2 eps / (1 - eps) max |V1 (/) V2|                                                                   (7)

    Taylor      c_m = 1/m!                                               eps <= e^M M^{g+1} / (g+1)!                 (8)
    Chebyshev   e^x = I_0(M) + 2 sum_k I_k(M) T_k(x / M), cut after g    eps <= e^M 2 sum_{k > g} I_k(M)             (9)

with Bessel's I_k. Entries below B give M = s d B^k: the degree, and with it r, grows with M without end, and a bound
on B is what the speed rests on (o((log n)^{1/k}) in the paper's Theorem 1.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from numpy.polynomial import chebyshev as cheb
from scipy.special import iv
from torch import Tensor
from torch.nn import functional as F

from methods.shared.checks import check_numbers, check_option, check_sizes
from methods.shared.kernels.monomials import monomials, rank, starts_of
from methods.tensor_attention.tensor_attention import Product, check, logit_bound, plain, scaled

Polynomial = Literal["chebyshev", "taylor"]
POLYNOMIALS = get_args(Polynomial)

BLOCK_FEATURES, BLOCK_FEATURES_CUDA = 2**18, 2**26  # monomials at a time: what a core's cache holds, what fills a GPU
MIN_BLOCK = 64  # rows; of fewer a matrix product makes poor use
LARGEST_RANK = 2**20
LARGEST_DEGREE = 60
SMALLEST_BOUND = 1e-3  # the interval of logits that are all but zero
LARGEST_BOUND = 700.0  # float64 holds exp of little more


class DenominatorError(ValueError):
    """A denominator of (6) is not positive: a polynomial too poor for these entries, or a type of too few digits."""


def fast_tensor_attention(
    q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, *, degree: int | None = None,
    error: float | None = None, scale: float | Tensor | None = None, polynomial: Polynomial = "chebyshev",
) -> Tensor:  # fmt: skip
    """Tensor attention in O(n r d), r = C(d + degree, degree): an approximation for small entries, equation (6).

    Args:
        q, k1, k2, v1, v2, scale: as for `tensor_attention`.
        degree: of the polynomial; or instead
        error: the largest deviation of any element of the result from the exact one, rounding aside, to be kept: the
            smallest degree whose guarantee (7) is below it is taken, for the largest logit and value that these inputs
            allow.
        polynomial: "chebyshev", or "taylor", which needs about twice the degree.

    Returns:
        (..., n_q, e), of the type of `q`; half types are computed in float32. Differentiable, in O(n r) memory;
        without gradients no more than the result, or a copy of one input, beside a block. Autocast changes nothing.

    Raises:
        ValueError: inputs that do not fit together; neither or both of degree and error; a rank above 2^20; logits
            whose exp overflows; or, as a DenominatorError, denominators that are not positive.
    """
    return fast_attention(q, (k1, k2), (v1, v2), degree=degree, error=error, scale=scale, polynomial=polynomial)


def fast_attention(
    q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], *, degree: int | None = None,
    error: float | None = None, scale: float | Tensor | None = None, polynomial: Polynomial = "chebyshev",
) -> Tensor:  # fmt: skip
    """The same for any order k = 1 + len(keys); one key matrix is ordinary attention. Key lengths may differ."""
    keys, values = tuple(keys), tuple(values)
    check(q, keys, values)
    check_option("fast_attention", "polynomial", polynomial, POLYNOMIALS)
    q, s = scaled(q, scale)
    with plain(q):
        return _fast_attention(q, keys, values, degree, error, s, polynomial)


def _fast_attention(
    q: Tensor, keys: tuple[Tensor, ...], values: tuple[Tensor, ...], degree: int | None, error: float | None,
    scale: float, polynomial: Polynomial,
) -> Tensor:  # fmt: skip
    width = q.shape[-1]
    bound = logit_bound(q, keys, scale)
    if not math.isfinite(bound):
        raise ValueError("fast_attention: q or a key holds inf or nan, or their products overflow")
    if (degree is None) == (error is None):
        raise ValueError("fast_attention: give either degree or error (the largest deviation to be kept)")
    if degree is None:
        assert error is not None
        degree = degree_for(error, bound, largest_value(values), polynomial)
    check_sizes("fast_attention", least=0, degree=degree)
    if rank(width, degree) > LARGEST_RANK:
        raise ValueError(
            f"fast_attention: degree {degree} at width {width} has rank {rank(width, degree):,}, above "
            f"{LARGEST_RANK:,}; use `tensor_attention`, or heads of smaller width"
        )
    weights = monomial_weights(width, degree, coefficients(degree, bound, polynomial), scale)

    def flat(x: Tensor) -> Tensor:
        return x.reshape(-1, *x.shape[-2:])

    moments = math.prod(_moments(flat(k), flat(v), degree) for k, v in zip(keys, values, strict=True))
    moments = moments * weights[:, None].to(moments)

    def spend(queries: Tensor) -> Tensor:
        sums = Product.apply(monomials(queries.to(moments.dtype), degree).mT, moments)
        if not bool((sums[..., -1] > 0).all()):
            raise DenominatorError(_why_not_positive(degree, bound, polynomial))
        return (sums[..., :-1] / sums[..., -1:]).to(q.dtype)

    size = _rows(flat(q), degree)
    parts = map(spend, flat(q).split(size, dim=1))
    if torch.is_grad_enabled() and (q.requires_grad or moments.requires_grad):
        out = torch.cat(tuple(parts), dim=1)
    else:
        out = q.new_empty(moments.shape[0], q.shape[-2], moments.shape[2] - 1)
        for target, part in zip(out.split(size, dim=1), parts, strict=True):
            target.copy_(part)
    return out.reshape(*q.shape[:-1], out.shape[-1])


def coefficients(degree: int, bound: float, polynomial: Polynomial = "chebyshev") -> list[float]:
    """c_0 ... c_g of the polynomial that stands for exp on [-bound, bound]; ValueError where Bessel's I_k overflow."""
    check_option("coefficients", "polynomial", polynomial, POLYNOMIALS)
    if polynomial == "taylor":
        return [1 / math.factorial(m) for m in range(degree + 1)]
    if bound > LARGEST_BOUND:
        raise ValueError(f"fast_attention: logits may reach {bound:.3g}, where exp overflows: use `tensor_attention`")
    bound = max(bound, SMALLEST_BOUND)
    series = [(1 if k == 0 else 2) * iv(k, bound) for k in range(degree + 1)]
    return [float(c) / bound**m for m, c in enumerate(cheb.cheb2poly(series))]


def relative_error(degree: int, bound: float, polynomial: Polynomial = "chebyshev") -> float:
    """eps with |P(x) - e^x| <= eps e^x on [-bound, bound]: equations (8) and (9); may be `inf`."""
    check_option("relative_error", "polynomial", polynomial, POLYNOMIALS)
    bound = max(bound, SMALLEST_BOUND)
    if polynomial == "taylor":
        log_eps = bound + (degree + 1) * math.log(bound) - math.lgamma(degree + 2)
        return math.exp(log_eps) if log_eps <= LARGEST_BOUND else math.inf
    if bound > LARGEST_BOUND:
        return math.inf
    # terms fall faster than geometrically from k = M on
    rest = np.arange(degree + 1, degree + 40 + 2 * math.ceil(bound))
    return math.exp(bound) * 2 * float(iv(rest, bound).sum())


def error_bound(eps: float, largest: float) -> float:
    """The right side of (7); `inf` for eps >= 1. Raises ValueError unless both are at least 0."""
    if not (eps >= 0 and largest >= 0):
        raise ValueError(f"error_bound: eps and the largest value must be at least 0; got {eps} and {largest}")
    return 2 * eps / (1 - eps) * largest if eps < 1 else math.inf


def degree_for(error: float, bound: float, largest: float, polynomial: Polynomial = "chebyshev") -> int:
    """The smallest degree whose guarantee (7) is at most `error`, for logits up to `bound` and values up to `largest`.

    Raises:
        TypeError, ValueError: `error` is not positive, a bound is no finite number of at least 0, an unknown
            polynomial, or no degree up to 60 will do.
    """
    check_option("degree_for", "polynomial", polynomial, POLYNOMIALS)
    check_numbers("degree_for", least=0, bound=bound)
    if not error > 0:
        raise ValueError(f"fast_attention: error {error}; the deviation to be kept is above 0")
    if not 0 <= largest < math.inf:
        raise ValueError("fast_attention: the values hold inf or nan; no error can be kept")
    for degree in range(LARGEST_DEGREE + 1):
        if error_bound(relative_error(degree, bound, polynomial), largest) <= error:
            return degree
    raise ValueError(
        f"fast_attention: logits up to {bound:.3g} need a degree above {LARGEST_DEGREE} for an error of {error:g}; the "
        "fast algorithm is for small entries: use `tensor_attention`"
    )


def largest_value(values: Sequence[Tensor]) -> float:
    """A bound on max |V1 (/) V2|, from the largest entry of each column."""
    tops = [v.detach().abs().amax(dim=-2) for v in values]
    return float(torch.stack(tops).prod(dim=0).max()) if tops[0].numel() else 0.0


def monomial_weights(width: int, degree: int, c: Sequence[float], scale: float) -> Tensor:
    """c_|a| s^|a| |a|!/a! of equation (5) for every multi-index, (r,) float64, in the order of `monomials`."""
    by_degree = [float(c[m]) * scale**m for m in range(degree + 1)]
    of, multinomial = _multi_indices(width, degree)
    return torch.tensor(by_degree, dtype=torch.float64)[of] * multinomial


@lru_cache(maxsize=16)
def _multi_indices(width: int, degree: int) -> tuple[Tensor, Tensor]:
    """|a| and |a|!/a! of each multi-index, (r,) both, built like the monomials: a is its parent and one more t.

    A child of degree m in t has multinomial m / a_t times its parent's.
    """
    level = torch.zeros(1, width, dtype=torch.int64)
    counts = torch.ones(1, dtype=torch.float64)
    degrees, multinomials = [torch.zeros(1, dtype=torch.int64)], [counts]
    for m in range(1, degree + 1):
        starts = starts_of(width, m - 1)
        children, grown = [], []
        for t, start in enumerate(starts):
            children.append(level[start:].clone())
            children[t][:, t] += 1
            grown.append(counts[start:] * m / children[t][:, t])
        level, counts = torch.cat(children), torch.cat(grown)
        degrees.append(torch.full((len(level),), m))
        multinomials.append(counts)
    return torch.cat(degrees), torch.cat(multinomials)


def _rows(x: Tensor, degree: int) -> int:
    """Rows at a time."""
    block = BLOCK_FEATURES_CUDA if x.is_cuda else BLOCK_FEATURES
    return max(MIN_BLOCK, block // max(1, x.shape[0] * rank(x.shape[2], degree)))


def _moments(key: Tensor, value: Tensor, degree: int) -> Tensor:
    """U^T [V, 1], (batch, r, e + 1), over blocks of rows; half types in float32."""
    whole = torch.promote_types(key.dtype, torch.float32)
    moments = key.new_zeros(key.shape[0], rank(key.shape[2], degree), value.shape[2] + 1, dtype=whole)
    size = _rows(key, degree)
    for k, v in zip(key.split(size, dim=1), value.split(size, dim=1), strict=True):
        moments = moments + Product.apply(monomials(k.to(whole), degree), F.pad(v.to(whole), (0, 1), value=1.0))
    return moments


def _why_not_positive(degree: int, bound: float, polynomial: Polynomial) -> str:
    eps = relative_error(degree, bound, polynomial)
    said = (
        f"fast_attention: a denominator is not positive. Logits may reach {bound:.3g}, where {polynomial} of degree "
        f"{degree} "
    )
    if eps < 1:
        return said + "should do: this type has too few digits, use float64"
    safe = next((g for g in range(degree, LARGEST_DEGREE + 1) if relative_error(g, bound, polynomial) < 1), None)
    if safe is None:
        return said + f"is not near exp, nor is degree {LARGEST_DEGREE}: use `tensor_attention`"
    return said + f"is not near exp; degree {safe} is safe, or use `tensor_attention`"

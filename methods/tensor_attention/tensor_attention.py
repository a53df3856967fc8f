"""Tensor attention: softmax attention over pairs of keys, exact, in memory that grows with n alone.

Ordinary attention weighs pairs (i, j). Tensor attention weighs triples (i, j, l) by a trilinear form, so that one
unit can ask "is there a j and an l that fit with i?". With queries Q in R^{n x d}, keys K1, K2, values V1, V2 and the
column-wise Kronecker product K = K1 (/) K2, whose row (j, l) is the element-wise product K1[j] * K2[l],

    logit(i, j, l) = s <Q[i], K1[j] * K2[l]> = s sum_t Q[i,t] K1[j,t] K2[l,t],     s = 1/d in the paper       (1)
    T = D^-1 exp(s Q (K1 (/) K2)^T) (V1 (/) V2),     D = diag(row sums of the exponentials)                   (2)

(Alman & Song, ICLR 2024). This file computes (2) as it stands, with n^3 exponentials; `fast_attention.py` computes an
approximation in nearly linear time, which exists as long as the entries of Q, K1, K2 are small.

In one piece (2) needs n^3 numbers. Here the pairs (j, l) pass in blocks, and each query keeps three running numbers
(the online softmax): its largest logit m, den = sum exp(logit - m) and num = sum exp(logit - m) V1[j] * V2[l].
Where a block raises m to m', both sums are scaled by exp(m - m'). No tensor has more than a block's elements or
O(n d), whatever n is. The backward pass computes each block's weights P again, from the log-sum-exp L of each row,

    P = exp(logit - L),    dP = G (V1 (/) V2)^T,    dlogit = P (dP - delta),    delta_i = <G[i], T[i]>        (3)
    d(V1 (/) V2) = P^T G,  dQ = s dlogit K,  dK = s dlogit^T Q,     G = the derivative by T

and folds the pairs' derivatives at once: dK1[j] = sum_l dK[j,l] * K2[l], dK2[l] = sum_j dK[j,l] * K1[j], as for V.
On a GPU Triton kernels do the same (`kernels.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.shared.checks import check_numbers
from methods.tensor_attention import kernels

BLOCK_BYTES = 2**19  # logits, keys or values at a time: they stay in a core's second cache
BLOCK_QUERIES = 256
SAFE_LOGIT = 30.0  # below it exp neither over- nor underflows in float32, n^2 terms of it neither


def tensor_attention(
    q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, *, scale: float | Tensor | None = None
) -> Tensor:
    """Tensor attention, equation (2): exact, O(n_q n_1 n_2 d) time, O(n d) memory.

    Differentiable as often as one likes: a derivative that is to be derived again (`create_graph=True`) comes from the
    plain softmax over all pairs, in O(n_q n_1 n_2) memory. `torch.func` and forward derivatives are refused by torch.

    Args:
        q: queries (..., n_q, d); leading dimensions are batch and heads, the same for all five.
        k1, v1: first keys (..., n_1, d) and values (..., n_1, e).
        k2, v2: second keys (..., n_2, d) and values (..., n_2, e).
        scale: s of equation (1), a number, or a tensor of one that may have a gradient; None is the paper's 1/d.

    Returns:
        (..., n_q, e), of the type of `q`. A Triton kernel computes it on a GPU; half types accumulate in float32.
        Autocast changes nothing: the inputs say in which type to compute.

    Raises:
        TypeError, ValueError: shapes, types or devices that do not fit together; a scale that is no finite number.
    """
    check(q, (k1, k2), (v1, v2))
    q, scale = scaled(q, scale)
    flat = [x.reshape(-1, *x.shape[-2:]) for x in (q, k1, k2, v1, v2)]
    return _TensorAttention.apply(*flat, scale).reshape(*q.shape[:-1], v1.shape[-1])


def check(q: Tensor, keys: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> None:
    """Raise ValueError unless queries, keys and values of any order fit together."""
    if len(keys) != len(values) or not keys:
        raise ValueError(f"attention: {len(keys)} key matrices and {len(values)} value matrices; give one each")
    if not q.is_floating_point():
        raise ValueError(f"attention: needs real floating-point tensors, got {q.dtype}")
    named = [("q", q), *((f"k{i}", k) for i, k in enumerate(keys, 1)), *((f"v{i}", v) for i, v in enumerate(values, 1))]
    for name, x in named:
        if x.dim() != q.dim() or x.dim() < 2 or x.shape[:-2] != q.shape[:-2]:
            raise ValueError(
                f"attention: {name} has shape {tuple(x.shape)} beside q's {tuple(q.shape)}; all are (..., n, d) with "
                "the same leading dimensions (expand() them where they are shared)"
            )
        if x.dtype != q.dtype or x.device != q.device:
            raise ValueError(f"attention: {name} is {x.dtype} on {x.device}, q is {q.dtype} on {q.device}")
        if 0 in x.shape[-2:]:
            raise ValueError(f"attention: {name} is empty, {tuple(x.shape)}; a softmax needs at least one row")
    for i, (k, v) in enumerate(zip(keys, values, strict=True), 1):
        if k.shape[-1] != q.shape[-1]:
            raise ValueError(f"attention: k{i} has width {k.shape[-1]}, q has {q.shape[-1]}")
        if v.shape[-2] != k.shape[-2]:
            raise ValueError(f"attention: {v.shape[-2]} rows in v{i} for {k.shape[-2]} in k{i}")
        if v.shape[-1] != values[0].shape[-1]:
            raise ValueError(f"attention: v{i} has width {v.shape[-1]}, v1 has {values[0].shape[-1]}")


def scaled(q: Tensor, scale: float | Tensor | None) -> tuple[Tensor, float]:
    """q and s of equation (1) as a number; a tensor is multiplied into q, where it gets its gradient."""
    if scale is None:
        return q, 1 / q.shape[-1]
    if not isinstance(scale, Tensor):
        check_numbers("attention", scale=scale)
        return q, float(scale)
    if scale.numel() != 1 or not bool(torch.isfinite(scale).all()):
        raise ValueError(f"attention: scale must be one finite number; got a tensor of {tuple(scale.shape)}")
    return q * scale.reshape(()).to(q), 1.0


def plain(x: Tensor) -> torch.autocast:
    """A context without autocast on the device of x."""
    return torch.autocast(x.device.type, enabled=False)


class Product(torch.autograd.Function):
    """torch.bmm without autocast, whenever its derivatives are asked for: theirs would round to bfloat16 under it."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        with plain(a):
            return torch.bmm(a, b)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        needs_a, needs_b = ctx.needs_input_grad
        return Product.apply(grad, b.mT) if needs_a else None, Product.apply(a.mT, grad) if needs_b else None


def logit_bound(q: Tensor, keys: tuple[Tensor, ...], scale: float) -> float:
    """M with |logit| <= M for every query and tuple of keys: |s| sum_t of the product of largest entries, O(n d).

    At most |s| d B^k where no entry is above B; `inf` or `nan` where an entry is.
    """
    largest = torch.stack([x.detach().abs().amax(dim=-2) for x in (q, *keys)]).prod(dim=0)  # (..., d)
    return abs(scale) * float(largest.sum(dim=-1).max()) if largest.numel() else 0.0


class _TensorAttention(torch.autograd.Function):
    """Equations (2) and (3) on (batch, n, d), by the kernels where they run, else by the blocked twin.

    torch's `once_differentiable` would not do: it says nothing where the incoming derivative is a constant.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, scale: float) -> Tensor:
        inputs = tuple(x.contiguous() for x in (q, k1, k2, v1, v2))
        with plain(q):
            out, lse = (kernels.forward if kernels.can_run(q, v1) else blocked_forward)(*inputs, scale)
        ctx.save_for_backward(*inputs, out, lse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, out, lse = ctx.saved_tensors
        with plain(grad):
            if torch.is_grad_enabled():  # the derivative is to be derived again
                return (*_derivable_backward(grad, inputs, ctx.needs_input_grad, ctx.scale), None)
            run = kernels.backward if kernels.can_run(inputs[0], inputs[3]) else blocked_backward
            return (*run(grad.contiguous(), *inputs, out, lse, ctx.scale), None)


def _derivable_backward(
    grad: Tensor, inputs: Sequence[Tensor], needed: Sequence[bool], scale: float
) -> list[Tensor | None]:
    """The derivatives of the inputs by torch's own operations, all pairs at once, with a graph of their own."""
    q, k1, k2, v1, v2 = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in inputs)
    logits = Product.apply(q * scale, _pairs(k1, k2).mT)
    out = Product.apply(logits.softmax(dim=-1), _pairs(v1, v2)).to(grad.dtype)
    given = [x for x, need in zip(inputs, needed, strict=False) if need]
    found = iter(torch.autograd.grad(out, given, grad, create_graph=True))
    return [next(found) if need else None for _, need in zip(inputs, needed, strict=False)]


def blocked_forward(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The torch twin of the forward kernel: T (batch, n_q, e) and each row's log-sum-exp (batch, n_q, 1)."""
    whole = torch.promote_types(q.dtype, torch.float32)
    out = torch.empty(*q.shape[:2], v1.shape[-1], dtype=q.dtype, device=q.device)
    lse = torch.empty(*q.shape[:2], 1, dtype=whole, device=q.device)
    for some in _batches(q, k1, k2, v1):
        parts = [x[some].to(whole) for x in (q, k1, k2, v1, v2)]
        out[some], lse[some] = _forward(parts[0] * scale, *parts[1:])
    return out, lse


def _forward(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor) -> tuple[Tensor, Tensor]:
    # a column of ones in both factors is a column of ones in their product: it sums the weights
    v1, v2 = (torch.cat([v, torch.ones_like(v[..., :1])], dim=-1) for v in (v1, v2))
    # everything with queries along the rows: the products are of a few rows by many columns then, which is far
    # faster than many rows by a few columns
    columns = q.mT.contiguous()
    sums = q.new_zeros(q.shape[0], v1.shape[-1], q.shape[1])
    # where no logit can be large, as for the paper's bounded entries, there is no maximum to subtract
    bounded = logit_bound(q, (k1, k2), 1.0) <= SAFE_LOGIT
    top = q.new_full((q.shape[0], 1, q.shape[1]), 0.0 if bounded else -torch.inf)
    for first, second, rows in _blocks(q, k1, k2, v1):
        keys, values = _pairs(k1[:, first], k2[:, second]), _pairs(v1[:, first], v2[:, second])
        for i in rows:
            scores = torch.bmm(keys, columns[..., i])
            if not bounded:
                raised = torch.maximum(top[..., i], scores.amax(dim=1, keepdim=True))
                sums[..., i] *= (top[..., i] - raised).exp_()
                top[..., i] = raised
                scores -= raised
            sums[..., i] += torch.bmm(values.mT, scores.exp_())
    return (sums[:, :-1] / sums[:, -1:]).mT, (top + sums[:, -1:].log()).mT


def blocked_backward(
    grad: Tensor, q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, out: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, ...]:
    """The torch twin of the backward kernels, equation (3): the derivatives of q, k1, k2, v1, v2."""
    whole = lse.dtype
    found = tuple(torch.empty_like(x) for x in (q, k1, k2, v1, v2))
    for some in _batches(q, k1, k2, v1):
        parts = [x[some].to(whole) for x in (grad, q, k1, k2, v1, v2, out)]
        parts[1] = parts[1] * scale
        dq, *others = _backward(*parts, lse[some])
        for target, value in zip(found, (dq * scale, *others), strict=True):
            target[some] = value
    return found


def _backward(
    grad: Tensor, q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, ...]:
    width = v1.shape[-1]
    v1, v2 = (torch.cat([v, torch.ones_like(v[..., :1])], dim=-1) for v in (v1, v2))
    # [G, -delta] times [V, 1] is dP - delta in one product
    grad = torch.cat([grad, -(grad * out).sum(dim=-1, keepdim=True)], dim=-1)
    dq, dk1, dk2, dv1, dv2 = (torch.zeros_like(x) for x in (q, k1, k2, v1, v2))
    for first, second, rows in _blocks(q, k1, k2, v1):
        keys, values = _pairs(k1[:, first], k2[:, second]), _pairs(v1[:, first], v2[:, second])
        dkeys, dvalues = torch.zeros_like(keys), torch.zeros_like(values)
        for i in rows:
            weights = torch.bmm(q[:, i], keys.mT).sub_(lse[:, i]).exp_()
            dvalues.baddbmm_(weights.mT, grad[:, i])
            dscores = torch.bmm(grad[:, i], values.mT).mul_(weights)
            dkeys.baddbmm_(dscores.mT, q[:, i])
            dq[:, i].baddbmm_(dscores, keys)
        _unpair(dkeys, k1[:, first], k2[:, second], dk1[:, first], dk2[:, second])
        _unpair(dvalues, v1[:, first], v2[:, second], dv1[:, first], dv2[:, second])
    return dq, dk1, dk2, dv1[..., :width], dv2[..., :width]


def _pairs(a: Tensor, b: Tensor) -> Tensor:
    """a (/) b: rows (j, l) of the column-wise Kronecker product, (batch, J L, d)."""
    return (a.unsqueeze(2) * b.unsqueeze(1)).flatten(1, 2)


def _unpair(dpairs: Tensor, a: Tensor, b: Tensor, da: Tensor, db: Tensor) -> None:
    """Add the derivatives of the factors of a (/) b to `da` and `db`."""
    dpairs = dpairs.unflatten(1, (a.shape[1], b.shape[1]))
    da += (dpairs * b.unsqueeze(1)).sum(dim=2)
    db += (dpairs * a.unsqueeze(2)).sum(dim=1)


def _batches(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor) -> list[slice]:
    """As many elements of the batch together as fill a block, so that many small problems are few operations."""
    size = max(1, _block(q) // (_numbers(q.shape[1], k1, v1) * k1.shape[1] * k2.shape[1]))
    return _slices(q.shape[0], size)


def _blocks(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor) -> Iterator[tuple[slice, slice, list[slice]]]:
    """Slices of j and l, and those of the queries for each: at most `BLOCK_BYTES` of logits, of keys and of values."""
    rows = _slices(q.shape[1], BLOCK_QUERIES)
    pairs = max(1, _block(q) // (q.shape[0] * _numbers(rows[0].stop, k1, v1)))
    seconds = _slices(k2.shape[1], pairs)
    for first in _slices(k1.shape[1], max(1, pairs // seconds[0].stop)):
        for second in seconds:
            yield first, second, rows


def _block(q: Tensor) -> int:
    return BLOCK_BYTES // max(4, q.element_size())


def _numbers(queries: int, k1: Tensor, v1: Tensor) -> int:
    """How many a pair (j, l) has in the largest tensor: its logits, its key, or its value."""
    return max(queries, k1.shape[2], v1.shape[2])


def _slices(length: int, size: int) -> list[slice]:
    """The fewest slices of at most `size` that cover `length`, about equally long."""
    if not length:
        return []
    size = -(-length // -(-length // size))
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def main() -> None:
    """Train one layer of tensor attention and one of ordinary attention to find triples; print what they learn."""
    from methods.tensor_attention.contenders import NETWORKS, Puzzle  # the networks are built around this file
    from methods.tensor_attention.match import balanced_accuracy, match_labels

    puzzle = Puzzle("match3", modulus=8, n=5)
    for name in ("exact", "ordinary"):
        torch.manual_seed(0)
        model = NETWORKS[name].build(puzzle, NETWORKS[name].recipe)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for step in range(1, 121):
            tokens = torch.randint(puzzle.modulus, (128, puzzle.n))
            wanted = match_labels(tokens, puzzle.modulus, puzzle.task).float()
            loss = F.binary_cross_entropy_with_logits(model(tokens), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 40 == 0:
                right = balanced_accuracy(model, puzzle.task, puzzle.modulus, puzzle.n, draws=2_000)
                kind = "tensor" if name == "exact" else "ordinary"
                print(f"{kind:8} attention  step {step:3}  loss {loss:.3f}  triples told right {right:.1%}")

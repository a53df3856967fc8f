"""Exact tensor attention in Triton, forward and backward. The torch twins are in `tensor_attention.py`.

A program owns BLOCK_Q queries of one head. A block of the second keys and values is loaded once and met by every first
key j in turn: the tile Q * K1[j] is multiplied with the block's keys on the tensor cores, and the online softmax of
equation (2) takes in the tile of logits. On the chip are a few tiles; in memory nothing but the result and the
log-sum-exp of each query.

Backward, equation (3), by who owns what, so that nothing is added atomically and a run repeats to the bit:

    queries      dQ of a block of queries: over all l blocks and all j
    second keys  dK2 and dV2 of a block of l: over all blocks of queries and all j
    first keys   the same kernel with the roles of (K1, V1) and (K2, V2) exchanged, as (1) is symmetric in them

Sums are in float32; float32 products are exact ("ieee"), not rounded to tf32. Widths are padded to a power of two, at
least 16, with zeros.
"""

from __future__ import annotations

import os
from contextlib import nullcontext

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # not on every platform; the twin takes over
    triton = tl = None

# Triton decides when a kernel is declared, from this variable; `methods.shared.interpreter` sets it
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BLOCK_Q, BLOCK_L = (16, 16) if INTERPRETED else (64, 64)
WARPS = 4
LARGEST_WIDTH = 128  # tiles of more do not fit the registers
# the interpreter keeps bfloat16 as 16-bit integers and multiplies those
TYPES = (torch.float16, torch.float32) if INTERPRETED else (torch.float16, torch.bfloat16, torch.float32)


def can_run(q: Tensor, v: Tensor) -> bool:
    """Whether the kernels run for queries and values like these: on a GPU, or anywhere through the interpreter."""
    fits = q.dtype in TYPES and max(q.shape[-1], v.shape[-1]) <= LARGEST_WIDTH
    return triton is not None and (q.is_cuda or INTERPRETED) and fits


def forward(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """T (batch, n_q, e) and the log-sum-exp (batch, n_q, 1) in float32, of contiguous (batch, n, width) tensors.

    Raises:
        RuntimeError: the kernels do not run here; see `can_run`.
    """
    _check(q, v1)
    batch, n_q, width = q.shape
    out = torch.empty(batch, n_q, v1.shape[2], dtype=q.dtype, device=q.device)
    lse = torch.empty(batch, n_q, 1, dtype=torch.float32, device=q.device)
    if out.numel():
        with _on(q):
            _forward_kernel[_grid(n_q, BLOCK_Q, batch)](
                q, k1, k2, v1, v2, out, lse, n_q, k1.shape[1], k2.shape[1], width, v1.shape[2], scale,
                **_tiles(width, v1.shape[2]),
            )  # fmt: skip
    return out, lse


def backward(
    grad: Tensor, q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, out: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, ...]:
    """The derivatives of q, k1, k2, v1, v2 by that of T, `grad` (batch, n_q, e); all contiguous."""
    _check(q, v1)
    delta = (grad.float() * out.float()).sum(dim=-1)
    found = dq, dk1, dk2, dv1, dv2 = tuple(torch.empty_like(x) for x in (q, k1, k2, v1, v2))
    if grad.numel():
        batch, n_q, width = q.shape
        tiles = _tiles(width, v1.shape[2])
        with _on(q):
            _query_kernel[_grid(n_q, BLOCK_Q, batch)](
                grad, q, k1, k2, v1, v2, lse, delta, dq, n_q, k1.shape[1], k2.shape[1], width, v1.shape[2], scale,
                **tiles,
            )  # fmt: skip
            for a, va, b, vb, db, dvb in ((k1, v1, k2, v2, dk2, dv2), (k2, v2, k1, v1, dk1, dv1)):
                _key_kernel[_grid(b.shape[1], BLOCK_L, batch)](
                    grad, q, a, b, va, vb, lse, delta, db, dvb, n_q, a.shape[1], b.shape[1], width, v1.shape[2], scale,
                    **tiles,
                )  # fmt: skip
    return found


def _check(q: Tensor, v: Tensor) -> None:
    if not can_run(q, v):
        raise RuntimeError(
            f"kernels: {q.dtype} of widths {q.shape[-1]} and {v.shape[-1]} on {q.device} has no kernel here: they need "
            f"Triton, a GPU (or its interpreter), 16 or 32 bits and widths up to {LARGEST_WIDTH}"
        )


def _grid(rows: int, block: int, batch: int) -> tuple[int, int]:
    return -(-rows // block), batch


def _tiles(width: int, values: int) -> dict[str, int]:
    padded = {"BLOCK_D": max(16, triton.next_power_of_2(width)), "BLOCK_E": max(16, triton.next_power_of_2(values))}
    return {"BLOCK_Q": BLOCK_Q, "BLOCK_L": BLOCK_L, **padded, "num_warps": WARPS}


def _on(q: Tensor) -> torch.cuda.device | nullcontext[None]:
    return torch.cuda.device(q.device) if q.is_cuda else nullcontext()


if triton is not None:
    # not tl.max and tl.sum: those are declared when Triton is imported, and would not follow `interpreted(...)`
    @triton.jit
    def _larger(a, b):
        return tl.maximum(a, b)

    @triton.jit
    def _added(a, b):
        return a + b

    @triton.jit
    def _tile(x, head, rows, n, width, BLOCK: tl.constexpr):
        """Rows of x (batch, n, width), zeros beyond its edges."""
        columns = tl.arange(0, BLOCK)
        at = (head * n + rows[:, None]) * width + columns[None, :]
        return tl.load(x + at, mask=(rows[:, None] < n) & (columns[None, :] < width), other=0.0)

    @triton.jit
    def _store(x, tile, head, rows, n, width, BLOCK: tl.constexpr):
        columns = tl.arange(0, BLOCK)
        at = (head * n + rows[:, None]) * width + columns[None, :]
        tl.store(x + at, tile.to(x.dtype.element_ty), mask=(rows[:, None] < n) & (columns[None, :] < width))

    @triton.jit
    def _row(x, head, j, n, width, BLOCK: tl.constexpr):
        """x[head, j], in float32."""
        columns = tl.arange(0, BLOCK)
        return tl.load(x + (head * n + j) * width + columns, mask=columns < width, other=0.0).to(tl.float32)[None, :]

    @triton.jit
    def _forward_kernel(
        q, k1, k2, v1, v2, out, lse, n_q, n_1, n_2, d, e, scale,
        BLOCK_Q: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr,
    ):  # fmt: skip
        head = tl.program_id(1).to(tl.int64)
        rows = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
        kind = q.dtype.element_ty
        queries = _tile(q, head, rows, n_q, d, BLOCK_D).to(tl.float32) * scale
        top = tl.full((BLOCK_Q,), float("-inf"), tl.float32)
        total = tl.full((BLOCK_Q,), 0.0, tl.float32)
        sums = tl.full((BLOCK_Q, BLOCK_E), 0.0, tl.float32)
        for begin in range(0, n_2, BLOCK_L):
            second = begin + tl.arange(0, BLOCK_L)
            keys = tl.trans(_tile(k2, head, second, n_2, d, BLOCK_D))
            values = _tile(v2, head, second, n_2, e, BLOCK_E)
            for j in range(0, n_1):
                mixed = (queries * _row(k1, head, j, n_1, d, BLOCK_D)).to(kind)
                scores = tl.dot(mixed, keys, input_precision="ieee")
                scores = tl.where(second[None, :] < n_2, scores, float("-inf"))
                raised = tl.maximum(top, tl.reduce(scores, 1, _larger))
                weights = tl.exp(scores - raised[:, None])
                shrink = tl.exp(top - raised)
                total = total * shrink + tl.reduce(weights, 1, _added)
                seen = tl.dot(weights.to(kind), values, input_precision="ieee")
                sums = sums * shrink[:, None] + seen * _row(v1, head, j, n_1, e, BLOCK_E)
                top = raised
        _store(out, sums / total[:, None], head, rows, n_q, e, BLOCK_E)
        tl.store(lse + head * n_q + rows, top + tl.log(total), mask=rows < n_q)

    @triton.jit
    def _weights(mixed, keys, rows_lse, second, n_2):
        """P of equation (3), (BLOCK_Q, BLOCK_L): 0 beyond the last key, and for queries whose `rows_lse` is inf."""
        scores = tl.dot(mixed, keys, input_precision="ieee")
        return tl.where(second[None, :] < n_2, tl.exp(scores - rows_lse[:, None]), 0.0)

    @triton.jit
    def _query_kernel(
        grad, q, k1, k2, v1, v2, lse, delta, dq, n_q, n_1, n_2, d, e, scale,
        BLOCK_Q: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr,
    ):  # fmt: skip
        head = tl.program_id(1).to(tl.int64)
        rows = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
        kind = q.dtype.element_ty
        queries = _tile(q, head, rows, n_q, d, BLOCK_D).to(tl.float32) * scale
        grads = _tile(grad, head, rows, n_q, e, BLOCK_E).to(tl.float32)
        rows_lse = tl.load(lse + head * n_q + rows, mask=rows < n_q, other=float("inf"))
        rows_delta = tl.load(delta + head * n_q + rows, mask=rows < n_q, other=0.0)
        sums = tl.full((BLOCK_Q, BLOCK_D), 0.0, tl.float32)
        for begin in range(0, n_2, BLOCK_L):
            second = begin + tl.arange(0, BLOCK_L)
            keys = _tile(k2, head, second, n_2, d, BLOCK_D)
            values = tl.trans(_tile(v2, head, second, n_2, e, BLOCK_E))
            for j in range(0, n_1):
                key = _row(k1, head, j, n_1, d, BLOCK_D)
                weights = _weights((queries * key).to(kind), tl.trans(keys), rows_lse, second, n_2)
                wanted = (grads * _row(v1, head, j, n_1, e, BLOCK_E)).to(kind)
                dscores = weights * (tl.dot(wanted, values, input_precision="ieee") - rows_delta[:, None])
                sums += tl.dot(dscores.to(kind), keys, input_precision="ieee") * key
        _store(dq, sums * scale, head, rows, n_q, d, BLOCK_D)

    @triton.jit
    def _key_kernel(
        grad, q, k1, k2, v1, v2, lse, delta, dk2, dv2, n_q, n_1, n_2, d, e, scale,
        BLOCK_Q: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr,
    ):  # fmt: skip
        head = tl.program_id(1).to(tl.int64)
        second = tl.program_id(0) * BLOCK_L + tl.arange(0, BLOCK_L)
        kind = q.dtype.element_ty
        keys = tl.trans(_tile(k2, head, second, n_2, d, BLOCK_D))
        values = tl.trans(_tile(v2, head, second, n_2, e, BLOCK_E))
        dkeys = tl.full((BLOCK_L, BLOCK_D), 0.0, tl.float32)
        dvalues = tl.full((BLOCK_L, BLOCK_E), 0.0, tl.float32)
        for begin in range(0, n_q, BLOCK_Q):
            rows = begin + tl.arange(0, BLOCK_Q)
            queries = _tile(q, head, rows, n_q, d, BLOCK_D).to(tl.float32) * scale
            grads = _tile(grad, head, rows, n_q, e, BLOCK_E).to(tl.float32)
            rows_lse = tl.load(lse + head * n_q + rows, mask=rows < n_q, other=float("inf"))
            rows_delta = tl.load(delta + head * n_q + rows, mask=rows < n_q, other=0.0)
            for j in range(0, n_1):
                mixed = (queries * _row(k1, head, j, n_1, d, BLOCK_D)).to(kind)
                weights = _weights(mixed, keys, rows_lse, second, n_2)
                wanted = (grads * _row(v1, head, j, n_1, e, BLOCK_E)).to(kind)
                dscores = weights * (tl.dot(wanted, values, input_precision="ieee") - rows_delta[:, None])
                dkeys += tl.dot(tl.trans(dscores.to(kind)), mixed, input_precision="ieee")
                dvalues += tl.dot(tl.trans(weights.to(kind)), wanted, input_precision="ieee")
        _store(dk2, dkeys, head, second, n_2, d, BLOCK_D)
        _store(dv2, dvalues, head, second, n_2, e, BLOCK_E)

"""Triton kernels that read scattered rows of host memory from a GPU, and the torch twin that says what they compute.

Three maps from threads to columns, one result. X is (N, F), row-major; row r of the output is X[index[r]]; a line is
128 bytes, L elements; a warp is 32 threads that load together, and the hardware merges what they want of one line
into one request (`requests.py` counts them).

    naive       position p = r F + j belongs to row r, column j
    shift       as naive, but column j' = (j + d) mod F, with
                d = (r F - address(index[r])) mod L,    address(i) = i F + the first element's place in its line   (1)
                so that the first thread of each warp, p = 0 mod L, reads the first element of a line
    rowaligned  a block of threads for each row; the first one sits on the line where the row begins, idle until the
                row does (later, in DGL)

(1) moves the load and the store by the same distance, so the output is the same; it needs F > L, and does nothing
where all rows begin on a line. A tensor that torch allocates on the CPU begins 64 bytes into a line, so its place is
part of (1), where the released kernel takes it for 0. That kernel also takes the remainder of C, which may be negative,
and wraps at both ends of a row: the same bound for each row, and the same mean, but for a request here or there.

The rows are moved as integers of their size: bit for bit, whatever the type. What the kernels do not do: check that
an index is in range, for a GPU would have to be waited for; `TRITON_DEBUG=1` makes them check on the device.
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

LINE_BYTES = 128
ALIGNED_BYTES = 256  # `rowaligned` moves its threads for rows at least this long, as DGL does
BLOCK_POSITIONS, BLOCK_WARPS = 1024, 4  # of naive and shift: eight loads in flight for each thread
BLOCK_THREADS = 256  # of rowaligned
MAPPINGS = ("naive", "shift", "rowaligned")
# Triton decides when a kernel is declared, from this variable; `methods.shared.interpreter` sets it
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def gather_twin(source: Tensor, index: Tensor, out: Tensor) -> Tensor:
    """out[r] = source[index[r]], by torch: what every kernel here computes. All three on one device."""
    return torch.index_select(source, 0, index, out=out)


def can_run(out: Tensor) -> bool:
    """Whether the kernels run for an output like this: on a GPU, or anywhere through Triton's interpreter."""
    return triton is not None and (out.is_cuda or INTERPRETED)


def gather(source: Tensor, index: Tensor, out: Tensor, mapping: str = "shift") -> Tensor:
    """out[r] = source[index[r]] by one of the kernels.

    Args:
        source: (N, F) contiguous, of 1, 2, 4 or 8 bytes an element. For an `out` on a GPU: there, or in page-locked
            memory of the CPU.
        index: (n,) int64 on the device of `out`, each in [0, N): not checked.
        out: (n, F) contiguous, of the type of `source`.
        mapping: one of `MAPPINGS`.

    Returns:
        `out`.

    Raises:
        ValueError: an unknown mapping, a size of element without a kernel, or memory that is not contiguous.
        RuntimeError: the kernels do not run here; see `can_run`.
    """
    if mapping not in MAPPINGS:
        raise ValueError(f"gather: no mapping {mapping!r}; there are {', '.join(MAPPINGS)}")
    if not can_run(out):
        raise RuntimeError("gather: the kernels need Triton and a GPU, or its interpreter; use `gather_twin` instead")
    if source.element_size() not in _BITS or not (source.is_contiguous() and out.is_contiguous()):
        raise ValueError(
            f"gather: needs contiguous tensors with 1, 2, 4 or 8 bytes an element; got {source.dtype} with strides "
            f"{source.stride()} and {out.stride()}"
        )
    if out.numel() == 0:
        return out
    bits = _BITS[source.element_size()]
    with torch.cuda.device(out.device) if out.is_cuda else nullcontext():
        launch = _gather_by_row if mapping == "rowaligned" else _gather_flat
        launch(source.view(bits), index, out.view(bits), mapping)
    return out


def is_shifted(width: int, itemsize: int, place: int = 0) -> bool:
    """Whether `shift` differs from `naive`: rows longer than a line, not all of which begin on one.

    width: F. itemsize: bytes an element. place: of the first element in its line, in elements.
    """
    return width * itemsize > LINE_BYTES and (width * itemsize % LINE_BYTES != 0 or place != 0)


def threads_of_row(width: int) -> int:
    """Threads that `rowaligned` gives to one row: 256, halved while half of them would still cover the row."""
    threads = BLOCK_THREADS
    while threads >= 2 * width:
        threads //= 2
    return threads


def _place(source: Tensor) -> tuple[int, int]:
    """Of the first element in its line, and L; both in elements."""
    line = LINE_BYTES // source.element_size()
    return source.data_ptr() // source.element_size() % line, line


def _gather_flat(source: Tensor, index: Tensor, out: Tensor, mapping: str) -> None:
    width, (place, line) = source.shape[1], _place(source)
    shift = mapping == "shift" and is_shifted(width, source.element_size(), place)
    grid = (-(-out.numel() // BLOCK_POSITIONS),)
    _flat_kernel[grid](
        source, index, out, out.numel(), source.shape[0], width, place,
        SHIFT=shift, LINE=line, BLOCK=BLOCK_POSITIONS, num_warps=BLOCK_WARPS,
    )  # fmt: skip


def _gather_by_row(source: Tensor, index: Tensor, out: Tensor, mapping: str) -> None:
    width, (place, line) = source.shape[1], _place(source)
    threads = threads_of_row(width)
    rows = BLOCK_THREADS // threads
    # DGL sorts, so that rows near one another in memory are read by blocks near one another in time
    ordered, target = index.sort()
    _row_kernel[(-(-len(index) // rows),)](
        source, ordered, target, out, len(index), source.shape[0], width, place,
        ALIGN=width * source.element_size() >= ALIGNED_BYTES, LINE=line, ROWS=rows, THREADS=threads,
        num_warps=BLOCK_THREADS // 32,
    )  # fmt: skip


if triton is not None:

    @triton.jit
    def shifted_column(row, start, column, width, place, LINE: tl.constexpr):
        """j' of equation (1). `%` keeps the sign of the dividend, as in C: without `+ LINE` it leaves the row."""
        distance = ((row * width - start - place) % LINE + LINE) % LINE
        moved = column + distance
        return tl.where(moved >= width, moved - width, moved)

    # not specialised: were the width known to be a multiple of 16, each thread would load four neighbours, and a warp
    # would be four times as long as in (1)
    @triton.jit(do_not_specialize=["width", "place"])
    def _flat_kernel(
        source, index, out, positions, height, width, place,
        SHIFT: tl.constexpr, LINE: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        # 64 bits from here on: n F passes 2^31 at a few million rows
        position = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = position < positions
        row = position // width
        column = position - row * width
        chosen = tl.load(index + row, mask=inside, other=0)
        tl.device_assert((chosen >= 0) & (chosen < height), "gather: an index is out of range")
        start = chosen * width
        if SHIFT:
            column = shifted_column(row, start, column, width, place, LINE)
        tl.store(out + row * width + column, tl.load(source + start + column, mask=inside), mask=inside)

    @triton.jit(do_not_specialize=["width", "place"])
    def _row_kernel(
        source, index, target, out, rows, height, width, place,
        ALIGN: tl.constexpr, LINE: tl.constexpr, ROWS: tl.constexpr, THREADS: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = row < rows
        chosen = tl.load(index + row, mask=inside, other=0)
        tl.device_assert((chosen >= 0) & (chosen < height), "gather: an index is out of range")
        start = chosen * width
        begin = tl.load(target + row, mask=inside, other=0) * width
        thread = tl.arange(0, THREADS)[None, :]
        reach = width
        if ALIGN:
            thread = thread - ((start + place) % LINE)[:, None]
            reach += LINE - 1
        for first in range(0, reach, THREADS):
            column = thread + first
            mask = inside[:, None] & (column >= 0) & (column < width)
            value = tl.load(source + start[:, None] + column, mask=mask)
            tl.store(out + begin[:, None] + column, value, mask=mask)

"""How many PCIe requests a gather costs: an exact count, by row.

A GPU reads host memory in lines of 128 bytes, and what the 32 threads of a warp want of one line is one request: so a
request is a distinct pair (warp, line). A row of S bytes at a random place touches, on average over the places that
rows can have,

    ideal  = 1 + c,                  c = (S - g) / 128,    g = gcd(S, 128)                                   (1)

lines. The naive map starts each warp anywhere in a line, so that most warps need two of them:

    naive  = 1 + c (2 - 1/m),        m = 128 / g            (elements of 4 bytes: a warp is as long as a line)  (2)

and the shift map costs 0, 1 or 2 requests more than the fewest possible, for every single row: than the lines that it
touches, or than the warps that its output lies in where these are more, which is so for elements below 4 bytes, of
which a warp moves less than a line. Here each map is written out thread by thread and the distinct pairs are counted;
(1) and (2) are what the count must come to.

Counted by row: where the rows of one warp share a line (equal or neighbouring indices), hardware needs fewer. What the
GPU's caches keep between warps is not in the model either.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import gcd

import torch
from torch import Tensor

from methods.pytorch_direct.kernels import ALIGNED_BYTES, LINE_BYTES, MAPPINGS, is_shifted, threads_of_row
from methods.shared.checks import check_option, check_sizes

WARP = 32
_PAIRS_AT_ONCE = 32  # pairs x threads: what fits a cache is counted twice as fast


@dataclass
class Traffic:
    """Bytes that a path has moved so far. host: read from and written to host memory. link: sent to the device."""

    host: int = 0
    link: int = 0

    def add(self, *, host: int, link: int) -> None:
        self.host += host
        self.link += link


def ideal_lines(width: int, itemsize: int = 4) -> Fraction:
    """Equation (1): lines that a row touches, averaged over the places that rows can have."""
    size = width * itemsize
    return 1 + Fraction(size - gcd(size, LINE_BYTES), LINE_BYTES)


def naive_requests(width: int) -> Fraction:
    """Equation (2), for elements of 4 bytes."""
    return 1 + (ideal_lines(width) - 1) * (2 - Fraction(gcd(4 * width, LINE_BYTES), LINE_BYTES))


def lines_touched(width: int, place: Tensor, itemsize: int = 4) -> Tensor:
    """Lines that a row touches which begins at `place` (elements into a line). (m,)"""
    line = LINE_BYTES // itemsize
    return (place + width - 1) // line + 1


def fewest_requests(width: int, out: Tensor, source: Tensor, itemsize: int = 4) -> Tensor:
    """A bound for every order of columns: a row's lines must be asked for, and each of its warps must ask. (m,)

    Of elements of 4 bytes and more, a row has at least as many lines as warps but for one at its ends. Arguments as
    for `count`.
    """
    warps = (out % WARP + width - 1) // WARP + 1
    return torch.maximum(lines_touched(width, source, itemsize), warps)


def phase_pairs(width: int, itemsize: int = 4, base: int = 0) -> tuple[Tensor, Tensor]:
    """All pairs (place of the output row, place of the source row) that rows can have; for random rows equally likely.

    Args:
        width: F. itemsize: bytes an element. base: place of the source's first element in its line, in elements.

    Returns:
        two (m,) int64: of the output row modulo a warp or a line, whichever is longer; of the source row modulo a line.
    """
    line = LINE_BYTES // itemsize
    out = torch.arange(0, max(line, WARP), gcd(width, max(line, WARP)))
    source = torch.arange(0, line, gcd(width, line)) + base
    pairs = torch.cartesian_prod(out, source % line)
    return pairs[:, 0], pairs[:, 1]


def count(mapping: str, width: int, out: Tensor, source: Tensor, itemsize: int = 4, base: int = 0) -> Tensor:
    """Requests of a row, for places of the output row and of the source row as `phase_pairs` gives them: (m,)."""
    parts = zip(out.split(_PAIRS_AT_ONCE), source.split(_PAIRS_AT_ONCE), strict=True)
    return torch.cat([_count(mapping, width, o, s, itemsize, base) for o, s in parts])


def _count(mapping: str, width: int, out: Tensor, source: Tensor, itemsize: int, base: int) -> Tensor:
    warp, column = threads(mapping, width, out, source, itemsize, base)
    # shifts, not divisions: this is where the time of a count goes
    line = (source[:, None] + column) >> _power_of_two(LINE_BYTES // itemsize)
    lines = int(lines_touched(width, source, itemsize).max())
    pair = warp * lines + line
    # idle threads request nothing: they share a last place that is not counted
    last = int(warp.max() + 1) * lines
    if mapping == "rowaligned":
        pair = torch.where((column >= 0) & (column < width), pair, last)
    seen = torch.zeros((len(source), last + 1), dtype=torch.bool).scatter_(1, pair, True)
    return seen[:, :last].sum(dim=1)


def threads(
    mapping: str, width: int, out: Tensor, source: Tensor, itemsize: int = 4, base: int = 0
) -> tuple[Tensor, Tensor]:
    """The warp and the column of every thread of a row, as the kernels assign them.

    Returns:
        two (m, k): warps counted from the row's first one; columns, outside [0, F) for threads that are idle.

    Raises:
        ValueError, TypeError: an unknown mapping, or a width that is none.
    """
    check_option("threads", "mapping", mapping, MAPPINGS)
    check_sizes("threads", width=width)
    line = LINE_BYTES // itemsize
    if mapping == "rowaligned":
        block = threads_of_row(width)
        offset = source if width * itemsize >= ALIGNED_BYTES else torch.zeros_like(source)
        slots = -(-(width + line - 1) // block) * block
        slot = torch.arange(slots)
        warps_of_block = -(-block // WARP)
        warp = slot // block * warps_of_block + slot % block // WARP
        return warp.expand(len(source), -1), slot - offset[:, None]
    column = torch.arange(width).expand(len(source), -1)
    warp = (out[:, None] + column) >> _power_of_two(WARP)
    if mapping == "shift" and is_shifted(width, itemsize, base):
        moved = column + ((out - source) % line)[:, None]
        column = torch.where(moved >= width, moved - width, moved)
    return warp, column


def _power_of_two(number: int) -> int:
    return number.bit_length() - 1


def expected(mapping: str, width: int, itemsize: int = 4, base: int = 0) -> Fraction:
    """Requests of a row, averaged over all pairs of places."""
    counts = count(mapping, width, *phase_pairs(width, itemsize, base), itemsize, base)
    return Fraction(int(counts.sum()), len(counts))


def requests(mapping: str, width: int, index: Tensor, itemsize: int = 4, base: int = 0) -> Tensor:
    """Requests of each row of a gather.

    Args:
        mapping: `naive`, `shift` or `rowaligned`. width: F. itemsize: bytes an element.
        index: (n,) int64, the source rows in the order of the output's.
        base: place of the source's first element in its line, in elements. The output begins on a line.

    Returns:
        (n,) int64.
    """
    line = LINE_BYTES // itemsize
    period = max(line, WARP)
    out = torch.arange(len(index)) * width % period
    source = (index * width + base) % line
    pairs, which = torch.unique(out * line + source, return_inverse=True)
    return count(mapping, width, pairs // line, pairs % line, itemsize, base)[which]

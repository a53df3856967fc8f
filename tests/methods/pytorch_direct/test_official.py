"""The gather kernel of K-Wu/pytorch-direct at b8fff39: `gpu_index_kernel`, `aten/src/ATen/native/cuda/IndexKernel.cu`.

Its thread's code was compiled for a CPU and run for every thread of a gather of 40 rows, table and output beginning on
a line; the distinct pairs (warp, line) of each row were counted. It shifts as equation (1), but takes C's remainder,
which is negative where the source lies behind the output, and so wraps at both ends of a row: each row costs the same
as here, or one request more or less (two below 4 bytes an element). Of the script that the authors published that
kernel is not run: it calls `torch.index_select`, in which the shift is switched off.
"""

from __future__ import annotations

import math

import pytest
import torch

from methods.pytorch_direct.requests import count, fewest_requests, phase_pairs, requests

INDEX = [(37 * r * r + 11) % 1000 for r in range(40)]
RELEASED = {  # (bytes an element, columns): requests of each row
    (4, 100): """5 5 5 5 6 5 5 4 5 5 5 5 6 5 5 4 5 5 5 5 6 5 5 4 5 5 5 5 5 5
        5 4 5 5 5 5 6 5 5 4""",
    (4, 343): """13 14 13 12 14 13 13 12 14 14 13 14 13 13 13 14 13 12 13 14 13 13 14 13 13 14 13 13 13 12
        14 12 12 14 13 13 13 13 13 12""",
    (4, 602): """21 20 21 21 21 21 22 22 21 22 21 22 22 22 21 19 21 20 21 20 21 21 22 22 22 21 21 22 21 20
        21 20 21 20 21 20 21 21 22 20""",
    (8, 33): """4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 3 4 4 4 4 4 4 4 4 5 5 4 5 4 4
        5 4 4 4 4 4 4 4 4 4""",
    (2, 513): """18 18 18 18 18 18 18 18 18 18 19 18 18 19 19 18 18 18 18 18 18 19 18 19 19 19 18 19 18 18
        18 18 19 18 19 19 19 19 18 18""",
}


def released(row: int, source: int, width: int, itemsize: int) -> set[tuple[int, int]]:
    """Pairs (warp, line) of a row: as naive, but for columns moved by C's remainder."""
    line = 128 // itemsize
    distance = int(math.fmod(row * width - source * width, line))
    columns = [(j, j + distance) for j in range(width)]
    return {((row * width + j) // 32, (source * width + c % width) // line) for j, c in columns}


@pytest.mark.parametrize(("itemsize", "width"), RELEASED)
def test_the_released_kernel_differs_from_ours_by_its_remainder_alone(itemsize: int, width: int) -> None:
    official = [int(number) for number in RELEASED[itemsize, width].split()]
    assert [len(released(r, i, width, itemsize)) for r, i in enumerate(INDEX)] == official
    ours = requests("shift", width, torch.tensor(INDEX), itemsize)
    difference = (ours - torch.tensor(official)).abs()
    assert int(difference.max()) <= (1 if itemsize >= 4 else 2)
    assert int(difference.max()) > 0
    assert float(ours.double().mean()) == pytest.approx(sum(official) / 40, rel=0.05)


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
def test_the_shift_costs_at_most_two_requests_more_than_its_warps_and_lines_need(itemsize: int) -> None:
    """By counting threads, over all places of rows, from one element to three lines, from 0 and 64 bytes on."""
    line, seen, more_than_lines = 128 // itemsize, set(), set()
    widths = [1, line // 3 + 1, line, line + 1, line + line // 2, 2 * line, 2 * line + 7, 3 * line - 1]
    for width in widths:
        for base in (0, 64 // itemsize):
            out, source = phase_pairs(width, itemsize, base)
            counted = count("shift", width, out, source, itemsize, base)
            least = fewest_requests(width, out, source, itemsize)
            seen |= set((counted - least).unique().tolist())
            more_than_lines |= set((counted - least_lines(width, source, line)).unique().tolist())
    assert seen == {0, 1, 2}
    # below 4 bytes a line holds more than a warp reads, so that lines alone are no bound
    assert (max(more_than_lines) > 2) == (itemsize < 4)


def least_lines(width: int, source: torch.Tensor, line: int) -> torch.Tensor:
    return (source + width - 1) // line + 1


def test_the_fewest_requests_are_counted_thread_by_thread_by_any_order_of_columns() -> None:
    """A row of 200 bytes of which a warp moves 32 at a time: at least as many requests as warps, or as lines."""
    for place in range(0, 128, 8):
        out = torch.tensor([5])
        warps, lines = (5 + 199) // 32 + 1, (place + 199) // 128 + 1
        assert int(fewest_requests(200, out, torch.tensor([place]), 1)) == max(warps, lines)

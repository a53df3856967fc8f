"""The request model: closed forms against a count of pairs (warp, line), the table, and what paths move."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from methods.pytorch_direct.baselines import Resident, Staged, StagedPinned
from methods.pytorch_direct.pytorch_direct import UnifiedTensor
from methods.pytorch_direct.requests import (
    Traffic,
    count,
    expected,
    ideal_lines,
    lines_touched,
    naive_requests,
    phase_pairs,
    requests,
    threads,
)

TABLE = [  # columns of 4 bytes: naive, shift, ideal
    (602, 37.328, 21.039, 19.750),
    (100, 6.625, 5.094, 4.000),
    (343, 22.041, 13.080, 11.6875),
    (293, 18.965, 11.518, 10.125),
    (513, 32.500, 18.393, 17.000),
    (128, 4.0, 4.0, 4.0),
    (800, 25.0, 25.0, 25.0),
]


@pytest.mark.parametrize(("width", "naive", "shift", "ideal"), TABLE)
def test_the_table_of_requests_holds(width: int, naive: float, shift: float, ideal: float) -> None:
    assert round(float(expected("naive", width)), 3) == naive
    assert round(float(expected("shift", width)), 3) == shift
    assert float(ideal_lines(width)) == ideal


def test_closed_forms_and_the_bound_of_the_shift_hold_for_every_width() -> None:
    """Over all places of rows: the two means exactly, and 0, 1 or 2 requests more than lines for every single row."""
    seen: set[int] = set()
    for width in range(33, 701):
        places = phase_pairs(width)
        lines = lines_touched(width, places[1])
        assert Fraction(int(lines.sum()), len(lines)) == ideal_lines(width)
        assert expected("naive", width) == naive_requests(width)
        seen |= set((count("shift", width, *places) - lines).unique().tolist())
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("width", [33, 100, 602])
def test_the_count_is_that_of_a_loop_over_threads(width: int) -> None:
    """Warps and lines of a whole gather, thread by thread, without the model's shortcuts."""
    index = torch.randint(1000, (40,), generator=torch.Generator().manual_seed(0))
    for mapping in ("naive", "shift"):
        pairs = []
        for row, source in enumerate(index.tolist()):
            distance = (row * width - source * width) % 32 if mapping == "shift" else 0
            columns = [(j, (j + distance) % width) for j in range(width)]
            pairs.append(len({((row * width + j) // 32, (source * width + c) // 32) for j, c in columns}))
        assert requests(mapping, width, index).tolist() == pairs


@pytest.mark.parametrize("width", [32, 128, 800])
def test_where_every_row_begins_on_a_line_the_shift_changes_nothing(width: int) -> None:
    places = phase_pairs(width)
    for naive, shift in zip(threads("naive", width, *places), threads("shift", width, *places), strict=True):
        assert torch.equal(naive, shift)


def test_a_table_that_begins_inside_a_line_needs_the_shift_at_any_width() -> None:
    """As torch allocates it, 64 bytes into a line: a row of 512 bytes is on five lines, read by eight requests."""
    assert int(lines_touched(128, torch.tensor([16]))) == 5
    assert expected("naive", 128, base=16) == 8
    assert expected("shift", 128, base=16) == 5


@pytest.mark.parametrize("width", [64, 100, 343, 602])
def test_one_block_a_row_costs_exactly_the_lines(width: int) -> None:
    _, source = places = phase_pairs(width)
    assert torch.equal(count("rowaligned", width, *places), lines_touched(width, source))


def test_short_rows_are_not_aligned_by_the_row_kernel() -> None:
    """Below 256 bytes, as in DGL: a row of 132 bytes on two lines keeps its second warp for one element."""
    assert expected("rowaligned", 33) > ideal_lines(33)


def test_paths_count_three_passes_for_staging_and_one_for_direct_access() -> None:
    rows, width = 50, 602
    useful, features = rows * width * 4, torch.rand(200, width)
    index = torch.arange(0, 200, 4)
    ways = [
        Staged(features, "cpu"),
        StagedPinned(features, "cpu"),
        UnifiedTensor(features, "cpu"),
        Resident(features, "cpu"),
    ]
    for way in ways:
        assert torch.equal(way[index], features[index])
    small = useful + 8 * rows
    assert [way.traffic for way in ways] == [
        Traffic(3 * useful, useful), Traffic(3 * useful, useful), Traffic(small, small), Traffic(8 * rows, 8 * rows),
    ]  # fmt: skip
    ways[0][index]
    assert ways[0].traffic == Traffic(6 * useful, 2 * useful)

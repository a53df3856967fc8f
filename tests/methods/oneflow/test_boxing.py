"""Boxing: what is put on the wire is the table, and what arrives is the tensor."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch

from assay.ranks import run_ranks
from methods.oneflow.boxing import box_bytes, route, steps_of, table_bytes
from methods.oneflow.ranks import hold
from methods.oneflow.sbp import P_MAX, B, P, S, to_local
from tests.methods.oneflow.in_ranks import ONE_DIMENSION, boxing_and_actors

MIB = 1 << 20
SHAPE, GROUPS = (5, 7), (((0, 1, 2, 3), (0, 1, 2, 3)), ((0, 1), (2, 3)), ((3,), (0, 2, 1)), ((0, 1, 2), (3,)))
MESH_PAIRS = [
    ((S(0), S(0)), (B, S(0))),  # the outer dimension can end S(0) only when the inner one has
    ((B, S(0)), (S(0), S(0))),
    ((S(0), S(1)), (S(1), S(0))),
    ((P, S(1)), (S(0), S(1))),
    ((P, P), (B, B)),
    ((P_MAX, S(0)), (S(1), B)),
    ((S(0), B), (P, S(1))),
]


@functools.cache
def ranks():
    """Four processes, all checks in one start."""
    return run_ranks(boxing_and_actors, 4, args=((SHAPE, GROUPS), (SHAPE, (2, 2), MESH_PAIRS), 20), timeout=120)


def test_the_table_at_4_devices_and_16_mib():
    mib = {"S(0)->S(1)": 12, "S(1)->S(0)": 12, "S(0)->B": 48, "S(1)->B": 48, "P->S(0)": 48, "P->S(1)": 48, "P->B": 96}
    for source, target in itertools.product((S(0), S(1), B, P), repeat=2):
        assert table_bytes(source, target, 16 * MIB, 4) == mib.get(f"{source}->{target}", 0) * MIB
        assert table_bytes(source, target, 16 * MIB, 1) == 0


@pytest.mark.parametrize(
    ("source", "target", "factor"),
    [(S(0), S(0), 1), (S(0), S(1), 1), (S(0), B, 3), (S(0), P, 1), (B, S(0), 1), (B, B, 3), (B, P, 1), (P, S(0), 2),
     (P, B, 4), (P, P, 2)],
)  # fmt: skip
def test_the_table_between_2_and_3_other_devices(source, target, factor):
    assert table_bytes(source, target, MIB, 2, 3) == factor * MIB
    assert box_bytes((12, 6), source, target, (0, 1), (2, 3, 4), 4) == factor * 288


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_equal_parts_weigh_exactly_what_the_table_says(size):
    everyone, shape = tuple(range(size)), (size * 6, size * 2)
    for source, target in itertools.product((S(0), S(1), B, P), repeat=2):
        found = box_bytes(shape, source, target, everyone, everyone, 4)
        assert found == table_bytes(source, target, 48 * size * size, size), (source, target)


def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather():
    everyone = tuple(range(4))
    count = functools.partial(box_bytes, SHAPE, producers=everyone, consumers=everyone, itemsize=8)
    assert count(P, B) == count(P, S(0)) + count(S(0), B)


def test_no_collective_touches_what_stays_in_place():
    (step,) = steps_of((8, 8), S(0), S(1), (0, 1, 2, 3), (0, 1, 2, 3))
    assert sum(piece.sender == piece.receiver for piece in step.pieces) == 4


def test_groups_that_overlap_and_mixed_partial_values_are_refused():
    with pytest.raises(ValueError, match="give equal or disjoint groups"):
        steps_of((4, 4), S(0), B, (0, 1), (1, 2))
    with pytest.raises(ValueError, match="go through B or S"):
        steps_of((4, 4), P, P_MAX, (0, 1), (0, 1))


def expected_bytes(source, target, p1, p2):
    """The table's row for uneven parts: only S(i) -> S(j) differs, where the blocks that stay are not T / p."""
    tensor = torch.ones(SHAPE)
    if p1 == p2 and source.kind == target.kind == "S" and source != target:
        parts = zip(to_local(tensor, (source,), (4,)), to_local(tensor, (target,), (4,)), strict=True)
        stay = sum(a.shape[source.axis] * b.shape[target.axis] for a, b in parts)
        return 8 * (tensor.numel() - stay)
    return table_bytes(source, target, 8 * tensor.numel(), len(p1), None if p1 == p2 else len(p2))


def test_every_pair_over_real_processes_sends_the_table_and_gives_the_tensor():
    boxed = [found for found, _, _ in ranks()]
    tensor = torch.arange(35.0, dtype=torch.float64).view(SHAPE)
    pairs = [pair for pair in itertools.product(ONE_DIMENSION, repeat=2) if set(pair) != {P, P_MAX}]
    assert len(boxed[0]) == len(GROUPS) * len(pairs)
    for key in boxed[0]:
        p1, p2, source, target = key
        parts = [boxed[rank][key][0] for rank in p2]
        assert hold(parts, tensor, (target,), (len(p2),)), key
        assert all(boxed[rank][key][0] is None for rank in range(4) if rank not in p2), key
        assert sum(found[key][1] for found in boxed) == expected_bytes(source, target, p1, p2), key


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("target", [S(0), B, P])
def test_one_wrong_part_is_found_wherever_it_lies(place, target):
    tensor = torch.arange(35.0).view(SHAPE)
    parts = [part.clone() for part in to_local(tensor, (target,), (3,))]
    assert hold(parts, tensor, (target,), (3,))
    parts[place] += 1
    assert not hold(parts, tensor, (target,), (3,))
    assert not hold([part[:0] for part in parts], tensor, (S(0),), (3,))


@pytest.mark.parametrize("pair", MESH_PAIRS, ids=str)
def test_a_tensor_moves_along_the_dimensions_of_a_mesh_by_the_cheapest_route(pair):
    source, target = pair
    tensor = torch.arange(35.0).view(SHAPE)
    found = [moved[pair] for _, moved, _ in ranks()]
    assert hold([part for part, _ in found], tensor, target, (2, 2))
    assert sum(sent for _, sent in found) == 4 * route(SHAPE, source, target, (2, 2))[1]


def test_there_and_back_between_two_splits_is_the_identity():
    everyone = (0, 1, 2, 3)
    there, back = (box_bytes(SHAPE, *pair, everyone, everyone, 8) for pair in ((S(0), S(1)), (S(1), S(0))))
    assert there == back > 0
    tensor = torch.arange(35.0, dtype=torch.float64).view(SHAPE)
    for rank, (found, _, _) in enumerate(ranks()):
        columns, _ = found[everyone, everyone, S(0), S(1)]
        rows, _ = found[everyone, everyone, S(1), S(0)]
        assert torch.equal(columns, to_local(tensor, (S(1),), (4,))[rank])
        assert torch.equal(rows, to_local(tensor, (S(0),), (4,))[rank])


def test_a_route_is_never_dearer_than_through_copies():
    shape, mesh = (5, 4), (2, 2)
    layouts = list(itertools.product((S(0), S(1), B, P), repeat=2))
    for source, target in itertools.product(layouts, layouts):
        moves, numel = route(shape, source, target, mesh)
        through = route(shape, source, (B, B), mesh)[1] + route(shape, (B, B), target, mesh)[1]
        assert numel <= through
        assert (moves == ()) == (source == target)


def test_actors_of_two_processes_hand_registers_on():
    most, squares, *_ = [found for _, _, found in ranks()]
    assert squares == [float(i * i) for i in range(20)]
    assert 1 <= most <= 2

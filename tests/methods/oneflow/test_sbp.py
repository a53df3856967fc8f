"""SBP: a global tensor and its parts are one thing, and legal signatures are those that commute with them."""

from __future__ import annotations

import itertools

import pytest
import torch

from methods.oneflow import ops
from methods.oneflow.ops import IllegalSignature
from methods.oneflow.sbp import P_MAX, B, P, S, combine, places, region_of, to_global, to_local

MESHES = [(1,), (2,), (3,), (4,), (5,), (2, 2), (3, 2)]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_split_is_balanced_with_larger_parts_first():
    for length, sizes in ((10, [3, 3, 2, 2]), (2, [1, 1, 0, 0]), (7, [3, 2, 2])):
        assert [len(part) for part in to_local(torch.ones(length, 2), (S(0),), (len(sizes),))] == sizes


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("shape", [(7, 5), (6, 6), (1, 3)])
def test_a_tensor_comes_back_from_its_parts(mesh, shape):
    tensor = random(*shape)
    for combined in ("sum", "max"):
        partial = P if combined == "sum" else P_MAX
        for sbp in itertools.product((S(0), S(1), B, partial), repeat=len(mesh)):
            assert torch.equal(to_global(to_local(tensor, sbp, mesh), sbp, mesh), tensor), sbp


def test_any_decomposition_is_a_partial_value():
    tensor, noise = random(4, 3), random(4, 3, seed=1)
    assert torch.allclose(to_global([tensor + noise, -noise, torch.zeros(4, 3)], (P,), (3,)), tensor)
    assert torch.equal(to_global([tensor - 1, tensor, tensor - 2], (P_MAX,), (3,)), tensor)


def test_splits_of_one_axis_nest():
    parts = to_local(torch.arange(7), (S(0), S(0)), (2, 2))
    assert [part.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5], [6]]


@pytest.mark.parametrize(
    ("sbp", "mesh", "message"),
    [((S(2),), (2,), "has no axis 2"), ((B,), (2, 2), "give one for each"), ((P, P_MAX), (2, 2), "do not commute")],
)
def test_impossible_layouts_are_refused(sbp, mesh, message):
    with pytest.raises(ValueError, match=message):
        to_local(torch.ones(4, 4), sbp, mesh)
    with pytest.raises(ValueError, match="3 local tensors for a mesh of 2"):
        to_global([torch.ones(1)] * 3, (B,), (2,))


LABELS = torch.tensor([3, 0, 2, 4, 1, 1, 3])
POSITIVE = random(7, seed=2).abs() + 1
OPERATORS = [
    (ops.matmul(), (random(7, 6), random(6, 5))),
    (ops.matmul(transpose_a=True), (random(6, 7), random(6, 5))),
    (ops.matmul(transpose_b=True), (random(7, 6), random(5, 6))),
    (ops.matmul(True, True), (random(6, 7), random(5, 6))),
    (ops.relu(), (random(7, 5),)),
    (ops.exp(), (random(7, 5),)),
    (ops.log(), (POSITIVE,)),
    (ops.scale(3.0), (random(7, 5),)),
    (ops.identity(), (random(7, 5),)),
    (ops.transpose(), (random(7, 5),)),
    (ops.add(), (random(7, 5), random(7, 5, seed=1))),
    (ops.subtract(factor=0.5), (random(7, 5), random(7, 5, seed=1))),
    (ops.multiply(), (random(7, 5), random(7, 5, seed=1))),
    (ops.relu_grad(), (random(7, 5), random(7, 5, seed=1))),
    (ops.bias_add(), (random(7, 5), random(5))),
    (ops.row_subtract(), (random(7, 5), random(7))),
    (ops.row_divide(), (random(7, 5), POSITIVE)),
    (ops.reduce_sum(0), (random(7, 5),)),
    (ops.reduce_sum(1), (random(7, 5),)),
    (ops.reduce_max(0), (random(7, 5),)),
    (ops.reduce_max(1), (random(7, 5),)),
    (ops.embedding(5), (random(5, 4), LABELS)),
    (ops.take_label(5), (random(7, 5), LABELS)),
    (ops.subtract_one_hot(5), (random(7, 5), LABELS)),
    (ops.softmax_cross_entropy(), (random(7, 5), LABELS)),
    (ops.fetch(), (random(7, 5),)),
]


def scattered(tensor, sbp, mesh):
    """Parts whose partial values are noise on every device, where `to_local` would have neutral ones."""
    parts = to_local(tensor, sbp, mesh)
    if P in sbp and len(mesh) == 1:
        noise = [random(*tensor.shape, seed=10 + i) for i in range(len(parts) - 1)]
        parts = [*noise, tensor - combine(noise, P)] if noise else parts
    return parts


@pytest.mark.parametrize("mesh", [(1,), (3,), (2, 2)])
@pytest.mark.parametrize(("op", "tensors"), OPERATORS, ids=[op.name for op, _ in OPERATORS])
def test_every_signature_of_every_operator_commutes_with_the_parts(op, tensors, mesh):
    expected = op(*tensors)
    assert op.shape(*(tuple(t.shape) for t in tensors)) == tuple(expected.shape)
    for signature in op.nd_signatures(len(mesh)):
        parts = [scattered(t, sbp, mesh) for t, sbp in zip(tensors, signature.inputs, strict=True)]
        out = []
        for rank, place in enumerate(places(mesh)):
            regions = [region_of(t.shape, s, mesh, place) for t, s in zip(tensors, signature.inputs, strict=True)]
            out.append(op.local([part[rank] for part in parts], regions))
        assert torch.allclose(to_global(out, signature.output, mesh), expected, rtol=1e-12), str(signature)


def test_the_table_of_matmul_is_that_of_the_released_operator():
    assert [str(row) for row in ops.matmul().signatures] == [
        "S(0), B -> S(0)", "B, S(1) -> S(1)", "S(1), S(0) -> P", "P, B -> P", "B, P -> P", "B, B -> B",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "inputs"),
    [(ops.matmul(), (S(0), S(0))), (ops.matmul(), (P, P)), (ops.relu(), (P,)), (ops.add(), (P, B)),
     (ops.add(), (S(0), S(1))), (ops.bias_add(), (P, B)), (ops.multiply(), (P, P)), (ops.reduce_max(1), (P,)),
     (ops.reduce_sum(1), (P_MAX,)), (ops.softmax_cross_entropy(), (S(1), B))],
)  # fmt: skip
def test_illegal_signatures_are_refused_with_the_legal_ones(op, inputs):
    with pytest.raises(IllegalSignature, match=rf"{op.name} of .* has no signature.*box an input to one of: "):
        op.infer(*inputs)


def test_relu_of_partial_values_is_not_the_relu_of_their_sum():
    a, b = torch.tensor([2.0]), torch.tensor([-3.0])
    assert torch.relu(a) + torch.relu(b) != torch.relu(a + b)


@pytest.mark.parametrize(
    ("a", "w", "y"),
    [((B, S(0)), (S(1), B), (S(1), S(0))), ((S(0), B), (B, S(1)), (S(0), S(1))), ((S(0), S(1)), (B, S(0)), (S(0), P))],
)
def test_each_dimension_of_a_mesh_takes_its_own_row(a, w, y):
    assert ops.matmul().infer_nd(a, w) == y
    x, v = random(5, 7), random(7, 6)
    mesh = (2, 2)
    local = [p @ q for p, q in zip(to_local(x, a, mesh), to_local(v, w, mesh), strict=True)]
    assert torch.allclose(to_global(local, y, mesh), x @ v)


def test_a_column_of_another_device_counts_as_no_maximum():
    op = ops.reduce_max(1)
    parts = to_local(-torch.ones(3, 2), (S(1),), (4,))  # two devices have no column
    out = [op.local([part], [((0, 3), (0, part.shape[1]))]) for part in parts]
    assert torch.equal(to_global(out, (P_MAX,), (4,)), -torch.ones(3))

"""The systems: one operator in two forms, its null space, its obstacles, its right-hand sides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from methods.dcdm.poisson import AIR, FLUID, RIGHT_HAND_SIDES, SOLID, SYSTEMS, Poisson, inside, right_hand_side, system

EVERY = [(name, dim) for name in SYSTEMS for dim in (2, 3)]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("name", "dim"), EVERY)
def test_the_stencil_and_the_matrix_are_the_same_operator(name: str, dim: int) -> None:
    A = system(name, 12, dim)
    p = noise(2, *A.shape)
    for one, product in zip(p, A @ p, strict=True):
        assert np.allclose(A.vector(product), A.csr() @ A.vector(one), atol=1e-13)
        assert not product[~A.fluid].any()


@pytest.mark.parametrize(("name", "dim"), EVERY)
def test_a_is_symmetric_and_singular_only_where_no_air_is_near(name: str, dim: int) -> None:
    A = system(name, 8, dim)
    dense = A.csr().toarray()
    assert np.array_equal(dense, dense.T)
    smallest = np.linalg.eigvalsh(dense)[: len(A.sealed) + 1]
    assert np.all(np.abs(smallest[:-1]) < 1e-12)
    assert smallest[-1] > 1e-3
    assert len(A.sealed) == (name == "sealed")


def test_the_empty_box_has_twice_as_many_neighbours_as_dimensions() -> None:
    assert system("box", 6, 2).diagonal.unique().tolist() == [4]
    assert system("box", 6, 3).diagonal.unique().tolist() == [6]


def test_air_keeps_the_diagonal_and_solid_takes_its_face_away() -> None:
    """Three cells in a column of air, solid and fluid neighbours, counted by hand."""
    cells = torch.full((3, 3), FLUID)
    cells[0, 1], cells[1, 0] = AIR, SOLID
    A = Poisson(cells, outside=SOLID)
    assert A.diagonal[1, 1] == 3  # above air, left solid, right and below fluid
    assert A.diagonal[0, 0] == 1  # air to the right; walls and a solid otherwise
    assert A.diagonal[0, 1] == 0
    p = torch.zeros(3, 3, dtype=torch.float64)
    p[1, 1] = 1
    assert (A @ p).tolist() == [[0, 0, 0], [0, 3, -1], [0, -1, 0]]


def test_two_sealed_rooms_have_a_constant_each_in_the_null_space() -> None:
    cells = torch.full((7, 4), FLUID)
    cells[3] = SOLID
    A = Poisson(cells, outside=SOLID)
    assert len(A.sealed) == 2
    for room in A.sealed:
        assert not (A @ room.double()).any()
    v = A.project(noise(5, 7, 4))
    for room in A.sealed:
        assert (v * room).sum((1, 2)).abs().max() < 1e-14
    assert torch.allclose(A.project(v), v)
    assert torch.allclose(A @ v, A @ A.project(v))


def test_the_product_is_its_own_adjoint_under_autograd() -> None:
    A = system("sealed", 6)
    p = noise(2, 6, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: A @ x, p)
    assert torch.autograd.gradgradcheck(lambda x: A @ x.sin(), p)


@pytest.mark.parametrize(("name", "dim"), EVERY)
def test_right_hand_sides_are_in_the_range_of_a_and_of_norm_one(name: str, dim: int) -> None:
    A = system(name, 12, dim)
    generator = torch.Generator().manual_seed(0)
    for side in RIGHT_HAND_SIDES:
        b = right_hand_side(A, side, generator)
        assert abs(b.norm() - 1) < 1e-12
        assert not b[~A.fluid].any()
        assert all(abs(b[part].sum()) < 1e-12 for part in A.sealed)


def test_a_divergence_is_orthogonal_to_constants_before_it_is_projected() -> None:
    """What flows through walls is nothing: then the divergence sums to zero by itself."""
    A = system("sealed", 10)
    A.sealed = []  # so that nothing is projected
    velocity = [noise(11, 10), noise(10, 11)]
    assert abs(A.divergence(velocity).sum()) < 1e-12


def test_divergence_of_a_uniform_stream_is_zero_away_from_solids() -> None:
    A = system("bunny", 16)
    b = A.divergence([torch.zeros(17, 16), torch.ones(16, 17)])
    solid = inside("bunny", 16, 2)
    behind = torch.zeros_like(solid)
    behind[:, 1:] |= solid[:, :-1]
    behind[:, :-1] |= solid[:, 1:]
    assert not b[~behind].any()
    assert b[behind & ~solid].abs().min() == 1


def test_solving_for_the_pressure_makes_a_velocity_divergence_free() -> None:
    """The purpose of A: u - grad p, on the faces that let fluid through, has no divergence left."""
    A = system("bunny", 12)
    velocity = [noise(13, 12), noise(12, 13)]
    b = A.divergence(velocity)
    p = A.grid(np.linalg.solve(A.csr().toarray(), A.vector(b)))
    padded = torch.nn.functional.pad(p, (1, 1, 1, 1))
    corrected = [velocity[0] - padded[:, 1:-1].diff(dim=0), velocity[1] - padded[1:-1].diff(dim=1)]
    assert A.divergence(corrected).abs().max() < 1e-12


@pytest.mark.parametrize("dim", [2, 3])
def test_every_obstacle_is_a_true_part_of_the_box(dim: int) -> None:
    for name in ("disc", "ellipse", "boxes", "bunny"):
        share = inside(name, 32, dim).double().mean()
        assert 0.01 < share < 0.25, name
    assert not inside("", 32, dim).any()


def test_a_disc_is_of_radius_a_sixth() -> None:
    assert abs(inside("disc", 512, 2).double().mean() - np.pi / 36) < 1e-3


def test_what_is_no_system_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match="there are box, disc"):
        system("bunnies", 8)
    with pytest.raises(ValueError, match="2 or 3 dimensions"):
        Poisson(torch.zeros(8))
    with pytest.raises(ValueError, match="AIR"):
        Poisson(torch.zeros(8, 8), outside=FLUID)
    with pytest.raises(ValueError, match="there are blob"):
        right_hand_side(system("box", 8), "puff", torch.Generator())

"""The propositions of the paper, computed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from methods.neural_sheaf_diffusion import theory
from methods.neural_sheaf_diffusion.experiments import energy_violated, learn_scalar_sheaf, raised_energy
from methods.shared.orthogonal import householder
from methods.shared.sheaf import SheafIndex, SheafLaplacian


def plain(index: SheafIndex, maps: Tensor) -> SheafLaplacian:
    return SheafLaplacian(index, maps, orthogonal=maps.dim() == 3, augmented=False)


def test_signed_maps_send_the_two_parts_of_a_bipartite_graph_apart() -> None:
    index, part = theory.complete_bipartite(4)
    x = torch.randn(8, 1, 1, dtype=torch.float64)
    ones = torch.ones(index.num_edges, dtype=torch.float64)
    laplacian = plain(index, theory.signed(index, part == 0, ones))
    end = theory.limit(laplacian, x).flatten()
    assert theory.kernel(laplacian).shape[1] == 1
    torch.testing.assert_close(end[:4], end[:1].expand(4))
    torch.testing.assert_close(end[4:], -end[:1].expand(4))
    assert theory.threshold_accuracy(end, part) == 1


def test_equal_maps_send_all_nodes_to_the_same_value() -> None:
    index, part = theory.complete_bipartite(4)
    laplacian = plain(index, torch.ones(2 * index.num_edges, dtype=torch.float64))
    end = theory.limit(laplacian, torch.randn(8, 1, 1, dtype=torch.float64)).flatten()
    torch.testing.assert_close(end, end[:1].expand(8))
    assert theory.threshold_accuracy(end, part) == 0.5


@pytest.mark.parametrize("side", [3, 6])
def test_no_symmetric_positive_sheaf_separates_a_bipartite_graph(side: int) -> None:
    index, part = theory.complete_bipartite(side)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        alpha = 0.1 + torch.rand(index.num_edges, generator=generator, dtype=torch.float64)
        x = torch.randn(2 * side, 1, 3, generator=generator, dtype=torch.float64)
        end = theory.limit(plain(index, torch.cat([alpha, alpha])), x).flatten(1)
        assert not theory.separable(end, part == 0)


def test_the_flow_tends_to_the_limit() -> None:
    generator = torch.Generator().manual_seed(0)
    index = theory.connected_graph(10, 20, generator)
    maps = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    x = torch.randn(10, 2, 3, generator=generator, dtype=torch.float64)
    laplacian = SheafLaplacian(index, maps)
    torch.testing.assert_close(theory.flow(laplacian, x, 1e6), theory.limit(laplacian, x), atol=1e-5, rtol=0)
    torch.testing.assert_close(theory.flow(laplacian, x, 0.0), x)


@pytest.mark.parametrize("num_classes", [2, 3, 4])
@pytest.mark.parametrize("draw", range(3))
def test_richer_maps_separate_more_classes(num_classes: int, draw: int) -> None:
    generator = torch.Generator().manual_seed(10 * num_classes + draw)
    index = theory.connected_graph(24, 60, generator)
    assert index.num_edges == 60
    y = torch.arange(24) % num_classes
    strength = 0.5 + torch.rand(60, generator=generator, dtype=torch.float64)

    def separated(maps: Tensor, kernel: int) -> list[bool]:
        laplacian = plain(index, maps)
        assert theory.kernel(laplacian).shape[1] == kernel
        x = torch.randn(24, laplacian.dim, 8, generator=generator, dtype=torch.float64)
        end = theory.limit(laplacian, x).flatten(1)
        return [theory.separable(end, y == c) for c in range(num_classes)]

    one = separated(theory.signed(index, y == 0, strength), kernel=1)
    assert one == [True, num_classes == 2, False, False][:num_classes]
    assert all(separated(theory.diagonal(index, y, strength), kernel=num_classes))
    assert all(separated(theory.quarter_turns(index, y), kernel=2))


def test_a_hyperplane_is_found_exactly_when_there_is_one() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert theory.separable(x, torch.tensor([True, False, False, False]))
    assert not theory.separable(x, torch.tensor([True, True, False, False]))
    assert theory.separable(1e-9 * x, torch.tensor([True, False, False, False]))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_bundles_have_at_most_d_harmonic_dimensions_and_d_without_holonomy(dim: int) -> None:
    generator = torch.Generator().manual_seed(dim)
    index = theory.connected_graph(12, 25, generator)
    frames = householder(torch.randn(12, dim * (dim - 1) // 2, generator=generator, dtype=torch.float64), dim)
    assert theory.kernel(plain(index, frames[index.arcs[0]])).shape[1] == dim
    twisted = frames[index.arcs[0]].clone()
    twisted[0] = -twisted[0]
    assert theory.kernel(plain(index, twisted)).shape[1] == 0  # nothing is its own opposite


@pytest.mark.parametrize("phi", [0.1, 0.6, 1.5])
def test_little_holonomy_allows_little_energy(phi: float) -> None:
    index = SheafIndex(torch.tensor([[0, 1, 2], [1, 2, 0]]))
    maps = torch.eye(2, dtype=torch.float64).repeat(6, 1, 1)
    turn = [[math.cos(phi), -math.sin(phi)], [math.sin(phi), math.cos(phi)]]
    maps[0] = torch.tensor(turn, dtype=torch.float64)
    largest = torch.linalg.matrix_norm(maps[0] - torch.eye(2), 2)
    smallest = torch.linalg.eigvalsh(plain(index, maps).to_dense())[0]
    assert 0 < smallest <= largest.square() / 2


def test_positive_sheaves_keep_the_bound_on_the_energy() -> None:
    generator = torch.Generator().manual_seed(0)
    assert not any(energy_violated(generator) for _ in range(200))


def test_the_bound_can_be_broken_by_signs_and_tiny_weights() -> None:
    assert raised_energy(0.01) > 1
    laplacian = SheafLaplacian(SheafIndex(torch.tensor([[0], [1]])), torch.tensor([1.0, -1.0]).double())
    x, one = torch.tensor([1.0, -1.001]).double().reshape(2, 1, 1), torch.ones(1, 1).double()
    after = theory.energy(laplacian, theory.energy_step(laplacian, x, one, one))
    assert after > theory.energy_bound(laplacian, one, one) * theory.energy(laplacian, x)


def test_learnt_scalars_separate_a_bipartite_graph_by_negative_transports() -> None:
    torch.manual_seed(0)
    index, part = theory.complete_bipartite(10)
    x = torch.randn(20, 2) + torch.where(part == 0, 0.5, -0.5).unsqueeze(1)
    maps, logits = learn_scalar_sheaf(index, x, part, symmetric=False, steps=150, time=20.0)
    assert torch.equal(logits.argmax(1), part)
    assert (maps[: index.num_edges] * maps[index.num_edges :] < 0).double().mean() > 0.9
    maps, logits = learn_scalar_sheaf(index, x, part, symmetric=True, steps=50, time=20.0)
    assert (maps > 0).all()
    assert torch.equal(maps, index.reverse(maps))
    assert (logits.argmax(1) == part).double().mean() < 0.8

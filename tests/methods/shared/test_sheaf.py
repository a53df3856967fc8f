"""Sheaf Laplacians against their definition: delta^T delta, built edge by edge."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import SGConv

from methods.shared.graph import normalized_adjacency
from methods.shared.orthogonal import cayley, exponential, householder
from methods.shared.sheaf import MapLearner, SheafIndex, SheafLaplacian, inverse_sqrt
from tests.methods.unusual import assert_takes_or_refuses

KINDS = ("scalar", "diagonal", "orthogonal", "general")


def random_graph(seed: int, num_nodes: int = 12, num_arcs: int = 30) -> SheafIndex:
    """With double arcs, self loops and at least one node without edges."""
    arcs = torch.randint(num_nodes, (2, num_arcs), generator=torch.Generator().manual_seed(seed))
    return SheafIndex(torch.cat([arcs, arcs[:, :5].flip(0)], dim=1), num_nodes + 1)


def random_maps(kind: str, index: SheafIndex, dim: int = 3) -> Tensor:
    """float64, one per arc."""
    num = 2 * index.num_edges
    if kind == "orthogonal":
        return householder(torch.randn(num, dim * (dim - 1) // 2, dtype=torch.float64), dim)
    shape = {"scalar": (num,), "diagonal": (num, dim), "general": (num, dim, dim)}[kind]
    return torch.randn(shape, dtype=torch.float64)


def as_blocks(maps: Tensor) -> Tensor:
    """Any maps -> (2m, d, d)."""
    return maps if maps.dim() == 3 else torch.diag_embed(maps.reshape(maps.shape[0], -1))


def by_definition(
    index: SheafIndex, maps: Tensor, weights: Tensor | None = None, offset: float | None = None
) -> Tensor:
    """delta^T delta, and its normalisation with the diagonal blocks + offset."""
    maps = as_blocks(maps)
    dim, m = maps.shape[1], index.num_edges
    delta = torch.zeros(m * dim, index.num_nodes * dim, dtype=maps.dtype)
    for e, (v, u) in enumerate(index.edges.T.tolist()):
        row, weight = slice(e * dim, e * dim + dim), 1.0 if weights is None else float(weights[e])
        delta[row, v * dim : v * dim + dim] = weight * maps[e]
        delta[row, u * dim : u * dim + dim] = -weight * maps[e + m]
    laplacian = delta.T @ delta
    if offset is None:
        return laplacian
    root = torch.zeros_like(laplacian)
    for v in range(index.num_nodes):
        block = slice(v * dim, v * dim + dim)
        values, vectors = torch.linalg.eigh(laplacian[block, block] + offset * torch.eye(dim))
        root[block, block] = vectors @ torch.diag(values**-0.5) @ vectors.T
    return root @ laplacian @ root


def two_nodes() -> tuple[SheafIndex, Tensor]:
    """One edge, d = 2; node 0 has the map [[1, 2], [0, 1]] and node 1 the map [[0, 1], [1, 0]]."""
    maps = torch.tensor([[[1, 2], [0, 1]], [[0, 1], [1, 0]]], dtype=torch.float64)
    return SheafIndex(torch.tensor([[1], [0]])), maps


def test_an_index_holds_each_edge_once_in_both_directions() -> None:
    index = SheafIndex(torch.tensor([[2, 0, 1, 1, 2, 0], [0, 2, 1, 0, 0, 2]]), 5)
    assert index.edges.tolist() == [[0, 0], [1, 2]]
    assert index.arcs.tolist() == [[0, 0, 1, 2], [1, 2, 0, 0]]
    assert index.degree.tolist() == [2, 1, 1, 0, 0]
    assert torch.equal(index.reverse(index.arcs[0]), index.arcs[1])


def test_a_graph_without_edges_has_the_laplacian_zero() -> None:
    index = SheafIndex(torch.empty(2, 0, dtype=torch.int64), 4)
    assert torch.equal(SheafLaplacian(index, torch.empty(0, 2)) @ torch.ones(4, 2, 3), torch.zeros(4, 2, 3))


def test_errors_say_which_shape_or_node_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, arcs\), got \(3, 2\)"):
        SheafIndex(torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(IndexError, match=r"vertex 4, but ids go from 0 to 3"):
        SheafIndex(torch.tensor([[0], [4]]), 4)
    with pytest.raises(IndexError, match="vertex -1"):
        SheafIndex(torch.tensor([[0], [-1]]))
    with pytest.raises(ValueError, match="each of the 2 arcs"):
        SheafLaplacian(SheafIndex(torch.tensor([[0], [1]])), torch.ones(1))
    with pytest.raises(ValueError, match="each of the 2 arcs"):
        SheafLaplacian(SheafIndex(torch.tensor([[0], [1]])), torch.ones(2, 2, 3))
    with pytest.raises(ValueError, match=r"weights: needs shape \(1,\)"):
        SheafLaplacian(SheafIndex(torch.tensor([[0], [1]])), torch.ones(2), weights=torch.ones(2))
    with pytest.raises(ValueError, match=r"params: needs shape \(E, 3\) for d = 3, got \(5, 2\)"):
        householder(torch.ones(5, 2), 3)


@pytest.mark.parametrize("transform", [householder, cayley, exponential])
def test_unusual_inputs_are_taken_or_refused(transform: Callable[[Tensor, int], Tensor]) -> None:
    index = random_graph(3)

    def product(edge_index: Tensor, maps: Tensor, x: Tensor) -> Tensor:
        return SheafLaplacian(SheafIndex(edge_index, index.num_nodes), maps) @ x.to(maps.dtype)

    maps, x = torch.randn(2 * index.num_edges, 2, 2), torch.randn(index.num_nodes, 2, 3)
    assert_takes_or_refuses(product, edge_index=index.arcs, maps=maps, x=x)
    assert_takes_or_refuses(transform, params=torch.randn(6, 3), dim=3)
    assert_takes_or_refuses(MapLearner, channels=3, num_params=2)
    assert_takes_or_refuses(SheafIndex, edge_index=index.arcs, num_nodes=index.num_nodes)


def test_a_map_that_is_nan_stays_nan_at_its_node_and_goes_nowhere_else() -> None:
    blocks = torch.eye(2).repeat(3, 1, 1)
    blocks[1, 0, 0] = torch.nan
    assert inverse_sqrt(blocks, 1.0).isfinite().all(dim=(1, 2)).tolist() == [True, False, True]


def test_cayleys_map_is_the_released_one() -> None:
    """(I + A/2) (I - A/2)^-1 of a rotation's generator [[0, -a], [a, 0]] turns by 2 arctan(a / 2)."""
    turn = 2 * math.atan(0.3)
    wanted = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    torch.testing.assert_close(cayley(torch.tensor([[0.6]]), 2)[0], wanted)


def test_two_nodes_with_one_edge_have_the_matrices_of_the_brief() -> None:
    index, maps = two_nodes()
    plain = SheafLaplacian(index, maps, normalized=False).to_dense()
    assert plain.tolist() == [[1, 2, 0, -1], [2, 5, -1, -2], [0, -1, 1, 0], [-1, -2, 0, 1]]
    wanted = torch.tensor([0, 0, 1.171573, 6.828427], dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.eigvalsh(plain), wanted, atol=1e-6, rtol=0)
    bare = SheafLaplacian(index, maps, augmented=False).to_dense()
    wanted = torch.tensor([0, 0, 2, 2], dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.eigvalsh(bare), wanted, atol=1e-12, rtol=0)


def test_the_augmented_laplacian_of_two_nodes_is_that_of_the_brief() -> None:
    delta = SheafLaplacian(*two_nodes()).to_dense()
    a, b = 0.135299, 0.326641
    wanted = torch.tensor(
        [[0.25, 0.25, a, -b], [0.25, 0.75, -b, -0.517982], [a, -b, 0.5, 0], [-b, -0.517982, 0, 0.5]],
        dtype=torch.float64,
    )  # fmt: skip
    torch.testing.assert_close(delta, wanted, atol=1e-6, rtol=0)
    wanted = torch.tensor([0, 0, 0.646447, 1.353553], dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.eigvalsh(delta), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_blocks_are_the_dense_definition(kind: str, weighted: bool) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        index = random_graph(seed)
        maps = random_maps(kind, index)
        weights = torch.rand(index.num_edges, dtype=torch.float64) if weighted else None
        options = {"orthogonal": kind == "orthogonal", "weights": weights}
        plain = SheafLaplacian(index, maps, normalized=False, **options).to_dense()
        torch.testing.assert_close(plain, by_definition(index, maps, weights), atol=1e-10, rtol=0)
        delta = SheafLaplacian(index, maps, **options).to_dense()
        torch.testing.assert_close(delta, by_definition(index, maps, weights, 1.0), atol=1e-10, rtol=0)
        torch.testing.assert_close(delta, delta.T, atol=1e-12, rtol=0)
        spectrum = torch.linalg.eigvalsh(delta)
        assert spectrum[0] > -1e-10
        assert spectrum[-1] < 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_unaugmented_spectrum_reaches_at_most_two(kind: str) -> None:
    ring = SheafIndex(torch.stack([torch.arange(9), torch.arange(9).roll(1)]))
    maps = random_maps(kind, ring)
    delta = SheafLaplacian(ring, maps, orthogonal=kind == "orthogonal", augmented=False).to_dense()
    torch.testing.assert_close(delta, by_definition(ring, maps, None, 0.0), atol=1e-9, rtol=0)
    assert torch.linalg.eigvalsh(delta)[-1] <= 2 + 1e-9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalized", [False, True])
def test_gradients_of_features_maps_and_weights_are_exact(kind: str, normalized: bool) -> None:
    torch.manual_seed(0)
    index = random_graph(3)
    maps = random_maps(kind, index).requires_grad_()
    weights = torch.rand(index.num_edges, dtype=torch.float64, requires_grad=True)
    width = 1 if kind == "scalar" else 3
    x = torch.randn(index.num_nodes, width, 4, dtype=torch.float64, requires_grad=True)

    def apply(maps: Tensor, weights: Tensor, x: Tensor) -> Tensor:
        laplacian = SheafLaplacian(index, maps, orthogonal=kind == "orthogonal", weights=weights, normalized=normalized)
        return laplacian @ x

    assert torch.autograd.gradcheck(apply, (maps, weights, x))


def test_the_inverse_root_has_a_gradient_where_eigenvalues_coincide() -> None:
    blocks = torch.stack([torch.zeros(3, 3), torch.eye(3), torch.diag(torch.tensor([1.0, 1.0, 4.0]))]).double()
    blocks.requires_grad_()
    assert torch.autograd.gradcheck(lambda a: inverse_sqrt((a + a.mT) / 2, 1.0), (blocks,))
    decomposed = torch.linalg.eigh(blocks.detach().requires_grad_())
    gradient = torch.autograd.grad(decomposed.eigenvectors.sum(), decomposed.eigenvalues, allow_unused=True)
    assert gradient[0] is None or not gradient[0].isfinite().all()


def test_a_second_derivative_is_refused_where_it_would_be_zero() -> None:
    """What comes back of a plain sum is a constant, of which torch's own check says nothing."""
    index = random_graph(3)
    params, x = torch.randn(4, 3, requires_grad=True), torch.randn(index.num_nodes, 3, 2, dtype=torch.float64)
    blocks = torch.eye(3).expand(2, 3, 3).clone().requires_grad_()
    maps = random_maps("diagonal", index).requires_grad_()
    for out, given in (
        (householder(params, 3), params), (inverse_sqrt(blocks, 1.0), blocks),
        (SheafLaplacian(index, maps, normalized=False) @ x, maps),
    ):  # fmt: skip
        torch.autograd.grad(out.sum(), given, retain_graph=True)
        with pytest.raises(RuntimeError, match="has a first derivative only"):
            torch.autograd.grad(out.sum(), given, create_graph=True)
    for transform in (cayley, exponential):
        assert torch.autograd.gradgradcheck(lambda p, t=transform: t(p, 3), params.detach().double().requires_grad_())


def test_unit_scalar_maps_are_the_matrix_of_gcn_and_one_step_is_sgconv() -> None:
    index = random_graph(1)
    ones = torch.ones(2 * index.num_edges, dtype=torch.float64)
    delta = SheafLaplacian(index, ones).to_dense()
    propagation = normalized_adjacency(index.arcs, index.num_nodes, torch.float64).to_dense()
    torch.testing.assert_close(delta, torch.eye(index.num_nodes) - propagation, atol=1e-14, rtol=0)

    x = torch.randn(index.num_nodes, 7, dtype=torch.float64)
    layer = SGConv(7, 4, K=1).double()
    ours = layer.lin(x - SheafLaplacian(index, ones) @ x)
    torch.testing.assert_close(ours, layer(x, index.arcs), atol=1e-12, rtol=0)


def test_unaugmented_unit_maps_are_the_normalised_graph_laplacian() -> None:
    ring = SheafIndex(torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]]))
    adjacency = torch.zeros(4, 4)
    adjacency[ring.arcs[0], ring.arcs[1]] = 1
    root = adjacency.sum(1).rsqrt()
    wanted = torch.eye(4) - root[:, None] * adjacency * root
    delta = SheafLaplacian(ring, torch.ones(10), augmented=False).to_dense()
    torch.testing.assert_close(delta, wanted, atol=1e-6, rtol=0)


def test_diagonal_maps_are_independent_scalar_sheaves() -> None:
    index = random_graph(2)
    maps = random_maps("diagonal", index)
    x = torch.randn(index.num_nodes, 3, 5, dtype=torch.float64)
    together = SheafLaplacian(index, maps) @ x
    for k in range(3):
        alone = SheafLaplacian(index, maps[:, k].contiguous()) @ x[:, k]
        torch.testing.assert_close(together[:, k], alone, atol=1e-12, rtol=0)
    general = SheafLaplacian(index, torch.diag_embed(maps)) @ x
    torch.testing.assert_close(together, general, atol=1e-12, rtol=0)


def test_the_quadratic_form_sums_disagreements_over_edges() -> None:
    index = random_graph(4)
    maps = random_maps("general", index)
    x = torch.randn(index.num_nodes, 3, 1, dtype=torch.float64)
    own, other = maps.split(index.num_edges)
    disagreement = (own @ x[index.edges[0]] - other @ x[index.edges[1]]).square().sum()
    form = (x * (SheafLaplacian(index, maps, normalized=False) @ x)).sum()
    torch.testing.assert_close(form, disagreement)


def test_a_change_of_gauge_changes_no_energy() -> None:
    torch.manual_seed(0)
    index = random_graph(5)
    maps = random_maps("general", index)
    x = torch.randn(index.num_nodes, 3, 2, dtype=torch.float64)
    gauge = householder(torch.randn(index.num_nodes, 3, dtype=torch.float64), 3)
    before = (x * (SheafLaplacian(index, maps, normalized=False) @ x)).sum()
    turned = SheafLaplacian(index, maps @ gauge[index.arcs[0]], normalized=False)
    turned_x = gauge.mT @ x
    torch.testing.assert_close((turned_x * (turned @ turned_x)).sum(), before)


def test_flipping_all_signs_at_a_node_keeps_the_spectrum() -> None:
    index = random_graph(6)
    maps = random_maps("scalar", index)
    sign = torch.ones(index.num_nodes, dtype=torch.float64)
    sign[3] = -1
    before = SheafLaplacian(index, maps).to_dense()
    after = SheafLaplacian(index, maps * sign[index.arcs[0]]).to_dense()
    torch.testing.assert_close(after, sign[:, None] * before * sign, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("phi", "smallest"), [(0.0, 0.0), (0.6, 0.0199334), (1.5, 0.1224174), (math.pi, 0.5)])
def test_holonomy_of_a_triangle_sets_the_smallest_eigenvalue(phi: float, smallest: float) -> None:
    index = SheafIndex(torch.tensor([[0, 1, 2], [1, 2, 0]]))
    maps = torch.eye(2, dtype=torch.float64).repeat(6, 1, 1)
    rotation = [[math.cos(phi), -math.sin(phi)], [math.sin(phi), math.cos(phi)]]
    maps[0] = torch.tensor(rotation, dtype=torch.float64)
    spectrum = torch.linalg.eigvalsh(SheafLaplacian(index, maps, orthogonal=True, augmented=False).to_dense())
    known = torch.full((2,), smallest, dtype=torch.float64)
    torch.testing.assert_close(spectrum[:2], known, atol=1e-7, rtol=0)
    angles = [(turn * phi + 2 * math.pi * k) / 3 for k in range(3) for turn in (1, -1)]
    wanted = torch.tensor(sorted(1 - math.cos(angle) for angle in angles), dtype=torch.float64)
    torch.testing.assert_close(spectrum, wanted, atol=1e-12, rtol=0)


def test_a_path_has_a_kernel_and_a_cycle_of_negative_holonomy_has_none() -> None:
    path = SheafIndex(torch.tensor([[0, 1, 2], [1, 2, 3]]))
    signs = torch.tensor([1, -1, 1, 1, -1, 1], dtype=torch.float64)
    spectrum = torch.linalg.eigvalsh(SheafLaplacian(path, signs, normalized=False).to_dense())
    assert int((spectrum < 1e-10).sum()) == 1
    cycle = SheafIndex(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]))
    for sign, kernel in ((1.0, 1), (-1.0, 0)):
        maps = torch.ones(8, dtype=torch.float64)
        maps[0] = sign
        spectrum = torch.linalg.eigvalsh(SheafLaplacian(cycle, maps, normalized=False).to_dense())
        assert int((spectrum < 1e-10).sum()) == kernel


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("transform", [householder, cayley, exponential])
def test_learned_maps_are_orthogonal(transform: Callable[[Tensor, int], Tensor], dim: int) -> None:
    params = torch.randn(50, dim * (dim - 1) // 2, dtype=torch.float64, requires_grad=True)
    q = transform(params, dim)
    torch.testing.assert_close(q.mT @ q, torch.eye(dim).double().expand(50, -1, -1), atol=1e-10, rtol=0)
    sign = (-1.0) ** dim if transform is householder else 1.0
    torch.testing.assert_close(torch.linalg.det(q), torch.full((50,), sign).double(), atol=1e-10, rtol=0)
    at_zero = transform(torch.zeros(1, dim * (dim - 1) // 2), dim)[0]
    assert torch.equal(at_zero, -torch.eye(dim) if transform is householder else torch.eye(dim))
    assert torch.autograd.gradcheck(lambda p: transform(p, dim), (params,), fast_mode=True)


def test_householder_is_torchs_product_of_reflections() -> None:
    known = torch.tensor([[-0.5504, 0.4765, -0.6856], [-0.7752, -0.5966, 0.2077], [0.3101, -0.6458, -0.6977]])
    torch.testing.assert_close(householder(torch.tensor([[0.5, -0.2, 0.3]]), 3)[0], known, atol=1e-4, rtol=0)
    params = torch.randn(9, 6, dtype=torch.float64)
    lower = torch.eye(4, dtype=torch.float64).repeat(9, 1, 1)
    row, column = torch.tril_indices(4, 4, -1)
    lower[:, row, column] = params
    wanted = torch.linalg.householder_product(lower, 2 / lower.square().sum(1))
    torch.testing.assert_close(householder(params, 4), wanted, atol=1e-12, rtol=0)


def test_a_map_learner_is_a_linear_layer_on_both_ends() -> None:
    torch.manual_seed(0)
    index, learner = random_graph(7), MapLearner(6, 2).double()
    x = torch.randn(index.num_nodes, 6, dtype=torch.float64, requires_grad=True)
    own, other = learner.weight.split(2)
    both = torch.cat([x[index.arcs[0]], x[index.arcs[1]]], dim=1)
    wanted = torch.tanh(both @ torch.cat([own, other], dim=1).T)
    torch.testing.assert_close(learner(x, index), wanted, atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(lambda x, w: torch.func.functional_call(learner, {"weight": w}, (x, index)),
                                    (x, learner.weight))  # fmt: skip

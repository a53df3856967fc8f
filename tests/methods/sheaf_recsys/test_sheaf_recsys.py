"""The sheaf layer and network against the equations, written out densely and by loops, and against its limits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import SGConv
from torch_geometric.nn.models import LightGCN

from methods.shared.sheaf import SheafIndex, SheafLaplacian
from methods.sheaf_recsys import SheafConv, SheafRecommender

USERS, ITEMS, WIDTH = 7, 9, 6
NODES = USERS + ITEMS
Reference = Callable[[SheafConv, Tensor, Tensor], Tensor]


def bipartite(seed: int = 0) -> Tensor:
    """About half of all pairs, each once, as arcs from users to items."""
    met = torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(seed)) < 0.5
    user, item = met.nonzero().T
    return torch.stack([user, item + USERS])


def layer(stalk_dim: int = 1, maps: str = "general", scale: float = 3.0) -> SheafConv:
    """A layer whose maps are far from zero."""
    torch.manual_seed(0)
    conv = SheafConv(WIDTH, stalk_dim, maps).double()
    with torch.no_grad():
        conv.learner.weight *= scale
    return conv


def features(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(NODES, WIDTH, generator=generator, dtype=torch.float64)


def naive(conv: SheafConv, x: Tensor, edge_index: Tensor) -> Tensor:
    """X - Delta (X W + b) of the scalar layer, by loops over nodes and neighbours as the released code defines it."""
    w_own, w_other = conv.learner.weight
    edges = {(int(v), int(u)) for v, u in edge_index.T} | {(int(u), int(v)) for v, u in edge_index.T}
    maps = {(v, u): torch.tanh(w_own @ x[v] + w_other @ x[u]) for v, u in edges}
    total = [sum((m**2 for (v, _), m in maps.items() if v == node), x.new_zeros(())) for node in range(len(x))]
    y, rows = conv.linear(x), []
    for v in range(len(x)):
        row = total[v] / (total[v] + 1) * y[v]
        for u in range(len(x)):
            if (v, u) in maps:
                row = row - maps[v, u] * maps[u, v] / ((total[v] + 1) * (total[u] + 1)).sqrt() * y[u]
        rows.append(x[v] - row)
    return torch.stack(rows)


def dense(conv: SheafConv, x: Tensor, edge_index: Tensor) -> Tensor:
    """The same by dense user x item matrices, without any list of arcs."""
    met = x.new_zeros(USERS, ITEMS)
    met[edge_index[0], edge_index[1] - USERS] = 1
    own, other = (x @ conv.learner.weight.T).unbind(1)
    of_users = met * torch.tanh(own[:USERS, None] + other[None, USERS:])
    of_items = met * torch.tanh(other[:USERS, None] + own[None, USERS:])
    user, item = of_users.square().sum(1), of_items.square().sum(0)
    between = -(user + 1).rsqrt()[:, None] * of_users * of_items * (item + 1).rsqrt()[None, :]
    y = conv.linear(x)
    y_user = (user / (user + 1))[:, None] * y[:USERS] + between @ y[USERS:]
    y_item = between.T @ y[:USERS] + (item / (item + 1))[:, None] * y[USERS:]
    return x - torch.cat([y_user, y_item])


@pytest.mark.parametrize("reference", [naive, dense])
def test_a_layer_and_its_gradients_are_those_of_the_written_out_equations(reference: Reference) -> None:
    edge_index, found = bipartite(), []
    for step in (
        lambda conv, x: conv(x, SheafIndex(edge_index, NODES)),
        lambda conv, x: reference(conv, x, edge_index),
    ):
        conv, x = layer(), features().requires_grad_()
        out = step(conv, x)
        (out * torch.linspace(-1, 1, WIDTH, dtype=torch.float64)).square().sum().backward()
        found.append([out.detach(), x.grad, *(p.grad for p in conv.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_unit_maps_make_a_layer_one_step_of_sgconv() -> None:
    edge_index, conv, x = bipartite(), layer(), features().abs() + 1
    with torch.no_grad():
        conv.learner.weight.fill_(1e3)  # tanh is 1 to the last bit
        conv.linear.weight.copy_(torch.eye(WIDTH))
        conv.linear.bias.zero_()
    sgc = SGConv(WIDTH, WIDTH, bias=False).double()
    sgc.lin.weight.data = torch.eye(WIDTH, dtype=torch.float64)
    both = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    torch.testing.assert_close(conv(x, SheafIndex(edge_index, NODES)), sgc(x, both), rtol=0, atol=1e-6)


@pytest.mark.parametrize("stalk_dim", [1, 2, 3])
def test_zero_maps_make_a_layer_the_identity(stalk_dim: int) -> None:
    x, index = features(), SheafIndex(bipartite(), NODES)
    assert torch.equal(layer(stalk_dim, scale=0)(x, index), x)
    assert not torch.allclose(layer(stalk_dim)(x, index), x)


@pytest.mark.parametrize(("stalk_dim", "maps"), [(1, "general"), (3, "diagonal"), (2, "general")])
def test_learned_laplacians_are_symmetric_and_have_a_spectrum_from_0_to_below_2(stalk_dim: int, maps: str) -> None:
    delta = layer(stalk_dim, maps).laplacian(features(), SheafIndex(bipartite(), NODES)).to_dense().detach()
    torch.testing.assert_close(delta, delta.T)
    spectrum = torch.linalg.eigvalsh(delta)
    assert spectrum.min() > -1e-12
    assert 0.1 < spectrum.max() < 2


def test_the_quadratic_form_is_the_disagreement_over_the_edges() -> None:
    conv, x, index = layer(), features(), SheafIndex(bipartite(), NODES)
    maps = conv.learner(x, index).squeeze(1).detach()
    own, other = maps.split(index.num_edges)
    v, u = index.edges
    signal = x[:, 0]
    apart = (own * signal[v] - other * signal[u]).square().sum()
    torch.testing.assert_close(signal @ (SheafLaplacian(index, maps, normalized=False) @ x)[:, 0], apart)


def test_flipping_the_signs_of_all_maps_at_a_node_flips_its_row_and_column() -> None:
    conv, x, index = layer(), features(), SheafIndex(bipartite(), NODES)
    maps = conv.learner(x, index).squeeze(1).detach()
    sign = torch.ones(NODES, dtype=torch.float64)
    sign[3] = -1
    before, after = (SheafLaplacian(index, m).to_dense() for m in (maps, maps * sign[index.arcs[0]]))
    torch.testing.assert_close(after, sign[:, None] * before * sign)
    torch.testing.assert_close(torch.linalg.eigvalsh(after), torch.linalg.eigvalsh(before))


@pytest.mark.parametrize(("holonomy", "kernel"), [(1.0, 1), (-1.0, 0), (0.5, 0)])
def test_a_cycle_has_a_kernel_only_if_maps_around_it_multiply_to_one(holonomy: float, kernel: int) -> None:
    index = SheafIndex(torch.tensor([[0, 1, 2], [1, 2, 0]]))
    maps = torch.ones(6, dtype=torch.float64)
    maps[0] = holonomy
    spectrum = torch.linalg.eigvalsh(SheafLaplacian(index, maps).to_dense())
    assert int((spectrum < 1e-10).sum()) == kernel


def test_a_path_has_a_one_dimensional_kernel_whatever_the_signs() -> None:
    index = SheafIndex(torch.tensor([[0, 1], [1, 2]]))
    maps = torch.tensor([1, -1, 1, 1], dtype=torch.float64)
    assert int((torch.linalg.eigvalsh(SheafLaplacian(index, maps).to_dense()) < 1e-10).sum()) == 1


def test_general_maps_of_dimension_one_are_the_scalar_layer() -> None:
    conv, x, index = layer(), features(), SheafIndex(bipartite(), NODES)
    matrices = conv.learner(x, index).reshape(-1, 1, 1)
    general = x - (SheafLaplacian(index, matrices) @ conv.linear(x).unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(conv(x, index), general, rtol=0, atol=1e-10)


def test_diagonal_maps_are_independent_scalar_sheaves() -> None:
    conv, x, index = layer(2, "diagonal"), features(), SheafIndex(bipartite(), NODES)
    out, y = conv(x, index).unflatten(1, (2, -1)), conv.linear(x.unflatten(1, (2, -1)))
    for row, maps in enumerate(conv.learner(x, index).unbind(1)):
        alone = x.unflatten(1, (2, -1))[:, row] - SheafLaplacian(index, maps) @ y[:, row]
        torch.testing.assert_close(out[:, row], alone, rtol=0, atol=1e-10)


def test_general_stalks_follow_the_dense_definition() -> None:
    conv, x, index = layer(2), features(), SheafIndex(bipartite(), NODES)
    with torch.no_grad():
        conv.mix.copy_(torch.tensor([[1.0, 0.5], [-0.3, 2.0]]))
    stalks = x.unflatten(1, (2, -1))
    mapped = torch.einsum("ij,njf->nif", conv.mix, stalks @ conv.linear.weight.T + conv.linear.bias)
    delta = conv.laplacian(x, index).to_dense()
    expected = stalks - (delta @ mapped.reshape(2 * NODES, -1)).reshape(stalks.shape)
    torch.testing.assert_close(conv(x, index), expected.flatten(1), rtol=0, atol=1e-10)


def test_the_embedding_joins_all_layers() -> None:
    torch.manual_seed(0)
    model, edge_index = SheafRecommender(NODES, 4, 3), bipartite()
    layers = model.layers(edge_index)
    assert torch.equal(layers[0], model.embedding.weight)
    for before, after, conv in zip(layers, layers[1:], model.convs, strict=False):
        assert torch.equal(after, conv(before, SheafIndex(edge_index, NODES)))
    assert torch.equal(model.get_embedding(edge_index), torch.cat(layers, dim=1))


def test_it_is_used_as_lightgcn_is_with_a_torch_geometric_graph() -> None:
    torch.manual_seed(0)
    data = Data(edge_index=bipartite(), num_nodes=NODES)
    pairs, users, items = data.edge_index[:, :5], torch.arange(USERS), torch.arange(USERS, NODES)
    for kind in (LightGCN, SheafRecommender):
        model = kind(num_nodes=data.num_nodes, embedding_dim=4, num_layers=2)
        assert model(data.edge_index).shape == (data.num_edges,)
        output = model.get_embedding(data.edge_index)
        torch.testing.assert_close(model(data.edge_index, pairs), (output[pairs[0]] * output[pairs[1]]).sum(1))
        best = model.recommend(data.edge_index, src_index=users, dst_index=items, k=3)
        assert torch.equal(best, items[(output[users] @ output[items].T).topk(3).indices])


def test_a_prepared_index_and_either_direction_of_the_arcs_give_the_same_embedding() -> None:
    torch.manual_seed(0)
    model, edge_index = SheafRecommender(NODES, 4, 2), bipartite()
    expected = model.get_embedding(edge_index)
    for graph in (edge_index.flip(0), torch.cat([edge_index, edge_index.flip(0)], 1), SheafIndex(edge_index, NODES)):
        assert torch.equal(model.get_embedding(graph), expected)


def test_models_of_all_stalk_dimensions_have_almost_equally_many_parameters() -> None:
    count = [sum(p.numel() for p in SheafRecommender(2490, 64, 1, d).parameters()) for d in (1, 2, 4)]
    assert max(count) < 1.03 * min(count)


def test_a_stalk_dimension_that_does_not_divide_the_width_is_refused() -> None:
    with pytest.raises(ValueError, match="stalk_dim 4 does not divide the 6 channels"):
        SheafConv(6, 4)

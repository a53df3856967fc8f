"""The family's members are the models that they are named after."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import APPNP, MLP, GCNConv, SGConv
from torch_geometric.utils import to_undirected

from methods.shared.gcn import GCN
from methods.shared.graph import propagation
from methods.shared.sparse import SparseMatrix

N, F, H, C = 20, 6, 8, 3


def graph() -> tuple[Tensor, Tensor]:
    """Features and arcs of an undirected graph, in float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, F, generator=generator, dtype=torch.float64)
    return x, to_undirected(torch.randint(N, (2, 40), generator=generator))


def model(hops: list[int], **options: object) -> GCN:
    torch.manual_seed(0)
    network = GCN(F, H, C, hops, **options).double().eval()
    for linear in network.linears:
        nn.init.normal_(linear.bias)
    return network


def same_weights(layers: list[nn.Module], network: GCN) -> None:
    for layer, linear in zip(layers, network.linears, strict=True):
        lin = getattr(layer, "lin", layer)
        lin.weight.data = linear.weight.data
        (layer if lin.bias is None else lin).bias.data = linear.bias.data


def test_one_hop_a_layer_is_torch_geometrics_gcn() -> None:
    (x, edges), network = graph(), model([1, 1])
    convs = [GCNConv(F, H).double(), GCNConv(H, C).double()]
    same_weights(convs, network)
    wanted = convs[1](convs[0](x, edges).relu(), edges)
    torch.testing.assert_close(network(x, edges), wanted, rtol=0, atol=1e-12)


def test_no_hops_are_torch_geometrics_mlp() -> None:
    (x, edges), network = graph(), model([0, 0, 0])
    mlp = MLP([F, H, H, C], norm=None).double().eval()
    same_weights(list(mlp.lins), network)
    torch.testing.assert_close(network(x, edges), mlp(x), rtol=0, atol=1e-12)


def test_one_layer_is_torch_geometrics_sgc() -> None:
    (x, edges), network = graph(), model([3])
    conv = SGConv(F, C, K=3).double()
    same_weights([conv], network)
    torch.testing.assert_close(network(x, edges), conv(x, edges), rtol=0, atol=1e-12)


def test_restarts_are_torch_geometrics_appnp() -> None:
    (x, edges), network = graph(), model([0, 5], alpha=0.1)
    first, last = network.linears
    wanted = APPNP(K=5, alpha=0.1)(last(first(x).relu()), edges)
    torch.testing.assert_close(network(x, edges), wanted, rtol=0, atol=1e-12)


def test_two_layers_with_one_hop_in_all_forms_of_input_are_the_same() -> None:
    (x, edges), network = graph(), model([1, 1])
    wanted = network(x, edges)
    prepared = propagation(edges, N, torch.float64)
    torch.testing.assert_close(network(SparseMatrix.from_dense(x), prepared), wanted, rtol=0, atol=1e-12)


def test_inner_layers_with_zero_weights_are_skipped_by_a_residual() -> None:
    (x, edges), deep, shallow = graph(), model([1, 1, 1, 1], residual="res"), model([1, 1])
    for linear in deep.linears[1:-1]:
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    same_weights([deep.linears[0], deep.linears[-1]], shallow)
    torch.testing.assert_close(deep(x, edges), shallow(x, edges), rtol=0, atol=0)


def test_dense_connections_add_all_earlier_outputs() -> None:
    (x, edges), network = graph(), model([0, 0, 0, 0], residual="dense")
    first, second, third, last = network.linears
    h1 = first(x).relu()
    h2 = second(h1).relu() + h1
    h3 = third(h2).relu() + h1 + h2
    torch.testing.assert_close(network(x, edges), last(h3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("hops", [[], [1, -1]])
def test_hops_that_make_no_model_are_refused(hops: list[int]) -> None:
    with pytest.raises(ValueError, match="GCN: hops"):
        GCN(F, H, C, hops)

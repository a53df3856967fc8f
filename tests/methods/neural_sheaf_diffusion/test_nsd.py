"""The network against its formula, written with dense matrices, and against what the paper says of its parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.data import Data
from torch_geometric.nn import SGConv

from methods.neural_sheaf_diffusion import NSD
from methods.neural_sheaf_diffusion.baselines import GCN2
from methods.neural_sheaf_diffusion.contenders import CONTENDERS
from methods.neural_sheaf_diffusion.nsd import ORTHOGONAL, SheafLayer
from methods.neural_sheaf_diffusion.peer import PeerNSD
from methods.shared.sheaf import SheafIndex
from methods.shared.sparse import SparseMatrix
from tests.methods.unusual import assert_takes_or_refuses

LEARNT = ("diagonal", "orthogonal", "general")
MAPS = (*LEARNT, "identity")


def small_graph(num_nodes: int = 14, num_features: int = 9) -> Data:
    generator = torch.Generator().manual_seed(0)
    arcs = torch.randint(num_nodes - 1, (2, 30), generator=generator)  # the last node has no edge
    x = torch.randn(num_nodes, num_features, generator=generator)
    return Data(x=x, edge_index=torch.cat([arcs, arcs.flip(0)], dim=1), y=torch.arange(num_nodes) % 3)


def network(data: Data, **options: Any) -> NSD:
    torch.manual_seed(1)
    return NSD(data.num_features, 4, 3, **{"stalk_dim": 2, "dropout": 0.0, **options})


def dense_laplacian(layer: SheafLayer, x: Tensor, index: SheafIndex) -> Tensor:
    """(N D, N D), block by block from the definition, with the augmented normalisation."""
    maps, dim, rows = layer.restriction_maps(x, index), layer.stalk_dim, x.shape[1]
    if maps.dim() == 2:
        maps = torch.diag_embed(maps)
    weights, m = layer.weights(x, index), index.num_edges
    full = torch.zeros(2 * m, rows, rows, dtype=x.dtype)
    full[:, :dim, :dim] = maps if weights is None else maps * torch.cat([weights, weights]).reshape(-1, 1, 1)
    for k, sign in enumerate(layer.fixed):
        full[:m, dim + k, dim + k], full[m:, dim + k, dim + k] = 1.0, sign
    size = x.shape[0] * rows
    laplacian, root = torch.zeros(size, size, dtype=x.dtype), torch.zeros(size, size, dtype=x.dtype)
    for e, (v, u) in enumerate(index.edges.T.tolist()):
        at, to = slice(v * rows, v * rows + rows), slice(u * rows, u * rows + rows)
        laplacian[at, at] += full[e].T @ full[e]
        laplacian[to, to] += full[e + m].T @ full[e + m]
        laplacian[at, to] -= full[e].T @ full[e + m]
        laplacian[to, at] -= full[e + m].T @ full[e]
    for v in range(x.shape[0]):
        at = slice(v * rows, v * rows + rows)
        values, vectors = torch.linalg.eigh(laplacian[at, at] + torch.eye(rows))
        root[at, at] = vectors @ torch.diag(values**-0.5) @ vectors.T
    return root @ laplacian @ root


EXTRAS = [{}, {"add_lp": True}, {"add_lp": True, "add_hp": True}, {"sparse_learner": True}]


@pytest.mark.parametrize("maps", MAPS)
@pytest.mark.parametrize("extras", EXTRAS, ids=lambda e: "-".join(e) or "plain")
def test_a_layer_is_the_formula_of_the_paper(maps: str, extras: dict[str, bool]) -> None:
    data = small_graph()
    if maps == "orthogonal":
        extras = {**extras, "edge_weights": True}
    layer = network(data, num_layers=1, maps=maps, **extras).double().layers[0]
    index, rows = SheafIndex(data.edge_index, data.num_nodes), layer.left.shape[0]
    with torch.no_grad():
        layer.left.copy_(torch.randn(rows, rows))
        layer.epsilon.copy_(torch.randn(rows, 1))
        x = torch.randn(data.num_nodes, rows, 4, dtype=torch.float64)
        delta = dense_laplacian(layer, x, index)
        spectrum = torch.linalg.eigvalsh(delta)
        assert spectrum[0] > -1e-10
        assert spectrum[-1] < 2
        w1 = torch.kron(torch.eye(data.num_nodes), layer.left)
        diffused = delta @ w1 @ x.flatten(0, 1) @ layer.right.T
        wanted = (1 + torch.tanh(layer.epsilon)) * x - F.elu(diffused).reshape(x.shape)
        torch.testing.assert_close(layer(x, index), wanted, atol=1e-10, rtol=0)


def both_ends(x: Tensor, index: SheafIndex, weight: Tensor) -> Tensor:
    """V [x_v || x_u] of every arc, from the learner's weight [V_1; V_2]."""
    own, other = weight.chunk(2)
    features = torch.cat([x[index.arcs[0]], x[index.arcs[1]]], dim=1)
    return features @ torch.cat([own, other], dim=1).T


@pytest.mark.parametrize("rows", [2, 3])
def test_the_sparse_learner_sums_pairs_of_the_rows_of_both_ends(rows: int) -> None:
    data = small_graph()
    index = SheafIndex(data.edge_index, data.num_nodes)
    layer = network(data, num_layers=1, stalk_dim=rows, maps="diagonal", sparse_learner=True).layers[0]
    x = torch.randn(data.num_nodes, rows, 4)
    pairs = torch.cat([x[index.arcs[0]], x[index.arcs[1]]], dim=1).unflatten(1, (rows, 2)).sum(dim=1)  # (2m, 2, f)
    wanted = torch.tanh(pairs.flatten(1) @ torch.cat(layer.sheaf.weight.chunk(2), dim=1).T)
    maps = layer.restriction_maps(x, index)
    torch.testing.assert_close(maps, wanted, atol=1e-5, rtol=0)
    assert torch.equal(maps, index.reverse(maps)) == (rows % 2 == 0)


def test_maps_are_functions_of_the_features_at_both_ends() -> None:
    data = small_graph()
    index = SheafIndex(data.edge_index, data.num_nodes)
    x = torch.randn(data.num_nodes, 2, 4)
    for maps in LEARNT:
        layer = network(data, num_layers=1, maps=maps).layers[0]
        params = torch.tanh(both_ends(x.flatten(1), index, layer.sheaf.weight))
        if maps == "orthogonal":  # H_1 of (1, a), times H_2 = diag(1, -1), is a rotation
            a = params[:, 0]
            cosine, sine = (a.square() - 1) / (1 + a.square()), -2 * a / (1 + a.square())
            params = torch.stack([cosine, -sine, sine, cosine], dim=1)
        wanted = params if maps == "diagonal" else params.reshape(-1, 2, 2)
        torch.testing.assert_close(layer.restriction_maps(x, index), wanted, atol=1e-5, rtol=0)


def test_weights_of_edges_are_equal_from_both_ends() -> None:
    data = small_graph()
    index = SheafIndex(data.edge_index, data.num_nodes)
    layer = network(data, num_layers=1, maps="orthogonal", edge_weights=True).layers[0]
    x = torch.randn(data.num_nodes, 2, 4)
    gates = torch.sigmoid(both_ends(x.flatten(1), index, layer.weigher.weight)).squeeze(1)
    wanted = gates[: index.num_edges] * gates[index.num_edges :]
    torch.testing.assert_close(layer.weights(x, index), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("maps", LEARNT)
def test_gradients_of_a_layer_are_exact(maps: str) -> None:
    data = small_graph(8)
    layer = network(data, num_layers=1, maps=maps, add_lp=True, edge_weights=maps == "orthogonal").double().layers[0]
    index = SheafIndex(data.edge_index[:, :10], data.num_nodes)
    names, values = zip(*layer.named_parameters(), strict=True)
    x = torch.randn(8, 3, 4, dtype=torch.float64, requires_grad=True)

    def forward(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, index))

    assert torch.autograd.gradcheck(forward, (x, *values))


@pytest.mark.parametrize("transform", ORTHOGONAL)
def test_every_way_to_orthogonal_maps_trains(transform: str) -> None:
    data = small_graph()
    model = network(data, maps="orthogonal", stalk_dim=3, orthogonal=transform)
    F.cross_entropy(model(data.x, data.edge_index), data.y).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("maps", MAPS)
def test_a_data_object_is_all_it_needs(maps: str) -> None:
    data = small_graph()
    model = network(data, maps=maps, second_linear=True)
    logits = model(data.x, data.edge_index)
    assert logits.shape == (data.num_nodes, 3)
    index = SheafIndex(data.edge_index, data.num_nodes)
    assert torch.equal(model(data.x, index), logits)
    sparse = SparseMatrix.from_dense(data.x)
    torch.testing.assert_close(model(sparse, index), logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("maps", MAPS)
def test_without_weights_a_layer_is_the_identity_and_the_model_a_perceptron(maps: str) -> None:
    data = small_graph()
    model = network(data, num_layers=3, maps=maps)
    with torch.no_grad():
        for layer in model.layers:
            layer.right.zero_()
    perceptron = model.decoder(F.elu(model.encoder(data.x)))
    torch.testing.assert_close(model(data.x, data.edge_index), perceptron)


def test_the_identity_sheaf_steps_like_sgconv() -> None:
    data = small_graph()
    layer = network(data, num_layers=1, maps="identity").layers[0]
    index = SheafIndex(data.edge_index, data.num_nodes)
    x = torch.randn(data.num_nodes, 2, 4)
    step = SGConv(8, 8, K=1, bias=False)
    with torch.no_grad():
        layer.right.copy_(torch.eye(4))
        step.lin.weight.copy_(torch.eye(8))
        averaged = step(x.flatten(1), index.arcs).reshape(x.shape)
        torch.testing.assert_close(layer(x, index), x - F.elu(x - averaged), atol=1e-5, rtol=0)


def test_dropout_leaves_the_residual_alone() -> None:
    data = small_graph()
    layer = network(data, num_layers=1).train().layers[0]
    x = torch.randn(data.num_nodes, 2, 4)
    index = SheafIndex(data.edge_index, data.num_nodes)
    assert torch.equal(layer(x, index, dropout=1.0), x)
    assert torch.equal(layer(x, index, sheaf_dropout=1.0), x)  # maps of nothing are zero, and nothing diffuses
    assert not torch.equal(layer(x, index), x)


def test_maps_of_the_first_layer_see_no_dropout_and_later_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = small_graph(), []
    model = network(data, num_layers=3, dropout=0.4).train()

    def forward(self: SheafLayer, x: Tensor, index: SheafIndex, dropout: float, sheaf_dropout: float) -> Tensor:
        seen.append((dropout, sheaf_dropout))
        return x

    monkeypatch.setattr(SheafLayer, "forward", forward)
    model(data.x, data.edge_index)
    assert seen == [(0.4, 0.0), (0.4, 0.4), (0.4, 0.4)]


def test_rows_with_constant_maps_diffuse_along_the_graph_and_the_signless_laplacian() -> None:
    data = small_graph()
    index = SheafIndex(data.edge_index, data.num_nodes)
    layer = network(data, num_layers=1, maps="orthogonal", add_lp=True, add_hp=True).double().layers[0]
    eye = torch.zeros(data.num_nodes, 4, 2 * data.num_nodes, dtype=torch.float64)
    eye[:, 2, : data.num_nodes] = eye[:, 3, data.num_nodes :] = torch.eye(data.num_nodes)
    x = torch.randn(data.num_nodes, 4, 4, dtype=torch.float64)
    result = layer._diffuse(eye, x, index)
    degree = index.degree.double() + 1
    adjacency = torch.zeros(data.num_nodes, data.num_nodes, dtype=torch.float64)
    adjacency[index.arcs[0], index.arcs[1]] = 1
    scaled = adjacency / torch.sqrt(degree[:, None] * degree)
    diagonal = torch.diag((degree - 1) / degree)
    torch.testing.assert_close(result[:, 2, : data.num_nodes], diagonal + scaled, atol=1e-6, rtol=0)
    torch.testing.assert_close(result[:, 3, data.num_nodes :], diagonal - scaled, atol=1e-6, rtol=0)


class Shapes(TorchDispatchMode):
    """Notes the number of elements of everything that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                self.largest = max(self.largest, tensor.numel())
        return result


@pytest.mark.parametrize("maps", LEARNT)
def test_no_arc_ever_holds_the_features_of_a_node(maps: str) -> None:
    index = SheafIndex(torch.combinations(torch.arange(60)).T)
    layer = SheafLayer(32, 2, maps, (), False, False, "householder")
    x = torch.randn(60, 2, 32, requires_grad=True)
    layer(x, index).sum().backward()  # the index makes its patterns
    with Shapes() as shapes:
        layer(x, index).sum().backward()
    arcs = index.arcs.shape[1]
    assert shapes.largest < arcs * 2 * 32 / 5  # d f numbers are what one end of an arc would take


@pytest.mark.parametrize("maps", ["diagonal", "orthogonal"])
def test_the_peer_computes_the_same(maps: str) -> None:
    data = small_graph()
    index = SheafIndex(data.edge_index, data.num_nodes)
    reverse = index.reverse(torch.arange(index.arcs.shape[1]))
    ours = network(data, stalk_dim=3, maps=maps)
    peer = PeerNSD(data.num_features, 4, 3, 2, stalk_dim=3, maps=maps, dropout=0.0).copy(ours)
    logits = ours(data.x, index), peer(data.x, index.arcs, reverse)
    torch.testing.assert_close(*logits, atol=1e-5, rtol=0)
    gradients = []
    for model, output in zip((ours, peer), logits, strict=True):
        F.cross_entropy(output, data.y).backward()
        gradients.append(model.encoder.weight.grad)
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)


def test_learners_of_maps_have_a_weight_decay_of_their_own() -> None:
    sheaf, rest = network(small_graph(), num_layers=2).parameter_groups(0.1, 0.2)
    assert (sheaf["weight_decay"], rest["weight_decay"]) == (0.2, 0.1)
    assert {p.shape for p in sheaf["params"]} == {torch.Size([4, 8])}
    assert len(sheaf["params"]) + len(rest["params"]) == len(list(network(small_graph()).parameters()))


def test_names_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match=r"maps must be one of 'diagonal', 'orthogonal', .* got 'scalar'"):
        NSD(3, 4, 2, maps="scalar")
    with pytest.raises(ValueError, match=r"orthogonal must be one of 'householder', .* got 'euler'"):
        NSD(3, 4, 2, orthogonal="euler")
    with pytest.raises(ValueError, match="only orthogonal maps"):
        NSD(3, 4, 2, edge_weights=True)


@pytest.mark.parametrize("maps", MAPS)
def test_unusual_inputs_are_taken_or_refused(maps: str) -> None:
    data = small_graph()

    def call(x: Tensor, edge_index: Tensor) -> Tensor:
        return network(data, maps=maps).to(x.dtype if x.is_floating_point() else torch.float32)(x, edge_index)

    assert_takes_or_refuses(call, x=data.x, edge_index=data.edge_index)
    assert_takes_or_refuses(NSD, in_channels=4, hidden_channels=8, out_channels=3, num_layers=2, stalk_dim=2,
                            maps=maps, dropout=0.5, input_dropout=0.0, orthogonal="householder")  # fmt: skip
    with pytest.raises(ValueError, match="a SheafIndex of 14 nodes for 3 rows"):
        network(data)(data.x[:3], SheafIndex(data.edge_index, data.num_nodes))


@pytest.mark.parametrize("name", ["gcn", "mlp", "gcn2", "nsd_identity", "nsd_general"])
def test_contenders_share_one_way_of_building(name: str) -> None:
    data = small_graph()
    model, graph = CONTENDERS[name].build(data, replace(CONTENDERS[name].recipe_on(None), hidden_channels=4))
    assert model(data.x, graph).shape == (data.num_nodes, 3)
    assert (name == "gcn2") == isinstance(model, GCN2)

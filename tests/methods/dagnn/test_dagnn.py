"""DAGNN computes what the paper's equations say, on graphs where the answer is known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.datasets import KarateClub

from methods.dagnn import DAGNN
from methods.dagnn.baselines import LastHop, Ungated
from methods.dagnn.dagnn import hops
from methods.shared.graph import propagation
from methods.shared.sparse import SparseMatrix

PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])  # 0 - 1 - 2
CORA = (1433, 64, 7)


def model_on_path(K: int, weight: float = 1.0, bias: float = 0.0) -> DAGNN:
    """One class; the transformation is the identity."""
    model = DAGNN(1, 1, 1, K=K, num_layers=1).eval()
    with torch.no_grad():
        model.mlp[0].weight.fill_(1)
        model.mlp[0].bias.zero_()
        model.gate.weight.fill_(weight)
        model.gate.bias.fill_(bias)
    return model


def random_graph(num_nodes: int = 30, features: int = 6) -> Data:
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(num_nodes, (2, 60), generator=generator)
    return Data(
        x=torch.randn(num_nodes, features, generator=generator), edge_index=torch.cat([ends, ends.flip(0)], dim=1)
    )


def random_model(cls: type[DAGNN] = DAGNN, K: int = 4) -> DAGNN:
    torch.manual_seed(0)
    return cls(6, 8, 3, K=K).eval()


def test_the_gate_on_the_path_graph_gives_the_figures_of_a_hand_calculation() -> None:
    z = torch.tensor([[1.0], [0.0], [0.0]])
    out = model_on_path(K=2)(z, PATH)
    torch.testing.assert_close(out, torch.tensor([[1.293407], [0.443984], [0.090262]]), atol=1e-6, rtol=0)


def test_weights_of_the_hops_are_sigmoids_of_each_hop_and_need_not_sum_to_one() -> None:
    h = torch.tensor([[[2.0]], [[0.0]], [[-1.0]]])  # three hops of one vertex
    wanted = sum(float(torch.sigmoid(v) * v) for v in h.flatten())
    assert model_on_path(K=2).mix(h).item() == pytest.approx(wanted)


def test_without_hops_it_is_an_mlp_whose_logits_are_gated() -> None:
    model, data = random_model(K=0), random_graph()
    z = F.linear(F.relu(F.linear(data.x, model.mlp[0].weight, model.mlp[0].bias)), *model.mlp[1].parameters())
    wanted = torch.sigmoid(z @ model.gate.weight.T + model.gate.bias) * z
    torch.testing.assert_close(model(data.x, data.edge_index), wanted)


@pytest.mark.parametrize(("bias", "share"), [(0.0, 0.5), (100.0, 1.0)])
def test_a_gate_without_weights_sums_the_hops_and_is_linear(bias: float, share: float) -> None:
    model = model_on_path(K=5, weight=0.0, bias=bias).double()
    adjacency = propagation(PATH, 3, torch.float64)
    dense, z = adjacency.to_dense(), torch.randn(2, 3, 1, dtype=torch.float64)
    wanted = share * sum(torch.matrix_power(dense, k) @ z[0] for k in range(6))
    torch.testing.assert_close(model(z[0], adjacency), wanted)
    torch.testing.assert_close(model(z[0] + 3 * z[1], adjacency), model(z[0], adjacency) + 3 * model(z[1], adjacency))


def test_the_gate_is_what_makes_it_nonlinear_in_z() -> None:
    model, z = model_on_path(K=5), torch.randn(2, 3, 1)
    assert not torch.allclose(model(z[0] + 3 * z[1], PATH), model(z[0], PATH) + 3 * model(z[1], PATH), atol=1e-3)


def test_renaming_the_vertices_renames_the_output() -> None:
    model, data = random_model(), random_graph()
    order = torch.randperm(30)
    renamed = order.argsort()[data.edge_index]  # vertex order[i] is called i
    torch.testing.assert_close(
        model(data.x[order], renamed), model(data.x, data.edge_index)[order], atol=1e-5, rtol=1e-5
    )


def test_it_has_as_many_parameters_on_cora_as_the_paper_counts() -> None:
    model = DAGNN(*CORA)
    assert sum(p.numel() for p in model.parameters()) == 1433 * 64 + 64 + 64 * 7 + 7 + 7 + 1 == 92_239
    assert sum(p.numel() for p in LastHop(*CORA).parameters()) == 92_239 - 8


def test_the_loss_reaches_all_three_linear_maps() -> None:
    model, data = random_model().train(), random_graph()
    F.cross_entropy(model(data.x, data.edge_index), torch.arange(30) % 3).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_gradients_through_hops_and_gate_are_those_of_the_values() -> None:
    model = model_on_path(K=3, weight=0.7, bias=0.2).double()
    adjacency, z = propagation(PATH, 3, torch.float64), torch.randn(3, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: model.mix(hops(z, adjacency, 3)), (z,))


def test_it_takes_a_torch_geometric_data_and_gives_the_same_with_prepared_matrices() -> None:
    data = KarateClub()[0]
    torch.manual_seed(0)
    model = DAGNN(in_channels=34, hidden_channels=16, out_channels=4, K=10, dropout=0.8, num_layers=3).eval()
    out = model(data.x, data.edge_index)
    assert out.shape == (34, 4)
    torch.testing.assert_close(model(SparseMatrix.from_dense(data.x), propagation(data.edge_index, 34)), out)


@pytest.mark.parametrize("shape", [(1, 3), (5, 1)])
def test_one_vertex_or_one_class_keeps_its_dimension(shape: tuple[int, int]) -> None:
    nodes, classes = shape
    out = DAGNN(2, 4, classes, K=2)(torch.randn(nodes, 2), torch.empty(2, 0, dtype=torch.int64))
    assert out.shape == shape


def test_an_isolated_vertex_keeps_its_own_value_at_every_hop() -> None:
    z = torch.randn(4, 2)  # vertex 3 has no edge
    h = hops(z, propagation(PATH, 4), 6)
    torch.testing.assert_close(h[:, 3], z[3].expand(7, 2))


def test_the_ablations_differ_from_dagnn_in_the_mixing_alone() -> None:
    data = random_graph()
    full, ungated, last = (random_model(cls) for cls in (DAGNN, Ungated, LastHop))
    h = hops(full.transform(data.x), propagation(data.edge_index, 30), 4)
    torch.testing.assert_close(ungated(data.x, data.edge_index), h.sum(dim=0) / 2)
    torch.testing.assert_close(last(data.x, data.edge_index), h[4])
    with torch.no_grad():
        full.gate.weight.zero_()
        full.gate.bias.zero_()
    torch.testing.assert_close(full(data.x, data.edge_index), ungated(data.x, data.edge_index))


def test_dropout_draws_in_training_alone_and_reset_draws_the_weights_anew() -> None:
    model, data = random_model(), random_graph()

    def out() -> Tensor:
        return model(data.x, data.edge_index)

    before = out()
    assert torch.equal(before, out())
    model.train()
    assert not torch.equal(out(), out())
    model.eval().reset_parameters()
    assert not torch.allclose(before, out())

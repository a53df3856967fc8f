"""A layer on a fixed input against torch-geometric's own convolution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from methods.forward_gnn.layers import ForwardLayer, rows_of, sparse_or_dense, stack_rows, times, to_dense, unit_rows
from methods.shared.sparse import SparseMatrix
from tests.methods.forward_gnn.graphs import small_graph

ROWS = torch.tensor([7, 0, 29, 12])


def layer_and_graph(conv: str, in_channels: int = 6) -> tuple[ForwardLayer, object]:
    torch.manual_seed(0)
    return ForwardLayer(in_channels, 8, conv), small_graph()


def plain(layer: ForwardLayer, h: Tensor, edge_index: Tensor) -> Tensor:
    return torch.relu(layer.conv(h / h.norm(dim=1, keepdim=True), edge_index))


@pytest.mark.parametrize("conv", ["gcn", "sage", "gat"])
@pytest.mark.parametrize("form", ["dense", "sparse", "blocks"])
def test_a_layer_is_torch_geometrics_convolution_of_unit_rows(conv: str, form: str) -> None:
    layer, data = layer_and_graph(conv)
    forms = {"dense": data.x, "sparse": SparseMatrix.from_dense(data.x),
             "blocks": (SparseMatrix.from_dense(data.x[:, :4]), data.x[:, 4:])}  # fmt: skip
    operator = layer.operator(data.edge_index, data.num_nodes)
    expected = plain(layer, data.x, data.edge_index)
    torch.testing.assert_close(layer(forms[form], operator), expected)
    torch.testing.assert_close(layer.fixed(forms[form], operator, ROWS)(), expected[ROWS])


@pytest.mark.parametrize("conv", ["gcn", "sage", "gat"])
@pytest.mark.parametrize("sparse", [False, True])
def test_gradients_of_the_parameters_are_those_of_torch_geometric(conv: str, sparse: bool) -> None:
    layer, data = layer_and_graph(conv)
    h = SparseMatrix.from_dense(data.x) if sparse else data.x
    layer.fixed(h, layer.operator(data.edge_index, data.num_nodes), ROWS)().square().sum().backward()
    ours = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    plain(layer, data.x, data.edge_index)[ROWS].square().sum().backward()
    torch.testing.assert_close(ours, [p.grad for p in layer.parameters()])


def test_only_the_direction_of_a_row_is_passed_on() -> None:
    layer, data = layer_and_graph("gcn")
    operator = layer.operator(data.edge_index, data.num_nodes)
    scale = torch.logspace(-2, 3, data.num_nodes).unsqueeze(1)
    torch.testing.assert_close(layer(data.x * scale, operator), layer(data.x, operator), rtol=1e-5, atol=1e-5)


def test_no_gradient_reaches_the_input() -> None:
    layer, data = layer_and_graph("gcn")
    h = data.x.clone().requires_grad_()
    layer(h, layer.operator(data.edge_index, data.num_nodes)).sum().backward()
    assert h.grad is None
    assert layer.conv.lin.weight.grad is not None


def test_a_zero_row_stays_zero() -> None:
    assert unit_rows(torch.zeros(1, 3)).equal(torch.zeros(1, 3))


def test_blocks_side_by_side_are_one_row() -> None:
    x = small_graph().x
    blocks = (SparseMatrix.from_dense(x[:, :2]), x[:, 2:])
    torch.testing.assert_close(to_dense(unit_rows(blocks)), unit_rows(x))
    torch.testing.assert_close(to_dense(rows_of(blocks, ROWS)), x[ROWS])
    weight = torch.rand(5, 6)
    torch.testing.assert_close(times(blocks, weight), x @ weight.T)


def test_features_become_sparse_only_where_that_is_faster() -> None:
    assert isinstance(sparse_or_dense(torch.eye(20)), SparseMatrix)
    assert isinstance(sparse_or_dense(torch.eye(5)), Tensor)


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_stack_in_either_layout(sparse: bool) -> None:
    above, below = torch.eye(20), torch.rand(3, 20)
    stacked = stack_rows(SparseMatrix.from_dense(above) if sparse else above, below)
    assert torch.equal(to_dense(stacked), torch.cat([above, below]))


def test_a_width_that_heads_do_not_divide_is_an_error() -> None:
    with pytest.raises(ValueError, match="'gat' needs a width that 4 divides; got 6"):
        ForwardLayer(3, 6, "gat")

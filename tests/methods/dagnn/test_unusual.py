"""Whatever a user may hand in is taken as torch-geometric takes it or refused in a sentence."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.datasets import KarateClub

from methods.dagnn import DAGNN, infinite_depth, smv
from methods.dagnn.contenders import CONTENDERS
from methods.shared.graph import normalized_adjacency
from tests.methods.dagnn.small import network
from tests.methods.unusual import assert_takes_or_refuses

DATA = KarateClub()[0]


@pytest.mark.parametrize("method", CONTENDERS)
def test_every_network_takes_or_refuses_unusual_graphs(method: str) -> None:
    torch.manual_seed(0)
    model = network(method, 34, 8, 4, 2, 0.5).eval()
    if method == "mlp":  # reads no graph
        assert_takes_or_refuses(lambda x: model(x, DATA.edge_index), x=DATA.x)
    else:
        assert_takes_or_refuses(lambda x, edge_index: model(x, edge_index), x=DATA.x, edge_index=DATA.edge_index)


def test_sizes_and_probabilities_are_checked() -> None:
    sizes = dict(in_channels=4, hidden_channels=8, out_channels=3, K=2, dropout=0.5, num_layers=2)
    assert_takes_or_refuses(DAGNN, **sizes)


def test_smoothness_and_the_limit_take_or_refuse_unusual_tensors() -> None:
    z = torch.randn(34, 3)
    assert_takes_or_refuses(smv, x=z)
    assert_takes_or_refuses(infinite_depth, z=z, edge_index=DATA.edge_index)


def test_double_precision_is_a_model_of_doubles_and_an_adj_t_is_taken() -> None:
    torch.manual_seed(0)
    model = DAGNN(34, 8, 4, K=3).eval()
    out = model(DATA.x, DATA.edge_index)
    adj_t = torch.sparse_coo_tensor(DATA.edge_index.flip(0), torch.ones(DATA.num_edges), (34, 34)).coalesce()
    assert torch.equal(model(DATA.x, adj_t), out)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model(DATA.x, DATA.edge_index).float(), out, rtol=0.05, atol=0.05)
    torch.testing.assert_close(model.bfloat16()(DATA.x.bfloat16(), DATA.edge_index).float(), out, rtol=0.1, atol=0.1)
    torch.testing.assert_close(model.double()(DATA.x.double(), DATA.edge_index).float(), out, rtol=0.1, atol=0.1)


def test_a_directed_graph_has_no_such_limit() -> None:
    with pytest.raises(ValueError, match="a directed graph has no such limit"):
        infinite_depth(torch.ones(3, 1), torch.tensor([[0, 1], [1, 2]]))


def test_an_edge_that_is_there_twice_counts_twice_in_the_limit_as_it_does_in_the_propagation() -> None:
    twice = torch.tensor([[0, 1, 0, 1, 1, 2], [1, 0, 1, 0, 2, 1]])
    z = torch.randn(3, 2, dtype=torch.float64)
    end = torch.matrix_power(normalized_adjacency(twice, 3, torch.float64).to_dense(), 400) @ z
    torch.testing.assert_close(infinite_depth(z, twice), end)

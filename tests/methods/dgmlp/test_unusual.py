"""Whatever a user may hand in is taken as torch-geometric takes it or refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch_geometric.datasets import KarateClub

from methods.dgmlp import (
    DGMLP,
    ResidualMLP,
    graph_smoothing_levels,
    hop_weights,
    node_smoothing_levels,
    smoothed_features,
    stationary_state,
    weighted_hops,
)
from methods.shared.gcn import GCN
from methods.shared.graph import normalized_adjacency, propagation
from tests.methods.unusual import assert_takes_or_refuses

DATA = KarateClub()[0]
X = torch.rand(34, 5, generator=torch.Generator().manual_seed(0))
TWICE = torch.tensor([[0, 1, 0, 1, 1, 2], [1, 0, 1, 0, 2, 1]])  # 0 = 1 - 2


@pytest.mark.parametrize("call", [smoothed_features, node_smoothing_levels, graph_smoothing_levels])
def test_smoothing_takes_or_refuses_unusual_graphs(call: Callable[..., Tensor]) -> None:
    assert_takes_or_refuses(call, x=X, edge_index=DATA.edge_index, K=3, stationary="paper")


def test_limits_and_mixes_take_or_refuse_unusual_graphs() -> None:
    assert_takes_or_refuses(stationary_state, x=X, edge_index=DATA.edge_index, stationary="code")
    assert_takes_or_refuses(weighted_hops, x=X, edge_index=DATA.edge_index, weights=torch.full((34, 4), 0.25))
    assert_takes_or_refuses(hop_weights, levels=torch.rand(34, 4), temperature=0.5)


def test_networks_take_or_refuse_unusual_graphs_and_sizes() -> None:
    torch.manual_seed(0)
    model = DGMLP(5, 8, 3, num_layers=2, K=3).eval()
    assert_takes_or_refuses(lambda x, edge_index: model(x, edge_index), x=X, edge_index=DATA.edge_index)
    sizes = dict(in_channels=5, hidden_channels=8, out_channels=3, num_layers=2, dropout=0.5)
    assert_takes_or_refuses(ResidualMLP, **sizes)
    assert_takes_or_refuses(DGMLP, **sizes, K=3, stationary="code")
    assert_takes_or_refuses(lambda residual, alpha: GCN(5, 8, 3, [1, 1], residual=residual, alpha=alpha),
                            residual="res", alpha=0.1)  # fmt: skip


@pytest.mark.parametrize("stationary", ["code", "paper"])
def test_an_edge_that_is_there_twice_counts_twice_in_hops_and_limit_alike(stationary: str) -> None:
    x = X[:3].double()
    adjacency = normalized_adjacency(TWICE, 3, torch.float64).to_dense()
    root = torch.tensor([3.0, 4.0, 2.0]).double().sqrt().unsqueeze(1)  # d + 1: 2, 3 and 1 arcs arrive
    hop = torch.matrix_power(adjacency, 400) @ (x if stationary == "paper" else root * x)
    hop = hop if stationary == "paper" else hop / root
    torch.testing.assert_close(stationary_state(x, TWICE, stationary), hop)


@pytest.mark.parametrize("call", [stationary_state, lambda x, e: smoothed_features(x, e, 2)])
def test_a_directed_graph_is_refused_since_its_propagation_has_another_limit(call: Callable[..., Tensor]) -> None:
    for arcs in ([[0, 1], [1, 2]], [[0, 1, 0], [1, 0, 1]]):  # one way; and there more often than back
        with pytest.raises(ValueError, match="a directed graph has no such limit of propagation"):
            call(X[:3], torch.tensor(arcs))


def test_hops_whose_weights_are_given_need_no_limit_and_may_be_directed() -> None:
    arcs = torch.tensor([[0], [1]])
    assert weighted_hops(X[:2], arcs, torch.tensor([0.0, 1.0])).isfinite().all()


def test_a_propagation_of_another_precision_is_refused_rather_than_mixed() -> None:
    with pytest.raises(TypeError, match=r"a propagation of torch\.float32 for features of torch\.float64"):
        smoothed_features(X.double(), propagation(DATA.edge_index, 34), 2)

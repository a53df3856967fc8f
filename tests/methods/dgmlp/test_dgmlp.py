"""DGMLP by the paper's algebra: smoothing levels, weights, stationary states, and the limits of the family."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor
from torch_geometric.utils import barabasi_albert_graph, to_undirected

import datasets
from datasets.csbm import generate
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
from methods.dgmlp.baselines import PeerDGMLP, last_hop, s2gc, uniform
from methods.shared.gcn import GCN
from methods.shared.graph import normalized_adjacency, propagation

PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
PATH_X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def drawn(n: int = 60, features: int = 7, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """A connected graph of n vertices with hubs, and features."""
    torch.manual_seed(seed)
    edge_index = to_undirected(barabasi_albert_graph(n, 3), num_nodes=n)
    return torch.randn(n, features, dtype=dtype), edge_index


def side_by_side(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Disjoint graphs as one."""
    arcs, first = [], 0
    for x, edge_index in parts:
        arcs.append(edge_index + first)
        first += len(x)
    return torch.cat([x for x, _ in parts]), torch.cat(arcs, dim=1)


def test_levels_weights_and_features_of_a_path_are_the_worked_example() -> None:
    levels = node_smoothing_levels(PATH_X, PATH, 2)
    wanted = [[0.375305, 0.017234, 0.012287], [0.219131, 0.008449, 0.000593], [0.006116, 0.014091, 0.000163]]
    torch.testing.assert_close(levels, torch.tensor(wanted), rtol=0, atol=1e-6)
    wanted = [[0.417607, 0.291917, 0.290476], [0.382596, 0.309915, 0.30749], [0.333103, 0.33577, 0.331126]]
    torch.testing.assert_close(hop_weights(levels), torch.tensor(wanted), rtol=0, atol=1e-6)
    wanted = [[0.73301, 0.266409], [0.462264, 0.853695], [0.694146, 0.888687]]
    torch.testing.assert_close(smoothed_features(PATH_X, PATH, 2), torch.tensor(wanted), rtol=0, atol=1e-6)


def test_the_codes_stationary_state_of_a_path_is_four_and_five_sevenths_for_every_vertex() -> None:
    torch.testing.assert_close(stationary_state(PATH_X, PATH), torch.tensor([[4 / 7, 5 / 7]]).expand(3, 2))


def test_the_levels_follow_their_definition_vertex_by_vertex() -> None:
    x, edge_index = drawn(features=130)  # more than two blocks of columns
    adjacency, limit = normalized_adjacency(edge_index, len(x)).to_dense(), stationary_state(x, edge_index)
    levels, hop = node_smoothing_levels(x, edge_index, 4), x
    for k in range(5):
        cosine = torch.nn.functional.cosine_similarity
        torch.testing.assert_close(levels[:, k], cosine(hop, x) * (1 - cosine(hop, limit)), rtol=1e-4, atol=1e-6)
        hop = adjacency @ hop
    torch.testing.assert_close(graph_smoothing_levels(x, edge_index, 4), levels.mean(0))


@pytest.mark.parametrize("stationary", ["code", "paper"])
def test_propagation_ends_at_the_stationary_state_of_each_component(stationary: str) -> None:
    x, edge_index = side_by_side([drawn(40, dtype=torch.float64), drawn(25, seed=1, dtype=torch.float64)])
    x, edge_index = side_by_side([(x, edge_index), (torch.ones(1, 7).double(), torch.empty(2, 0, dtype=torch.int64))])
    adjacency = normalized_adjacency(edge_index, len(x), torch.float64)
    root = (torch.bincount(edge_index[0], minlength=len(x)) + 1).sqrt().unsqueeze(1)
    # with the random walk D~^-1 (Adj + I) = D~^-1/2 A D~^1/2 the limit is that of the code
    hop = x if stationary == "paper" else root * x
    for _ in range(200):
        hop = adjacency @ hop
    hop = hop if stationary == "paper" else hop / root
    limit = stationary_state(x, edge_index, stationary)
    assert float((hop - limit).norm() / limit.norm()) < 1e-6


def test_an_isolated_vertex_has_no_level_equal_weights_and_keeps_its_features() -> None:
    x, edge_index = drawn(20)
    x = torch.cat([x, torch.tensor([[1.0, 2.0, 0.0, -1.0, 0.5, 3.0, 1.0]])])
    levels = node_smoothing_levels(x, edge_index, 5)
    torch.testing.assert_close(levels[-1], torch.zeros(6), rtol=0, atol=1e-6)
    torch.testing.assert_close(hop_weights(levels)[-1], torch.full((6,), 1 / 6))
    torch.testing.assert_close(smoothed_features(x, edge_index, 5)[-1], x[-1])
    torch.testing.assert_close(stationary_state(x, edge_index, "paper")[-1], x[-1])


def test_a_vertex_without_features_gets_those_of_its_neighbours() -> None:
    x, edge_index = drawn(20)
    x[3] = 0
    assert torch.isfinite(node_smoothing_levels(x, edge_index, 3)).all()
    torch.testing.assert_close(
        smoothed_features(x, edge_index, 3)[3], weighted_hops(x, edge_index, hop_weights(torch.zeros(4)))[3]
    )


def test_weights_sum_to_one_and_an_infinite_temperature_makes_them_equal() -> None:
    levels = node_smoothing_levels(*drawn(), 6)
    torch.testing.assert_close(hop_weights(levels).sum(dim=1), torch.ones(60))
    torch.testing.assert_close(hop_weights(levels, float("inf")), torch.full((60, 7), 1 / 7))
    assert torch.equal(hop_weights(levels, 1e-6).argmax(dim=1), levels.argmax(dim=1))


def test_levels_and_weights_ignore_the_scale_of_all_features_and_not_that_of_one_row() -> None:
    x, edge_index = drawn()
    levels = node_smoothing_levels(x, edge_index, 5)
    torch.testing.assert_close(node_smoothing_levels(8 * x, edge_index, 5), levels)
    torch.testing.assert_close(smoothed_features(8 * x, edge_index, 5), 8 * smoothed_features(x, edge_index, 5))
    uneven = x.clone()
    uneven[0] *= 8
    assert float((node_smoothing_levels(uneven, edge_index, 5)[1:] - levels[1:]).abs().max()) > 0.01


@pytest.mark.parametrize("stationary", ["code", "paper"])
def test_disjoint_graphs_are_smoothed_together_as_apart(stationary: str) -> None:
    parts = [drawn(40), drawn(25, seed=1)]
    together = smoothed_features(*side_by_side(parts), 6, stationary=stationary)
    apart = torch.cat([smoothed_features(*part, 6, stationary=stationary) for part in parts])
    torch.testing.assert_close(together, apart)


def test_more_hops_are_smoother_on_the_generated_graph() -> None:
    data = generate(num_nodes=400, num_blocks=4, num_classes=4, degree=4, homophily=0.95, signal=1.0)
    levels = graph_smoothing_levels(data.x, data.edge_index, 20)[[1, 2, 5, 10, 20]]
    assert float(1 - levels[3] / levels[0]) > 0.6
    assert levels[2] > levels[3] > levels[4]


@pytest.mark.skipif("ASSAY_MIRROR" not in os.environ, reason="Cora is not in the package registry: set ASSAY_MIRROR")
def test_smoothing_levels_of_cora_are_those_found_before() -> None:
    data = datasets.load("cora")
    levels = graph_smoothing_levels(data.x, data.edge_index, 20)[[0, 1, 2, 5, 10, 20]]
    wanted = [0.7242, 0.3847, 0.3236, 0.1794, 0.1043, 0.0537]
    torch.testing.assert_close(levels, torch.tensor(wanted), rtol=0, atol=1e-4)


def test_known_weights_give_sgc_the_uniform_average_and_s2gc() -> None:
    x, edge_index = drawn(dtype=torch.float64)
    adjacency = normalized_adjacency(edge_index, len(x), torch.float64).to_dense()
    hops = [x, adjacency @ x, adjacency @ adjacency @ x, adjacency @ adjacency @ adjacency @ x]
    torch.testing.assert_close(weighted_hops(x, edge_index, last_hop(3)), hops[3])
    assert torch.equal(weighted_hops(x, edge_index, last_hop(0)), x)
    torch.testing.assert_close(
        weighted_hops(x, edge_index, uniform(3).double()), sum(hops) / 4, rtol=1e-6, atol=1e-6
    )  # fmt: skip
    torch.testing.assert_close(
        weighted_hops(x, edge_index, s2gc(3)), 0.05 * x + 0.95 / 3 * sum(hops[1:]), rtol=1e-6, atol=1e-6
    )


def test_arcs_and_the_prepared_propagation_give_the_same() -> None:
    x, edge_index = drawn()
    prepared = propagation(edge_index, len(x))
    assert torch.equal(smoothed_features(x, edge_index, 5), smoothed_features(x, prepared, 5))


def test_features_equal_those_of_torch_geometrics_parts() -> None:
    x, edge_index = side_by_side([drawn(200, 130), drawn(30, 130, seed=1)])
    peer = PeerDGMLP(130, 3, K=8, dropout=0.0)
    torch.testing.assert_close(smoothed_features(x, edge_index, 8), peer.smooth(x, edge_index), rtol=1e-4, atol=1e-5)


def test_without_hops_dgmlp_is_its_perceptron_on_the_raw_features() -> None:
    x, edge_index = drawn()
    model = DGMLP(7, 16, 3, num_layers=3, K=0).eval()
    torch.testing.assert_close(model(x, edge_index), model.transform(x))


def test_smoothed_rows_without_the_graph_give_the_logits_of_the_whole_graph() -> None:
    x, edge_index = drawn()
    model, rows = DGMLP(7, 16, 3, num_layers=2, K=4, stationary="paper").eval(), torch.tensor([3, 7, 50])
    features = smoothed_features(x, edge_index, 4, stationary="paper")
    torch.testing.assert_close(model(features[rows]), model(x, edge_index)[rows])


def test_smoothing_is_not_trained() -> None:
    x, edge_index = drawn()
    assert not smoothed_features(x, edge_index, 3).requires_grad
    assert {name for name, _ in DGMLP(7, 16, 3).named_parameters()} == {
        "transform.linears.0.weight",
        "transform.linears.0.bias",
    }


def test_zero_inner_weights_leave_the_network_of_two_layers() -> None:
    x, _ = drawn()
    deep, shallow = ResidualMLP(7, 16, 3, num_layers=6).eval(), ResidualMLP(7, 16, 3, num_layers=2).eval()
    with torch.no_grad():
        for linear in deep.linears[1:-1]:
            linear.weight.zero_()
            linear.bias.zero_()
    shallow.linears[0], shallow.linears[1] = deep.linears[0], deep.linears[-1]
    assert torch.equal(deep(x), shallow(x))


def test_the_residual_perceptron_is_the_shared_family_without_hops() -> None:
    x, edge_index = drawn()
    ours, family = ResidualMLP(7, 16, 3, num_layers=4).eval(), GCN(7, 16, 3, [0] * 4, residual="res").eval()
    family.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), family(x, edge_index))

"""The smoothness metric and the theorems on infinite depth, with figures that were worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.datasets import KarateClub

from methods.dagnn import infinite_depth, smv
from methods.dagnn.smoothness import (
    distance_to_limit,
    fitted_rate,
    limit_vector,
    second_eigenvalue,
    vertex_smv,
)
from methods.shared.graph import normalized_adjacency

PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])


def dense(edge_index: Tensor, num_nodes: int) -> Tensor:
    return normalized_adjacency(edge_index, num_nodes, torch.float64).to_dense()


def test_smoothness_of_three_vectors_is_the_paper_formula_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    pair = float(vertex_smv(x[:2])[0])
    assert pair == pytest.approx(0.707107, abs=1e-6)
    torch.testing.assert_close(vertex_smv(x).float(), torch.tensor([0.544895, 0.544895, 0.382683]), atol=1e-6, rtol=0)
    assert smv(x) == pytest.approx(0.490825, abs=1e-6)


def test_smoothness_sees_directions_alone() -> None:
    x = torch.randn(9, 4)
    scale = torch.rand(9, 1) * 10 + 0.1
    assert smv(scale * x) == pytest.approx(smv(x), abs=1e-6)
    assert smv(scale * x[:1]) == pytest.approx(0, abs=1e-6)
    assert smv(torch.tensor([[1.0, 2.0], [-1.0, -2.0]])) == pytest.approx(1)


def test_smoothness_in_blocks_is_that_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(11, 3)
    unit = x.double() / x.double().norm(dim=1, keepdim=True)
    wanted = torch.cdist(unit, unit).sum() / 2 / (11 * 10)
    monkeypatch.setattr("methods.dagnn.smoothness.BLOCK", 4)
    assert smv(x) == pytest.approx(float(wanted))


def test_a_row_of_zeros_is_no_direction_and_one_row_no_pair() -> None:
    assert smv(torch.tensor([[0.0, 0.0], [3.0, 4.0]])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="compares vertices"):
        smv(torch.ones(1, 3))


def test_propagation_over_the_path_graph_has_the_known_matrix_eigenvalues_and_limit() -> None:
    a = dense(PATH, 3)
    side = 6**-0.5
    torch.testing.assert_close(a, torch.tensor([[0.5, side, 0], [side, 1 / 3, side], [0, side, 0.5]]).double())
    torch.testing.assert_close(torch.linalg.eigvalsh(a), torch.tensor([-1 / 6, 1 / 2, 1]).double())
    wanted = torch.tensor(
        [[0.285714, 0.349927, 0.285714], [0.349927, 0.428571, 0.349927], [0.285714, 0.349927, 0.285714]]
    )
    v, _ = limit_vector(PATH, 3)
    torch.testing.assert_close(torch.matrix_power(a, 60).float(), wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.outer(v, v).float(), wanted, atol=1e-6, rtol=0)


def test_the_row_normalised_operator_forgets_everything_but_the_degrees() -> None:
    data = KarateClub()[0]
    a = torch.eye(34).double()
    a[data.edge_index[0], data.edge_index[1]] = 1
    walk = torch.matrix_power(a / a.sum(dim=1, keepdim=True), 2_000)
    pi = a.sum(dim=1) / (data.num_edges + 34)
    torch.testing.assert_close(walk, pi.expand(34, 34))
    v, _ = limit_vector(data.edge_index, 34)
    torch.testing.assert_close(v.square(), pi)


def test_infinite_depth_is_where_propagation_ends_in_each_component() -> None:
    edges = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])  # a path, an edge, and vertex 5 alone
    z = torch.randn(6, 2).double()
    end = torch.matrix_power(dense(edges, 6), 200) @ z
    torch.testing.assert_close(infinite_depth(z, edges), end)
    torch.testing.assert_close(end[5], z[5])
    assert smv(end[:3]) == pytest.approx(0, abs=1e-6)  # one direction inside a component ...
    assert smv(end) > 0.1  # ... and others in the others


def graphs() -> dict[str, Data]:
    ring = torch.arange(24)
    chords = torch.stack([ring, (ring * 5 + 1) % 24])
    arcs = torch.cat([torch.stack([ring, (ring + 1) % 24]), chords], dim=1)
    return {
        "path": Data(edge_index=PATH, num_nodes=3),
        "karate": KarateClub()[0],
        "ring with chords": Data(edge_index=torch.cat([arcs, arcs.flip(0)], 1).unique(dim=1), num_nodes=24),
    }


@pytest.mark.parametrize("name", graphs())
def test_the_distance_to_the_limit_falls_by_the_second_eigenvalue_with_each_hop(name: str) -> None:
    data = graphs()[name]
    a, (v, _) = dense(data.edge_index, data.num_nodes), limit_vector(data.edge_index, data.num_nodes)
    depths = [1, 3, 7, 12, 20]
    distances, second = distance_to_limit(a, v, depths), second_eigenvalue(a)
    assert distances == pytest.approx([second**k for k in depths], rel=1e-6)
    assert fitted_rate(depths, distances) / second == pytest.approx(1, abs=1e-6)


def test_a_wrong_limit_has_no_such_rate() -> None:
    data = KarateClub()[0]
    a, uniform = dense(data.edge_index, 34), torch.full((34,), 34**-0.5, dtype=torch.float64)
    depths = [1, 3, 7, 12, 20]
    assert abs(fitted_rate(depths, distance_to_limit(a, uniform, depths)) / second_eigenvalue(a) - 1) > 0.01


def test_a_rate_needs_distances_above_rounding() -> None:
    with pytest.raises(ValueError, match="two depths"):
        fitted_rate([50, 60], [1e-15, 1e-18])

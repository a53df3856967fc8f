"""AMUD: the closed form, its symmetries, and graphs on which the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.utils import to_undirected

import datasets
from assay.errors import DataError
from methods.adpa import amud, amud_score
from methods.adpa.amud import KINDS, binary_adjacency, correlation, pattern_r2, spread

# score of kind "pairs" with all labels, and the files that it was computed from in the first place
SCORES = {
    "cora_directed": 0.604, "cora_ml": 0.685, "citeseer_directed": 0.741, "chameleon_directed": 0.484,
    "chameleon_filtered_directed": 0.759, "squirrel_filtered_directed": 0.718,
}  # fmt: skip


def random_digraph(num_nodes: int = 40, arcs: int = 120, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(num_nodes, (2, arcs), generator=generator)
    return edge_index, torch.randint(3, (num_nodes,), generator=generator)


def load(name: str) -> object:
    try:
        return datasets.load(name)
    except DataError as error:
        pytest.skip(f"needs the files of {name}: {str(error).splitlines()[0]}")


def dense_correlation(pattern: np.ndarray, labels: np.ndarray) -> float:
    off_diagonal = ~np.eye(len(labels), dtype=bool)
    joined, equal = (pattern != 0)[off_diagonal], (labels[:, None] == labels)[off_diagonal]
    return float(np.corrcoef(joined, equal)[0, 1])


@pytest.mark.parametrize("seed", range(5))
def test_the_closed_form_is_pearsons_correlation_over_all_ordered_pairs(seed: int) -> None:
    edge_index, y = random_digraph(seed=seed)
    a = binary_adjacency(edge_index, len(y))
    for product in (a @ a, a @ a.T, a.T @ a, a.T @ a.T):
        assert correlation(product, y.numpy()) == pytest.approx(
            dense_correlation(product.toarray(), y.numpy()), abs=1e-10
        )


def test_a_pattern_and_its_transpose_have_exactly_the_same_correlation() -> None:
    edge_index, y = random_digraph()
    a = binary_adjacency(edge_index, len(y))
    assert correlation(a, y.numpy()) == correlation(a.T, y.numpy())
    assert correlation(a @ a, y.numpy()) == correlation(a.T @ a.T, y.numpy())


def test_on_a_symmetric_graph_all_patterns_agree_and_the_advice_is_undirected() -> None:
    edge_index, y = random_digraph()
    report = amud(to_undirected(edge_index), y)
    assert len(set(report.r2.values())) == 1
    assert report.score == 0
    assert not report.directed
    assert str(report).startswith("symmetrise the graph")


def test_reversing_all_arcs_swaps_common_targets_and_common_sources() -> None:
    edge_index, y = random_digraph()
    forward, backward = pattern_r2(edge_index, y), pattern_r2(edge_index.flip(0), y)
    assert backward == {"AA": forward["AA"], "AAT": forward["ATA"], "ATA": forward["AAT"]}


def test_duplicates_and_self_loops_change_nothing() -> None:
    edge_index, y = random_digraph()
    loops = torch.arange(len(y)).expand(2, -1)
    assert pattern_r2(torch.cat([edge_index, edge_index[:, :30], loops], dim=1), y) == pattern_r2(edge_index, y)


def test_unknown_labels_are_not_read_but_paths_through_their_vertices_count() -> None:
    edge_index, y = torch.tensor([[0, 1, 3, 4], [1, 2, 4, 5]]), torch.tensor([0, 7, 0, 1, 7, 2])
    known = torch.tensor([True, False, True, True, False, True])
    expected = dense_correlation(np.array([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]),
                                 np.array([0, 0, 1, 2]))  # fmt: skip
    assert pattern_r2(edge_index, y, known)["AA"] == pytest.approx(expected**2, abs=1e-12)
    y[1] = 3
    assert pattern_r2(edge_index, y, known)["AA"] == pytest.approx(expected**2, abs=1e-12)


def test_every_spread_is_zero_for_equal_values_and_one_where_a_single_pattern_explains_all() -> None:
    for kind in KINDS:
        assert spread([0.2, 0.2, 0.2], kind) == pytest.approx(0)
        assert spread([0.0, 0.0, 0.0], kind) == 0
    assert spread([0.3, 0.0, 0.0], "range") == spread([0.3, 0.0, 0.0], "deviation") == pytest.approx(1)
    # where two of three agree, one of the three pairs has no gap
    assert spread([0.3, 0.0, 0.0], "pairs") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("directed_cyclic", 0.5, 0.7), ("directed_homophilous", 0.0, 0.2), ("directed_heterophilous", 0.0, 0.4)],
)
def test_the_score_is_right_where_the_right_answer_is_known(name: str, low: float, high: float) -> None:
    for seed in range(4):
        data = datasets.load(name, seed=seed)
        report = amud(data.edge_index, data.y)
        assert low <= report.score <= high, (seed, report)
        assert report.directed == (name == "directed_cyclic")


@pytest.mark.parametrize("name", SCORES)
def test_scores_of_the_real_digraphs_are_those_of_an_independent_computation(name: str) -> None:
    data = load(name)
    assert amud_score(data.edge_index, data.y) == pytest.approx(SCORES[name], abs=5e-4)


def test_labels_that_are_all_equal_or_all_different_are_refused() -> None:
    edge_index, y = random_digraph()
    for labels in (torch.zeros_like(y), torch.arange(len(y))):
        with pytest.raises(ValueError, match="some are equal and some differ"):
            amud(edge_index, labels)


def test_a_pattern_that_joins_nothing_explains_nothing() -> None:
    assert correlation(sp.csr_matrix((3, 3)), np.array([0, 0, 1])) == 0

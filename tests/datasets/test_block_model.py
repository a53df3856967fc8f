"""Graphs with a class-mixing matrix have the degrees and the mixing that were asked for, on every call the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
import scipy.sparse
import torch
from torch_geometric.data import Data

import datasets
from assay.errors import DataError
from datasets.block_model import _links, generate

DIRECTED = {
    "directed_cyclic": [[1, 4, 1, 1], [1, 1, 4, 1], [1, 1, 1, 4], [4, 1, 1, 1]],
    "directed_homophilous": [[4, 1, 1, 1], [1, 4, 1, 1], [1, 1, 4, 1], [1, 1, 1, 4]],
    "directed_heterophilous": [[1, 4, 4, 4], [4, 1, 4, 4], [4, 4, 1, 4], [4, 4, 4, 1]],
}
RING = [[1, 9, 1, 9], [9, 1, 9, 1], [1, 9, 1, 9], [9, 1, 9, 1]]
# name: vertices a class, neighbours, features, mixing
PRESETS = {name: (150, 5, 32, mixing) for name, mixing in DIRECTED.items()} | {"heterophilous_ring": (60, 6, 16, RING)}


def mixing_counts(data: Data, num_classes: int) -> np.ndarray:
    """Arcs from each class to each class."""
    source, target = data.y[data.edge_index]
    return torch.bincount(source * num_classes + target, minlength=num_classes**2).view(num_classes, -1).numpy()


@pytest.mark.parametrize("name", PRESETS)
def test_classes_are_ranges_of_ids_of_equal_size(name: str) -> None:
    data, (size, _, num_features, _) = datasets.load(name), PRESETS[name]
    assert torch.equal(data.y, torch.arange(4).repeat_interleave(size))
    assert data.x.shape == (4 * size, num_features)
    assert data.x.dtype == torch.float32


@pytest.mark.parametrize("name", PRESETS)
def test_arcs_come_once_in_order_and_never_lead_back_to_their_vertex(name: str) -> None:
    data = datasets.load(name)
    assert data.is_coalesced()
    assert not data.has_self_loops()
    assert data.is_undirected() == (name == "heterophilous_ring")


@pytest.mark.parametrize("name", PRESETS)
def test_degree_and_mixing_are_as_asked(name: str) -> None:
    size, degree, _, mixing = PRESETS[name]
    draws = 10
    found = sum(mixing_counts(datasets.load(name, seed=seed), 4) for seed in range(draws))
    expected = draws * size * degree * np.array(mixing) / np.sum(mixing, axis=1, keepdims=True)
    # An edge inside a class counts as two arcs, which doubles the variance.
    variance = expected * (1 if name in DIRECTED else 1 + np.eye(4))
    assert np.all(np.abs(found - expected) < 4.5 * variance**0.5)
    assert found.sum() / (draws * 4 * size) == pytest.approx(degree, rel=0.03)


def test_arcs_out_of_and_into_a_vertex_are_independent() -> None:
    """Opposite arcs of a directed graph occur together only by chance."""
    both = total = 0
    for seed in range(10):
        source, target = datasets.load("directed_homophilous", seed=seed).edge_index
        both += int(torch.isin(source * 600 + target, target * 600 + source).sum())
        total += len(source)
    # Each of about 30,000 arcs has its opposite with probability 5 * share / (others of the class).
    expected = total * sum(share * 5 * share / 150 for share in (4 / 7, 1 / 7, 1 / 7, 1 / 7))
    assert abs(both - expected) < 4.5 * (2 * expected) ** 0.5


@pytest.mark.parametrize("directed", [True, False])
def test_each_pair_is_joined_with_its_probability_and_independently(directed: bool) -> None:
    rng, draws, size = np.random.default_rng(0), 4_000, 4
    probability = np.array([[0.7, 0.15], [0.5 if directed else 0.15, 0.3]])
    joined = np.zeros((draws, 8, 8), dtype=int)
    for draw in joined:
        draw[tuple(_links(rng, probability, size, directed))] += 1
    if not directed:
        joined += joined.transpose(0, 2, 1)
    assert joined.max() == 1
    wanted = np.kron(probability, np.ones((size, size))) * (1 - np.eye(8))
    assert np.all(np.abs(joined.mean(axis=0) - wanted) <= 4.5 * (wanted * (1 - wanted) / draws) ** 0.5)
    # the sample variance of a nearly normal variable has relative error sqrt(2 / n)
    variance = (wanted * (1 - wanted)).sum() * (1 if directed else 2)
    assert joined.sum(axis=(1, 2)).var() == pytest.approx(variance, rel=4.5 * (2 / draws) ** 0.5)


def direction_score(data: Data) -> float:
    """How differently the three patterns of two arcs tell who shares a class: the mean, over pairs of patterns, of
    |a - b| / max(a, b) of their squared correlations with sameness of class."""
    n = data.num_nodes
    a = scipy.sparse.csr_matrix((np.ones(data.num_edges), data.edge_index.numpy()), (n, n)).toarray()
    off_diagonal = ~np.eye(n, dtype=bool)
    same = (data.y[:, None] == data.y).numpy()[off_diagonal]
    squares = [np.corrcoef((g > 0)[off_diagonal], same)[0, 1] ** 2 for g in (a @ a, a @ a.T, a.T @ a)]
    return float(np.mean([abs(r - s) / max(r, s) for r, s in combinations(squares, 2)]))


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_direction_tells_more_than_symmetric_patterns_where_classes_form_a_cycle(seed: int) -> None:
    scores = {name: direction_score(datasets.load(name, seed=seed)) for name in DIRECTED}
    assert scores.pop("directed_cyclic") > 0.5
    assert max(scores.values()) < 0.4


def test_neighbours_on_the_ring_do_not_tell_opposite_classes_apart() -> None:
    found = sum(mixing_counts(datasets.load("heterophilous_ring", seed=seed), 4) for seed in range(10))
    share = found / found.sum(axis=1, keepdims=True)
    assert np.abs(share[0] - share[2]).max() < 0.03
    assert np.abs(share[1] - share[3]).max() < 0.03
    assert (share[0, 1] + share[0, 3], share[1, 0] + share[1, 2]) == pytest.approx((0.9, 0.9), abs=0.02)


@pytest.mark.parametrize(("name", "sizes"), [("directed_cyclic", (72, 48, 30)), ("heterophilous_ring", (29, 19, 12))])
def test_ten_different_splits_take_48_32_and_20_percent_of_every_class(name: str, sizes: tuple[int, ...]) -> None:
    data = datasets.load(name)
    masks = torch.stack([data.train_mask, data.val_mask, data.test_mask])
    assert masks.shape == (3, data.num_nodes, 10)
    assert bool((masks.sum(dim=0) == 1).all())
    for mask, wanted in zip(masks, sizes, strict=True):
        assert all(torch.bincount(data.y[column]).tolist() == [wanted] * 4 for column in mask.T)
    assert len(torch.unique(data.train_mask, dim=1).T) == 10


def test_the_seed_decides_everything_and_each_part_apart() -> None:
    first, again, other = (datasets.load("directed_cyclic", seed=seed) for seed in (0, 0, 1))
    for part, value in first.to_dict().items():
        assert torch.equal(again[part], value)
        assert (other[part].shape == value.shape and torch.equal(other[part], value)) == (part == "y")
    assert torch.equal(datasets.load("directed_cyclic", num_features=8, signal=3).edge_index, first.edge_index)
    assert torch.equal(datasets.load("directed_cyclic", degree=3).x, first.x)
    more = datasets.load("directed_cyclic", num_splits=12)
    assert torch.equal(more.val_mask[:, :10], first.val_mask)


def test_the_draws_never_change_between_machines_and_versions() -> None:
    arrays = [datasets.load(name)[part] for name in PRESETS for part in ("edge_index", "train_mask", "val_mask")]
    digest = hashlib.sha256(b"".join(array.numpy().tobytes() for array in arrays)).hexdigest()
    assert digest == "f62616ec2cf5809c4fd10665176b8899675ff728c3e6924704611ec37680eaf9"


def test_certain_arcs_make_complete_graphs() -> None:
    whole = generate([[1]], class_size=10, degree=9)
    assert whole.num_edges == 90
    bipartite = generate([[0, 1], [1, 0]], class_size=10, degree=10)
    assert mixing_counts(bipartite, 2).tolist() == [[0, 100], [100, 0]]
    one_way = generate([[1, 0], [1, 0]], class_size=10, degree=4.5)
    assert mixing_counts(one_way, 2)[:, 1].tolist() == [0, 0]


def test_rows_of_the_mixing_matrix_need_not_sum_to_one() -> None:
    small, large = generate([[0.2, 0.8], [0.8, 0.2]]), generate([[2, 8], [4, 1]])
    assert torch.equal(small.edge_index, large.edge_index)


@pytest.mark.parametrize(
    ("mixing", "options", "message"),
    [
        ([[1, 2]], {}, r"square matrix of finite numbers; got shape \(1, 2\)"),
        ([], {}, "square matrix of finite numbers"),
        ([[1, 2], [3]], {}, "mixing is not a square matrix of numbers"),
        ([["a"]], {}, "mixing is not a square matrix of numbers"),
        ([[float("nan")]], {}, "square matrix of finite numbers"),
        ([[1, -1], [0, 1]], {}, "mixing must be 0 or more"),
        ([[1, 1], [0, 0]], {}, "positive sum in each row"),
        ([[1, 4], [1, 1]], {"directed": False}, "edges need a symmetric mixing matrix"),
        ([[1, 1], [1, 1]], {"class_size": 1}, "needs class_size >= 2"),
        ([[1, 1], [1, 1]], {"degree": -1}, "cannot have -1 neighbours"),
        ([[1, 1], [1, 1]], {"degree": float("nan")}, "cannot have nan neighbours"),
        ([[1, 0], [0, 1]], {"class_size": 10, "degree": 9.5}, "9.5 neighbours of which shares of up to 1"),
        ([[1, 1], [1, 1]], {"num_splits": 0}, "num_splits must be 1 or more"),
        ([[1, 1], [1, 1]], {"num_features": 0}, "num_features must be 1 or more"),
        ([[1, 1], [1, 1]], {"train": 0.6, "val": 0.4}, "left for testing"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    mixing: Sequence[Sequence[float]], options: dict[str, float], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        generate(mixing, **options)

"""Block models are drawn exactly: the right number of edges, each pair on its own, the same on every call."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

import datasets
from assay.errors import DataError
from datasets.csbm import _edges

PRESETS = {"csbm": (1_000, 12, 0.6), "csbm_local": (4_000, 20, 0.9), "csbm_mixed": (4_000, 20, 0.5),
           "csbm_dense": (4_000, 100, 0.5)}  # fmt: skip


def counts(data: Data, block: torch.Tensor) -> tuple[int, int]:
    """Undirected edges inside blocks and across."""
    inside = int((block[data.edge_index[0]] == block[data.edge_index[1]]).sum())
    return inside // 2, (data.num_edges - inside) // 2


@pytest.mark.parametrize("name", PRESETS)
def test_blocks_are_ranges_of_ids_and_decide_the_class(name: str) -> None:
    data, (num_nodes, _, _) = datasets.load(name), PRESETS[name]
    assert (data.num_nodes, data.num_features) == (num_nodes, 32)
    assert torch.equal(data.block, torch.arange(20).repeat_interleave(num_nodes // 20))
    assert torch.equal(data.y, data.block % 10)


@pytest.mark.parametrize("name", PRESETS)
def test_edges_go_both_ways_once_in_order_and_never_back_to_their_vertex(name: str) -> None:
    data = datasets.load(name)
    assert data.is_undirected()
    assert data.is_coalesced()
    assert not data.has_self_loops()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", PRESETS)
def test_degree_and_homophily_are_as_asked(name: str, seed: int) -> None:
    num_nodes, degree, homophily = PRESETS[name]
    size = num_nodes // 20
    found = counts(datasets.load(name, seed=seed), datasets.load(name).block)
    for edges, share, possible in zip(found, (homophily, 1 - homophily), (size - 1, num_nodes - size), strict=True):
        mean = num_nodes * degree * share / 2
        deviation = (mean * (1 - degree * share / possible)) ** 0.5
        assert abs(edges - mean) < 4.5 * deviation


def test_each_pair_is_joined_with_its_probability_and_independently() -> None:
    rng, draws, within, across = np.random.default_rng(0), 4_000, 0.7, 0.15
    joined = np.zeros((draws, 12, 12), dtype=int)
    for draw in joined:
        draw[tuple(_edges(rng, 12, 3, within, across))] += 1
    joined += joined.transpose(0, 2, 1)
    assert joined.max() == 1
    for i in range(12):
        for j in range(i):
            p = within if i // 4 == j // 4 else across
            assert abs(joined[:, i, j].mean() - p) < 4.5 * (p * (1 - p) / draws) ** 0.5
    # 18 pairs inside and 48 across; the sample variance of a nearly normal variable has relative error sqrt(2 / n)
    variance = 18 * within * (1 - within) + 48 * across * (1 - across)
    assert joined.sum(axis=(1, 2)).var() / 4 == pytest.approx(variance, rel=4.5 * (2 / draws) ** 0.5)


def test_certain_edges_make_complete_graphs() -> None:
    whole = datasets.load("csbm", num_nodes=30, num_blocks=1, num_classes=1, degree=29, homophily=1, train=0.5)
    assert whole.num_edges == 30 * 29
    apart = datasets.load("csbm", num_nodes=40, num_blocks=4, num_classes=2, degree=9, homophily=1)
    assert counts(apart, apart.block) == (4 * 45, 0)
    across = datasets.load("csbm", num_nodes=40, num_blocks=4, num_classes=2, degree=30, homophily=0)
    assert counts(across, across.block) == (0, 600)


def mirrors(data: Data, parts: int) -> float:
    """Vertices that a part needs from other parts, all parts together, per vertex; parts are runs of whole blocks."""
    owner = block_owner(parts)[data.block]
    needed = torch.unique(data.edge_index[0] * parts + owner[data.edge_index[1]])
    return int((owner[needed // parts] != needed % parts).sum()) / data.num_nodes


def block_owner(parts: int) -> torch.Tensor:
    return torch.cat([torch.full((len(run),), part) for part, run in enumerate(torch.arange(20).tensor_split(parts))])


@pytest.mark.parametrize(
    ("name", "parts", "measured_elsewhere"),
    [("csbm_local", 4, 1.19), ("csbm_local", 8, 1.54), ("csbm_mixed", 8, 4.87), ("csbm_dense", 8, 6.98)],
)
def test_a_partition_by_blocks_has_the_expected_boundary(name: str, parts: int, measured_elsewhere: float) -> None:
    num_nodes, degree, homophily = PRESETS[name]
    sizes = torch.bincount(block_owner(parts)) * (num_nodes // 20)
    joined = degree * (1 - homophily) / (num_nodes * 19 / 20)
    missed = (1 - joined) ** sizes.double()  # a vertex elsewhere has no neighbour in the part
    others = (num_nodes - sizes) / num_nodes
    expected = float((others * (1 - missed)).sum())
    # Each edge counts for both of its ends, which at most doubles the variance of independent vertices.
    deviation = float(2 * (others * missed * (1 - missed)).sum() / num_nodes) ** 0.5
    assert abs(mirrors(datasets.load(name), parts) - expected) < 4 * deviation

    # The other generator ended its non-local edges anywhere, the own block included.
    same = homophily + (1 - homophily) * (num_nodes // 20 - 1) / (num_nodes - 1)
    ours = [mirrors(datasets.load(name, homophily=same, seed=seed), parts) for seed in range(5)]
    assert abs(float(np.mean(ours)) - measured_elsewhere) < 3 * deviation * (1 + 1 / len(ours)) ** 0.5


def test_the_split_takes_the_same_share_of_every_class() -> None:
    data = datasets.load("csbm", train=0.2, val=0.3)
    masks = torch.stack([data.train_mask, data.val_mask, data.test_mask])
    assert torch.equal(masks.sum(dim=0), torch.ones(1_000, dtype=torch.int64))
    for mask, wanted in zip(masks, (20, 30, 50), strict=True):
        assert torch.bincount(data.y[mask], minlength=10).tolist() == [wanted] * 10


def test_features_are_class_means_of_the_asked_size_in_unit_noise() -> None:
    options = {"num_features": 400, "num_nodes": 2_000}
    noise = datasets.load("csbm", signal=0, **options).x
    shift = datasets.load("csbm", signal=3, **options).x - noise
    y = datasets.load("csbm", **options).y
    means = torch.stack([shift[y == c].mean(dim=0) for c in range(10)])
    assert torch.allclose(shift, means[y], atol=1e-5)
    assert means.norm(dim=1).mean() == pytest.approx(3, rel=0.05)
    assert torch.pdist(means).mean() == pytest.approx(3 * 2**0.5, rel=0.05)
    assert (float(noise.mean()), float(noise.std())) == pytest.approx((0, 1), abs=0.005)


def test_the_seed_decides_everything_and_each_part_apart() -> None:
    first, again, other = (datasets.load("csbm", seed=seed) for seed in (0, 0, 1))
    for name, value in first.to_dict().items():
        assert torch.equal(again[name], value)
        assert torch.equal(other[name], value) == (name in ("y", "block"))
    wider = datasets.load("csbm", num_features=8, train=0.3)
    assert torch.equal(wider.edge_index, first.edge_index)
    assert torch.equal(datasets.load("csbm", degree=10).x, first.x)


def test_the_draws_never_change_between_machines_and_versions() -> None:
    data = datasets.load("csbm")
    arrays = (data.edge_index, data.train_mask, data.val_mask)
    digest = hashlib.sha256(b"".join(array.numpy().tobytes() for array in arrays)).hexdigest()
    assert digest == "7576b54c958270914de949828e6b67c3f3303572dbac7ad2ee01292502d4566b"
    assert data.x[0, :3].tolist() == pytest.approx([0.417194, -1.570867, -0.961127], rel=1e-5)


def test_a_large_graph_is_drawn_without_making_all_pairs() -> None:
    """Two hundred million pairs, of which a million are joined."""
    data = datasets.load("csbm", num_nodes=20_000, degree=100, homophily=0.9)
    inside, across = counts(data, data.block)
    assert (inside, across) == pytest.approx((900_000, 100_000), rel=0.02)
    assert torch.bincount(data.edge_index[0]).float().std() < 12


def test_the_clustered_graph_has_classes_as_communities_and_few_labels() -> None:
    data = datasets.load("csbm_clustered")
    assert (data.num_nodes, data.num_features) == (800, 32)
    assert torch.equal(data.y, torch.arange(4).repeat_interleave(200))
    assert torch.equal(data.y, data.block)
    for mask, wanted in ((data.train_mask, 20), (data.val_mask, 50), (data.test_mask, 130)):
        assert torch.bincount(data.y[mask]).tolist() == [wanted] * 4


def test_the_clustered_graph_joins_sixty_times_as_many_of_the_pairs_inside_a_class() -> None:
    draws = [counts(data, data.y) for data in (datasets.load("csbm_clustered", seed=seed) for seed in range(20))]
    inside, across = np.mean(draws, axis=0)
    pairs_inside, pairs_across = 4 * 200 * 199 / 2, 6 * 200**2
    # Expected are 30,469 edges inside and 1,531 across in 20 draws: the ratio is known to about 2.6%.
    assert (inside / pairs_inside) / (across / pairs_across) == pytest.approx(60, rel=4 * 0.026)
    assert 2 * (inside + across) / 800 == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_nodes": 1_001}, "num_nodes must be a multiple of num_blocks"),
        ({"num_classes": 3}, "num_blocks of num_classes"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"num_nodes": 0}, "num_nodes=0"),
        ({"homophily": 1.1}, r"homophily must be in \[0, 1\]"),
        ({"homophily": float("nan")}, r"homophily must be in \[0, 1\]"),
        ({"degree": -1}, "degree=-1"),
        ({"degree": 60, "homophily": 0.9}, "54 of 49 other vertices in the block"),
        ({"num_blocks": 1, "num_classes": 1, "degree": 10}, "4 of 0 outside"),
        ({"num_features": 0}, "num_features must be 1 or more"),
        ({"train": 0}, "at least one for training"),
        ({"train": 0.5, "val": 0.5}, "left for testing"),
        ({"val": -0.1}, "val=-0.1"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        datasets.load("csbm", **options)


def test_presets_get_harder_to_partition() -> None:
    shares = [mirrors(datasets.load(name), 8) for name in ("csbm_local", "csbm_mixed", "csbm_dense")]
    assert all(easier + 1 < harder for easier, harder in pairwise(shares))

"""Preferential attachment draws by degree, and hashed features are the integers that they promise."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

import datasets
from assay.errors import DataError
from datasets import power_law
from datasets.power_law import _edges, hashed_features


@pytest.fixture(scope="module")
def graph() -> Data:
    return datasets.load("power_law")


def test_it_is_the_promised_graph(graph: Data) -> None:
    assert (graph.num_nodes, sorted(graph.keys())) == (100_000, ["edge_index", "num_nodes", "y"])
    assert graph.is_undirected()
    assert graph.is_coalesced()
    assert not graph.has_self_loops()
    drawn = 55 + 10 * (100_000 - 11)
    assert 0.998 * drawn < graph.num_edges / 2 <= drawn


def test_degrees_follow_the_law_of_barabasi_and_albert(graph: Data) -> None:
    """The share of vertices with k neighbours or more tends to m (m + 1) / (k (k + 1))."""
    degree = torch.bincount(graph.edge_index[0])
    for k in (15, 20, 40, 80, 160, 320):
        share = 110 / (k * (k + 1))
        # beside the sampling error, merged draws move about one degree in a thousand
        assert abs(float((degree >= k).double().mean()) - share) < 4.5 * (share / 100_000) ** 0.5 + 0.01 * share
    assert int(degree.max()) > 1_000


def test_older_vertices_have_more_neighbours(graph: Data) -> None:
    degree = torch.bincount(graph.edge_index[0]).double()
    tenths = degree.reshape(10, -1).mean(dim=1)
    assert bool((tenths[1:] < tenths[:-1]).all())


def test_a_neighbour_is_drawn_with_probability_proportional_to_its_degree() -> None:
    """With m = 1, vertex 2 joins 0 or 1, after which that vertex has two of the four edge ends."""
    draws = 8_000
    chosen = Counter()
    for seed in range(draws):
        newer, older = _edges(np.random.default_rng(seed), 4, 1)
        assert newer.tolist() == [1, 2, 3]
        assert older[0] == 0
        role = {int(older[1]): "joined before", 2: "newest"}.get(int(older[2]), "alone")
        chosen[role] += 1
        chosen["first"] += int(older[1] == 0)
    for role, p in {"first": 1 / 2, "joined before": 1 / 2, "newest": 1 / 4, "alone": 1 / 4}.items():
        assert abs(chosen[role] / draws - p) < 4.5 * (p * (1 - p) / draws) ** 0.5, role


def test_a_vertex_draws_only_older_ones_and_as_many_as_asked() -> None:
    newer, older = _edges(np.random.default_rng(0), 300, 4)
    assert bool((older < newer).all())
    assert np.bincount(newer).tolist() == [0, 1, 2, 3] + [4] * 296


def test_classes_are_drawn_evenly(graph: Data) -> None:
    sizes = torch.bincount(graph.y)
    assert len(sizes) == 16
    assert float(sizes.double().sub(100_000 / 16).abs().max()) < 4.5 * (100_000 / 16) ** 0.5


def test_the_seed_decides_everything() -> None:
    first, again, other = (datasets.load("power_law", num_nodes=500, edges_per_node=3, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.edge_index, again.edge_index)
    assert torch.equal(first.y, again.y)
    assert not torch.equal(first.y, other.y)
    assert first.edge_index.tolist() != other.edge_index.tolist()


def test_the_draws_never_change_between_machines_and_versions(graph: Data) -> None:
    arrays = (graph.edge_index, graph.y)
    digest = hashlib.sha256(b"".join(array.numpy().tobytes() for array in arrays)).hexdigest()
    assert digest == "5cc3c8469fa915e8d7406234954a37d5d14bb3facdefc57808e4fbe432713dc7"


@pytest.mark.parametrize("options", [{"edges_per_node": 0}, {"num_nodes": 10}, {"num_nodes": 0, "edges_per_node": 0}])
def test_too_few_vertices_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(DataError, match="power_law: needs edges_per_node >= 1 and num_nodes > edges_per_node"):
        datasets.load("power_law", **options)


def hashes(rows: list[int], width: int) -> np.ndarray:
    """The definition, in Python's integers, which have no limit."""
    return np.array(
        [[(row * width + column) * 2654435761 % 2**32 for column in range(width)] for row in rows], np.int64
    )


ROWS = [0, 1, 2, 7, 99_999, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40 + 12_345, 2**62 + 1]


@pytest.mark.parametrize("width", [1, 31, 100, 602, 2**16 + 1])
def test_features_are_the_integers_of_the_definition(width: int) -> None:
    wanted = hashes(ROWS, width)
    found = hashed_features(torch.tensor(ROWS), width, torch.float64)
    assert np.array_equal(found.numpy() * 2.0**32, wanted)
    single = hashed_features(torch.tensor(ROWS), width)
    assert single.dtype == torch.float32
    assert np.array_equal(single.numpy(), (wanted / 2.0**32).astype(np.float32))


def test_a_width_beyond_32_bits_of_products_does_not_overflow() -> None:
    rows = torch.tensor([2**62 + 1, 2**33 + 5])
    width = 2**20 + 3
    last = hashed_features(rows, width, torch.float64)[:, -1]
    wanted = [((row * width + width - 1) * 2654435761 % 2**32) / 2**32 for row in rows.tolist()]
    assert last.tolist() == wanted


def test_rounding_to_float32_can_reach_one_and_nothing_more() -> None:
    # 2654435761 is odd, so a row with any wanted hash exists for width 1
    row = (2**32 - 1) * pow(2654435761, -1, 2**32) % 2**32
    assert hashed_features(torch.tensor([row]), 1, torch.float64).item() == 1 - 2.0**-32
    assert hashed_features(torch.tensor([row]), 1).item() == 1.0


def test_a_gather_is_checked_from_the_ids_alone() -> None:
    table = hashed_features(torch.arange(3_000), 37)
    ids = torch.randint(3_000, (5_000,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(table[ids], hashed_features(ids, 37))
    assert not torch.equal(table[ids + 1 - 2 * (ids > 0).long()], hashed_features(ids, 37))
    assert hashed_features(ids[:0], 37).shape == (0, 37)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.arange(1_000) * 7
    whole = hashed_features(rows, 13)
    monkeypatch.setattr(power_law, "_CHUNK_VALUES", 100)
    assert torch.equal(hashed_features(rows, 13), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_types_are_rounded_from_float32(dtype: torch.dtype) -> None:
    rows = torch.arange(500)
    assert torch.equal(hashed_features(rows, 16, dtype), hashed_features(rows, 16).to(dtype))


def test_the_columns_of_a_row_are_spread_evenly() -> None:
    values = hashed_features(torch.arange(1_000), 64, torch.float64)
    assert values.unique().numel() == values.numel()
    assert torch.histc(values, 16, 0, 1).sub(4_000).abs().max() < 100

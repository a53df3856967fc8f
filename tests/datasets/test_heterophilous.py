"""Heterophilous graphs: the format always, the genuine files where a mirror has them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import is_undirected, to_undirected

import datasets
from assay.errors import DataError
from datasets import sources
from datasets.heterophilous import load_directed, load_undirected

needs_mirror = pytest.mark.skipif(
    not os.environ.get("ASSAY_MIRROR"), reason="the genuine files come from upstream or a mirror: set ASSAY_MIRROR"
)
UNDIRECTED = ("texas", "wisconsin", "cornell", "chameleon", "squirrel", "actor")
DIRECTED = ("chameleon_directed", "squirrel_directed", "chameleon_filtered_directed", "squirrel_filtered_directed")
ALL = (*UNDIRECTED, *DIRECTED)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # Mirror data stays out of the checkout, its cache included.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CACHE", tmp_path_factory.mktemp("data"))
        yield


@functools.cache
def genuine(name: str) -> Data:
    return datasets.load(name)


def contents() -> dict[str, np.ndarray]:
    """Four vertices with three features and two classes; an arc twice, an edge both ways, a self loop; two splits."""
    masks = np.array([[[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], [[0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]], bool)
    return {
        "node_features": np.array([[1, 0, 3], [0, 0, 0], [1, 1, 0], [0, 2, 0]], np.float32),
        "node_labels": np.array([0, 1, 1, 0]),
        "edges": np.array([[2, 0], [0, 1], [3, 3], [0, 1], [1, 0], [2, 3]]),
        "train_masks": masks[:, 0],
        "val_masks": masks[:, 1],
        "test_masks": masks[:, 2],
    }


def written(folder: Path, content: dict[str, np.ndarray]) -> Path:
    path = folder / "graph.npz"
    np.savez_compressed(path, **content)
    return path


def arcs(data: Data) -> list[tuple[int, int]]:
    return list(zip(*data.edge_index.tolist(), strict=True))


def homophily(data: Data) -> float:
    """Share of the arcs whose ends have the same class."""
    return float((data.y[data.edge_index[0]] == data.y[data.edge_index[1]]).double().mean())


def split_sizes(data: Data) -> list[list[int]]:
    return [mask.sum(dim=0).tolist() for mask in (data.train_mask, data.val_mask, data.test_mask)]


def test_a_directed_file_keeps_its_arcs_once_each_without_loops(tmp_path: Path) -> None:
    data = load_directed(written(tmp_path, contents()))
    assert arcs(data) == [(0, 1), (1, 0), (2, 0), (2, 3)]


def test_an_undirected_file_gets_both_arcs_of_each_edge(tmp_path: Path) -> None:
    data = load_undirected(written(tmp_path, contents()))
    assert arcs(data) == [(0, 1), (0, 2), (1, 0), (2, 0), (2, 3), (3, 2)]


@pytest.mark.parametrize("loader", [load_directed, load_undirected])
def test_features_classes_and_splits_are_those_of_the_file(loader: Callable[..., Data], tmp_path: Path) -> None:
    content = contents()
    data = loader(written(tmp_path, content))
    assert np.array_equal(data.x.numpy(), content["node_features"])
    assert data.y.tolist() == [0, 1, 1, 0]
    assert data.train_mask.tolist() == [[True, False], [True, False], [False, True], [False, True]]
    assert data.val_mask.nonzero().tolist() == [[0, 1], [2, 0]]
    assert data.test_mask.nonzero().tolist() == [[3, 0]]
    assert data.train_mask.is_contiguous()
    assert loader(tmp_path / "graph.npz", normalize_features=True).x[0].tolist() == [0.25, 0, 0.75]


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("node_features", lambda x: x[:, 0], r"node_features must be finite numbers \(N, F\); got shape \(4,\)"),
        ("node_features", lambda x: x / 0, "node_features must be finite numbers"),
        ("node_features", lambda x: x.astype("U3"), "node_features must be finite numbers"),
        ("node_labels", lambda y: y[:3], "needs a class 0, 1, ... for each of 4 vertices"),
        ("node_labels", lambda y: y - 1, "from -1"),
        ("edges", lambda edges: edges.T, r"edges must be vertex ids \(E, 2\); got shape \(2, 6\)"),
        ("edges", lambda edges: edges * 0.5, "edges must be vertex ids"),
        ("edges", lambda edges: edges + 1, "has vertices 1 to 4, outside 0 .. 3"),
        ("val_masks", lambda masks: masks[:1], r"val_masks must be bool, a row for each split .* shape \(1, 4\)"),
        ("train_masks", lambda masks: masks.T, "train_masks must be bool"),
        ("test_masks", lambda masks: masks.astype(int), "test_masks must be bool"),
        ("test_masks", lambda masks: ~masks, "a vertex is in two of train_masks, val_masks, test_masks"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*(divide by zero|invalid value)")
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, part: str, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    content = contents()
    path = written(tmp_path, content | {part: change(content[part])})
    with pytest.raises(DataError, match=message) as caught:
        load_undirected(path)
    assert str(path) in str(caught.value)


def test_a_file_without_an_array_is_refused(tmp_path: Path) -> None:
    content = contents()
    del content["edges"]
    with pytest.raises(DataError, match=r"graph\.npz: has no array edges"):
        load_directed(written(tmp_path, content))


@needs_mirror
@pytest.mark.parametrize(
    ("name", "nodes", "features", "arcs_", "same_class"),
    [
        ("texas", 183, 1_703, 558, 0.0609),
        ("wisconsin", 251, 1_703, 900, 0.1778),
        ("cornell", 183, 1_703, 554, 0.1227),
        ("chameleon", 2_277, 2_325, 62_742, 0.2299),
        ("squirrel", 5_201, 2_089, 396_706, 0.2221),
        ("actor", 7_600, 932, 53_318, 0.2167),
        ("chameleon_directed", 2_277, 2_325, 36_051, 0.2339),
        ("squirrel_directed", 5_201, 2_089, 216_933, 0.2234),
        ("chameleon_filtered_directed", 890, 2_325, 13_534, 0.2446),
        ("squirrel_filtered_directed", 2_223, 2_089, 65_578, 0.2157),
    ],
)
def test_sizes_and_homophily_are_the_known_ones(
    name: str, nodes: int, features: int, arcs_: int, same_class: float
) -> None:
    data = genuine(name)
    assert (data.num_nodes, data.num_features, data.num_edges) == (nodes, features, arcs_)
    assert int(data.y.max()) + 1 == 5
    assert homophily(data) == pytest.approx(same_class, abs=5e-5)
    assert set(data.x.unique().tolist()) == {0, 1}
    assert not data.has_self_loops()
    assert data.is_coalesced()


@needs_mirror
def test_only_the_directed_files_keep_a_direction() -> None:
    assert all(is_undirected(genuine(name).edge_index) for name in UNDIRECTED)
    assert not any(is_undirected(genuine(name).edge_index) for name in DIRECTED)


@needs_mirror
@pytest.mark.parametrize("name", ["chameleon", "squirrel"])
def test_without_their_direction_the_directed_files_are_the_undirected_ones(name: str) -> None:
    directed, undirected = genuine(f"{name}_directed"), genuine(name)
    assert torch.equal(to_undirected(directed.edge_index), undirected.edge_index)
    for part in ("x", "y", "train_mask", "val_mask", "test_mask"):
        assert torch.equal(directed[part], undirected[part])


@needs_mirror
@pytest.mark.parametrize(
    ("name", "loops"),
    [("chameleon", 50), ("squirrel", 140), ("chameleon_filtered", 50), ("squirrel_filtered", 140)],
)
def test_the_self_loops_of_the_hyperlinks_are_removed(name: str, loops: int) -> None:
    (path,) = datasets.fetch(f"{name}_directed")
    assert len(np.load(path)["edges"]) - genuine(f"{name}_directed").num_edges == loops


@needs_mirror
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("texas", (87, 59, 37)),
        ("wisconsin", (120, 80, 51)),
        ("cornell", (87, 59, 37)),
        ("chameleon", (1_092, 729, 456)),
        ("squirrel", (2_496, 1_664, 1_041)),
        ("actor", (3_648, 2_432, 1_520)),
    ],
)
def test_the_ten_splits_have_the_known_sizes(name: str, sizes: tuple[int, int, int]) -> None:
    assert split_sizes(genuine(name)) == [[size] * 10 for size in sizes]


@needs_mirror
@pytest.mark.parametrize("name", ALL)
def test_every_vertex_is_in_one_mask_of_each_of_ten_different_splits(name: str) -> None:
    data = genuine(name)
    masks = torch.stack([data.train_mask, data.val_mask, data.test_mask])
    assert masks.shape == (3, data.num_nodes, 10)
    assert bool((masks.sum(dim=0) == 1).all())
    assert len(torch.unique(data.train_mask, dim=1).T) == 10


@needs_mirror
def test_cornell_is_not_the_copy_of_texas() -> None:
    cornell, texas = genuine("cornell"), genuine("texas")
    assert cornell.x.shape == texas.x.shape
    assert not torch.equal(cornell.x, texas.x)
    assert not torch.equal(cornell.y, texas.y)


@needs_mirror
def test_normalised_features_sum_to_one() -> None:
    sums = datasets.load("wisconsin", normalize_features=True).x.sum(dim=1)
    assert torch.allclose(sums, torch.ones(()))


@pytest.mark.parametrize("name", ALL)
def test_upstream_addresses_are_pinned_to_a_commit(name: str) -> None:
    root = "https://raw.githubusercontent.com/yandex-research/heterophilous-graphs"
    (file,) = datasets.info(name).files
    assert file.urls == (f"{root}/a431395582e929d88271309716bea4fe24ce6318/data/{name}.npz",)
    assert file.sha256

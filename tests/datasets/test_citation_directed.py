"""Directed citations: the format always, the genuine files where a mirror has them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

import datasets
from assay.errors import DataError
from datasets import sources
from datasets.citation_directed import load_citations, load_cora_ml

needs_mirror = pytest.mark.skipif(
    not os.environ.get("ASSAY_MIRROR"), reason="the genuine files come from upstream or a mirror: set ASSAY_MIRROR"
)
NAMES = ("cora_ml", "cora_directed", "citeseer_directed")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # Mirror data stays out of the checkout, its cache included.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CACHE", tmp_path_factory.mktemp("data"))
        yield


def contents(adjacency: str, attributes: str) -> dict[str, np.ndarray]:
    """Arcs 0 -> 2, 0 -> 1 (not in order), 2 -> 2, 2 -> 0; two words, of which paper 1 has none; something pickled."""
    return {
        f"{adjacency}data": np.ones(4, np.float32),
        f"{adjacency}indices": np.array([2, 1, 2, 0], np.int32),
        f"{adjacency}indptr": np.array([0, 2, 2, 4], np.int32),
        f"{adjacency}shape": np.array([3, 3]),
        f"{attributes}data": np.array([0.5, 1.5, 1], np.float32),
        f"{attributes}indices": np.array([0, 1, 1], np.int32),
        f"{attributes}indptr": np.array([0, 2, 2, 3], np.int32),
        f"{attributes}shape": np.array([3, 2]),
        "labels": np.array([1, 0, 2], np.int8),
        "metadata": np.array({"not": "read"}, dtype=object),
    }


def written(folder: Path, content: dict[str, np.ndarray]) -> Path:
    path = folder / "citations.npz"
    np.savez_compressed(path, **content)
    return path


@pytest.mark.parametrize(
    ("loader", "prefixes"), [(load_citations, ("adj_", "attr_")), (load_cora_ml, ("adj_matrix.", "attr_matrix."))]
)
def test_both_layouts_are_read_and_what_is_pickled_is_not(
    tmp_path: Path, loader: Callable[..., Data], prefixes: tuple[str, str]
) -> None:
    path = written(tmp_path, contents(*prefixes))
    data = loader(path)
    assert data.edge_index.tolist() == [[0, 0, 2], [1, 2, 0]]
    assert data.x.tolist() == [[0.5, 1.5], [0, 0], [0, 1]]
    assert data.y.tolist() == [1, 0, 2]
    assert (data.x.dtype, data.y.dtype, data.edge_index.dtype) == (torch.float32, torch.int64, torch.int64)
    assert "train_mask" not in data
    assert loader(path, normalize_features=True).x.tolist() == [[0.25, 0.75], [0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("adj_indices", np.array([2, 1, 3, 0]), r"adj_\* is no sparse \(CSR\) matrix"),
        ("adj_indices", np.array([2, 1, -1, 0]), r"adj_\* is no sparse"),
        ("adj_indptr", np.array([0, 3, 2, 4]), r"adj_\* is no sparse"),
        ("adj_indptr", np.array([1, 2, 2, 4]), r"adj_\* is no sparse"),
        ("adj_indptr", np.array([0, 2, 2, 3]), r"adj_\* is no sparse"),
        ("adj_indptr", np.array([0, 2, 4]), r"adj_\* is no sparse"),
        ("adj_shape", np.array([3, 4]), r"adj_\* is \(3, 4\), but attr_\* has 3 rows"),
        ("attr_data", np.ones(2, np.float32), r"attr_\* is no sparse"),
        ("attr_data", np.array(["a", "b", "c"]), r"attr_\* is no sparse"),
        ("attr_shape", np.array([3]), r"attr_\* is no sparse"),
        ("attr_indices", np.array([[0, 1, 1]]), r"attr_\* is no sparse"),
        ("labels", np.array([0, 1]), "needs a class 0, 1, ... for each of 3 vertices"),
        ("labels", np.array([0, -1, 1]), "from -1"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, part: str, value: np.ndarray, message: str) -> None:
    path = written(tmp_path, contents("adj_", "attr_") | {part: value})
    with pytest.raises(DataError, match=message) as caught:
        load_citations(path)
    assert str(path) in str(caught.value)


def test_the_other_layout_is_answered_with_what_the_file_holds(tmp_path: Path) -> None:
    path = written(tmp_path, contents("adj_", "attr_"))
    with pytest.raises(DataError, match=r"has no array adj_matrix\.data, .*; it holds adj_data"):
        load_cora_ml(path)


@needs_mirror
@pytest.mark.parametrize(
    ("name", "nodes", "words", "papers_of_topic", "arcs", "edges", "same_topic"),
    [
        ("cora_ml", 2_995, 2_879, [354, 402, 452, 442, 857, 193, 295], 8_416, 8_158, 0.7921),
        ("cora_directed", 2_708, 1_433, [298, 418, 818, 426, 217, 180, 351], 5_429, 5_278, 0.8138),
        ("citeseer_directed", 3_312, 3_703, [249, 596, 701, 508, 668, 590], 4_591, 4_536, 0.7393),
    ],
)
def test_sizes_are_the_published_ones(
    name: str, nodes: int, words: int, papers_of_topic: list[int], arcs: int, edges: int, same_topic: float
) -> None:
    data = datasets.load(name)
    assert (data.num_nodes, data.num_features, data.num_edges) == (nodes, words, arcs)
    assert torch.bincount(data.y).tolist() == papers_of_topic
    assert to_undirected(data.edge_index).shape == (2, 2 * edges)
    same = data.y[data.edge_index[0]] == data.y[data.edge_index[1]]
    assert float(same.double().mean()) == pytest.approx(same_topic, abs=5e-5)
    assert not data.is_undirected()
    assert not data.has_self_loops()
    assert data.is_coalesced()


@needs_mirror
def test_cora_ml_without_direction_has_the_16316_arcs_of_torch_geometric() -> None:
    assert to_undirected(datasets.load("cora_ml").edge_index).shape[1] == 16_316


@needs_mirror
def test_citations_of_a_paper_by_itself_are_removed() -> None:
    (path,) = datasets.fetch("citeseer_directed")
    assert len(np.load(path)["adj_indices"]) - datasets.load("citeseer_directed").num_edges == 124


@needs_mirror
@pytest.mark.parametrize(
    ("name", "most_from", "most_to"), [("cora_ml", 72, 246), ("cora_directed", 166, 5), ("citeseer_directed", 99, 26)]
)
def test_degrees_tell_which_end_cites(name: str, most_from: int, most_to: int) -> None:
    source, target = datasets.load(name).edge_index
    assert (int(torch.bincount(source).max()), int(torch.bincount(target).max())) == (most_from, most_to)


@pytest.mark.parametrize("name", NAMES)
def test_upstream_addresses_are_pinned_to_a_commit(name: str) -> None:
    commits = ("394425a9eeffbd95c09d68d6f0e1473ac9c2fd4a", "1e72912a0810cdf27ae54fd589a3b43358a2b161")
    (file,) = datasets.info(name).files
    assert file.urls[0].endswith(file.name)
    assert any(commit in file.urls[0] for commit in commits)
    assert file.sha256

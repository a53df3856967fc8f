"""Planetoid's files are read as torch-geometric reads them, but never run."""

from __future__ import annotations

import os
import pickle
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from torch_geometric.data import Data
from torch_geometric.datasets import Planetoid
from torch_geometric.io import read_planetoid_data
from torch_geometric.transforms import NormalizeFeatures

import datasets
from assay.errors import DataError
from datasets.planetoid import load_planetoid, load_ten_splits

MIRROR = os.environ.get("ASSAY_MIRROR")
needs_mirror = pytest.mark.skipif(not MIRROR, reason="the genuine files are only in the mirror: set ASSAY_MIRROR")
PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
KNOWN, FIRST_TEST, NUM_NODES = 505, 505, 510
TEST_IDS = [509, 505, 508]  # 506 and 507 are left out
LINKS = {0: [1, 2, 2], 1: [0, 1, 509], 2: [0, 0], 509: [1], 505: [504], 504: [505], 506: []}


class Hostile:
    """Pickles as the shell command `touch <path>`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def contents() -> dict[str, object]:
    """A small data set: 3 vertices for training, 500 for validation, 2 in no mask, 3 for testing; 4 words, 3 topics."""
    rng = np.random.default_rng(0)
    allx, tx = ((rng.random((rows, 4)) < 0.5).astype(np.float32) for rows in (KNOWN, 3))
    ally, ty = (np.eye(3, dtype=np.int32)[rng.integers(3, size=rows)] for rows in (KNOWN, 3))
    allx[0], allx[1] = [1, 1, 0, 1], 0  # a vertex with three words, and one without any
    graph = defaultdict(list, LINKS)
    sparse = {name: scipy.sparse.csr_matrix(rows) for name, rows in (("x", allx[:3]), ("tx", tx), ("allx", allx))}
    return sparse | {"y": ally[:3], "ty": ty, "ally": ally, "graph": graph, "test.index": TEST_IDS}


def written(folder: Path, content: dict[str, object]) -> tuple[Path, ...]:
    for part, value in content.items():
        path = folder / f"ind.citeseer.{part}"
        if part == "test.index":
            path.write_text("".join(f"{line}\n" for line in value))
        else:
            path.write_bytes(pickle.dumps(value, protocol=2))
    return tuple(folder / f"ind.citeseer.{part}" for part in PARTS)


def assert_same(ours: Data, theirs: Data) -> None:
    assert sorted(ours.keys()) == sorted(theirs.keys())
    for name, value in theirs.to_dict().items():
        assert ours[name].dtype == value.dtype, name
        assert torch.equal(ours[name], value), name
        assert ours[name].is_contiguous(), name


@needs_mirror
@pytest.mark.parametrize(("name", "theirs"), [("cora", "Cora"), ("citeseer", "CiteSeer")])
@pytest.mark.parametrize("normalize", [False, True])
def test_the_genuine_files_become_what_torch_geometric_makes_of_them(
    tmp_path: Path, name: str, theirs: str, normalize: bool
) -> None:
    raw = tmp_path / theirs / "raw"
    raw.mkdir(parents=True)
    for path in datasets.fetch(name):
        shutil.copy(path, raw)
    reference = Planetoid(str(tmp_path), theirs, transform=NormalizeFeatures() if normalize else None)[0]
    assert_same(datasets.load(name, normalize_features=normalize), reference)


@needs_mirror
@pytest.mark.parametrize(
    ("name", "nodes", "words", "topics", "arcs", "split"),
    [("cora", 2_708, 1_433, 7, 10_556, [140, 500, 1_000]), ("citeseer", 3_327, 3_703, 6, 9_104, [120, 500, 1_000])],
)
def test_the_sizes_are_the_published_ones(
    name: str, nodes: int, words: int, topics: int, arcs: int, split: list[int]
) -> None:
    data = datasets.load(name)
    assert (data.num_nodes, data.num_features, data.num_edges) == (nodes, words, arcs)
    assert [int(mask.sum()) for mask in (data.train_mask, data.val_mask, data.test_mask)] == split
    assert torch.bincount(data.y[data.train_mask]).tolist() == [20] * topics
    assert set(data.x.unique().tolist()) == {0, 1}
    assert data.is_undirected()
    assert Data(edge_index=data.edge_index.flip(0), num_nodes=nodes).is_coalesced()
    assert not data.has_self_loops()


@needs_mirror
def test_the_test_ids_that_citeseer_leaves_out_are_vertices_without_words() -> None:
    data = datasets.load("citeseer")
    missing = torch.ones(1_015, dtype=torch.bool) & ~data.test_mask[2_312:]
    assert int(missing.sum()) == 15
    assert not data.x[2_312:][missing].any()


def test_small_files_become_what_torch_geometric_makes_of_them(tmp_path: Path) -> None:
    ours = load_planetoid(*written(tmp_path, contents()))
    assert_same(ours, read_planetoid_data(str(tmp_path), "citeseer"))


def test_every_row_is_where_its_file_says(tmp_path: Path) -> None:
    content = contents()
    data = load_planetoid(*written(tmp_path, content))
    assert data.num_nodes == NUM_NODES
    assert np.array_equal(data.x[:KNOWN].numpy(), content["allx"].toarray())
    assert np.array_equal(data.x[TEST_IDS].numpy(), content["tx"].toarray())
    assert np.array_equal(data.y[TEST_IDS].numpy(), content["ty"].argmax(axis=1))
    assert not data.x[[506, 507]].any()
    assert data.y[[506, 507]].tolist() == [0, 0]
    assert data.train_mask.nonzero().flatten().tolist() == [0, 1, 2]
    assert data.val_mask.nonzero().flatten().tolist() == list(range(3, 503))
    assert data.test_mask.nonzero().flatten().tolist() == sorted(TEST_IDS)


def test_links_are_undirected_merged_and_without_loops(tmp_path: Path) -> None:
    one_way = {0: [1, 2, 2], 1: [1], 509: [1], 504: [505]}
    data = load_planetoid(*written(tmp_path, contents() | {"graph": one_way}))
    wanted = [(1, 0), (2, 0), (0, 1), (509, 1), (0, 2), (505, 504), (504, 505), (1, 509)]
    assert list(zip(*data.edge_index.tolist(), strict=True)) == wanted


def test_normalised_rows_sum_to_one_unless_they_are_empty(tmp_path: Path) -> None:
    data = load_planetoid(*written(tmp_path, contents()), normalize_features=True)
    assert data.x[0].tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])
    assert data.x[1].tolist() == [0, 0, 0, 0]
    sums = data.x.sum(dim=1)
    assert torch.allclose(sums[sums > 0], torch.ones(()))


@pytest.mark.parametrize("part", PARTS[:-1])
def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path: Path, part: str) -> None:
    victim = tmp_path / "victim"
    paths = written(tmp_path, contents() | {part: Hostile(victim)})
    with pytest.raises(DataError, match=rf"ind\.citeseer\.{part}: refused, because this pickle asks for the global"):
        load_planetoid(*paths)
    assert not victim.exists()


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("x", lambda x: x[[1, 0, 2]], "do not belong together: ind.citeseer.x"),
        ("y", lambda y: y[:2], "do not belong together"),
        ("tx", lambda tx: tx[:, :3], "do not belong together"),
        ("test.index", lambda ids: ids[:2], "do not belong together"),
        ("test.index", lambda ids: [3, *ids[1:]], "do not belong together"),
        ("test.index", lambda ids: [505, 505, 506], "each only once"),
        ("test.index", lambda ids: [], "at least one vertex id"),
        ("test.index", lambda ids: ["a"], "not a list of vertex ids"),
        ("tx", lambda tx: tx.toarray(), "holds a ndarray, not a sparse matrix"),
        ("ally", lambda ally: ally[:, 0], "no two-dimensional array"),
        ("graph", lambda graph: {0: [NUM_NODES]}, "has vertices 0 to 510, outside 0 .. 509"),
        ("graph", lambda graph: {0: [-1]}, "has vertices -1 to 0, outside"),
        ("graph", lambda graph: [1, 2], "not a dict of adjacency lists"),
        ("graph", lambda graph: {0: ["a"]}, "not a dict of adjacency lists"),
        ("graph", lambda graph: {}, "not a dict of adjacency lists"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, part: str, change: Callable[[object], object], message: str
) -> None:
    content = contents()
    paths = written(tmp_path, content | {part: change(content[part])})
    with pytest.raises(DataError, match=message) as caught:
        load_planetoid(*paths)
    assert str(tmp_path) in str(caught.value)


def splits(folder: Path, change: Callable[[dict[str, np.ndarray]], object] = lambda masks: None) -> list[Path]:
    """Ten splits: number k trains on vertices k and 506, validates on 504, tests on 505, 507, 509."""
    paths = []
    for number in range(10):
        masks = {f"{part}_mask": np.zeros(NUM_NODES, np.uint8) for part in ("train", "val", "test")}
        for part, nodes in (("train", [number, 506]), ("val", [504]), ("test", [505, 507, 509])):
            masks[f"{part}_mask"][nodes] = 1
        if number == 7:
            change(masks)
        paths.append(folder / f"split_{number}.npz")
        np.savez_compressed(paths[-1], **masks)
    return paths


def test_ten_splits_are_columns_without_the_vertices_that_have_no_class(tmp_path: Path) -> None:
    files = written(tmp_path, contents())
    data, public = load_ten_splits(*files, *splits(tmp_path)), load_planetoid(*files)
    assert data.train_mask.nonzero().tolist() == [[number, number] for number in range(10)]
    assert data.val_mask.nonzero().tolist() == [[504, number] for number in range(10)]
    assert data.test_mask.nonzero().tolist() == [[node, number] for node in (505, 509) for number in range(10)]
    for part in ("x", "y", "edge_index"):
        assert torch.equal(data[part], public[part])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda masks: masks.pop("val_mask"), "has no array val_mask"),
        (lambda masks: masks.update(val_mask=masks["val_mask"][1:]), r"val_mask must be 0 or 1 .* got shape \(509,\)"),
        (lambda masks: masks.update(val_mask=masks["val_mask"] * 2), "val_mask must be 0 or 1 for each of 510"),
        (lambda masks: masks.update(val_mask=masks["val_mask"] * 1.0), "val_mask must be 0 or 1 .* dtype float64"),
        (lambda masks: masks.update(val_mask=masks["test_mask"]), "a vertex is in two of train_mask, val_mask"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(
    tmp_path: Path, change: Callable[[dict[str, np.ndarray]], object], message: str
) -> None:
    with pytest.raises(DataError, match=rf"split_7\.npz: {message}"):
        load_ten_splits(*written(tmp_path, contents()), *splits(tmp_path, change))


@needs_mirror
@pytest.mark.parametrize("name", ["cora", "citeseer"])
def test_ten_splits_are_of_the_same_graph(name: str) -> None:
    ten, public = datasets.load(f"{name}_ten_splits", normalize_features=True), datasets.load(name)
    assert torch.allclose(ten.x.sum(dim=1), (public.x.sum(dim=1) > 0).float())
    for part in ("y", "edge_index"):
        assert torch.equal(ten[part], public[part])


@needs_mirror
def test_the_ten_splits_of_cora_have_the_known_sizes() -> None:
    data = datasets.load("cora_ten_splits")
    sizes = [mask.sum(dim=0).tolist() for mask in (data.train_mask, data.val_mask, data.test_mask)]
    assert sizes == [[1_192] * 10, [796] * 10, [497] * 10]


@needs_mirror
def test_the_ten_splits_of_citeseer_cover_every_vertex_that_has_a_class_or_the_largest_component() -> None:
    data = datasets.load("citeseer_ten_splits")
    covered = data.train_mask.int() + data.val_mask.int() + data.test_mask.int()
    assert int(covered.max()) == 1
    # 2,120 vertices of the component and 3,327 of all, less those without a class
    assert covered.sum(dim=0).tolist() == [3_312] * 4 + [2_110] * 2 + [3_312] * 4
    files = [np.load(path) for path in datasets.fetch("citeseer_ten_splits")[len(PARTS) :]]
    sizes = {tuple(int(file[f"{part}_mask"].sum()) for part in ("train", "val", "test")) for file in files}
    assert sizes == {(1_596, 1_065, 666), (1_017, 679, 424)}
    without_class = ~datasets.load("citeseer").test_mask[2_312:]
    assert (int(without_class.sum()), int(covered[2_312:][without_class].sum())) == (15, 0)


@pytest.mark.parametrize("name", ["cora", "citeseer", "pubmed"])
def test_upstream_addresses_are_pinned_to_a_commit(name: str) -> None:
    root = "https://raw.githubusercontent.com/kimiyoung/planetoid/af6abf468a772cc055bec88c52e4d6f51b7c37e3/data"
    files = datasets.info(name).files
    assert [file.urls for file in files] == [(f"{root}/ind.{name}.{part}",) for part in PARTS]
    unknown = [file.name for file in files if file.sha256 is None]
    assert unknown == (["ind.pubmed.allx"] if name == "pubmed" else [])


@pytest.mark.parametrize("name", ["cora", "citeseer"])
def test_addresses_of_the_ten_splits_are_pinned_to_a_commit(name: str) -> None:
    root = "https://raw.githubusercontent.com/twitter-research/neural-sheaf-diffusion"
    commit = "11e21b561d884713ab1a18a521a7dc2fb26b9361"
    files = datasets.info(f"{name}_ten_splits").files
    assert files[: len(PARTS)] == datasets.info(name).files
    names = [f"{name}_split_0.6_0.2_{number}.npz" for number in range(10)]
    assert [file.urls for file in files[len(PARTS) :]] == [(f"{root}/{commit}/splits/{file}",) for file in names]
    assert all(file.sha256 for file in files)

"""Cora and Citeseer, as Planetoid published them: who cites whom, bags of words, topics, the public split.

A data set is eight files `ind.<name>.<part>`. `x`, `allx`, `tx` are scipy CSR matrices of 0/1 word indicators
of the training vertices, of all vertices outside the test set (the training vertices first), and of the test
vertices; `y`, `ally`, `ty` are their classes as one-hot arrays; `graph` is a dict of adjacency lists;
`test.index` is text, the ids of the test vertices in the order of `tx`. All but the last are Python 2 pickles.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assay.errors import DataError
from datasets.pickles import load_pickle
from datasets.sources import Dataset, File

if TYPE_CHECKING:
    from torch_geometric.data import Data

NUM_VAL = 500
_COMMIT = "af6abf468a772cc055bec88c52e4d6f51b7c37e3"


def load_planetoid(
    x: Path, tx: Path, allx: Path, y: Path, ty: Path, ally: Path, graph: Path, test_index: Path,
    normalize_features: bool = False,
) -> Data:  # fmt: skip
    """Read the eight files of a Planetoid data set.

    The result is what `torch_geometric.datasets.Planetoid` makes of the same files. Test ids between the first
    and the last that the files leave out (15 of Citeseer, vertices without words) are vertices with zero
    features and class 0 in no mask.

    Args:
        x, tx, allx, y, ty, ally, graph, test_index: the files.
        normalize_features: divide the words of a vertex by their number, so that each row sums to 1.

    Returns:
        x (N, F) float32, 0/1 unless normalised; edge_index (2, A) int64, both arcs of each edge, without
        duplicates and self loops, sorted by (edge_index[1], edge_index[0]); y (N,) int64; train_mask, val_mask,
        test_mask (N,) bool: the vertices of `x`, the 500 after them, and those of `test_index`.

    Raises:
        DataError: a file that is not in the format, or files that do not belong together.
    """
    # Listing data sets must not import torch.
    import torch
    from torch_geometric.data import Data
    from torch_geometric.utils import remove_self_loops, to_undirected

    features = {path: _dense(path) for path in (x, tx, allx)}
    classes = {path: _array(path) for path in (y, ty, ally)}
    num_train, test = len(features[x]), _test_ids(test_index)
    _check_sizes(features, classes, test, (x, tx, allx, y, ty, ally, test_index))
    num_nodes = int(test.max()) + 1
    words = _assembled(features[allx], features[tx], test, num_nodes)
    if normalize_features:
        words /= np.maximum(words.sum(axis=1, keepdims=True), 1)
    one_hot = _assembled(classes[ally], classes[ty], test, num_nodes)
    links, _ = remove_self_loops(torch.from_numpy(_links(graph, num_nodes)))
    return Data(
        x=torch.from_numpy(words),
        # flipped to torch-geometric's order of these graphs: by target first
        edge_index=to_undirected(links, num_nodes=num_nodes).flip(0),
        y=torch.from_numpy(one_hot.argmax(axis=1)),
        train_mask=torch.from_numpy(_mask(np.arange(num_train), num_nodes)),
        val_mask=torch.from_numpy(_mask(np.arange(num_train, num_train + NUM_VAL), num_nodes)),
        test_mask=torch.from_numpy(_mask(test, num_nodes)),
    )


def _dense(path: Path) -> np.ndarray:
    matrix = load_pickle(path, encoding="latin1")
    if not hasattr(matrix, "toarray"):
        raise DataError(f"{path}: holds a {type(matrix).__name__}, not a sparse matrix of features")
    return matrix.toarray().astype(np.float32)


def _array(path: Path) -> np.ndarray:
    array = load_pickle(path, encoding="latin1")
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "iuf":
        raise DataError(f"{path}: holds no two-dimensional array of one-hot classes")
    return array


def _test_ids(path: Path) -> np.ndarray:
    try:
        ids = np.array([int(line) for line in path.read_text(encoding="ascii").split()], dtype=np.int64)
    except ValueError as error:
        raise DataError(f"{path}: not a list of vertex ids: {error}") from error
    if len(ids) == 0 or len(np.unique(ids)) != len(ids):
        raise DataError(f"{path}: needs at least one vertex id, and each only once")
    return ids


def _check_sizes(
    features: dict[Path, np.ndarray], classes: dict[Path, np.ndarray], test: np.ndarray, paths: tuple[Path, ...]
) -> None:
    x, tx, allx, y, ty, ally, test_index = paths
    pairs = ((features[x], classes[y]), (features[tx], classes[ty]), (features[allx], classes[ally]))
    num_train, num_known = len(features[x]), len(features[allx])
    together = (
        all(len(words) == len(labels) for words, labels in pairs)
        and len({words.shape[1] for words, _ in pairs}) == len({labels.shape[1] for _, labels in pairs}) == 1
        and len(test) == len(features[tx])
        and num_train + NUM_VAL <= num_known <= test.min()
        and np.array_equal(features[x], features[allx][:num_train])
    )
    if not together:
        found = ", ".join(f"{path.name} {array.shape}" for path, array in (features | classes).items())
        raise DataError(
            f"{x.parent}: these files do not belong together: {found}, {test_index.name} ({len(test)},) from "
            f"{test.min()}; x must be the first rows of allx, with {NUM_VAL} more rows after it"
        )


def _assembled(known: np.ndarray, tested: np.ndarray, test: np.ndarray, num_nodes: int) -> np.ndarray:
    """Rows in the order of the vertices; zeros where the files have nothing."""
    rows = np.zeros((num_nodes, known.shape[1]), dtype=known.dtype)
    rows[: len(known)] = known
    rows[test] = tested
    return rows


def _links(path: Path, num_nodes: int) -> np.ndarray:
    graph = load_pickle(path, encoding="latin1")
    try:
        neighbors = {int(vertex): np.asarray(ids, dtype=np.int64).reshape(-1) for vertex, ids in graph.items()}
        source = np.repeat(np.array(list(neighbors), np.int64), [len(ids) for ids in neighbors.values()])
        links = np.stack([source, np.concatenate(list(neighbors.values()))])
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a dict of adjacency lists: {error}") from error
    if links.size and not 0 <= links.min() <= links.max() < num_nodes:
        raise DataError(f"{path}: has vertices {links.min()} to {links.max()}, outside 0 .. {num_nodes - 1}")
    return links


def _mask(nodes: np.ndarray, num_nodes: int) -> np.ndarray:
    mask = np.zeros(num_nodes, dtype=bool)
    mask[nodes] = True
    return mask


_CORA = (
    ("x", 22_119, "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab"),
    ("tx", 148_025, "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a"),
    ("allx", 257_305, "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543"),
    ("y", 4_054, "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1"),
    ("ty", 28_135, "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad"),
    ("ally", 47_959, "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71"),
    ("graph", 59_847, "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d"),
    ("test.index", 5_000, "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875"),
)
_CITESEER = (
    ("x", 31_087, "d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6"),
    ("tx", 260_321, "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21"),
    ("allx", 595_021, "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668"),
    ("y", 3_014, "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924"),
    ("ty", 24_135, "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce"),
    ("ally", 55_623, "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95"),
    ("graph", 61_987, "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7"),
    ("test.index", 5_000, "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4"),
)


def _dataset(name: str, parts: tuple[tuple[str, int, str], ...], description: str) -> Dataset:
    return Dataset(
        name=name,
        description=description,
        licence="MIT (the repository that distributes it); documents and citations: LINQS, for research with citation",
        citation=(
            'Z. Yang, W. W. Cohen, R. Salakhutdinov, "Revisiting Semi-Supervised Learning with Graph Embeddings", '
            'ICML 2016; P. Sen et al., "Collective Classification in Network Data", AI Magazine 29(3), 2008'
        ),
        upstream="https://github.com/kimiyoung/planetoid",
        files=tuple(
            File(
                name=f"ind.{name}.{part}",
                sha256=sha256,
                size_bytes=size_bytes,
                urls=(f"https://raw.githubusercontent.com/kimiyoung/planetoid/{_COMMIT}/data/ind.{name}.{part}",),
                mirror=f"planetoid/ind.{name}.{part}",
            )
            for part, size_bytes, sha256 in parts
        ),
        loader=load_planetoid,
    )


DATASETS = {
    "cora": _dataset(
        "cora", _CORA, "2,708 papers on machine learning, 5,278 citations, 1,433 words, 7 topics; split 140/500/1000."
    ),
    "citeseer": _dataset(
        "citeseer", _CITESEER, "3,327 papers, 4,552 citations, 3,703 words, 6 topics; split 120/500/1000."
    ),
}

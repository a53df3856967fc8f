"""Cora-ML, Cora and Citeseer with the direction of their citations; none has a split of its own.

A file is a numpy archive with two CSR matrices, in `<matrix>data`, `<matrix>indices`, `<matrix>indptr` and
`<matrix>shape`, where <matrix> is `adj_` and `attr_`, or `adj_matrix.` and `attr_matrix.` in Cora-ML; and `labels`.
An arc leads from the row of an entry to its column. What else a file holds (some of it pickled) stays unread.

What an arc means is not written down, but the degrees tell: in Cora up to 166 arcs leave a vertex and up to 5 reach
one (Citeseer: 99 and 26), so arcs lead from the cited paper to the one that cites it; in Cora-ML (72 and 246), the
other way round.

The vertices are numbered otherwise than in the Planetoid files, and Citeseer has 15 fewer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.errors import DataError
from datasets.arrays import check_labels, read_arrays, rows_normalized
from datasets.sources import Dataset, File

if TYPE_CHECKING:
    from torch_geometric.data import Data

_CSR = ("data", "indices", "indptr", "shape")


def load_cora_ml(path: Path, normalize_features: bool = False) -> Data:
    """Read the file of Cora-ML; see `load_citations`."""
    return _load(path, "adj_matrix.", "attr_matrix.", normalize_features)


def load_citations(path: Path, normalize_features: bool = False) -> Data:
    """Read a file as a directed graph.

    Args:
        path: the file.
        normalize_features: divide the features of a vertex by their sum.

    Returns:
        x (N, F) float32: words, 0/1 (Cora, Citeseer) or weighted (Cora-ML); edge_index (2, A) int64, arcs as the
        file has them, without duplicates and self loops, sorted by (edge_index[0], edge_index[1]); y (N,) int64.

    Raises:
        DataError: a file that is not in the format.
    """
    return _load(path, "adj_", "attr_", normalize_features)


def _load(path: Path, adjacency: str, attributes: str, normalize_features: bool) -> Data:
    # Listing data sets must not import torch.
    import torch
    from torch_geometric.data import Data
    from torch_geometric.utils import coalesce, remove_self_loops

    links, words = _matrix(path, adjacency), _matrix(path, attributes)
    (labels,) = read_arrays(path, ("labels",))
    num_nodes = words.shape[0]
    if links.shape != (num_nodes, num_nodes):
        raise DataError(f"{path}: {adjacency}* is {links.shape}, but {attributes}* has {num_nodes} rows")
    check_labels(labels, num_nodes, path)
    x = np.zeros(words.shape, dtype=np.float32)
    x[words.row, words.column] = words.value
    arcs, _ = remove_self_loops(torch.from_numpy(np.stack([links.row, links.column])))
    return Data(
        x=torch.from_numpy(rows_normalized(x) if normalize_features else x),
        edge_index=coalesce(arcs, num_nodes=num_nodes),
        y=torch.from_numpy(labels.astype(np.int64)),
    )


class _Entries(NamedTuple):
    row: np.ndarray
    column: np.ndarray
    value: np.ndarray
    shape: tuple[int, int]


def _matrix(path: Path, prefix: str) -> _Entries:
    value, column, start, shape = read_arrays(path, [prefix + part for part in _CSR])
    fits = (
        value.ndim == column.ndim == start.ndim == 1
        and value.dtype.kind in "iuf"
        and {column.dtype.kind, start.dtype.kind, shape.dtype.kind} <= set("iu")
        and shape.shape == (2,)
        and len(start) == shape[0] + 1
        and start[0] == 0
        and (np.diff(start) >= 0).all()
        and start[-1] == len(column) == len(value)
        and (not len(column) or 0 <= column.min() <= column.max() < shape[1])
    )
    if not fits:
        raise DataError(
            f"{path}: {prefix}* is no sparse (CSR) matrix: shape {shape.tolist()}, {value.shape} values, "
            f"{column.shape} column numbers, {start.shape} starts of rows"
        )
    row = np.repeat(np.arange(shape[0]), np.diff(start))
    return _Entries(row, column.astype(np.int64), value, (int(shape[0]), int(shape[1])))


_PITFALLS = "https://raw.githubusercontent.com/shchur/gnn-benchmark/1e72912a0810cdf27ae54fd589a3b43358a2b161/data/npz"
_PPNP = "https://raw.githubusercontent.com/klicperajo/ppnp/394425a9eeffbd95c09d68d6f0e1473ac9c2fd4a/ppnp/data"


def _dataset(name: str, file: str, size_bytes: int, sha256: str, url: str, description: str, source: str) -> Dataset:
    return Dataset(
        name=name,
        description=description,
        licence="MIT (the repository that distributes it)",
        citation=source,
        upstream=url,
        files=(File(file, sha256, size_bytes, urls=(f"{url}/{file}",), mirror=f"citation_directed/{file}"),),
        loader=load_cora_ml if name == "cora_ml" else load_citations,
    )


_SHCHUR = 'O. Shchur et al., "Pitfalls of Graph Neural Network Evaluation", arXiv 1811.05868, 2018'
_SEN = 'P. Sen et al., "Collective Classification in Network Data", AI Magazine 29(3), 2008'
_BOJCHEVSKI = 'A. Bojchevski, S. Guennemann, "Deep Gaussian Embedding of Graphs", ICLR 2018'

DATASETS = {
    "cora_ml": _dataset(
        "cora_ml", "cora_ml.npz", 1_622_234, "e3439bfd32c4a962d5c56a4f313793baee39181c208c90a3915b61183d3e1cda", _PPNP,
        "2,995 papers on machine learning, 8,416 directed citations, 2,879 words, 7 topics; no split.", _BOJCHEVSKI,
    ),
    "cora_directed": _dataset(
        "cora_directed", "cora.npz", 540_580, "068e22d90c3849b4057dfb05851741428992af058efcd4e7ebb4186f3d581de2",
        _PITFALLS, "2,708 papers on machine learning, 5,429 directed citations, 1,433 words, 7 topics; no split.",
        f"{_SHCHUR}; {_SEN}",
    ),
    "citeseer_directed": _dataset(
        "citeseer_directed", "citeseer.npz", 1_348_784,
        "280278b21b434c047922e8389518861416fb3ad39389c27865ff0e6bbb0aaab7", _PITFALLS,
        "3,312 papers, 4,591 directed citations, 3,703 words, 6 topics; no split.", f"{_SHCHUR}; {_SEN}",
    ),
}  # fmt: skip

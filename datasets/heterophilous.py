"""Graphs whose neighbours often differ in class: web pages (WebKB, Wikipedia) and actors, each with ten fixed splits.

A file is a numpy archive: `node_features` (N, F), `node_labels` (N,), `edges` (E, 2), and `train_masks`, `val_masks`,
`test_masks` (10, N), all as Platonov et al. published them; the splits are those of Pei et al. (Geom-GCN), but for
the filtered graphs.

Direction: in the files without `_directed` each edge is stored once, smaller id first. That order means nothing, so
they become symmetric here. The `_directed` files hold the hyperlinks as they point, and keep them.

Cornell is the right one. A copy of it went round (Geom-GCN, January 2021) whose features and labels were those of
Texas, which is why many papers print a homophily of 0.30 for it instead of 0.12.

In the unfiltered Chameleon and Squirrel, copies of one page lie in training and test set alike; Platonov et al.
dropped them in the filtered ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assay.errors import DataError
from datasets.arrays import check_arcs, check_labels, read_arrays, rows_normalized
from datasets.sources import Dataset, File

if TYPE_CHECKING:
    from torch_geometric.data import Data

_COMMIT = "a431395582e929d88271309716bea4fe24ce6318"
_MASKS = ("train_masks", "val_masks", "test_masks")


def load_undirected(path: Path, normalize_features: bool = False) -> Data:
    """Read a file as an undirected graph: both arcs of each of its edges.

    Args:
        path: the file.
        normalize_features: divide the features of a vertex by their sum.

    Returns:
        x (N, F) float32, counts or 0/1 unless normalised; edge_index (2, A) int64 without duplicates and self loops,
        sorted by (edge_index[0], edge_index[1]); y (N,) int64; train_mask, val_mask, test_mask (N, 10) bool, a
        column for each split.

    Raises:
        DataError: a file that is not in the format.
    """
    from torch_geometric.utils import to_undirected

    data = load_directed(path, normalize_features)
    data.edge_index = to_undirected(data.edge_index, num_nodes=data.num_nodes)
    return data


def load_directed(path: Path, normalize_features: bool = False) -> Data:
    """Read a file as a directed graph: its arcs from edge_index[0] to edge_index[1]; else as `load_undirected`."""
    # Listing data sets must not import torch.
    import torch
    from torch_geometric.data import Data
    from torch_geometric.utils import coalesce, remove_self_loops

    x, y, edges, *masks = read_arrays(path, ("node_features", "node_labels", "edges", *_MASKS))
    _check(x, y, edges, masks, path)
    x = x.astype(np.float32)
    arcs, _ = remove_self_loops(torch.from_numpy(edges.T.astype(np.int64)))
    train, val, test = (torch.from_numpy(mask.T.copy()) for mask in masks)
    return Data(
        x=torch.from_numpy(rows_normalized(x) if normalize_features else x),
        edge_index=coalesce(arcs, num_nodes=len(x)),
        y=torch.from_numpy(y.astype(np.int64)),
        train_mask=train,
        val_mask=val,
        test_mask=test,
    )


def _check(x: np.ndarray, y: np.ndarray, edges: np.ndarray, masks: list[np.ndarray], path: Path) -> None:
    if x.ndim != 2 or x.dtype.kind not in "iuf" or not np.isfinite(x).all():
        raise DataError(f"{path}: node_features must be finite numbers (N, F); got shape {x.shape}, dtype {x.dtype}")
    check_labels(y, len(x), path)
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
        raise DataError(f"{path}: edges must be vertex ids (E, 2); got shape {edges.shape}, dtype {edges.dtype}")
    check_arcs(edges, len(x), path)
    for name, mask in zip(_MASKS, masks, strict=True):
        if mask.dtype != bool or mask.ndim != 2 or mask.shape != (len(masks[0]), len(x)):
            raise DataError(
                f"{path}: {name} must be bool, a row for each split and a column for each of {len(x)} vertices; "
                f"got shape {mask.shape}, dtype {mask.dtype}"
            )
    if (np.sum(masks, axis=0) > 1).any():
        raise DataError(f"{path}: a vertex is in two of {', '.join(_MASKS)} of one split")


def _dataset(name: str, size_bytes: int, sha256: str, description: str, source: str) -> Dataset:
    platonov = 'O. Platonov et al., "A Critical Look at the Evaluation of GNNs under Heterophily", ICLR 2023'
    pei = 'H. Pei et al., "Geom-GCN: Geometric Graph Convolutional Networks", ICLR 2020'
    return Dataset(
        name=name,
        description=description,
        licence="MIT (the repository that distributes it)",
        citation=f"{platonov}; {pei}; {source}",
        upstream="https://github.com/yandex-research/heterophilous-graphs",
        files=(
            File(
                name=f"{name}.npz",
                sha256=sha256,
                size_bytes=size_bytes,
                urls=(
                    f"https://raw.githubusercontent.com/yandex-research/heterophilous-graphs/{_COMMIT}/data/{name}.npz",
                ),
                mirror=f"heterophilous/{name}.npz",
            ),
        ),
        loader=load_directed if name.endswith("_directed") else load_undirected,
    )


_WEBKB = 'M. Craven et al., "Learning to Extract Symbolic Knowledge from the World Wide Web", AAAI 1998'
_WIKIPEDIA = 'B. Rozemberczki et al., "Multi-Scale Attributed Node Embedding", Journal of Complex Networks 9(2), 2021'
_ACTOR = 'J. Tang et al., "Social Influence Analysis in Large-Scale Networks", KDD 2009'

_ALL = (
    _dataset(
        "texas", 28_586, "b164b99e6c3d43e4ab07488ec59bd8c815f90cbc1bd4cf425ce587d2b534d844",
        "183 web pages, 279 links, 1,703 words, 5 kinds of pages; homophily 0.06; ten splits 87/59/37.", _WEBKB,
    ),
    _dataset(
        "wisconsin", 41_672, "2543c89838cfc75f737f7c4664cc1d097f8268602c20b2d1bd4f21407df9c074",
        "251 web pages, 450 links, 1,703 words, 5 kinds of pages; homophily 0.18; ten splits 120/80/51.", _WEBKB,
    ),
    _dataset(
        "cornell", 30_515, "684c54ba3daa13b0ba1f04a3d6dd1b1175c1ae9bdeb982851fd4ff96d3aac298",
        "183 web pages, 277 links, 1,703 words, 5 kinds of pages; homophily 0.12; ten splits 87/59/37.", _WEBKB,
    ),
    _dataset(
        "chameleon", 177_840, "4c640bd2877fc4f9f101531e2f977bc16445a54e09a5cb01178df608e552f3fd",
        "2,277 Wikipedia pages, 31,371 links, 2,325 nouns, 5 classes of traffic; homophily 0.23; ten splits "
        "1092/729/456.", _WIKIPEDIA,
    ),
    _dataset(
        "squirrel", 704_277, "d436e3b42c0546b105241c0ab0766097074e68e55f67b133eeb9b0162e55cbd9",
        "5,201 Wikipedia pages, 198,353 links, 2,089 nouns, 5 classes of traffic; homophily 0.22; ten splits "
        "2496/1664/1041.", _WIKIPEDIA,
    ),
    _dataset(
        "actor", 252_956, "c350eef06b2c2a9bf8218be2b57cac6d4003d0922eb597a039e9123f75817816",
        "7,600 actors (Film), 26,659 pages in common, 932 words, 5 classes; homophily 0.22; ten splits "
        "3648/2432/1520.", _ACTOR,
    ),
    _dataset(
        "chameleon_directed", 191_520, "34aea6b6888063544232100d53d4aa7e87e37953ec8dd3a7092afb25bb2f0328",
        "Chameleon with the direction of its 36,051 hyperlinks.", _WIKIPEDIA,
    ),
    _dataset(
        "squirrel_directed", 760_119, "3f0436486716cf77b651c372e54f6b4c2cc52262e7faeeab584a34b41bae2616",
        "Squirrel with the direction of its 216,933 hyperlinks.", _WIKIPEDIA,
    ),
    _dataset(
        "chameleon_filtered_directed", 69_275, "5a2d40701407188f1661d37a326484b49cc15251e0dedaa7bd380873dac80f21",
        "The 890 pages of Chameleon that are no copies, and the direction of their 13,534 hyperlinks; ten splits, "
        "about 424/289/177.", _WIKIPEDIA,
    ),
    _dataset(
        "squirrel_filtered_directed", 249_855, "0526e53252f0b052124f7390829c32e923d432acaf64206191a1144a07b39620",
        "The 2,223 pages of Squirrel that are no copies, and the direction of their 65,578 hyperlinks; ten splits, "
        "about 1063/712/448.", _WIKIPEDIA,
    ),
)  # fmt: skip

DATASETS = {dataset.name: dataset for dataset in _ALL}

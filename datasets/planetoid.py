"""Cora, Citeseer and Pubmed, as Planetoid published them: who cites whom, words, topics, the public split.

A data set is eight files `ind.<name>.<part>`. `x`, `allx`, `tx` are scipy CSR matrices of 0/1 word indicators
of the training vertices, of all vertices outside the test set (the training vertices first), and of the test
vertices; `y`, `ally`, `ty` are their classes as one-hot arrays; `graph` is a dict of adjacency lists;
`test.index` is text, the ids of the test vertices in the order of `tx`. All but the last are Python 2 pickles.

`cora_ten_splits` and `citeseer_ten_splits` are the same graphs with the ten splits of Pei et al. (Geom-GCN), as
Neural Sheaf Diffusion distributes them in the order of these vertices: archives of the vectors `train_mask`,
`val_mask`, `test_mask`. Their names say 0.6 and 0.2, the shares are 48/32/20 %. Some cover the largest connected
component only: all of Cora's, and numbers 4 and 5 of Citeseer's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assay.errors import DataError
from datasets.arrays import check_arcs, read_arrays, rows_normalized
from datasets.pickles import load_pickle
from datasets.sources import Dataset, File

if TYPE_CHECKING:
    from torch_geometric.data import Data

NUM_VAL = 500
_COMMIT = "af6abf468a772cc055bec88c52e4d6f51b7c37e3"
_SPLITS_COMMIT = "11e21b561d884713ab1a18a521a7dc2fb26b9361"
_MASKS = ("train_mask", "val_mask", "test_mask")


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
        normalize_features: divide the words of a vertex by their sum, so that each row sums to 1.

    Returns:
        x (N, F) float32, unless normalised 0/1 (Cora, Citeseer) or weighted (Pubmed); edge_index (2, A) int64,
        both arcs of each edge, without duplicates and self loops, sorted by (edge_index[1], edge_index[0]);
        y (N,) int64; train_mask, val_mask, test_mask (N,) bool: the vertices of `x`, the 500 after them, and those
        of `test_index`.

    Raises:
        DataError: a file that is not in the format, or files that do not belong together.
    """
    return _load((x, tx, allx, y, ty, ally, graph, test_index), normalize_features)[0]


def load_ten_splits(
    x: Path, tx: Path, allx: Path, y: Path, ty: Path, ally: Path, graph: Path, test_index: Path,
    split_0: Path, split_1: Path, split_2: Path, split_3: Path, split_4: Path,
    split_5: Path, split_6: Path, split_7: Path, split_8: Path, split_9: Path,
    normalize_features: bool = False,
) -> Data:  # fmt: skip
    """Read the eight files, with ten other splits in place of the public one.

    Returns:
        as `load_planetoid`, but train_mask, val_mask, test_mask are (N, 10) bool, a column for each split. Vertices
        without a class (15 of Citeseer) are in no mask, as in the code of Neural Sheaf Diffusion.

    Raises:
        DataError: a file that is not in the format, or files that do not belong together.
    """
    # Listing data sets must not import torch.
    import torch

    data, labelled = _load((x, tx, allx, y, ty, ally, graph, test_index), normalize_features)
    splits = (split_0, split_1, split_2, split_3, split_4, split_5, split_6, split_7, split_8, split_9)
    masks = np.stack([_split(path, len(labelled)) for path in splits], axis=-1) & labelled[:, None]
    for name, mask in zip(_MASKS, masks, strict=True):
        data[name] = torch.from_numpy(mask)
    return data


def _load(paths: tuple[Path, ...], normalize_features: bool) -> tuple[Data, np.ndarray]:
    """The data, and which vertices (N,) bool have a class."""
    # Listing data sets must not import torch.
    import torch
    from torch_geometric.data import Data
    from torch_geometric.utils import remove_self_loops, to_undirected

    x, tx, allx, y, ty, ally, graph, test_index = paths
    features = {path: _dense(path) for path in (x, tx, allx)}
    classes = {path: _array(path) for path in (y, ty, ally)}
    num_train, test = len(features[x]), _test_ids(test_index)
    _check_sizes(features, classes, test, (x, tx, allx, y, ty, ally, test_index))
    num_nodes = int(test.max()) + 1
    words = _assembled(features[allx], features[tx], test, num_nodes)
    one_hot = _assembled(classes[ally], classes[ty], test, num_nodes)
    links, _ = remove_self_loops(torch.from_numpy(_links(graph, num_nodes)))
    data = Data(
        x=torch.from_numpy(rows_normalized(words) if normalize_features else words),
        # flipped to torch-geometric's order of these graphs: by target first
        edge_index=to_undirected(links, num_nodes=num_nodes).flip(0),
        y=torch.from_numpy(one_hot.argmax(axis=1)),
        train_mask=torch.from_numpy(_mask(np.arange(num_train), num_nodes)),
        val_mask=torch.from_numpy(_mask(np.arange(num_train, num_train + NUM_VAL), num_nodes)),
        test_mask=torch.from_numpy(_mask(test, num_nodes)),
    )
    return data, one_hot.any(axis=1)


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
    check_arcs(links, num_nodes, path)
    return links


def _mask(nodes: np.ndarray, num_nodes: int) -> np.ndarray:
    mask = np.zeros(num_nodes, dtype=bool)
    mask[nodes] = True
    return mask


def _split(path: Path, num_nodes: int) -> np.ndarray:
    """The masks (3, N) of one split."""
    masks = read_arrays(path, _MASKS)
    for name, mask in zip(_MASKS, masks, strict=True):
        if mask.shape != (num_nodes,) or mask.dtype.kind not in "bu" or mask.max() > 1:
            raise DataError(
                f"{path}: {name} must be 0 or 1 for each of {num_nodes} vertices; got shape {mask.shape}, "
                f"dtype {mask.dtype}"
            )
    split = np.stack(masks).astype(bool)
    if (split.sum(axis=0) > 1).any():
        raise DataError(f"{path}: a vertex is in two of {', '.join(_MASKS)}")
    return split


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


# The hash of allx could not be had when this was written: it is trusted on first use.
_PUBMED = (
    ("x", 23_172, "fbe9cb5c47200d1b7769a26e579be3b7130b556831f9d850e77c4c74f2599b33"),
    ("tx", 405_505, "4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d"),
    ("allx", 7_590_000, None),
    ("y", 854, "e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3"),
    ("ty", 12_135, "ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd"),
    ("ally", 224_739, "0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e"),
    ("graph", 471_808, "5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9"),
    ("test.index", 6_000, "b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5"),
)
_CORA_SPLITS = (
    (1_989, "619931e6c3f0248bf9c7b6be24680a0a617bcfaba661cb0d7afaee8e18a74a51"),
    (1_958, "d24be667034cb15a55bbf512dbae07b39c758eed66a9ba27106fa795422fe11c"),
    (1_967, "811fb695c4c9ab0a53ab3a665bf4232652a08a6e38faac5b43a7da43a8454b74"),
    (1_956, "9d9c19d88a689b76a4b97e8694ef8d20cb0f1b192bbd05a0d5649c91f0cb6ef4"),
    (1_942, "3040b6bc0ddfff3757d55f514becf0b1b6b2e382114bfb0bc900dbcbb58fca17"),
    (2_008, "52373862971060e366829930332acabaa90cc6f41019c52bf6c92e4c22f8f093"),
    (1_944, "07847ea94e8b19970cf86731f19869aac0c56310d27f687d0feb9553d7525dd6"),
    (1_962, "262573079c8b1f4bc043d32edd3d23a6c36f1d7258efe60c11a6197ba0eee560"),
    (1_956, "d6c6a2163aeadd103ae386e800e473d2388da866f3f464199180d9b0e2f7d6cc"),
    (1_948, "9d236d0cf723871d88dea567afe92d50c11d0ffba280349a5cc7f5f2ea42202f"),
)
_CITESEER_SPLITS = (
    (2_266, "31d483e4c9cbdd031c35e284fbda3935bfda6901b8618e4ef0381af5b9143582"),
    (2_284, "1e02e3220676a90715b5a868b207dc19f49e5bc13ef1e8a8c8305fb46e028659"),
    (2_261, "910ce9d1a9c12f2ce84486fa7d1953d560c2cf57f9e0c213a4ae362ca56bff77"),
    (2_278, "e8c84d2e0099b3c0d692a68126c03370579f0cd83c0dab42b25a0fb3b94cb2c6"),
    (2_122, "a45c9e6b4abe527499a1a1bf545063cdc910c82ef4676f1ef4e483bb77712c8e"),
    (2_123, "fc0f6091daab2b0f37a3522dbc60052d9bce4209e7c06482f6beb61a4ed442b9"),
    (2_260, "c99f610ff84bf5f5c3fe71b548c3cdf9c9bf02185d0152432b290877df1c4a3b"),
    (2_269, "26bb7e5ea3aed014df5765af845fae70db9cdbb8875c46fc89cc4d6d042fb182"),
    (2_261, "f8efadce7a3732ac39ec6625f591c9ed0b4222d95257f25f2a05ad5518e4a7eb"),
    (2_278, "d9e586dad1886b3e1fdf3999140a192bb0cacea67c7849262ec862b8e7286cdf"),
)


def _files(name: str, parts: tuple[tuple[str, int, str | None], ...]) -> tuple[File, ...]:
    return tuple(
        File(
            name=f"ind.{name}.{part}",
            sha256=sha256,
            size_bytes=size_bytes,
            urls=(f"https://raw.githubusercontent.com/kimiyoung/planetoid/{_COMMIT}/data/ind.{name}.{part}",),
            mirror=f"planetoid/ind.{name}.{part}",
        )
        for part, size_bytes, sha256 in parts
    )


def _split_files(name: str, splits: tuple[tuple[int, str], ...]) -> tuple[File, ...]:
    root = f"https://raw.githubusercontent.com/twitter-research/neural-sheaf-diffusion/{_SPLITS_COMMIT}/splits"
    names = [f"{name}_split_0.6_0.2_{number}.npz" for number in range(len(splits))]
    return tuple(
        File(file, sha256, size_bytes, urls=(f"{root}/{file}",), mirror=f"planetoid_splits_48_32_20/{file}")
        for file, (size_bytes, sha256) in zip(names, splits, strict=True)
    )


_YANG = (
    'Z. Yang, W. W. Cohen, R. Salakhutdinov, "Revisiting Semi-Supervised Learning with Graph Embeddings", ICML 2016; '
    'P. Sen et al., "Collective Classification in Network Data", AI Magazine 29(3), 2008'
)
_PEI = 'H. Pei et al., "Geom-GCN: Geometric Graph Convolutional Networks", ICLR 2020'


def _dataset(name: str, description: str, files: tuple[File, ...]) -> Dataset:
    licence = "MIT (the repository that distributes it); documents and citations: LINQS, for research with citation"
    return Dataset(
        name, description, licence, _YANG, "https://github.com/kimiyoung/planetoid", files, loader=load_planetoid
    )


def _with_ten_splits(dataset: Dataset, description: str, splits: tuple[tuple[int, str], ...]) -> Dataset:
    return replace(
        dataset,
        name=f"{dataset.name}_ten_splits",
        description=description,
        licence=f"{dataset.licence}; splits: Apache-2.0 (the repository that distributes them)",
        citation=f"{dataset.citation}; {_PEI}",
        files=dataset.files + _split_files(dataset.name, splits),
        loader=load_ten_splits,
    )


_CORA_DATASET = _dataset(
    "cora",
    "2,708 papers on machine learning, 5,278 citations, 1,433 words, 7 topics; split 140/500/1000.",
    _files("cora", _CORA),
)
_CITESEER_DATASET = _dataset(
    "citeseer", "3,327 papers, 4,552 citations, 3,703 words, 6 topics; split 120/500/1000.",
    _files("citeseer", _CITESEER),
)  # fmt: skip

DATASETS = {
    "cora": _CORA_DATASET,
    "citeseer": _CITESEER_DATASET,
    "pubmed": _dataset(
        "pubmed",
        "19,717 papers on diabetes, 44,324 citations, 500 weighted words, 3 topics; split 60/500/1000.",
        _files("pubmed", _PUBMED),
    ),
    "cora_ten_splits": _with_ten_splits(
        _CORA_DATASET, "Cora with ten splits of its largest component: 1192/796/497.", _CORA_SPLITS
    ),
    "citeseer_ten_splits": _with_ten_splits(
        _CITESEER_DATASET,
        "Citeseer with ten splits: about 1588/1060/664, and 1011/676/424 in numbers 4 and 5 of its largest component.",
        _CITESEER_SPLITS,
    ),
}

"""Contextual stochastic block models: random graphs with communities, and features that hint at the class.

N vertices lie in B blocks of equal size and are numbered block by block, so a contiguous range of ids is a good
partition. Each pair of vertices is joined independently of all others: with probability degree * homophily /
(N/B - 1) inside a block, and degree * (1 - homophily) / (N - N/B) across blocks. So a vertex has `degree`
neighbours in expectation, and `homophily` is the expected share of them in its own block. The number of edges is
a sum of two binomial variables with mean N * degree / 2. With one block this is the graph of Erdos and Renyi.

The class of a block is its number mod the number of classes. Features are signal * m_class / sqrt(F) + noise, with
class means m and noise of independent N(0, 1) entries: two classes are about signal * sqrt(2) apart, in units of
the noise along that line and whatever the width F.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from assay.errors import DataError
from datasets.sampling import class_features, pair_of, split_by_class, successes
from datasets.sources import Dataset

if TYPE_CHECKING:
    from torch_geometric.data import Data


def generate(
    num_nodes: int = 1_000, num_blocks: int = 20, num_classes: int = 10, degree: float = 12, homophily: float = 0.6,
    num_features: int = 32, signal: float = 2.0, train: float = 0.1, val: float = 0.1, seed: int = 0,
) -> Data:  # fmt: skip
    """Draw a graph, features and a split; the same arguments always give the same data.

    Graph, features and split have random streams of their own: other features leave the graph as it is.

    Args:
        num_nodes: N, a multiple of `num_blocks`.
        num_blocks: B, a multiple of `num_classes`.
        num_classes: C.
        degree: expected number of neighbours of a vertex.
        homophily: expected share of a vertex's neighbours that are in its block; 1 if there is one block.
        num_features: F.
        signal: norm of a class mean, in units of the noise's standard deviation (about, see above).
        train: share of the vertices of each class that are for training.
        val: share of the vertices of each class that are for validation; the rest is for testing.
        seed: seed of all draws.

    Returns:
        x (N, F) float32; edge_index (2, A) int64, both arcs of each edge, without duplicates and self loops,
        sorted by (edge_index[0], edge_index[1]); y (N,) int64, the class; block (N,) int64; train_mask,
        val_mask, test_mask (N,) bool.

    Raises:
        DataError: sizes or shares that do not fit together.
    """
    # Listing data sets must not import torch.
    import torch
    from torch_geometric.data import Data
    from torch_geometric.utils import to_undirected

    within, across = _probabilities(num_nodes, num_blocks, num_classes, degree, homophily)
    for_graph, for_features, for_split = np.random.default_rng(seed).spawn(3)
    block = np.repeat(np.arange(num_blocks), num_nodes // num_blocks)
    y = block % num_classes
    x = class_features(for_features, y, num_classes, num_features, signal)
    edges = torch.from_numpy(_edges(for_graph, num_nodes, num_blocks, within, across))
    masks = split_by_class(for_split, y, num_classes, train, val)
    return Data(
        x=torch.from_numpy(x),
        edge_index=to_undirected(edges, num_nodes=num_nodes),
        y=torch.from_numpy(y),
        block=torch.from_numpy(block),
        train_mask=torch.from_numpy(masks[0]),
        val_mask=torch.from_numpy(masks[1]),
        test_mask=torch.from_numpy(masks[2]),
    )


def _probabilities(
    num_nodes: int, num_blocks: int, num_classes: int, degree: float, homophily: float
) -> tuple[float, float]:
    if num_classes < 1 or num_blocks < 1 or num_blocks % num_classes or num_nodes < 1 or num_nodes % num_blocks:
        raise DataError(
            "csbm: num_nodes must be a multiple of num_blocks, and num_blocks of num_classes; "
            f"got num_nodes={num_nodes}, num_blocks={num_blocks}, num_classes={num_classes}"
        )
    size = num_nodes // num_blocks
    inside, outside = degree * homophily, degree * (1 - homophily)
    if not (0 <= homophily <= 1 and 0 <= inside <= size - 1 and 0 <= outside <= num_nodes - size):
        raise DataError(
            f"csbm: homophily must be in [0, 1], and degree={degree} with homophily={homophily} must fit: {inside:g} "
            f"of {size - 1} other vertices in the block, {outside:g} of {num_nodes - size} outside"
        )
    return inside / max(size - 1, 1), outside / max(num_nodes - size, 1)


def _edges(rng: np.random.Generator, num_nodes: int, num_blocks: int, within: float, across: float) -> np.ndarray:
    size = num_nodes // num_blocks
    pairs_of_vertices, pairs_of_blocks = size * (size - 1) // 2, num_blocks * (num_blocks - 1) // 2

    block, pair = np.divmod(successes(rng, num_blocks * pairs_of_vertices, within), max(pairs_of_vertices, 1))
    inside = block * size + np.stack(pair_of(pair))

    pair, place = np.divmod(successes(rng, pairs_of_blocks * size**2, across), size**2)
    outside = np.stack(pair_of(pair)) * size + np.stack(np.divmod(place, size))

    return np.concatenate([inside, outside], axis=1)


def _dataset(name: str, what: str, **options: float) -> Dataset:
    return Dataset(
        name=name,
        description=f"Generated: {what}.",
        licence="generated by this file, no restrictions of its own",
        citation='Y. Deshpande, A. Montanari, E. Mossel, S. Sen, "Contextual Stochastic Block Models", NeurIPS 2018',
        upstream="generated by datasets/csbm.py",
        files=(),
        loader=partial(generate, **options),
    )


def _of_twenty_blocks(name: str, num_nodes: int, degree: int, homophily: float, what: str) -> Dataset:
    size = f"{num_nodes:,} vertices in 20 blocks of 10 classes with about {degree} neighbours each"
    share = f"{homophily:.0%} of them in the same block"
    return _dataset(name, f"{size}, {share}: {what}", num_nodes=num_nodes, degree=degree, homophily=homophily)


# A pair inside one of 4 blocks of 200 is joined 60 times as often as a pair across: of the expected neighbours,
# 199 * 60 lie in the block for each 600 outside.
_SIXTY_TO_ONE = 199 * 60 / (199 * 60 + 600)

DATASETS = {
    "csbm": _of_twenty_blocks("csbm", 1_000, 12, 0.6, "small enough to train on quickly"),
    "csbm_local": _of_twenty_blocks("csbm_local", 4_000, 20, 0.9, "easy to partition"),
    "csbm_mixed": _of_twenty_blocks("csbm_mixed", 4_000, 20, 0.5, "hard to partition"),
    "csbm_dense": _of_twenty_blocks("csbm_dense", 4_000, 100, 0.5, "each vertex has neighbours nearly everywhere"),
    "csbm_clustered": _dataset(
        "csbm_clustered",
        "4 classes of 200 vertices with about 4 neighbours each, joined 60 times as often inside a class as across, "
        "so that deep propagation still tells the classes apart; split 80/200/520",
        num_nodes=800, num_blocks=4, num_classes=4, degree=4, homophily=_SIXTY_TO_ONE, signal=1, train=0.1, val=0.25,
    ),
}  # fmt: skip

"""Random graphs with a class-mixing matrix, directed or not, and features that hint at the class.

Vertices lie in C classes of equal size and are numbered class by class. `mixing[a][b]` is the expected share of the
neighbours (of the targets of arcs, if the graph is directed) of a vertex of class a that are in class b, up to a
factor for each row. Each pair of vertices is joined independently of all others, ordered pairs if the graph is
directed: with probability degree * share / (number of other vertices in class b). So every vertex has `degree`
neighbours in expectation.

The directed ones are those on which Assay tries AMUD (Sun et al., ICDE 2024): arcs are 4 times as frequent between
favoured classes as between others. The ring is a graph where averaging over neighbours confuses classes c and
c + 2, for Neural Sheaf Diffusion (Bodnar et al., NeurIPS 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from assay.errors import DataError
from datasets.sampling import class_features, pair_of, split_by_class, successes
from datasets.sources import Dataset

if TYPE_CHECKING:
    from torch_geometric.data import Data


def generate(
    mixing: Sequence[Sequence[float]], directed: bool = True, class_size: int = 150, degree: float = 5,
    num_features: int = 32, signal: float = 1.0, train: float = 0.48, val: float = 0.32, num_splits: int = 10,
    seed: int = 0,
) -> Data:  # fmt: skip
    """Draw a graph, features and splits; the same arguments always give the same data.

    Graph, features and splits have random streams of their own: other features leave the graph as it is, more splits
    leave the first ones as they are.

    Args:
        mixing: (C, C) numbers of 0 or more, each row with a positive sum; see above. Symmetric, once each row is
            divided by its sum, if the graph is undirected.
        directed: arcs instead of edges.
        class_size: vertices a class.
        degree: expected number of neighbours of a vertex (of arcs from it, if the graph is directed).
        num_features: F.
        signal: norm of a class mean, about, in units of the noise's standard deviation.
        train, val: shares of the vertices of each class for training and for validation; the rest is for testing.
        num_splits: S.
        seed: seed of all draws.

    Returns:
        x (N, F) float32; edge_index (2, A) int64, arcs from edge_index[0] to edge_index[1] (both arcs of each edge,
        if the graph is undirected), without duplicates and self loops, sorted by (edge_index[0], edge_index[1]);
        y (N,) int64; train_mask, val_mask, test_mask (N, S) bool, a column for each split.

    Raises:
        DataError: a mixing matrix that is none, or sizes or shares that do not fit together.
    """
    # Listing data sets must not import torch.
    import torch
    from torch_geometric.data import Data
    from torch_geometric.utils import coalesce, to_undirected

    probability = _probabilities(mixing, directed, class_size, degree)
    if num_splits < 1:
        raise DataError(f"block_model: num_splits must be 1 or more; got {num_splits}")
    num_classes = len(probability)
    for_graph, for_features, for_splits = np.random.default_rng(seed).spawn(3)
    y = np.repeat(np.arange(num_classes), class_size)
    links = torch.from_numpy(_links(for_graph, probability, class_size, directed))
    splits = [split_by_class(for_splits, y, num_classes, train, val) for _ in range(num_splits)]
    train_mask, val_mask, test_mask = torch.from_numpy(np.stack(splits, axis=-1))
    return Data(
        x=torch.from_numpy(class_features(for_features, y, num_classes, num_features, signal)),
        edge_index=(coalesce if directed else to_undirected)(links, num_nodes=len(y)),
        y=torch.from_numpy(y),
        train_mask=train_mask,
        val_mask=val_mask,
        test_mask=test_mask,
    )


def _probabilities(mixing: Sequence[Sequence[float]], directed: bool, class_size: int, degree: float) -> np.ndarray:
    """(C, C), that a vertex of one class is joined to a certain other vertex of another."""
    try:
        weight = np.array(mixing, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"block_model: mixing is not a square matrix of numbers: {error}") from error
    if weight.ndim != 2 or weight.shape[0] != weight.shape[1] or not np.isfinite(weight).all() or not weight.size:
        raise DataError(f"block_model: mixing must be a square matrix of finite numbers; got shape {weight.shape}")
    if (weight < 0).any() or not (weight.sum(axis=1) > 0).all():
        raise DataError(f"block_model: mixing must be 0 or more, with a positive sum in each row; got {mixing}")
    share = weight / weight.sum(axis=1, keepdims=True)
    if not directed and not np.allclose(share, share.T):
        raise DataError(f"block_model: edges need a symmetric mixing matrix, arcs (directed=True) do not; got {mixing}")
    others = class_size - np.eye(len(share))
    if class_size < 2 or not degree >= 0 or (degree * share > others).any():
        raise DataError(
            f"block_model: needs class_size >= 2, and a vertex cannot have {degree} neighbours of which shares of up "
            f"to {share.max():.3g} are in one class of {class_size}"
        )
    return degree * share / others


def _links(rng: np.random.Generator, probability: np.ndarray, size: int, directed: bool) -> np.ndarray:
    """(2, A) arcs, or (2, E) edges in one of their two directions."""
    links = []
    for a, row in enumerate(probability):
        for b, p in enumerate(row):
            if a == b and directed:
                source, target = np.divmod(successes(rng, size * (size - 1), p), size - 1)
                target += target >= source  # the own number is not among the others
            elif a == b:
                source, target = pair_of(successes(rng, size * (size - 1) // 2, p))
            elif a < b or directed:
                source, target = np.divmod(successes(rng, size**2, p), size)
            else:
                continue
            links.append(np.stack([a * size + source, b * size + target]))
    return np.concatenate(links, axis=1)


def _circulant(first_row: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Row c is the first one moved by c places: how often class c is joined to classes c, c + 1, ... around a ring."""
    size = len(first_row)
    return tuple(tuple(first_row[(b - a) % size] for b in range(size)) for a in range(size))


def _dataset(name: str, what: str, first_row: tuple[int, ...], **options: float) -> Dataset:
    return Dataset(
        name=name,
        description=f"Generated: {what}.",
        licence="generated by this file, no restrictions of its own",
        citation='P. W. Holland, K. B. Laskey, S. Leinhardt, "Stochastic blockmodels", Social Networks 5(2), 1983',
        upstream="generated by datasets/block_model.py",
        files=(),
        loader=partial(generate, _circulant(first_row), **options),
    )


_FOUR = "4 classes of 150 vertices with about 5 arcs from each, 4 times as frequent"

DATASETS = {
    "directed_cyclic": _dataset(
        "directed_cyclic", f"{_FOUR} from a class to the next one as to any other: direction says everything",
        (1, 4, 1, 1),
    ),
    "directed_homophilous": _dataset(
        "directed_homophilous", f"{_FOUR} inside a class as to any other: direction says nothing", (4, 1, 1, 1)
    ),
    "directed_heterophilous": _dataset(
        "directed_heterophilous", f"{_FOUR} to each other class as inside: direction says nothing", (1, 4, 4, 4)
    ),
    "heterophilous_ring": _dataset(
        "heterophilous_ring",
        "4 classes of 60 vertices with about 6 neighbours each, 90% of them in the two next classes around a ring",
        (1, 9, 1, 9), directed=False, class_size=60, degree=6, num_features=16, signal=1.5,
    ),
}  # fmt: skip

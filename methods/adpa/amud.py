"""AMUD: should a digraph stay directed? (Sun et al., ICDE 2024). A statistic of the graph and the labels; no training.

A directed pattern is a product of A and A^T: AA (friends of friends), AA^T (common targets), A^TA (common sources),
A^TA^T. For each, r(G, N) is Pearson's correlation over all ordered pairs u != v of vertices between G_uv (the pattern
joins them) and N_uv (their labels are equal); R2 = r^2 says how much of the labels the pattern explains. If the
patterns explain different amounts, the direction of arcs carries labels: keep it. If not, symmetrise the graph.

N is symmetric, so a pattern and its transpose have the same r: of the four only AA, AA^T and A^TA can differ. With
M pairs, a share p of them joined by G, a share q of equal labels and a share h of equal labels among the joined,

    r = (p h - p q) / sqrt(p (1 - p) q (1 - q))

needs no n x n matrix. How the paper turns the three R2 into its score in [0, 1] could not be read; three spreads are
offered, and every report shows the R2 themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from methods.shared.checks import check_option
from methods.shared.graph import checked_edge_index, node_ids

TWO_HOP = ("AA", "AAT", "ATA")
Kind = Literal["pairs", "range", "deviation"]
KINDS: tuple[Kind, ...] = ("pairs", "range", "deviation")
THRESHOLD = 0.5


@dataclass(frozen=True)
class AMUDReport:
    """What AMUD found.

    Attributes:
        r2: R2 of each two-hop pattern.
        score: spread of the R2, in [0, 1].
        directed: keep the directions; else symmetrise.
    """

    r2: dict[str, float]
    score: float
    directed: bool

    def __str__(self) -> str:
        advice = "keep the graph directed" if self.directed else "symmetrise the graph"
        return f"{advice} (score {self.score:.3f}; " + ", ".join(f"R2 {k} {v:.2e}" for k, v in self.r2.items()) + ")"


def amud(edge_index: Tensor, y: Tensor, mask: Tensor | None = None, kind: Kind = "pairs") -> AMUDReport:
    """Measure a digraph and recommend a view.

    Args:
        edge_index: (2, A) int64 arcs; duplicates and self loops are ignored.
        y: (N,) int64 classes.
        mask: (N,) bool, vertices with a known label, or their ids; only pairs of them are compared, over patterns of
            the whole graph. All vertices if None.
        kind: how the R2 become a score; see `spread`.

    Raises:
        ValueError: fewer than two classes or two vertices are known, so that there is nothing to correlate with; no
            such kind; or classes that are no vector.
        TypeError, IndexError: classes that are no whole numbers; arcs that `checked_edge_index` or a mask that
            `node_ids` refuses.
    """
    check_option("amud", "kind", kind, KINDS)
    r2 = pattern_r2(edge_index, y, mask)
    score = spread(list(r2.values()), kind)
    return AMUDReport(r2, score, score > THRESHOLD)


def amud_score(edge_index: Tensor, y: Tensor, mask: Tensor | None = None, kind: Kind = "pairs") -> float:
    """The score of `amud`, in [0, 1]; above 0.5 the graph should stay directed."""
    return amud(edge_index, y, mask, kind).score


def pattern_r2(edge_index: Tensor, y: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    """R2 of each two-hop pattern with the sameness of labels. Arguments as for `amud`."""
    if y.is_floating_point() or y.is_complex():
        raise TypeError(f"y: needs classes as whole numbers, got {y.dtype}")
    if y.dim() != 1:
        raise ValueError(f"y: needs one class for each vertex (N,), got shape {tuple(y.shape)}")
    known = np.arange(len(y)) if mask is None else node_ids(mask, len(y)).cpu().numpy()
    a = binary_adjacency(edge_index, len(y))
    sides = {"AA": (a, a), "AAT": (a, a.T), "ATA": (a.T, a)}
    labels = y.cpu().numpy()[known]
    # only rows and columns of known vertices are multiplied out
    return {
        name: correlation(left.tocsr()[known] @ right.tocsc()[:, known], labels) ** 2
        for name, (left, right) in sides.items()
    }


def binary_adjacency(edge_index: Tensor, num_nodes: int) -> sp.csr_matrix:
    """A in {0, 1}: a row for each source, a column for each target, no self loops: (N, N) CSR."""
    source, target = checked_edge_index(edge_index, num_nodes).cpu().numpy()
    keep = source != target
    a = sp.csr_matrix((np.ones(keep.sum()), (source[keep], target[keep])), shape=(num_nodes, num_nodes))
    a.data[:] = 1
    return a


def correlation(pattern: sp.spmatrix, labels: np.ndarray) -> float:
    """Pearson's r between [pattern_uv != 0] and [y_u = y_v] over ordered pairs u != v, by the closed form above.

    Args:
        pattern: (n, n) sparse; multiplicities and the diagonal are ignored.
        labels: (n,) classes.

    Returns:
        r; 0 for a pattern that joins no pair or all of them, which explains nothing.

    Raises:
        ValueError: labels that are all equal, or all different.
    """
    pairs = len(labels) * (len(labels) - 1)
    counts = np.unique(labels, return_counts=True)[1].astype(float)
    q = (counts * (counts - 1)).sum() / pairs if pairs else 0.0
    if not 0 < q < 1:
        raise ValueError(f"AMUD needs labels of which some are equal and some differ; got {len(labels)}, {q:.0%} equal")
    entries = pattern.tocoo()
    joined = (entries.row != entries.col) & (entries.data != 0)
    p = joined.sum() / pairs
    if p in (0, 1):
        return 0.0
    equal = (labels[entries.row[joined]] == labels[entries.col[joined]]).sum() / pairs
    return float((equal - p * q) / np.sqrt(p * (1 - p) * q * (1 - q)))


def spread(r2: list[float], kind: Kind = "pairs") -> float:
    """How unequal some R2 are: 0 where all agree (or explain nothing), at most 1.

    Args:
        r2: of the patterns, not negative.
        kind: "pairs", the mean over pairs of |a - b| / max(a, b); "range", (max - min) / max; "deviation", their
            standard deviation over their mean, divided by sqrt(patterns - 1), its largest value.

    Raises:
        ValueError: no such kind.
    """
    check_option("spread", "kind", kind, KINDS)
    values = np.asarray(r2)
    if values.max() == 0:
        return 0.0
    if kind == "range":
        return float(1 - values.min() / values.max())
    if kind == "deviation":
        return float(values.std() / values.mean() / np.sqrt(len(values) - 1))
    return float(np.mean([abs(a - b) / max(a, b) if max(a, b) else 0.0 for a, b in combinations(values, 2)]))

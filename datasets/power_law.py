"""A graph with the degrees of a social network, and features of any width that need not be kept to be known.

The graph grows by preferential attachment (Barabasi and Albert 1999): the first m + 1 vertices are all joined;
each later one draws m neighbours among the earlier ones, with probability proportional to their degrees. Draws are
with replacement and equal ones are merged, so there are a little fewer than m edges a vertex. The degrees follow
a power law with exponent 3. Vertices are numbered by age: those with many neighbours have small ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from assay.errors import DataError
from datasets.sources import Dataset

if TYPE_CHECKING:
    import torch
    from torch_geometric.data import Data

NUM_CLASSES = 16
_MULTIPLIER = 2_654_435_761  # near 2^32 / golden ratio: D. Knuth, The Art of Computer Programming, vol. 3, 6.4
_LOW_32 = 2**32 - 1
_CHUNK_VALUES = 2**20


def generate(num_nodes: int = 100_000, edges_per_node: int = 10, seed: int = 0) -> Data:
    """Draw the graph and labels; the same arguments always give the same data, on any machine.

    Args:
        num_nodes: N, more than `edges_per_node`.
        edges_per_node: m, the number of neighbours that a vertex draws when it arrives.
        seed: seed of all draws.

    Returns:
        edge_index (2, A) int64, both arcs of each edge, without duplicates and self loops, sorted by
        (edge_index[0], edge_index[1]); num_nodes; y (N,) int64: 16 classes drawn uniformly and independently of
        the graph, for training loops whose speed is measured (there is nothing to learn but the labels
        themselves). No features: see `hashed_features`.

    Raises:
        DataError: fewer vertices than the first ones need.
    """
    # Listing data sets must not import torch.
    import torch
    from torch_geometric.data import Data
    from torch_geometric.utils import to_undirected

    if not 1 <= edges_per_node < num_nodes:
        raise DataError(
            "power_law: needs edges_per_node >= 1 and num_nodes > edges_per_node; "
            f"got num_nodes={num_nodes}, edges_per_node={edges_per_node}"
        )
    for_graph, for_labels = np.random.default_rng(seed).spawn(2)
    edges = torch.from_numpy(_edges(for_graph, num_nodes, edges_per_node))
    return Data(
        edge_index=to_undirected(edges, num_nodes=num_nodes),
        y=torch.from_numpy(for_labels.integers(NUM_CLASSES, size=num_nodes)),
        num_nodes=num_nodes,
    )


def _edges(rng: np.random.Generator, num_nodes: int, m: int) -> np.ndarray:
    """All edges as drawn: (2, E), the newer vertex and the older one.

    A vertex stands in the list of edge ends as often as its degree, so a uniform place of that list is a draw
    proportional to degree. What stands there may itself be a draw: it is looked up in turn, for all draws at once
    (Batagelj and Brandes, "Efficient generation of large random networks", Physical Review E 71, 2005).
    """
    first_newer, first_older = np.tril_indices(m + 1, -1)
    newer = np.concatenate([first_newer, np.repeat(np.arange(m + 1, num_nodes), m)])
    num_first = len(first_newer)
    # The ends of edge k are at places 2k (newer) and 2k + 1 (older); a draw sees the edges of earlier vertices only.
    ends_before = 2 * num_first + 2 * m * np.repeat(np.arange(num_nodes - m - 1), m)
    place = np.arange(2 * len(newer))
    place[2 * num_first + 1 :: 2] = rng.integers(ends_before)
    while not np.array_equal(place, further := place[place]):
        place = further
    ends = np.empty(2 * len(newer), dtype=np.int64)
    ends[0::2] = newer
    ends[1 : 2 * num_first : 2] = first_older
    return np.stack([newer, ends[place[1::2]]])


def hashed_features(rows: torch.Tensor, width: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Features of any vertices, from their ids: any gather can be checked without a second copy.

    The value of (row, column) is h / 2^32 with h = ((row * width + column) * 2654435761) mod 2^32, an integer.
    It is exact in float64; otherwise h is rounded once to float32 (by at most 2^-25, and to 1.0 from 1 - 2^-25 on),
    and from there to a narrower `dtype`. Equal arguments give equal bits, on any device.

    Args:
        rows: (n,) int64 vertex ids, 0 or more; repeats are welcome.
        width: number of columns.
        dtype: a floating-point type; float32 if None.

    Returns:
        (n, width) values in [0, 1], on the device of `rows`.
    """
    import torch

    dtype = dtype or torch.float32
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    # h is linear mod 2^32, so a row and a column contribute a term each.
    of_row = _times_mod_2_32(_times_mod_2_32(rows, width), _MULTIPLIER)
    of_column = _times_mod_2_32(torch.arange(width, device=rows.device), _MULTIPLIER)
    features = torch.empty((len(rows), width), dtype=dtype, device=rows.device)
    # In chunks: the integers of all rows at once would need several times the memory of the features.
    step = max(1, _CHUNK_VALUES // max(width, 1))
    for part, out in zip(of_row.split(step), features.split(step), strict=True):
        out.copy_(((part[:, None] + of_column) & _LOW_32).to(exact) * 2.0**-32)
    return features


def _times_mod_2_32(values: torch.Tensor, factor: int) -> torch.Tensor:
    """(values * factor) mod 2^32, where no intermediate result leaves the range of int64."""
    values, factor = values & _LOW_32, factor & _LOW_32
    high = (values * (factor >> 16)) & 0xFFFF
    return (values * (factor & 0xFFFF) + (high << 16)) & _LOW_32


DATASETS = {
    "power_law": Dataset(
        name="power_law",
        description="Generated: 100,000 vertices that draw 10 neighbours each by preferential attachment; 16 classes.",
        licence="generated by this file, no restrictions of its own",
        citation='A.-L. Barabasi, R. Albert, "Emergence of Scaling in Random Networks", Science 286, 1999',
        upstream="generated by datasets/power_law.py",
        files=(),
        loader=generate,
    ),
}

"""Closed forms of the bytes that an epoch sends, all workers together, and the count of mirrors that they rest on.

They are payload, and exactly what the workers hand to the network (`experiments.traffic` holds one against the other).
A wire carries more: gloo 48 bytes a message, TCP its own headers. b is 4 bytes, of a float32.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from methods.gnnpipe.partition import Partition, to_scipy

ITEM_BYTES = 4


def count_mirrors(adjacency: Tensor, partition: Partition) -> int:
    """M = sum over ways w of |{u outside V_w : u -> v, v in V_w}|. adjacency: sparse CSR, A[v, u].

    Of the transpose it is the number of gradients that are read; in an undirected graph both are equal.
    """
    graph = to_scipy(adjacency).tocoo()
    way = partition.way_of()
    reader = way[graph.row]
    crossing = reader != way[graph.col]
    pairs = graph.col[crossing].astype(np.int64) * partition.ways + reader[crossing]
    return len(np.unique(pairs))


def mirror_bytes(forward: int, backward: int, widths: list[int]) -> int:
    """Graph parallelism: each mirror's row once forward and each one's gradient once backward, in each aggregation.

    forward, backward: `count_mirrors` of the adjacency and of its transpose. widths: of the input of each aggregation;
    raw features, which readers can keep, do not count.
    """
    return ITEM_BYTES * (forward + backward) * sum(widths)


def border_bytes(num_nodes: int, width: int, stages: int, tensors: int = 1) -> int:
    """The pipeline: every vertex's row over every border, and its gradient back. tensors: 2 in GCNII (h and h0)."""
    return 2 * ITEM_BYTES * num_nodes * width * tensors * (stages - 1)


def ring_bytes(ways: int, weights: int) -> int:
    """A ring's all-reduce of the gradients of `weights` weights among `ways` ways, all of them together."""
    return 2 * (ways - 1) * weights * ITEM_BYTES

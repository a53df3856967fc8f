"""Small graphs that the tests of this folder share."""

from __future__ import annotations

import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

CLASSES = 3


def small_graph(nodes: int = 30, features: int = 6, seed: int = 0) -> Data:
    """A random undirected graph with three classes; every fifth node is for validation, every fifth for testing."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randint(nodes, (2, 2 * nodes), generator=generator)
    ends = ends[:, ends[0] != ends[1]]
    place = torch.arange(nodes) % 5
    return Data(
        x=torch.rand(nodes, features, generator=generator), edge_index=to_undirected(ends, num_nodes=nodes),
        y=torch.arange(nodes) % CLASSES, train_mask=place < 3, val_mask=place == 3, test_mask=place == 4,
    )  # fmt: skip

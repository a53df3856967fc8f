"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable

import torch

from datasets.csbm import generate
from methods.dgmlp.baselines import last_hop
from methods.dgmlp.dgmlp import DGMLP, node_smoothing_levels, smoothed_features, weighted_hops
from methods.dgmlp.training import row_forward
from methods.shared.graph import propagation
from methods.shared.node_classification import Masks, fit
from methods.shared.sparse import SparseMatrix

NODES, FEATURES, K = 2_000, 256, 10
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _graph() -> tuple[torch.Tensor, SparseMatrix]:
    data = generate(num_nodes=NODES, num_features=FEATURES)
    return data.x.to(DEVICE), propagation(data.edge_index.to(DEVICE), NODES)


def smoothing() -> Callable[[], object]:
    x, adjacency = _graph()
    return lambda: smoothed_features(x, adjacency, K)


def smoothing_levels() -> Callable[[], object]:
    x, adjacency = _graph()
    return lambda: node_smoothing_levels(x, adjacency, K)


def last_of_ten_hops() -> Callable[[], object]:
    x, adjacency = _graph()
    return lambda: weighted_hops(x, adjacency, last_hop(K))


def _epoch(num_layers: int) -> Callable[[], object]:
    torch.manual_seed(0)
    data = generate(num_nodes=NODES, num_features=FEATURES)
    masks = Masks.of(data)
    rows, y = (values[torch.cat(tuple(masks))].to(DEVICE) for values in (data.x, data.y))
    model = DGMLP(FEATURES, 64, 10, num_layers=num_layers, dropout=0.2).to(DEVICE)
    forward, places = row_forward(model, model, rows, masks)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return lambda: fit(model, forward, y, places, optimizer, epochs=1)


def linear_epoch() -> Callable[[], object]:
    return _epoch(1)


def deep_epoch() -> Callable[[], object]:
    return _epoch(6)

"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch_geometric.data import Data

from methods.forward_gnn.baselines import LabelAppending, forward_forward_step
from methods.forward_gnn.forward_gnn import ForwardGNN, single_forward_step
from methods.forward_gnn.training import PAPER

NODES, ARCS, FEATURES, WORDS, CLASSES, WIDTH = 3_000, 16_000, 2_000, 50, 7, 128
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _graph() -> Data:
    """As Cora-ML in size: sparse features, 64 % of the nodes for training."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(NODES, FEATURES)
    x.scatter_(1, torch.randint(FEATURES, (NODES, WORDS), generator=generator), 1 / WORDS)
    edge_index = torch.randint(NODES, (2, ARCS // 2), generator=generator)
    place = torch.rand(NODES, generator=generator)
    return Data(
        x=x, edge_index=torch.cat([edge_index, edge_index.flip(0)], dim=1), train_mask=place < 0.64,
        y=torch.randint(CLASSES, (NODES,), generator=generator), val_mask=(place >= 0.64) & (place < 0.8),
    ).to(DEVICE)  # fmt: skip


def _step_of_layer(place: int) -> Callable[[], object]:
    torch.manual_seed(0)
    model = ForwardGNN(FEATURES, WIDTH, 2, num_classes=CLASSES).to(DEVICE)
    graph = model.augment(_graph())
    h = graph.h
    for layer in model.layers[:place]:
        with torch.no_grad():
            h = layer(h, graph.operator)
    layer = model.layers[place]
    return single_forward_step(layer, h, graph, CLASSES, PAPER.optimizer(layer))


def first_layer_step() -> Callable[[], object]:
    return _step_of_layer(0)


def second_layer_step() -> Callable[[], object]:
    return _step_of_layer(1)


def votes() -> Callable[[], object]:
    torch.manual_seed(0)
    model = ForwardGNN(FEATURES, WIDTH, 2, num_classes=CLASSES).to(DEVICE)
    graph = model.augment(_graph())
    return lambda: model(graph)


def label_appending_step() -> Callable[[], object]:
    torch.manual_seed(0)
    data = _graph()
    model = LabelAppending(FEATURES, WIDTH, 1, num_classes=CLASSES).to(DEVICE)
    nodes, layer = data.train_mask.nonzero().squeeze(1), model.layers[0]
    return forward_forward_step(layer, model.graphs_to_train_on(data), nodes, PAPER.optimizer(layer))

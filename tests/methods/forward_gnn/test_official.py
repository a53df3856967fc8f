"""Golden numbers of facebookresearch/forwardgnn, commit 73fe257 (src/forward_learning).

Its models were run in float64 with the weights and inputs of `formula`, which needs no random generator, on a graph
with two self loops; Adam with rate 0.02 and weight decay 0.05. Scores are those of node 6, the only test node.
Its link predictor counts a zero for each normalisation layer, which halves its means: they were doubled here.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from methods.forward_gnn import ForwardGNN, LinkForwardGNN, Protocol, Top2Input, Top2Loss
from methods.forward_gnn.baselines import LabelAppending, VirtualLinks, forward_forward_step, mean_goodness
from methods.forward_gnn.forward_gnn import single_forward_step
from tests.methods.golden import formula

NODES, FEATURES, CLASSES, WIDTH = 7, 5, 3, 8
# before training; losses of two steps of layer 1 and two of layer 2; after training
SINGLE_FORWARD = {
    "gcn": [0.5054424029, 0.4009452758, 1.0936123213, 1.3426569218, 1.2564734694, 1.0765975377, 1.0770669876,
            0.5695264489, 0.4349042411, 0.99556931],
    "sage": [0.4523830607, 0.3949068573, 1.152710082, 1.8325598505, 1.6306049415, 1.1031191084, 1.0894419202,
             0.5426564252, 0.4314822697, 1.0258613051],
    "gat": [0.5873197082, 0.5143825441, 0.8982977477, 1.126264569, 1.101886355, 1.095878351, 1.0855605848,
            0.6193267366, 0.5542492757, 0.8264239877],
}  # fmt: skip
TOP_DOWN = {Top2Input: [4.6344113721, 3.787165847, 7.5784227809], Top2Loss: [0.6609144621, 0.5911524323, 0.7479331056]}
LINKS = [0.7524696251, 0.753305981, 0.7712075674, 0.7586208301, 0.7405263037, 0.7471808016, 0.7367935142, 0.7591673152]
FORWARD_FORWARD = {LabelAppending: [-3.5738919212, -3.623313587], VirtualLinks: [-3.7330605525, -3.740704098]}
THREE = Protocol(lr=0.02, weight_decay=0.05, epochs=3, validate_every=4)  # never validated, as its patience of -1 says


def graph(classes: int = CLASSES) -> Data:
    edges = torch.tensor([[0, 0, 1, 2, 3, 1, 4], [1, 2, 2, 3, 4, 4, 5]])
    arcs = torch.cat([edges, edges.flip(0), torch.tensor([[2, 4], [2, 4]])], dim=1)
    node = torch.arange(NODES)
    return Data(x=formula(NODES, FEATURES).abs(), edge_index=arcs, y=node % classes, train_mask=node < 4,
                val_mask=(node == 4) | (node == 5))  # fmt: skip


@torch.no_grad()
def filled(model: nn.Module) -> nn.Module:
    model.double()
    for k, layer in enumerate(model.layers):
        for j, parameter in enumerate(layer.parameters()):
            parameter.copy_(formula(*parameter.shape, k=10 * k + j) / 2)
    if hasattr(model, "virtual_x"):
        model.virtual_x.copy_(formula(*model.virtual_x.shape, k=3))
    return model


@pytest.mark.parametrize("conv", SINGLE_FORWARD)
def test_single_forward_takes_the_steps_of_the_papers_code(conv: str) -> None:
    data, model = graph(), filled(ForwardGNN(FEATURES, WIDTH, 2, num_classes=CLASSES, conv=conv))
    augmented = model.augment(data)
    found, h = model(data)[6].tolist(), augmented.h
    for layer in model.layers:
        step = single_forward_step(layer, h, augmented, CLASSES, THREE.optimizer(layer))
        found += [float(step()), float(step())]
        h = layer(h, augmented.operator).detach()
    assert found + model(data)[6].tolist() == pytest.approx(SINGLE_FORWARD[conv], rel=1e-6)


@pytest.mark.parametrize("kind", TOP_DOWN)
def test_three_epochs_with_signals_from_above_are_those_of_the_papers_code(kind: type[ForwardGNN]) -> None:
    data, model = graph(), filled(kind(FEATURES, WIDTH, 2, num_classes=CLASSES))
    model.fit(data, THREE)
    assert model(data)[6].tolist() == pytest.approx(TOP_DOWN[kind], rel=1e-6)


@pytest.mark.parametrize("kind", FORWARD_FORWARD)
def test_three_epochs_of_forward_forward_are_those_of_the_papers_code(kind: type[LabelAppending]) -> None:
    """Two classes, so that there is one negative graph and nothing to draw."""
    data, model = graph(2), filled(kind(FEATURES, WIDTH, 2, num_classes=2))
    graphs, nodes = model.graphs_to_train_on(data), torch.arange(4)
    for layer in model.layers:
        step = forward_forward_step(layer, graphs, nodes, THREE.optimizer(layer))
        for _ in range(3):
            step()
        with torch.no_grad():
            graphs = model.states_above(layer, graphs)
    goodness = []
    for h, operator in model.graphs_to_predict_with(data, torch.arange(6), torch.tensor([6])):
        total = 0.0
        for layer in model.layers:
            h = layer(h, operator).detach()
            total += float(mean_goodness(h)[6])
        goodness.append(total)
    assert goodness == pytest.approx(FORWARD_FORWARD[kind], rel=1e-6)


def test_three_epochs_of_link_prediction_are_those_of_the_papers_code() -> None:
    data, model = graph(), filled(LinkForwardGNN(FEATURES, WIDTH, 2))
    data.edge_label_index = torch.tensor([[0, 0, 1, 3, 0, 2, 5, 6], [1, 2, 4, 4, 3, 5, 6, 1]])
    data.edge_label = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0], dtype=torch.float64)
    model.fit(data, data, THREE)
    assert model.predict(data).tolist() == pytest.approx(LINKS, rel=1e-6)

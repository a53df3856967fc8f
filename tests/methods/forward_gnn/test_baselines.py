"""Forward-forward learning."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from methods.forward_gnn.baselines import (
    ForwardForward,
    LabelAppending,
    VirtualLinks,
    backprop_network,
    fit_backprop,
    goodness_loss,
    mean_goodness,
    network_inputs,
)
from methods.forward_gnn.layers import to_dense
from methods.forward_gnn.training import Protocol
from tests.methods.forward_gnn.graphs import CLASSES, small_graph

BOTH = pytest.mark.parametrize("kind", [LabelAppending, VirtualLinks])


def small_model(kind: type[ForwardForward], num_layers: int = 2) -> ForwardForward:
    torch.manual_seed(0)
    return kind(6, 8, num_layers, num_classes=CLASSES)


def classes_in(kind: type[ForwardForward], graph: tuple[object, object], nodes: Tensor) -> Tensor:
    """The classes that nodes come with in a graph."""
    h, operator = graph
    if kind is LabelAppending:
        return to_dense(h)[nodes, -CLASSES:].argmax(dim=1)
    return operator.to_dense()[nodes, -CLASSES:].argmax(dim=1)


def test_the_loss_of_a_node_of_goodness_three() -> None:
    """z = (1, 1, 1), theta = 2: 0.3132617 where the class is true, 1.3132617 where it is wrong."""
    goodness = torch.ones(1, 3).square().sum(dim=1)
    whole = float(goodness_loss(goodness, goodness.unsqueeze(0)))
    assert float(goodness_loss(goodness, torch.full((1, 1), -100.0))) == pytest.approx(0.3132617, abs=1e-6)
    assert whole - 0.3132617 == pytest.approx(1.3132617, abs=1e-6)


@BOTH
def test_the_negative_graphs_give_every_training_node_each_wrong_class_once(kind: type[ForwardForward]) -> None:
    data, model = small_graph(), small_model(kind)
    nodes = data.train_mask.nonzero().squeeze(1)
    given = torch.stack([classes_in(kind, graph, nodes) for graph in model.graphs_to_train_on(data)])
    assert torch.equal(given[0], data.y[nodes])
    assert torch.equal(given.sort(dim=0).values, torch.arange(CLASSES).unsqueeze(1).expand(-1, len(nodes)))


@BOTH
def test_to_predict_evaluated_nodes_come_with_each_class_and_training_nodes_with_their_own(
    kind: type[ForwardForward],
) -> None:
    data, model = small_graph(), small_model(kind)
    labelled, evaluated = data.train_mask.nonzero().squeeze(1), data.val_mask.nonzero().squeeze(1)
    for c, graph in enumerate(model.graphs_to_predict_with(data, labelled, evaluated)):
        assert torch.equal(classes_in(kind, graph, labelled), data.y[labelled])
        assert (classes_in(kind, graph, evaluated) == c).all()


def test_nodes_without_a_class_have_a_uniform_one_appended() -> None:
    data, model = small_graph(), small_model(LabelAppending)
    (h, _), *_ = model.graphs_to_train_on(data)
    assert (to_dense(h)[~data.train_mask, -CLASSES:] == 1 / CLASSES).all()


def test_negative_graphs_go_on_from_their_own_states_or_from_the_positive_ones() -> None:
    data = small_graph()
    for kind, shared in ((LabelAppending, False), (VirtualLinks, True)):
        model = small_model(kind)
        positive, negative, *_ = model.states_above(model.layers[0], model.graphs_to_train_on(data))
        assert torch.equal(positive[0], negative[0]) is shared


@BOTH
def test_training_raises_the_goodness_of_true_classes_over_that_of_wrong_ones(kind: type[ForwardForward]) -> None:
    data, model = small_graph(), small_model(kind, 1)
    nodes = data.train_mask.nonzero().squeeze(1)
    history = model.fit(data, Protocol(lr=0.02, epochs=150, validate_every=150))
    graphs = model.graphs_to_train_on(data)
    with torch.no_grad():
        goodness = [float(mean_goodness(model.layers[0](h, op)[nodes]).mean()) for h, op in graphs]
    assert history[0].epochs == 150
    assert goodness[0] > max(goodness[1:])


@BOTH
def test_a_prediction_takes_the_class_of_the_largest_goodness_over_layers(kind: type[ForwardForward]) -> None:
    data, model = small_graph(), small_model(kind)
    labelled, evaluated = data.train_mask.nonzero().squeeze(1), data.test_mask.nonzero().squeeze(1)
    total = []
    with torch.no_grad():
        for h, operator in model.graphs_to_predict_with(data, labelled, evaluated):
            first = model.layers[0](h, operator)
            second = model.layers[1](first, operator)
            total.append((first.square().mean(dim=1) + second.square().mean(dim=1))[evaluated])
    assert torch.equal(model.predict(data, labelled, evaluated), torch.stack(total, dim=1).argmax(dim=1))


@pytest.mark.parametrize("conv", ["gcn", "sage", "gat"])
def test_backpropagation_trains_every_backbone(conv: str) -> None:
    data = small_graph()
    torch.manual_seed(0)
    network = backprop_network(6, 8, 2, CLASSES, conv)
    history = fit_backprop(network, network_inputs(data, conv), data, Protocol(lr=0.01, epochs=60, validate_every=1))
    assert history.loss[-1] < history.loss[0]
    assert network(*network_inputs(data, conv)).shape == (30, CLASSES)

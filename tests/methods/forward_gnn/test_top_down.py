"""Signals from above, and link prediction: local as single forward is."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.transforms import RandomLinkSplit

import datasets
from assay.experiment import seed_everything
from methods.forward_gnn import ForwardGNN, LinkForwardGNN, Top2Input, Top2Loss, top_down
from methods.forward_gnn.baselines import backprop_network
from methods.forward_gnn.layers import unit_rows
from methods.forward_gnn.link_prediction import fit_backprop_links, link_logits, redraw_negatives
from methods.forward_gnn.training import Protocol
from methods.shared.accounting import reached_parameters
from methods.shared.metrics import roc_auc
from tests.methods.forward_gnn.graphs import CLASSES, small_graph

BOTH = pytest.mark.parametrize("kind", [Top2Input, Top2Loss])


def small_model(kind: type[ForwardGNN], num_layers: int = 2) -> ForwardGNN:
    torch.manual_seed(0)
    return kind(6, 8, num_layers, num_classes=CLASSES)


def test_top2input_without_weights_for_the_state_above_is_single_forward() -> None:
    data = small_graph()
    model, single = small_model(Top2Input), small_model(ForwardGNN)
    single.virtual_x.copy_(model.virtual_x)
    with torch.no_grad():
        for ours, theirs in zip(model.layers, single.layers, strict=True):
            below = theirs.conv.lin.weight.shape[1]
            ours.conv.lin.weight[:, below:] = 0
            theirs.conv.lin.weight.copy_(ours.conv.lin.weight[:, :below])
    graph = model.augment(data)
    states = model.bottom_up(graph)
    expected = single.layers[0](graph.h, graph.operator)
    torch.testing.assert_close(model.run_layer(0, states, graph), expected)
    torch.testing.assert_close(model.run_layer(1, states, graph), single.layers[1](expected, graph.operator))
    votes = single(data)  # the same vote in each of the eight steps that count
    torch.testing.assert_close(model(data), 8 * votes)


def test_layers_of_even_place_are_updated_first() -> None:
    assert small_model(Top2Input, 5).order() == [0, 2, 4, 1, 3]


def test_only_training_and_virtual_nodes_show_their_class_to_the_layer_below() -> None:
    data, model = small_graph(), small_model(Top2Input)
    classes = model.one_hot_classes(model.augment(data))
    assert torch.equal(classes[:30][data.train_mask], torch.eye(CLASSES)[data.y[data.train_mask]])
    assert (classes[:30][~data.train_mask] == classes[3, 0]).all()
    torch.testing.assert_close(classes[30:], torch.eye(CLASSES))


def test_the_loss_of_a_layer_with_a_signal_from_above_reaches_its_own_parameters_only() -> None:
    data, model = small_graph(), small_model(Top2Input, 3)
    graph = model.augment(data)
    states = model.bottom_up(graph)
    for place, layer in enumerate(model.layers):
        assert reached_parameters(model.run_layer(place, states, graph).sum()) == set(layer.parameters())


def test_top2loss_reads_the_mean_of_a_layer_and_of_all_states_above() -> None:
    model, rows = small_model(Top2Loss, 3), torch.tensor([4, 1])
    z, second, third = torch.rand(3, 33, 8)
    expected = ((z + second + third) / 3)[rows]
    torch.testing.assert_close(model.embedding(z, [second, third], rows), expected)


def test_top2loss_of_one_layer_is_single_forward() -> None:
    data = small_graph()
    torch.testing.assert_close(small_model(Top2Loss, 1)(data), small_model(ForwardGNN, 1)(data))


def test_gradients_are_clipped_to_norm_one_in_top2loss_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert top_down.MAX_GRADIENT_NORM == 1
    for kind, clipped in ((Top2Input, False), (Top2Loss, True)):
        votes = []
        for norm in (1.0, 1e-12):  # so small that Adam's steps shrink too
            monkeypatch.setattr(top_down, "MAX_GRADIENT_NORM", norm)
            model = small_model(kind)
            model.fit(small_graph(), Protocol(lr=0.02, epochs=3))
            votes.append(model(small_graph()))
        assert torch.equal(*votes) is not clipped


@BOTH
@pytest.mark.parametrize("conv", ["gcn", "sage", "gat"])
def test_signals_from_above_learn_a_clustered_graph(kind: type[ForwardGNN], conv: str) -> None:
    data = datasets.load("csbm_clustered", train=0.64, val=0.16)
    torch.manual_seed(0)
    model = kind(data.num_features, 16, 2, num_classes=4, conv=conv)
    model.fit(data, Protocol(lr=0.02, epochs=40, validate_every=10))
    assert float((model.predict(data) == data.y)[data.test_mask].float().mean()) > 0.6


def test_links_are_predicted_layer_by_layer() -> None:
    data = datasets.load("csbm_clustered")
    seed_everything(0)  # negative edges are drawn by Python's own generator
    train, val, test = RandomLinkSplit(num_val=0.16, num_test=0.2, is_undirected=True)(data)
    model = LinkForwardGNN(data.num_features, 16, 2)
    fresh = {name: value.clone() for name, value in model.layers[1].state_dict().items()}
    history = model.fit(train, val, Protocol(lr=0.01, epochs=20))
    assert len(history) == 2
    assert not torch.equal(model.layers[1].conv.lin.weight, fresh["conv.lin.weight"])
    assert roc_auc(test.edge_label, model.predict(test)) > 0.6
    assert roc_auc(val.edge_label, model.predict(val)) == pytest.approx(history[1].best)
    network = backprop_network(data.num_features, 16, 2, 16, "gcn")
    assert fit_backprop_links(network, train, val, "gcn", Protocol(lr=0.01, epochs=20)).best > 0.55


def test_negatives_of_training_know_no_edge_that_training_does_not_see() -> None:
    """Every pair that is no training edge is drawn, held-out edges among them, and no other."""
    arcs = torch.combinations(torch.arange(6)).T
    train, held_out = arcs[:, :9], arcs[:, 9:]
    label = torch.cat([torch.ones(9), torch.zeros(200)])
    data = Data(x=torch.eye(6), edge_index=torch.cat([train, train.flip(0)], dim=1), edge_label=label,
                edge_label_index=torch.cat([train, torch.zeros(2, 200, dtype=torch.int64)], dim=1))  # fmt: skip
    found = redraw_negatives(data, torch.Generator().manual_seed(0))
    assert torch.equal(found.edge_label, label)
    assert torch.equal(found.edge_label_index[:, :9], train)
    negative = {tuple(sorted(pair)) for pair in found.edge_label_index[:, 9:].T.tolist()}
    assert negative == {tuple(pair) for pair in held_out.T.tolist()}


def test_the_score_of_a_pair_is_the_inner_product_of_its_ends() -> None:
    z, pairs = torch.rand(5, 3), torch.tensor([[0, 4], [2, 1]])
    torch.testing.assert_close(link_logits(z, pairs), torch.stack([z[0] @ z[2], z[4] @ z[1]]))
    assert unit_rows(z).norm(dim=1).allclose(torch.ones(5))

"""Single forward: the graph with virtual nodes, locality, and the votes of the layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch_geometric.nn import GCN

import datasets
from assay.errors import DataError
from methods.forward_gnn import ForwardGNN
from methods.forward_gnn.baselines import backprop_loss, backprop_network, network_inputs
from methods.forward_gnn.experiments import as_citation_full
from methods.forward_gnn.forward_gnn import class_logits, link_with_virtual_nodes, single_forward_step
from methods.forward_gnn.plain import PlainSingleForward
from methods.forward_gnn.training import PAPER, Protocol, published_split
from methods.shared.accounting import reached_parameters, saved_bytes, training_bytes
from methods.shared.graph import normalized_adjacency
from tests.methods.forward_gnn.graphs import CLASSES, small_graph

QUICK = Protocol(lr=0.01, epochs=20)


def small_model(num_layers: int = 2, **options: object) -> ForwardGNN:
    torch.manual_seed(0)
    return ForwardGNN(6, 8, num_layers, num_classes=CLASSES, **options)


def cora_ml() -> object:
    try:
        return as_citation_full(datasets.load("cora_ml"))
    except DataError as error:
        pytest.skip(f"Cora-ML cannot be had here: {error}")


def test_cora_ml_with_its_virtual_nodes_has_the_sizes_of_the_paper() -> None:
    data = cora_ml()
    train, val, test = published_split(data.num_nodes, 0)
    assert (data.num_nodes, data.num_features, data.num_edges) == (2995, 2879, 16316)
    assert (len(train), len(val), len(test)) == (1916, 480, 599)
    arcs = link_with_virtual_nodes(data.edge_index, train, data.y[train], data.num_nodes)
    assert arcs.shape == (2, 16316 + 3832)
    assert int(arcs.max()) + 1 == 3002
    added = arcs[:, 16316:]
    into = torch.bincount(added[1][added[1] >= 2995] - 2995, minlength=7)
    assert torch.equal(into, torch.bincount(data.y[train], minlength=7))
    assert not torch.isin(added, torch.cat([val, test])).any()


@pytest.mark.parametrize("linked", [True, False])
def test_links_join_training_nodes_with_their_class_and_no_one_else(linked: bool) -> None:
    data = small_graph()
    graph = small_model(linked=linked).augment(data)
    dense = graph.operator.to_dense()
    links = dense[: data.num_nodes, data.num_nodes :] > 0
    expected = (data.y.unsqueeze(1) == torch.arange(CLASSES)) & data.train_mask.unsqueeze(1)
    assert torch.equal(links, expected if linked else torch.zeros_like(expected))
    assert torch.equal(dense, dense.T)


def test_a_linear_layer_of_identity_weight_classifies_by_rows_of_the_propagated_features() -> None:
    data = small_graph()
    model = ForwardGNN(6, 6, 1, num_classes=CLASSES)
    with torch.no_grad():
        model.layers[0].conv.lin.weight.copy_(torch.eye(6))
        model.virtual_x.abs_()  # nothing is negative, so that relu is the identity
    nodes = data.train_mask.nonzero().squeeze(1)
    arcs = link_with_virtual_nodes(data.edge_index, nodes, data.y[nodes], data.num_nodes)
    h = torch.cat([data.x, model.virtual_x])
    propagated = normalized_adjacency(arcs, len(h)).to_dense() @ (h / h.norm(dim=1, keepdim=True))
    expected = (propagated @ propagated.T)[:-CLASSES, -CLASSES:]
    graph = model.augment(data)
    torch.testing.assert_close(class_logits(model.layers[0](graph.h, graph.operator), CLASSES), expected)
    torch.testing.assert_close(model(data), expected.softmax(dim=1))


def test_training_a_layer_leaves_all_others_as_they_are_to_the_bit() -> None:
    model, data = small_model(3), small_graph()
    graph = model.augment(data)
    with torch.no_grad():
        h = model.layers[0](graph.h, graph.operator)
    assert not h.requires_grad
    before = {name: value.clone() for name, value in model.state_dict().items()}
    single_forward_step(model.layers[1], h, graph, CLASSES, PAPER.optimizer(model.layers[1]))()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"layers.1.conv.lin.weight", "layers.1.conv.bias"}


def test_the_loss_of_a_layer_reaches_its_own_parameters_only() -> None:
    """And hooks on the others never fire, even where the input could still be traced to them."""
    model, data = small_model(2), small_graph()
    graph = model.augment(data)
    below, above = model.layers
    fired: list[str] = []
    for name, parameter in model.named_parameters():
        parameter.register_hook(lambda gradient, name=name: fired.append(name))
    h = below(graph.h, graph.operator)  # with its graph
    assert h.requires_grad
    loss = class_logits(above(h, graph.operator), CLASSES).logsumexp(dim=1).sum()
    assert reached_parameters(loss) == set(above.parameters())
    loss.backward()
    assert sorted(fired) == ["layers.1.conv.bias", "layers.1.conv.lin.weight"]


def test_what_autograd_keeps_is_the_same_for_every_hidden_layer_and_affine_in_depth_under_backpropagation() -> None:
    data = small_graph()
    model = ForwardGNN(6, 8, 4, num_classes=CLASSES)
    graph = model.augment(data)
    h, kept = graph.h, []
    for layer in model.layers:
        step = single_forward_step(layer, h, graph, CLASSES, PAPER.optimizer(layer))
        kept.append(saved_bytes(step, layer.parameters()))
        with torch.no_grad():
            h = layer(h, graph.operator)
    assert kept[1] == kept[2] == kept[3] > 0

    inputs = network_inputs(data, "gcn")

    def of_backprop(depth: int) -> int:
        network = backprop_network(6, 8, depth, CLASSES, "gcn")
        return training_bytes(network, backprop_loss(network, inputs, data), [data.x])

    two, three, four, eight = (of_backprop(depth) for depth in (2, 3, 4, 8))
    assert three - two == four - three > 0
    assert eight == two + 6 * (three - two)


def test_each_layer_votes_with_its_class_probabilities() -> None:
    model, data = small_model(2), small_graph()
    graph = model.augment(data)
    first = model.layers[0](graph.h, graph.operator)
    of_first = class_logits(first, CLASSES).softmax(dim=1)
    of_second = class_logits(model.layers[1](first.detach(), graph.operator), CLASSES).softmax(dim=1)
    torch.testing.assert_close(model(data, 1), of_first)
    torch.testing.assert_close(model(data), of_first + of_second)
    assert torch.equal(model.predict(data), (of_first + of_second).argmax(dim=1))


def test_a_layer_that_says_the_same_of_all_classes_changes_no_prediction() -> None:
    model, data = small_model(2), small_graph()
    with torch.no_grad():
        model.layers[1].conv.lin.weight.zero_()
        model.layers[1].conv.bias.fill_(0.5)
    assert torch.equal(model.predict(data), model(data, 1).argmax(dim=1))


@pytest.mark.parametrize("conv", ["gcn", "sage", "gat"])
def test_training_is_that_of_torch_geometrics_layers(conv: str) -> None:
    data, plain_model, model = small_graph(), small_model(1, conv=conv), small_model(1, conv=conv)
    graph, plain = model.augment(data), PlainSingleForward(plain_model, data)
    ours = single_forward_step(model.layers[0], graph.h, graph, CLASSES, PAPER.optimizer(model.layers[0]))
    theirs = plain.step(plain_model.layers[0], plain.x, PAPER.optimizer(plain_model.layers[0]))
    torch.testing.assert_close([ours() for _ in range(10)], [theirs() for _ in range(10)], rtol=1e-4, atol=1e-5)


def test_labels_of_test_nodes_are_never_read_and_a_model_survives_its_file(tmp_path: Path) -> None:
    data, model, again = small_graph(), small_model(2), small_model(2)
    model.fit(data, QUICK)
    wrong = data.clone()
    wrong.y = torch.where(data.test_mask, (data.y + 1) % CLASSES, data.y)
    again.fit(wrong, QUICK)
    assert torch.equal(model(data), again(wrong))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    loaded = small_model(2)
    loaded.reset_parameters()
    loaded.load_state_dict(torch.load(tmp_path / "model.pt"))
    assert torch.equal(loaded(data), model(data))


def test_masks_of_several_splits_are_an_error() -> None:
    data = small_graph()
    data.train_mask = data.train_mask.unsqueeze(1).expand(-1, 10)
    with pytest.raises(ValueError, match=r"train_mask: shape \(30, 10\) holds several splits; choose one"):
        small_model().fit(data)


def test_single_forward_learns_a_clustered_graph() -> None:
    data = datasets.load("csbm_clustered", train=0.64, val=0.16)
    torch.manual_seed(0)
    model, heard = ForwardGNN(data.num_features, 32, 2, num_classes=4), []
    history = model.fit(data, Protocol(lr=0.01, epochs=40), heard.append)
    right = (model.predict(data) == data.y)[data.test_mask].float().mean()
    assert right > 0.75
    assert heard == [1, 2]
    assert history[1].best == pytest.approx(float((model.predict(data) == data.y)[data.val_mask].float().mean()))


def test_the_backbone_of_backpropagation_is_torch_geometrics_gcn() -> None:
    data = small_graph()
    ours, theirs = backprop_network(6, 8, 3, CLASSES, "gcn"), GCN(6, 8, 3, CLASSES)
    with torch.no_grad():
        for linear, conv in zip(ours.linears, theirs.convs, strict=True):
            conv.lin.weight.copy_(linear.weight)
            conv.bias.copy_(torch.rand_like(linear.bias))
            linear.bias.copy_(conv.bias)
    torch.testing.assert_close(ours(*network_inputs(data, "gcn")), theirs(data.x, data.edge_index))

"""The experiments of ForwardGNN: accuracy and memory against depth, and what its locality costs and brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.transforms import RandomLinkSplit
from torch_geometric.utils import to_undirected

from assay.contenders import spent
from assay.experiment import MethodRows, Run, experiment, seed_everything
from methods.forward_gnn.baselines import (
    Inputs,
    backprop_loss,
    backprop_network,
    fit_backprop,
    forward_forward_step,
    network_inputs,
)
from methods.forward_gnn.contenders import CONTENDERS, Recipe, steps_of, train
from methods.forward_gnn.forward_gnn import ForwardGNN, class_logits, local_loss, single_forward_step
from methods.forward_gnn.layers import Conv
from methods.forward_gnn.link_prediction import LinkForwardGNN, fit_backprop_links, link_logits, redraw_negatives
from methods.forward_gnn.training import FOLDS, PAPER, Protocol, Training, accuracy, published_split
from methods.shared.accounting import reached_parameters, training_bytes
from methods.shared.graph import load_graph
from methods.shared.metrics import roc_auc
from methods.shared.training import update

WIDTH = 128
EDGE_SPLIT_SEED, EDGE_VAL, EDGE_TEST = 101, 0.16, 0.2
FORWARD_FORWARD, TOP_DOWN = ("ff_la", "ff_vn"), ("top2input", "top2loss")
GENERATED, CORA, PAPERS = ["csbm_clustered"], ["cora_ml"], ["cora_ml", "pubmed"]
ALL_SPLITS, CONVS = list(range(FOLDS)), ["gcn", "sage", "gat"]


def load_split(run: Run, split: int) -> Data:
    """The graph with the masks of one split: the authors' for real data; generated data are drawn anew for each."""
    if run.dataset in GENERATED:
        return load_graph(run.dataset, train=0.64, val=0.16, seed=split).to(run.device)
    data = as_citation_full(load_graph(run.dataset))
    for name, nodes in zip(("train", "val", "test"), published_split(data.num_nodes, split), strict=True):
        data[f"{name}_mask"] = torch.zeros(data.num_nodes, dtype=torch.bool).index_fill_(0, nodes, True)
    return data.to(run.device)


def as_citation_full(data: Data) -> Data:
    """As the authors read it: undirected, words present or absent, each row divided by its sum."""
    words = (data.x > 0).float()
    x = words / words.sum(dim=1, keepdim=True).clamp(min=1)
    return Data(x=x, edge_index=to_undirected(data.edge_index, num_nodes=data.num_nodes), y=data.y)


def network(name: str, data: Data, num_layers: int, conv: Conv = "gcn") -> Any:
    """A contender of the experiments' width."""
    recipe = replace(CONTENDERS[name].recipe, hidden_channels=WIDTH, num_layers=num_layers, conv=conv)
    return CONTENDERS[name].build(data, recipe)


@torch.no_grad()
def scores_of(network: nn.Module, inputs: Inputs) -> Tensor:
    """Outputs of a trained network."""
    return network(*inputs)


@experiment(
    quick=dict(replicates=3, datasets=GENERATED, splits=[0], layers=[1, 2], convs=["gcn"], lr=1e-2,
               sf_epochs=40, bp_epochs=40),
    standard=dict(replicates=5, datasets=CORA, splits=ALL_SPLITS, layers=[1, 2, 3, 4], convs=["gcn"], lr=1e-3,
                  sf_epochs=300, bp_epochs=1000),
    gpu=dict(replicates=5, datasets=PAPERS, splits=ALL_SPLITS, layers=[1, 2, 3, 4], convs=CONVS, lr=1e-3,
             sf_epochs=1000, bp_epochs=1000),
    timeout=6 * 3600,
)  # fmt: skip
def depth_sweep(
    run: Run, splits: list[int], layers: list[int], convs: list[Conv], lr: float, sf_epochs: int, bp_epochs: int
) -> None:
    """Test accuracy against depth. One training of single forward gives all depths: its layers vote as they come.

    `bp_fast` is one backpropagated layer at 50 times the learning rate.
    """
    for split in splits:
        data, seed = load_split(run, split), FOLDS * run.seed + split  # an initialisation of its own for each split
        for conv in convs:
            inputs = network_inputs(data, conv)
            seed_everything(seed)
            model = network("sf", data, max(layers), conv)
            scores, history = _fit_layer_by_layer(model, data, Protocol(lr=lr, epochs=sf_epochs))
            for depth in layers:
                with run.method("sf", split=split, conv=conv, layers=depth) as m:
                    m.record("accuracy", scores[depth - 1], unit="%")
                    spent(m, model.layers[:depth], steps=steps_of(history[:depth]))
            for name, rate, depths in (("bp", lr, layers), ("bp_fast", 50 * lr, [1])):
                for depth in depths:
                    with run.method(name, split=split, conv=conv, layers=depth) as m:
                        seed_everything(seed)
                        recipe = Recipe(rate, epochs=bp_epochs, hidden_channels=WIDTH, num_layers=depth, conv=conv)
                        trained, training = train(name, data, recipe)
                        m.record("accuracy", _accuracy(scores_of(trained, inputs), data), unit="%")
                        m["epochs"] = training.epochs
                        spent(m, trained, steps=training.epochs)


def _fit_layer_by_layer(model: ForwardGNN, data: Data, protocol: Protocol) -> tuple[list[float], list[Training]]:
    """Test accuracy (in percent) of the first 1, 2, .. L layers together, and how each one's training went."""
    graph, scores = model.augment(data), []
    history = model.fit(graph, protocol, lambda depth: scores.append(_accuracy(model(graph, depth), data)))
    return scores, history


def _accuracy(votes: Tensor, data: Data) -> float:
    return 100 * accuracy(votes[data.test_mask], data.y[data.test_mask])


@experiment(
    quick=dict(replicates=3, datasets=GENERATED, layers=1, lr=1e-2, epochs=10, validate_every=5),
    standard=dict(replicates=FOLDS, datasets=CORA, layers=2, lr=1e-2, epochs=100, validate_every=10),
    gpu=dict(replicates=FOLDS, datasets=CORA, layers=2, lr=1e-3, epochs=1000, validate_every=2),
    timeout=6 * 3600,
)
def forward_forward(run: Run, layers: int, lr: float, epochs: int, validate_every: int) -> None:
    """Single forward against forward-forward learning and against itself without links: equal epochs, equal rate.

    The replicate's number is its split. Predicting the test nodes, forward-forward also reads the validation labels.
    """
    data = load_split(run, run.seed)
    recipe = Recipe(lr, epochs=epochs, validate_every=validate_every, hidden_channels=WIDTH, num_layers=layers)
    labelled, evaluated = (mask.nonzero().squeeze(1) for mask in (data.train_mask | data.val_mask, data.test_mask))
    for name in ("sf", "sf_isolated", *FORWARD_FORWARD):
        with run.method(name, layers=layers) as m:
            model, history = train(name, data, recipe)
            if name in FORWARD_FORWARD:
                right = model.predict(data, labelled, evaluated) == data.y[evaluated]
                m.record("accuracy", 100 * float(right.float().mean()), unit="%")
                _curve_of(m, history[0])
            else:
                m.record("accuracy", _accuracy(model(data), data), unit="%")
            spent(m, model, steps=steps_of(history))


def _curve_of(m: MethodRows, training: Training) -> None:
    m.curve("val_accuracy", x=training.validated, y=[100 * v for v in training.score], x_name="epoch", unit="%")


@experiment(
    quick=dict(replicates=3, datasets=GENERATED, layers=2, lr=1e-2, epochs=20, validate_every=10),
    standard=dict(replicates=FOLDS, datasets=CORA, layers=2, lr=1e-3, epochs=200, validate_every=4),
    gpu=dict(replicates=FOLDS, datasets=PAPERS, layers=2, lr=1e-3, epochs=1000, validate_every=2),
    timeout=6 * 3600,
)
def top_down(run: Run, layers: int, lr: float, epochs: int, validate_every: int) -> None:
    """Signals from above against none, at equal epochs a layer. The replicate's number is its split."""
    data = load_split(run, run.seed)
    recipe = Recipe(lr, epochs=epochs, validate_every=validate_every, hidden_channels=WIDTH, num_layers=layers)
    for name in ("sf", *TOP_DOWN):
        with run.method(name, layers=layers) as m:
            model, history = train(name, data, recipe)
            if name in TOP_DOWN:
                _curve_of(m, history)
            m.record("accuracy", _accuracy(model(data), data), unit="%")
            spent(m, model, steps=steps_of(history))


@experiment(
    quick=dict(replicates=3, datasets=GENERATED, lr=1e-2, sf_epochs=20, bp_epochs=20),
    standard=dict(replicates=FOLDS, datasets=CORA, lr=1e-3, sf_epochs=300, bp_epochs=1000),
    gpu=dict(replicates=FOLDS, datasets=PAPERS, lr=1e-3, sf_epochs=1000, bp_epochs=1000),
    timeout=6 * 3600,
)
def link_prediction(run: Run, lr: float, sf_epochs: int, bp_epochs: int) -> None:
    """Area under the ROC curve of two layers. The replicate's number is the split of the edges."""
    train_data, val_data, test_data = split_edges(load_split(run, 0), run.seed)
    with run.method("sf", layers=2) as m:
        model = LinkForwardGNN(train_data.num_features, WIDTH, 2).to(run.device)
        history = model.fit(train_data, val_data, Protocol(lr=lr, epochs=sf_epochs))
        spent(m, model, steps=steps_of(history))
        m["auc"] = roc_auc(test_data.edge_label, model.predict(test_data))
    with run.method("bp", layers=2) as m:
        plain = backprop_network(train_data.num_features, WIDTH, 2, WIDTH, "gcn").to(run.device)
        training = fit_backprop_links(plain, train_data, val_data, "gcn", Protocol(lr=lr, epochs=bp_epochs))
        spent(m, plain, steps=training.epochs)
        z = scores_of(plain, network_inputs(test_data, "gcn"))
        m["auc"] = roc_auc(test_data.edge_label, link_logits(z, test_data.edge_label_index))


def split_edges(data: Data, split: int) -> tuple[Data, Data, Data]:
    """64/16/20 of the edges and as many pairs that are none, drawn as the authors do (seed 101 times the split).

    But for the negatives of training: theirs are no edges of the whole graph, the test's included.
    """
    seed_everything(EDGE_SPLIT_SEED * split)
    device, draw = data.x.device, RandomLinkSplit(num_val=EDGE_VAL, num_test=EDGE_TEST, is_undirected=True)
    parts = draw(data.cpu())  # a GPU would draw others
    train_data, *others = parts
    train_data = redraw_negatives(train_data, torch.Generator().manual_seed(EDGE_SPLIT_SEED * split))
    return tuple(part.to(device) for part in (train_data, *others))


@experiment(
    quick=dict(datasets=GENERATED, layers=[1, 2, 3, 4]),
    standard=dict(datasets=CORA, layers=[1, 2, 3, 4, 8, 16, 32, 64]),
    gpu=dict(datasets=PAPERS, layers=[1, 2, 3, 4, 8, 16, 32, 64]),
    timeout=3600,
)
def memory(run: Run, layers: list[int]) -> None:
    """Memory of training against depth, from one step of every layer.

    `training_bytes` is the paper's count (see `accounting`), for single forward that of its hungriest layer;
    `peak_bytes` the peak of all live tensors while the network is built and every layer takes a step, validation
    included; the graph is given. `sf_plain` is single forward written with torch-geometric's layers alone: it keeps the
    dense features for its backward pass.
    """
    data = load_split(run, 0)
    graph, inputs, short = network("sf", data, 1).augment(data), network_inputs(data, "gcn"), Protocol(epochs=2)
    counted: dict[str, dict[int, int]] = {"sf": {}, "sf_plain": {}, "bp": {}}
    for depth in layers:
        for name, count in (
            ("sf", _bytes_of_single_forward),
            ("sf_plain", _bytes_of_plain),
            ("bp", _bytes_of_backprop),
        ):
            with run.method(name, layers=depth) as m:
                counted[name][depth] = count(data, depth)
                m.record("training_bytes", counted[name][depth], unit="B", evidence="counted")
        run.memory("sf", lambda depth=depth: network("sf", data, depth).fit(graph, short), layers=depth)
        run.memory(
            "bp", lambda depth=depth: fit_backprop(network("bp", data, depth), inputs, data, short), layers=depth
        )
    base, slope = counted["bp"][2], counted["bp"][3] - counted["bp"][2]  # affine in depth from the second layer on
    for name in ("sf", "sf_plain"):
        most = max(counted[name].values())
        with run.method(name) as m:
            m.record("overtaken_at", max(2, 3 + (most - base) // slope), unit="layers", evidence="counted")


def _bytes_of_single_forward(data: Data, depth: int) -> int:
    model, most = network("sf", data, depth), 0
    graph = model.augment(data)
    h = graph.h
    given = [data.x, data.edge_index]
    for layer in model.layers:
        step = single_forward_step(layer, h, graph, model.num_classes, PAPER.optimizer(layer))
        most = max(most, training_bytes(layer, step, given))
        with torch.no_grad():
            h = layer(h, graph.operator)
    return most


def _bytes_of_plain(data: Data, depth: int) -> int:
    plain, most = network("sf_plain", data, depth), 0
    h = plain.x
    for layer in plain.model.layers:
        step = plain.step(layer, h, PAPER.optimizer(layer))
        most = max(most, training_bytes(layer, step, [data.x, data.edge_index, plain.x, plain.edge_index]))
        with torch.no_grad():
            h = plain.run_layer(layer, h)
    return most


def _bytes_of_backprop(data: Data, depth: int) -> int:
    model = network("bp", data, depth)
    loss, optimizer = backprop_loss(model, network_inputs(data, "gcn"), data), PAPER.optimizer(model)
    return training_bytes(model, lambda: update(optimizer, loss()), [data.x, data.edge_index])


@experiment(
    quick=dict(datasets=GENERATED, layers=3),
    standard=dict(datasets=CORA, layers=3),
    gpu=dict(datasets=PAPERS, layers=3),
)
def locality(run: Run, layers: int) -> None:
    """What one layer's step touches, layer by layer: parameters elsewhere that its loss reaches, or that it changes.

    `bp` is the control: what the loss of a backpropagated network reaches below its last layer.
    """
    data = load_split(run, 0)
    seed_everything(run.seed)
    model = network("sf", data, layers)
    graph = model.augment(data)
    h = graph.h
    for place, layer in enumerate(model.layers):
        with run.method("sf", layer=place + 1) as m:
            reached = reached_parameters(local_loss(layer, h, graph, model.num_classes)())
            m.record("reached_elsewhere", len(reached - set(layer.parameters())), evidence="counted")
            before = {name: value.clone() for name, value in model.state_dict().items()}
            single_forward_step(layer, h, graph, model.num_classes, PAPER.optimizer(layer))()
            m.record("changed_elsewhere", _changed(before, model, f"layers.{place}."), evidence="counted")
            m.record("input_needs_gradient", int(getattr(h, "requires_grad", False)), evidence="counted")
        with torch.no_grad():
            h = layer(h, graph.operator)
    with run.method("bp", layer=layers) as m:
        plain = network("bp", data, layers)
        reached = reached_parameters(backprop_loss(plain, network_inputs(data, "gcn"), data)())
        m.record("reached_elsewhere", len(reached - set(plain.linears[-1].parameters())), evidence="counted")


def _changed(before: dict[str, Tensor], model: nn.Module, own: str) -> int:
    """How many numbers outside of one layer are not the same bytes as before."""
    return sum(
        int((value != before[name]).sum()) for name, value in model.state_dict().items() if not name.startswith(own)
    )


@experiment(
    standard=dict(replicates=5, datasets=CORA, pairs=30),
    gpu=dict(replicates=5, datasets=PAPERS, pairs=30),
    timed=True, timeout=3600,
)  # fmt: skip
def epoch_time(run: Run, pairs: int) -> None:
    """Time of one update of the first layer: single forward, and forward-forward with its C passes."""
    data = load_split(run, 0)
    model = network("sf", data, 1)
    graph, (layer,) = model.augment(data), model.layers
    contenders = {"sf": single_forward_step(layer, graph.h, graph, model.num_classes, PAPER.optimizer(layer))}
    nodes = data.train_mask.nonzero().squeeze(1)
    for name in FORWARD_FORWARD:
        other = network(name, data, 1)
        graphs, (layer,) = other.graphs_to_train_on(data), other.layers
        contenders[name] = forward_forward_step(layer, graphs, nodes, PAPER.optimizer(layer))
    run.race(contenders, pairs=pairs)


@experiment(
    standard=dict(replicates=5, datasets=CORA, pairs=30),
    gpu=dict(replicates=5, datasets=PAPERS, pairs=30),
    timed=True, timeout=3600,
)  # fmt: skip
def throughput_peer(run: Run, pairs: int) -> None:
    """Two layers, two updates and one validation each: ours against the same method from torch-geometric's layers."""
    data = load_split(run, 0)
    run.race({"sf": _two_epochs(data), "sf_plain": _two_plain_epochs(data)}, pairs=pairs)


def _two_epochs(data: Data) -> Callable[[], None]:
    model = network("sf", data, 2)
    graph = model.augment(data)
    y_val, votes, h, parts = data.y[data.val_mask], torch.zeros((), device=data.x.device), graph.h, []
    for layer in model.layers:
        step = single_forward_step(layer, h, graph, model.num_classes, PAPER.optimizer(layer))
        of_val = layer.fixed(h, graph.operator, graph.with_virtual(graph.val_nodes))
        parts.append((step, of_val, votes))
        with torch.no_grad():
            votes, h = votes + class_logits(of_val(), model.num_classes).softmax(dim=1), layer(h, graph.operator)

    def timed() -> None:
        for step, of_val, below in parts:
            step(), step()
            with torch.no_grad():
                accuracy(below + class_logits(of_val(), model.num_classes).softmax(dim=1), y_val)

    return timed


def _two_plain_epochs(data: Data) -> Callable[[], None]:
    plain = network("sf_plain", data, 2)
    first, second = plain.model.layers
    with torch.no_grad():
        h = plain.run_layer(first, plain.x)
    steps = [plain.step(first, plain.x, PAPER.optimizer(first)), plain.step(second, h, PAPER.optimizer(second))]

    def timed() -> None:
        for depth, step in enumerate(steps, start=1):
            step(), step()
            plain.validation_accuracy(depth)

    return timed

"""What the experiments may see and what they record: test labels, splits, seeds, recipes, and rows for every claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from assay.experiment import Run, seed_everything
from methods.forward_gnn import ForwardGNN, LinkForwardGNN, Top2Input, Top2Loss, experiments
from methods.forward_gnn.baselines import LabelAppending, VirtualLinks, fit_backprop, network_inputs
from methods.forward_gnn.link_prediction import fit_backprop_links, link_logits
from methods.forward_gnn.training import Protocol, published_split
from methods.shared.metrics import roc_auc
from tests.methods.blindness import run_small
from tests.methods.claims import assert_claims_are_judged
from tests.methods.forward_gnn.graphs import CLASSES, small_graph
from tests.methods.forward_gnn.small import DATASET, SMALL, made_small, small_csbm
from tests.methods.unusual import assert_takes_or_refuses

SLUG = "forward_gnn"


@pytest.fixture(autouse=True)
def small_graphs() -> Iterator[None]:
    with made_small():
        yield


def share(right: Tensor) -> float:
    return 100 * float(right.float().mean())


def test_a_depth_is_trained_by_its_split_its_seed_and_its_recipe() -> None:
    run = run_small(SLUG, "depth_sweep", seed=2, **SMALL["depth_sweep"])
    of_sage = [r for r in run.rows if r.metric == "accuracy" and r.setting["conv"] == "sage"]
    rows = {(r.method, r.setting["layers"]): r for r in of_sage}
    assert rows.keys() == {("sf", 1), ("sf", 2), ("bp", 1), ("bp", 2), ("bp_fast", 1)}
    data = experiments.load_split(Run("depth_sweep", "quick", 2, DATASET), 1)

    def backprop(depth: int, lr: float) -> float:
        seed_everything(5 * 2 + 1)
        network, inputs = experiments.network("bp", data, depth, "sage"), network_inputs(data, "sage")
        fit_backprop(network, inputs, data, Protocol(lr=lr, epochs=8))
        return share((network(*inputs).argmax(dim=1) == data.y)[data.test_mask])

    seed_everything(5 * 2 + 1)
    model = ForwardGNN(data.num_features, 8, 2, num_classes=4, conv="sage")
    model.fit(data, Protocol(lr=0.02, epochs=6))
    for depth in (1, 2):
        expected = share((model(data, depth).argmax(dim=1) == data.y)[data.test_mask])
        assert rows["sf", depth].value == pytest.approx(expected)
        assert rows["bp", depth].value == pytest.approx(backprop(depth, 0.02))
        assert rows["sf", depth].setting == {"dataset": DATASET, "split": 1, "conv": "sage", "layers": depth}
    assert rows["bp_fast", 1].value == pytest.approx(backprop(1, 1.0))


@pytest.mark.parametrize("name", ["forward_forward", "top_down"])
def test_contenders_train_on_the_split_of_their_replicate_by_one_protocol(name: str) -> None:
    run = run_small(SLUG, name, seed=1, **SMALL[name])
    data, protocol = experiments.load_split(run, 1), Protocol(lr=0.02, epochs=6, validate_every=3)
    rows = {row.method: row.value for row in run.rows if row.metric == "accuracy"}
    kinds: dict[str, Callable[..., Any]] = {"sf": ForwardGNN}
    if name == "top_down":
        kinds |= {"top2input": Top2Input, "top2loss": Top2Loss}
    else:
        kinds |= {"ff_la": LabelAppending, "ff_vn": VirtualLinks,
                  "sf_isolated": lambda *a, **o: ForwardGNN(*a, linked=False, **o)}  # fmt: skip
    assert rows.keys() == kinds.keys()
    for method, kind in kinds.items():
        seed_everything(1)
        model = kind(data.num_features, 8, 2, num_classes=4)
        model.fit(data, protocol)
        if method.startswith("ff_"):
            known = (data.train_mask | data.val_mask).nonzero().squeeze(1)
            said = model.predict(data, known, data.test_mask.nonzero().squeeze(1))
        else:
            said = model.predict(data)[data.test_mask]
        assert rows[method] == pytest.approx(share(said == data.y[data.test_mask])), method


def test_links_are_those_of_the_split_of_the_replicate_and_both_methods_have_their_epochs() -> None:
    run = run_small(SLUG, "link_prediction", seed=1, **SMALL["link_prediction"])
    rows = {row.method: row.value for row in run.rows if row.metric == "auc"}
    train, val, test = experiments.split_edges(experiments.load_split(run, 0), 1)
    other = experiments.split_edges(experiments.load_split(run, 0), 2)[2]
    assert not torch.equal(test.edge_label_index, other.edge_label_index)
    seed_everything(1)
    model = LinkForwardGNN(train.num_features, 8, 2)
    model.fit(train, val, Protocol(lr=0.02, epochs=6))
    assert rows["sf"] == roc_auc(test.edge_label, model.predict(test))
    seed_everything(1)
    network = experiments.backprop_network(train.num_features, 8, 2, 8, "gcn")
    fit_backprop_links(network, train, val, "gcn", Protocol(lr=0.02, epochs=8))
    z = network(*network_inputs(test, "gcn"))
    assert rows["bp"] == roc_auc(test.edge_label, link_logits(z, test.edge_label_index))


@pytest.mark.parametrize("name", ["sf", "bp", "ff_la", "ff_vn", "top2input", "top2loss"])
def test_what_is_kept_is_the_best_of_the_validation_and_knows_no_test_label(name: str) -> None:
    kinds: dict[str, Callable[..., Any]] = {"sf": ForwardGNN, "ff_la": LabelAppending, "ff_vn": VirtualLinks,
                                            "top2input": Top2Input, "top2loss": Top2Loss}  # fmt: skip
    data, kept = small_graph(), []
    protocol = Protocol(lr=0.02, epochs=30, validate_every=1)
    for y in (data.y, torch.where(data.test_mask, (data.y + 1) % CLASSES, data.y)):
        given = Data(**{**data.to_dict(), "y": y})
        torch.manual_seed(0)
        if name == "bp":
            model, inputs = experiments.network("bp", given, 2), network_inputs(given, "gcn")
            history = fit_backprop(model, inputs, given, protocol)
            said = model(*inputs).argmax(dim=1)[data.val_mask]
        else:
            model = kinds[name](6, 8, 2, num_classes=CLASSES)
            history = model.fit(given, protocol)
            history = history[-1] if isinstance(history, list) else history
            nodes = [given[f"{part}_mask"].nonzero().squeeze(1) for part in ("train", "val")]
            said = model.predict(given, *nodes) if name.startswith("ff") else model.predict(given)[data.val_mask]
        assert history.best == max(history.score) == pytest.approx(share(said == y[data.val_mask]) / 100)
        kept.append(model.state_dict())
    assert all(torch.equal(value, kept[1][key]) for key, value in kept[0].items())


def test_real_graphs_have_the_authors_splits_and_rows_of_words_that_sum_to_one() -> None:
    data = experiments.load_split(Run("depth_sweep", "standard", 0, "cora_ml"), 2)
    for name, nodes in zip(("train", "val", "test"), published_split(data.num_nodes, 2), strict=True):
        assert torch.equal(data[f"{name}_mask"].nonzero().squeeze(1), nodes.sort().values)
    torch.testing.assert_close(data.x.sum(dim=1), (data.x > 0).any(dim=1).float())
    assert all(len(row[row > 0].unique()) <= 1 for row in data.x)


def test_edges_are_64_16_20_and_messages_never_run_along_what_is_to_be_found() -> None:
    data = small_csbm(seed=0)
    train, val, test = experiments.split_edges(data, 3)
    positive = [part.edge_label_index[:, part.edge_label == 1] for part in (train, val, test)]
    sizes = [p.shape[1] / (data.num_edges / 2) for p in positive]
    assert sizes == pytest.approx([0.64, 0.16, 0.2], abs=0.02)
    assert all(float(part.edge_label.mean()) == 0.5 for part in (train, val, test))
    edges = {tuple(sorted(e)) for e in data.edge_index.T.tolist()}
    assert all(tuple(sorted(e)) in edges for p in positive for e in p.T.tolist())
    for part, seen in ((train, positive[:1]), (val, positive[:1]), (test, positive[:2])):
        messages = to_undirected(torch.cat(seen, dim=1), num_nodes=data.num_nodes)
        assert torch.equal(to_undirected(part.edge_index, num_nodes=data.num_nodes), messages)


def test_training_pairs_that_are_no_edges_may_be_edges_that_are_held_out() -> None:
    """The released draw avoids these, and so tells a model which pairs are not to be found."""
    data, met = small_csbm(seed=0), 0
    edges = {tuple(e) for e in data.edge_index.T.tolist()}
    for split in range(10):
        train = experiments.split_edges(data, split)[0]
        seen = {tuple(e) for e in train.edge_index.T.tolist()}
        drawn = [tuple(e) for e in train.edge_label_index[:, train.edge_label == 0].T.tolist()]
        assert not seen & set(drawn)
        met += sum(pair in edges for pair in drawn)
    assert met > 0


def test_sage_keeps_the_self_loops_of_a_graph() -> None:
    data = small_graph()
    data.edge_index = torch.cat([data.edge_index, torch.tensor([[4], [4]])], dim=1)
    torch.manual_seed(0)
    model = ForwardGNN(6, 8, 1, num_classes=CLASSES, conv="sage")
    graph = model.augment(data)
    assert float(graph.operator.to_dense()[4, 4]) > 0


@pytest.mark.parametrize(
    ("kind", "conv"),
    [(ForwardGNN, "gcn"), (ForwardGNN, "sage"), (ForwardGNN, "gat"), (Top2Input, "gcn"), (Top2Loss, "sage")],
)
def test_unusual_inputs_are_taken_or_refused(kind: type[ForwardGNN], conv: str) -> None:
    data = small_graph()

    def votes(x: Tensor, edge_index: Tensor, train_mask: Tensor, val_mask: Tensor, y: Tensor) -> Tensor:
        torch.manual_seed(0)
        model = kind(6, 8, 2, num_classes=CLASSES, conv=conv).to(x.dtype if x.is_floating_point() else torch.float32)
        given = Data(x=x, edge_index=edge_index, train_mask=train_mask, val_mask=val_mask, y=y, num_nodes=30)
        model.fit(given, Protocol(epochs=2))
        return model(given)

    assert_takes_or_refuses(votes, x=data.x, edge_index=data.edge_index, train_mask=data.train_mask,
                            val_mask=data.val_mask, y=data.y)  # fmt: skip
    assert_takes_or_refuses(kind, in_channels=6, hidden_channels=8, num_layers=2, num_classes=3, conv=conv)


def test_masks_of_node_ids_train_on_those_nodes_and_a_label_out_of_range_is_refused() -> None:
    data, found = small_graph(), []
    for masks in ({}, {name: data[name].nonzero().flatten() for name in ("train_mask", "val_mask")}):
        torch.manual_seed(0)
        model = ForwardGNN(6, 8, 1, num_classes=CLASSES)
        model.fit(Data(**{**data.to_dict(), **masks}), Protocol(epochs=4))
        found.append(model(data))
    assert torch.equal(*found)
    data.y[0] = CLASSES
    with pytest.raises(ValueError, match=r"y\[0\]: is 3, but classes go from 0 to 2"):
        ForwardGNN(6, 8, 1, num_classes=CLASSES).fit(data)


def test_unusual_pairs_are_taken_or_refused() -> None:
    data = small_graph()
    label, pairs = torch.arange(8).float() % 2, data.edge_index[:, :8]

    def scores(x: Tensor, edge_index: Tensor, edge_label_index: Tensor, edge_label: Tensor) -> Tensor:
        torch.manual_seed(0)
        model = LinkForwardGNN(6, 8, 1).to(x.dtype if x.is_floating_point() else torch.float32)
        given = Data(x=x, edge_index=edge_index, edge_label_index=edge_label_index, edge_label=edge_label)
        model.fit(given, given, Protocol(epochs=2))
        return model.predict(given)

    assert_takes_or_refuses(scores, x=data.x, edge_index=data.edge_index, edge_label_index=pairs, edge_label=label)
    assert_takes_or_refuses(LinkForwardGNN, in_channels=6, hidden_channels=8, num_layers=2, conv="gcn")


TINY: dict[str, dict[str, Any]] = {
    "depth_sweep": dict(splits=[0, 1], layers=[1, 2, 3, 4], convs=["gcn"], sf_epochs=2, bp_epochs=2),
    "forward_forward": dict(layers=2, epochs=2, validate_every=2),
    "top_down": dict(epochs=2, validate_every=2),
    "link_prediction": dict(sf_epochs=2, bp_epochs=2),
    "memory": dict(layers=[1, 2, 3, 4]),
    "locality": {},
    "epoch_time": dict(pairs=1),
    "throughput_peer": dict(pairs=1),
}


def test_every_claim_is_judged_by_the_rows_of_its_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "GENERATED", [DATASET, "cora_ml"])  # a small graph in place of Cora-ML's file
    assert_claims_are_judged(SLUG, "standard", TINY)

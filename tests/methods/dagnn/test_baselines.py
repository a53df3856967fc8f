"""The baselines are torch-geometric's layers, and the training is the released code's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.datasets import KarateClub

import datasets
from assay.errors import DataError
from methods.dagnn.contenders import CONTENDERS, train
from methods.dagnn.experiments import connected_graphs, logits_smv, thinned
from methods.dagnn.smoothness import limit_vector
from methods.dagnn.training import Recipe, make_task, mean_rule
from methods.shared.graph import load_graph
from methods.shared.node_classification import History
from methods.shared.sparse import SparseMatrix
from tests.methods.dagnn.small import network


def copy_weights(ours: nn.Module, twin: nn.Module) -> None:
    """By name and place: the k-th weight matrix and the k-th bias of each."""
    with torch.no_grad():
        for kind in ("weight", "bias"):
            mine = [p for name, p in ours.named_parameters() if name.endswith(kind)]
            theirs = [p for name, p in twin.named_parameters() if name.endswith(kind)]
            for a, b in zip(mine, theirs, strict=True):
                b.copy_(a.uniform_(-1, 1))


@pytest.mark.parametrize(("method", "depth"), [("dagnn", 5), ("gcn", 2), ("gcn", 4), ("appnp", 5), ("sgc", 3)])
def test_output_and_gradients_equal_those_of_torch_geometrics_parts(method: str, depth: int) -> None:
    torch.manual_seed(0)
    data = KarateClub()[0]
    ours, twin = network(method, 34, 8, 4, depth, 0.5), network(method, 34, 8, 4, depth, 0.5, twin=True)
    copy_weights(ours, twin)
    outs = [model.eval()(data.x, data.edge_index) for model in (ours, twin)]
    torch.testing.assert_close(*outs, atol=1e-5, rtol=1e-5)
    for model, out in zip((ours, twin), outs, strict=True):
        nn.functional.cross_entropy(out, data.y).backward()
        assert all(p.grad is not None for p in model.parameters())
    for mine, theirs in zip(ours.parameters(), twin.parameters(), strict=True):
        if mine.shape == theirs.shape:
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-4)


def history(*losses: float) -> History:
    return History(val_loss=list(losses))


def test_the_stop_rule_waits_for_half_of_the_epochs_and_compares_with_the_window_before() -> None:
    stop = mean_rule(epochs=6, window=2)
    assert not stop(history(1.0, 1.0, 9.0))  # the third of six epochs is not past the half
    assert stop(history(9.0, 1.0, 3.0, 2.1))  # mean of the two before is 2; the first loss is outside the window
    assert not stop(history(9.0, 1.0, 3.0, 1.9))
    assert not stop(history(9.0, 1.0, 3.0, 2.0))  # equal is not above


def test_published_hyper_parameters_are_those_of_the_released_script() -> None:
    dagnn = {name: CONTENDERS["dagnn"].recipe[name] for name in ("cora", "citeseer", "pubmed")}
    found = {name: (r.depth, r.dropout, r.weight_decay) for name, r in dagnn.items()}
    assert found == {"cora": (10, 0.8, 5e-3), "citeseer": (10, 0.5, 2e-2), "pubmed": (20, 0.8, 5e-3)}
    assert {(r.lr, r.hidden, r.epochs, r.window, r.normalize) for r in dagnn.values()} == {(0.01, 64, 1000, 100, True)}


def test_mostly_zero_features_become_a_sparse_matrix_with_rows_that_sum_to_one() -> None:
    data = load_graph("csbm_clustered")
    data.x = (data.x > 1.5).float()
    task = make_task(data)
    assert isinstance(task.x, SparseMatrix)
    sums = task.x.to_dense().sum(dim=1)
    torch.testing.assert_close(sums, (data.x.sum(dim=1) > 0).float())


def test_training_leaves_the_weights_of_the_lowest_validation_loss() -> None:
    torch.manual_seed(0)
    task = make_task(load_graph("csbm_clustered"), normalize=False)
    recipe = Recipe(depth=10, hidden=32, dropout=0.5, weight_decay=5e-4, lr=0.05, epochs=40, window=5, normalize=False)
    model, fitted = train("dagnn", task, recipe)
    logits, val = model.eval()(task.x, task.adjacency).detach(), task.masks.val
    right = logits.argmax(dim=1) == task.y
    assert float(right[task.masks.test].float().mean()) == pytest.approx(fitted.test_accuracy)
    assert fitted.test_accuracy > 0.85
    losses = fitted.history.val_loss
    assert fitted.best_epoch == losses.index(min(losses)) < fitted.epochs - 1
    assert float(nn.functional.cross_entropy(logits[val], task.y[val])) == pytest.approx(min(losses), rel=1e-5)


def test_sixteen_coupled_layers_collapse_where_sixteen_decoupled_hops_do_not() -> None:
    task = make_task(load_graph("csbm_clustered"), normalize=False)
    accuracy = {}
    for method in ("gcn", "last_hop"):
        torch.manual_seed(0)
        recipe = Recipe(depth=16, hidden=16, dropout=0.5, weight_decay=5e-4, lr=0.02, epochs=60, normalize=False)
        model, fitted = train(method, task, recipe)
        accuracy[method] = fitted.test_accuracy
        assert 0 <= logits_smv(model, task) <= 1
    assert accuracy["last_hop"] - accuracy["gcn"] > 0.2


def test_fewer_labels_are_drawn_from_those_of_the_split_as_many_of_each_class() -> None:
    torch.manual_seed(0)
    y, vertices = torch.arange(60) % 3, torch.arange(30)
    drawn = [thinned(vertices, y, 2) for _ in range(2)]
    for some in drawn:
        assert torch.bincount(y[some]).tolist() == [2, 2, 2]
        assert set(some.tolist()) <= set(range(30))
    assert set(drawn[0].tolist()) != set(drawn[1].tolist())
    assert sorted(thinned(vertices, y, 10).tolist()) == vertices.tolist()


def test_the_graphs_of_the_limit_are_connected_and_small() -> None:
    for name, data in connected_graphs().items():
        _, component = limit_vector(data.edge_index, data.num_nodes)
        assert int(component.max()) == 0, name
        assert data.num_nodes <= 200, name


def test_dagnn_learns_cora_in_a_hundred_epochs() -> None:
    try:
        data = datasets.load("cora")
    except DataError as error:
        pytest.skip(f"needs the files of Cora: {error}")
    task = make_task(data)
    recipe = Recipe(depth=10, dropout=0.5, weight_decay=5e-3, epochs=100)
    torch.manual_seed(0)
    assert isinstance(task.x, SparseMatrix)
    assert train("dagnn", task, recipe)[1].test_accuracy > 0.8

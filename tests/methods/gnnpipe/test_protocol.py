"""How the accuracy experiments train and choose: against a loop written out, and blind to the test labels."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch_geometric.data import Data

from methods.gnnpipe.baselines import FullGraph, grid_of
from methods.gnnpipe.contenders import VARIANTS
from methods.gnnpipe.gnnpipe import Aggregate, Techniques
from methods.gnnpipe.layers import build_blocks
from methods.gnnpipe.partition import Grid, make_partition
from methods.gnnpipe.training import Model, evaluate, fit, make_task, pipeline
from methods.shared import graph
from tests.methods.blindness import run_small
from tests.methods.gnnpipe.small import TRAINED, made_small
from tests.methods.unusual import assert_takes_or_refuses


@pytest.fixture(autouse=True)
def small_graphs():
    with made_small():
        yield


def by_hand(task, blocks, epochs):
    """Validation and test accuracy after each epoch of full-batch Adam on the mean cross-entropy, densely."""
    adjacency, found = task.adjacency.to_dense(), []
    optimizer = torch.optim.Adam(blocks.parameters(), lr=0.01, weight_decay=5e-4)

    def logits():
        h = h0 = blocks[0](task.x, None, None)
        for block in blocks[1:-1]:
            h = block(h, adjacency @ h, h0)
        return blocks[-1](h, None, None)

    for _ in range(epochs):
        optimizer.zero_grad()
        F.cross_entropy(logits()[task.train], task.y[task.train]).backward()
        optimizer.step()
        right = (logits().argmax(1) == task.y).detach()
        found.append([100 * float(right[mask].float().mean()) for mask in (task.val, task.test)])
    return found


def test_the_test_accuracy_is_that_of_the_first_epoch_with_the_best_validation_accuracy():
    task = make_task(graph.load_graph("csbm"), "gcnii", dtype=torch.float64)
    other_rules = []
    for seed in (3, 4, 5, 6):
        model = Model("gcnii", 2, 8, seed=seed)
        expected = by_hand(task, model.build(task), 40)
        reference = FullGraph(task, model)
        history = fit(reference, reference.blocks, task, epochs=40, every=1)
        assert history.val == [val for val, _ in expected]
        bests = [test for val, test in expected if val == max(history.val)]
        assert history.test == bests[0]
        other_rules.append([bests[-1] != bests[0], expected[-1][1] != bests[0], max(history.val) != bests[0]])
    assert all(map(any, zip(*other_rules, strict=True)))  # or another rule would have done as well


@pytest.mark.parametrize("name", ["full", *VARIANTS])
def test_the_rows_of_a_contender_are_those_of_its_own_training(name):
    """Equal weights, epochs and learning rates; each variant leaves out what its name says."""
    run = run_small(
        "gnnpipe", "ablation", **{**TRAINED, "epochs": 30}, variants=[name] if name != "full" else [], seed=3
    )
    task, model = make_task(graph.load_graph("csbm"), "gcnii", num_features=8), Model("gcnii", 2, 8, seed=3)
    reference = FullGraph(task, model)
    exact = fit(reference, reference.blocks, task, epochs=30, every=1)
    techniques = {
        "pipeline": Techniques(period=20, shuffle=True, scale=True),
        "no_shuffle": Techniques(period=20, shuffle=False, scale=True),
        "no_scaling": Techniques(period=20, shuffle=True, scale=False),
        "refresh_every_epoch": Techniques(period=1, shuffle=True, scale=True),
    }
    if name == "full":
        history, blocks = exact, reference.blocks
    else:
        partition = make_partition(task.adjacency, 1, 4, "metis")
        engine, blocks = pipeline(task, model, 2, partition, techniques[name])
        history = fit(engine, blocks, task, epochs=30, every=1)
    left_out = ("wall_s", "parameters", "steps", "trials")
    rows = {row.metric: row.value for row in run.rows if row.method == name and row.metric not in left_out}
    loss = F.cross_entropy(dense_logits(task, blocks)[task.train], task.y[task.train])
    reached = next((e for e, val in enumerate(history.val, 1) if val >= 0.95 * max(exact.val)), 30)
    assert rows == {
        "accuracy": history.test,
        "final_accuracy": evaluate(blocks, task)[1],
        "train_loss": pytest.approx(float(loss.detach()), rel=1e-5),
        "epochs_to_reach": reached,
    }
    (curve,) = (curve for curve in run.curves if curve.method == name)
    assert (list(curve.x), list(curve.y)) == (history.epochs[4::5], history.val[4::5])


def dense_logits(task, blocks):
    h = h0 = blocks[0](task.x, None, None)
    for block in blocks[1:-1]:
        h = block(h, task.adjacency.to_dense() @ h, h0)
    return blocks[-1](h, None, None)


def test_a_diverged_model_is_not_selected():
    task, model = make_task(graph.load_graph("csbm"), "gcn"), Model("gcn", 2, 8)
    blocks = model.build(task)
    with torch.no_grad():
        blocks[0].linear.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        evaluate(blocks, task)
    engine, blocks = pipeline(task, model, 2, make_partition(task.adjacency, 1, 4, "order"))
    with pytest.raises(FloatingPointError):
        fit(engine, blocks, task, epochs=5, every=1, lr=1e30)


def logits_of(x, edge_index, y, train_mask, val_mask, test_mask, num_layers, hidden_channels, dropout, stages, ways,
              chunks, how, period, name):  # fmt: skip
    """Everything that a user calls, in one call: data, model, partition, engine and an epoch."""
    data = Data(x=x, edge_index=edge_index, y=y, train_mask=train_mask, val_mask=val_mask, test_mask=test_mask)
    task = make_task(data, name)
    partition = make_partition(task.adjacency, ways, chunks, how)
    model = Model(name, num_layers, hidden_channels, dropout=dropout)
    engine, _ = pipeline(task, model, stages, partition, Techniques(period=period))
    engine.epoch(0)
    return engine.stages[-1].outputs.double()


def test_unusual_inputs_are_taken_or_refused():
    data = graph.load_graph("csbm")
    good = {name: data[name] for name in ("x", "edge_index", "y", "train_mask", "val_mask", "test_mask")}
    assert_takes_or_refuses(
        logits_of, **good, num_layers=2, hidden_channels=4, dropout=0.0, stages=2, ways=1, chunks=3, how="order",
        period=2, name="gcn",
    )  # fmt: skip
    assert_takes_or_refuses(build_blocks, model="gcnii", in_channels=3, hidden_channels=2, out_channels=2, num_layers=1)
    assert_takes_or_refuses(grid_of, method="hybrid", workers=4, chunks=2, stages=2)
    assert_takes_or_refuses(Grid, stages=2, ways=1, chunks=3)
    task, model = make_task(data, "gcn"), Model("gcn", 1, 2)

    def losses(**options):
        reference = FullGraph(task, model)
        return fit(reference, reference.blocks, task, **options).losses

    assert_takes_or_refuses(losses, epochs=2, every=1, lr=0.01, weight_decay=5e-4)


def test_what_goes_back_through_the_memory_is_derived_once():
    task = make_task(graph.load_graph("csbm"), "gcn")
    engine, _ = pipeline(task, Model("gcn", 1, 2), 1, make_partition(task.adjacency, 1, 3, "order"))
    (memory,) = engine.stages[0].memories.values()
    h = torch.ones(engine.stages[0].shard.rows(0), 2, requires_grad=True)
    memory.write(0, h)
    out = Aggregate.apply(h, memory, 0).sum()
    torch.autograd.grad(out, h, retain_graph=True)
    with pytest.raises(RuntimeError, match="has a first derivative only"):
        torch.autograd.grad(out, h, create_graph=True)


def test_an_arc_to_a_vertex_that_is_not_there_is_refused():
    data = graph.load_graph("csbm")
    data.edge_index[1, 5] = 120
    with pytest.raises(IndexError, match=r"vertex 120, but ids go from 0 to 119"):
        make_task(data, "gcn")

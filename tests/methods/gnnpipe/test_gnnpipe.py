from __future__ import annotations

import copy
import itertools
import textwrap

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods import gnnpipe
from methods.gnnpipe.baselines import FullGraph
from methods.gnnpipe.gnnpipe import GNNPipe, Techniques
from methods.gnnpipe.layers import GCN, MODELS, run_blocks
from methods.gnnpipe.links import Mailbox
from methods.gnnpipe.partition import Grid, make_partition, make_shards
from methods.gnnpipe.training import Model, fit, make_stage, make_task, pipeline, stage_sizes
from methods.shared.graph import load_graph

LAYERS, WIDTH = 4, 8


def task_of(model, dtype=torch.float64, **options):
    sizes = dict(num_nodes=120, num_blocks=8, num_classes=4, degree=6, homophily=0.5, num_features=WIDTH)
    return make_task(load_graph("csbm", **{**sizes, **options}), model, dtype=dtype)


def gradients(blocks):
    return torch.cat([weight.grad.flatten() for weight in blocks.parameters()])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stages", [1, 3, LAYERS + 2])
def test_one_chunk_is_the_full_graph_for_any_number_of_stages(name, stages):
    task, model = task_of(name), Model(name, LAYERS, WIDTH)
    reference = FullGraph(task, model)
    engine, blocks = pipeline(task, model, stages, make_partition(task.adjacency, 1, 1, "order"))
    for epoch in range(2):
        assert engine.epoch(epoch) == pytest.approx(reference.epoch(epoch), rel=1e-12)
        torch.testing.assert_close(gradients(blocks), gradients(reference.blocks), rtol=1e-9, atol=1e-12)
        logits = run_blocks(reference.blocks, task.x, task.adjacency, task.transpose)
        torch.testing.assert_close(engine.stages[-1].outputs, logits, rtol=1e-9, atol=1e-12)


def errors_by_epoch(engine, logits, order, epochs):
    """Largest error of the chunked logits in each epoch, the weights frozen."""
    found = []
    for epoch in range(epochs):
        engine.epoch(epoch)
        found.append(float((engine.stages[-1].outputs - logits[order]).detach().abs().max()))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_frozen_weights_make_the_chunked_forward_exact_one_epoch_after_the_last_layer(name):
    task, model = task_of(name), Model(name, LAYERS, WIDTH)
    partition = make_partition(task.adjacency, 1, 8, "metis")
    engine, blocks = pipeline(task, model, 3, partition, Techniques(period=1))
    logits = run_blocks(blocks, task.x, task.adjacency, task.transpose)
    errors = errors_by_epoch(engine, logits, torch.from_numpy(partition.order), LAYERS + 3)
    assert min(errors[: LAYERS - 1]) > 1e-6
    assert max(errors[LAYERS:]) < 1e-14


def raw_feature_engine(task, techniques, chunks):
    """Four GCN layers of which the first aggregates the features themselves."""
    torch.manual_seed(0)
    widths = [task.x.shape[1], WIDTH, WIDTH, WIDTH, 4]
    blocks = nn.ModuleList(GCN(a, b) for a, b in itertools.pairwise(widths)).double()
    partition, links, model = make_partition(task.adjacency, 1, chunks, "order"), Mailbox(), Model("gcn", 4, WIDTH)
    (shard,) = make_shards(task.adjacency, partition)
    grid = Grid(2, 1, chunks)
    stages = [make_stage(task, model, blocks, grid, s, shard, links, techniques) for s in range(2)]
    return GNNPipe(stages, range(2), 2, links), blocks


def test_with_raw_features_the_chunked_forward_is_exact_from_the_last_layer_on():
    task = task_of("gcn")
    engine, blocks = raw_feature_engine(task, Techniques(period=1), chunks=8)
    logits = run_blocks(blocks, task.x, task.adjacency, task.transpose)
    errors = errors_by_epoch(engine, logits, torch.arange(len(task.y)), LAYERS + 2)
    assert min(errors[: LAYERS - 2]) > 1e-6
    assert max(errors[LAYERS - 1 :]) < 1e-14


def test_raw_features_give_the_full_gradient():
    task = task_of("gcn")
    engine, blocks = raw_feature_engine(task, Techniques(), chunks=1)
    engine.epoch(0)
    chunked = gradients(blocks).clone()
    blocks.zero_grad()
    logits = run_blocks(blocks, task.x, task.adjacency, task.transpose)
    F.cross_entropy(logits[task.train], task.y[task.train]).backward()
    torch.testing.assert_close(chunked, gradients(blocks), rtol=1e-9, atol=1e-12)


class ScaleGradient(torch.autograd.Function):
    """The identity, with a doubled gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def mixed_loss(blocks, task, ranges, order, history, scale):
    """The loss of a chunked forward pass written as one autograd graph: fresh rows where there are any, else history.

    history: for each block that aggregates, (N, d) constants.
    """
    adjacency, fresh, loss = task.adjacency.to_dense(), [{} for _ in blocks], 0.0
    for chunk in order:
        rows, h, h0 = ranges[chunk], task.x[ranges[chunk]], None
        for i, block in enumerate(blocks):
            z = None
            if block.aggregates:
                fresh[i][chunk] = h
                z = torch.zeros_like(h)
                for other, columns in enumerate(ranges):
                    read = fresh[i].get(other, history.get(i, task.x)[columns])
                    if scale and other != chunk and other in fresh[i]:
                        read = ScaleGradient.apply(read)
                    z = z + adjacency[rows, columns] @ read
            h = block(h, z, h0)
            h0 = h if block.makes_h0 else h0
        train = task.train[rows]
        loss = loss + F.cross_entropy(h[train], task.y[rows][train], reduction="sum")
    return loss / int(task.train.sum())


def directed_task(name):
    data = load_graph("csbm", num_nodes=120, num_blocks=8, num_classes=4, degree=6, homophily=0.5, num_features=WIDTH)
    data.edge_index = data.edge_index[:, torch.arange(data.num_edges) % 3 > 0]
    return make_task(data, name, dtype=torch.float64)


@pytest.mark.parametrize("make", [task_of, directed_task], ids=["undirected", "directed"])
@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_backward_is_autograd_through_the_mixed_forward(name, scale, make):
    task, model = make(name), Model(name, LAYERS, WIDTH)
    partition = make_partition(task.adjacency, 1, 5, "order")
    engine, blocks = pipeline(task, model, 3, partition, Techniques(period=2, scale=scale))
    for epoch in range(2):  # so that there is a history
        engine.epoch(epoch)
    history = {s.first + i: m.snapshot.clone() for s in engine.stages for i, m in s.memories.items()}
    assert all(d.norm() > 0 for d in history.values())

    loss = engine.epoch(2)
    chunked = gradients(blocks).clone()
    blocks.zero_grad()
    expected = mixed_loss(blocks, task, engine.stages[0].shard.own, engine.order(2), history, scale)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(chunked, gradients(blocks), rtol=1e-9, atol=1e-12)


def test_history_stays_for_a_period_and_is_then_that_of_its_last_epoch():
    task, model = task_of("gcn"), Model("gcn", 2, WIDTH)
    engine, blocks = pipeline(task, model, 2, make_partition(task.adjacency, 1, 4, "order"), Techniques(period=3))
    memory, seen = engine.stages[1].memories[0], []
    for epoch in range(6):
        engine.epoch(epoch)
        seen.append(memory.rows.clone())
        with torch.no_grad():
            for weight in blocks.parameters():
                weight.mul_(1.1)
    assert not seen[0].any()
    assert not seen[1].any()
    assert seen[2].any()
    assert torch.equal(seen[2], seen[3])
    assert torch.equal(seen[2], seen[4])
    assert not torch.equal(seen[2], seen[5])


@pytest.mark.parametrize("techniques", [Techniques(), Techniques(period=1, scale=False), Techniques(shuffle=False)])
def test_unconnected_chunks_train_exactly_like_the_full_graph(techniques):
    task = task_of("gcnii", homophily=1.0)
    model = Model("gcnii", LAYERS, WIDTH)
    engine, blocks = pipeline(task, model, 3, make_partition(task.adjacency, 1, 8, "order"), techniques)
    reference = FullGraph(task, model)
    ours = fit(engine, blocks, task, epochs=25, every=25)
    theirs = fit(reference, reference.blocks, task, epochs=25, every=25)
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-9)
    assert theirs.losses[-1] < theirs.losses[0] - 0.1


def test_the_gradient_is_that_of_the_very_masks_that_dropout_drew_forward():
    task, model = task_of("gcnii"), Model("gcnii", 3, WIDTH, dropout=0.5)
    partition = make_partition(task.adjacency, 1, 4, "order")

    def loss_at(step, direction=None):
        engine, blocks = pipeline(task, model, 2, partition, Techniques(scale=False))
        with torch.no_grad():
            for weight, along in zip(blocks.parameters(), direction or [], strict=direction is not None):
                weight.add_(along, alpha=step)
        return engine.epoch(0), blocks

    _, blocks = loss_at(0.0)
    direction = [weight.grad for weight in blocks.parameters()]
    slope = (loss_at(1e-6, direction)[0] - loss_at(-1e-6, direction)[0]) / 2e-6
    assert slope == pytest.approx(float(gradients(blocks).square().sum()), rel=1e-5)


def test_every_epoch_draws_its_own_order_and_all_stages_the_same():
    task, model = task_of("gcn"), Model("gcn", 2, WIDTH)
    partition = make_partition(task.adjacency, 1, 8, "order")
    one, _ = pipeline(task, model, 2, partition)
    other, _ = pipeline(task, model, 4, partition)
    orders = [one.order(epoch) for epoch in range(3)]
    assert orders == [other.order(epoch) for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert all(sorted(order) == list(range(8)) for order in orders)


def test_the_users_lines_run_as_they_stand():
    data = load_graph("csbm", num_nodes=120, num_blocks=8, num_classes=4, degree=6, homophily=0.5)
    block = textwrap.dedent(gnnpipe.gnnpipe.__doc__.split("\n\n")[1])
    names = {**vars(gnnpipe), "data": data}
    exec(block.replace("epochs=100", "epochs=5"), names)
    assert len(names["history"].losses) == 5


def test_layers_are_spread_evenly_and_too_many_stages_are_refused():
    assert stage_sizes(34, 8) == [5, 5, 4, 4, 4, 4, 4, 4]
    with pytest.raises(ValueError, match="7 stages for 6 blocks"):
        stage_sizes(6, 7)


def test_the_best_validation_accuracy_decides_which_test_accuracy_counts():
    task, model = task_of("gcnii", homophily=0.9, dtype=torch.float32), Model("gcnii", LAYERS, WIDTH)
    engine, blocks = pipeline(task, model, 2, make_partition(task.adjacency, 1, 4, "metis"))
    before = copy.deepcopy(blocks.state_dict())
    history = fit(engine, blocks, task, epochs=60, every=5)
    assert history.epochs == list(range(5, 65, 5))
    assert history.epochs_to(max(history.val)) == history.epochs[history.val.index(max(history.val))]
    assert history.epochs_to(101.0) is None
    assert history.test > 50
    assert not torch.equal(before["0.linear.weight"], blocks[0].linear.weight)

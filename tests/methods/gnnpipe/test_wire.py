"""Real processes: what they compute is what one process computes, and what they send is the closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from assay.errors import JobError
from assay.ranks import run_ranks
from methods.gnnpipe import Techniques
from methods.gnnpipe.baselines import FullGraph, grid_of
from methods.gnnpipe.partition import Grid, Partition, make_partition
from methods.gnnpipe.ranks import Case, count_bytes
from methods.gnnpipe.training import Model, make_task, pipeline
from methods.gnnpipe.volume import border_bytes, count_mirrors, mirror_bytes, ring_bytes
from methods.shared.graph import load_graph
from tests.methods.gnnpipe.in_ranks import (
    TECHNIQUES,
    build_in_rank,
    train,
    train_and_count,
    train_in_rank,
)

WIDTH = 8


def task_of(model, dtype=torch.float64, **options):
    sizes = dict(num_nodes=120, num_blocks=8, num_classes=4, degree=6, homophily=0.5, num_features=WIDTH)
    return make_task(load_graph("csbm", **{**sizes, **options}), model, dtype=dtype)


def losses_of(ranks):
    """The loss of each epoch is the sum over the processes, of which only those with a last stage have a part."""
    return np.sum([losses for losses, _ in ranks], axis=0).tolist()


def test_four_processes_are_one_process_bit_for_bit():
    task, model = task_of("gcnii", torch.float32), Model("gcnii", 6, WIDTH, dropout=0.5)
    partition = make_partition(task.adjacency, 1, 5, "metis")
    engine, _ = pipeline(task, model, 4, partition, TECHNIQUES)
    losses, weights = train(engine, 5)
    ranks = run_ranks(train_in_rank, 4, args=(task, model, Grid(4, 1, 5), partition, 5))
    assert losses_of(ranks) == losses
    spread = [weight for _, part in ranks for weight in part]
    assert all(torch.equal(a, b) for a, b in zip(spread, weights, strict=True))


@pytest.mark.parametrize(("name", "ranks"), [("graphsage", 2), ("gcnii", 4)])
def test_graph_parallelism_is_one_process(name, ranks):
    task, model = task_of(name), Model(name, 4, WIDTH)
    losses, weights = train(FullGraph(task, model), 5)
    partition = make_partition(task.adjacency, ranks, 1, "metis")
    found = run_ranks(train_in_rank, ranks, args=(task, model, grid_of("graph", ranks, 1), partition, 5))
    assert losses_of(found) == pytest.approx(losses, rel=1e-10)
    for _, others in found:
        assert all(torch.allclose(a, b, rtol=1e-8, atol=1e-10) for a, b in zip(others, weights, strict=True))


def test_the_hybrid_is_the_pipeline_whose_chunks_are_those_of_its_ways_together():
    task, model = task_of("gcnii"), Model("gcnii", 4, WIDTH)
    partition = make_partition(task.adjacency, 2, 4, "metis")
    pieces = [[partition.order[a:b] for a, b in itertools.pairwise(row)] for row in partition.bounds]
    chunks = [np.concatenate(together) for together in zip(*pieces, strict=True)]
    joined = Partition(np.concatenate(chunks), np.cumsum([0, *map(len, chunks)])[None])
    losses, _ = train(pipeline(task, model, 2, joined, TECHNIQUES)[0], 5)
    found = run_ranks(train_in_rank, 4, args=(task, model, Grid(2, 2, 4), partition, 5))
    assert losses_of(found) == pytest.approx(losses, rel=1e-9)


def sent(tasks, cases):
    """By method and model: the bytes of an epoch, beside the closed forms, as counted on real processes."""
    rows = run_ranks(count_bytes, cases[0].grid.workers, args=(tasks, cases))[0]
    found = {}
    for row in rows:
        found.setdefault((row["method"], row["setting"]["model"]), {})[row["metric"]] = row["value"]
    return found


def test_a_pipeline_sends_the_rows_of_its_borders_and_nothing_else():
    data = load_graph("csbm", num_nodes=1_000, degree=6)
    tasks = {name: make_task(data, name) for name in ("gcn", "gcnii")}
    partition = make_partition(tasks["gcn"].adjacency, 1, 8, "metis")
    found = sent(tasks, [Case("pipeline", Model(name, 4, 32), Grid(4, 1, 8), partition) for name in tasks])
    for name, expected in (("gcn", 768_000), ("gcnii", 1_536_000)):
        assert found["pipeline", name] == dict(bytes=expected, formula_bytes=expected, weight_bytes=0, ring_bytes=0)
        assert border_bytes(1_000, 32, 4, Model(name, 4, 32).border_tensors) == expected


def test_graph_parallelism_and_hybrid_send_every_mirror_twice_per_layer_and_a_ring_of_weights_in_a_stage():
    tasks = {name: task_of(name, torch.float32) for name in ("graphsage", "gcnii")}
    models = {name: Model(name, 5, WIDTH) for name in tasks}
    adjacency = tasks["gcnii"].adjacency
    four, two = (make_partition(adjacency, ways, chunks, "metis") for ways, chunks in ((4, 1), (2, 4)))
    cases = [Case("graph", model, grid_of("graph", 4, 1), four) for model in models.values()]
    cases += [Case("hybrid", model, Grid(2, 2, 4), two) for model in models.values()]
    found = sent(tasks, cases)
    count = {"graph": count_mirrors(adjacency, four), "hybrid": count_mirrors(adjacency, two)}
    mirrors = {method: mirror_bytes(number, number, [WIDTH] * 5) for method, number in count.items()}
    for name, model in models.items():
        weights = sum(weight.numel() for weight in model.build(tasks[name]).parameters())
        borders = border_bytes(120, WIDTH, 2, model.border_tensors)
        for method, ways, rows in (("graph", 4, mirrors["graph"]), ("hybrid", 2, mirrors["hybrid"] + borders)):
            counted = found[method, name]
            assert counted["bytes"] == counted["formula_bytes"] == rows > 0
            assert counted["weight_bytes"] == counted["ring_bytes"] == ring_bytes(ways, weights)


def test_unconnected_parts_exchange_no_rows_and_fully_connected_ones_as_many_as_layers_times_the_pipeline():
    layers, ranks = 6, 3
    apart = task_of("gcn", torch.float32, num_blocks=3, num_classes=3, homophily=1.0)
    complete = dict(num_nodes=24, num_blocks=1, num_classes=1, degree=23, homophily=1.0)
    together = task_of("gcn", torch.float32, **complete)
    assert count_mirrors(together.adjacency, make_partition(together.adjacency, ranks, 1, "order")) == 2 * 24
    model = Model("gcn", layers, WIDTH)
    volume = {}
    for name, task in (("apart", apart), ("together", together)):
        split, chunked = (make_partition(task.adjacency, *shape, "order") for shape in ((ranks, 1), (1, 4)))
        cases = [Case("graph", model, Grid(1, ranks, 1), split), Case("pipeline", model, Grid(ranks, 1, 4), chunked)]
        volume[name] = {method: bytes_["bytes"] for (method, _), bytes_ in sent({"gcn": task}, cases).items()}
    assert volume["apart"]["graph"] == 0 < volume["apart"]["pipeline"]
    assert volume["together"]["graph"] == layers * volume["together"]["pipeline"]


def directed_task(dtype=torch.float64):
    """A third of the arcs of an undirected graph go one way only."""
    data = load_graph("csbm", num_nodes=120, num_blocks=8, num_classes=4, degree=6, homophily=0.5, num_features=WIDTH)
    data.edge_index = data.edge_index[:, torch.arange(data.num_edges) % 3 > 0]
    return make_task(data, "gcn", dtype=dtype)


def test_a_directed_graph_in_parts_is_one_process_and_sends_its_rows_forward_and_its_gradients_back():
    task, model = directed_task(), Model("gcn", 3, WIDTH)
    losses, _ = train(FullGraph(task, model), 3)
    partition = make_partition(task.adjacency, 3, 1, "metis")
    counting = {"gcn": directed_task(torch.float32)}, [Case("graph", model, Grid(1, 3, 1), partition)]
    found = run_ranks(train_and_count, 3, args=((task, model, Grid(1, 3, 1), partition, 3), counting))
    assert losses_of([trained for trained, _ in found]) == pytest.approx(losses, rel=1e-10)
    bytes_ = {row["metric"]: row["value"] for row in found[0][1]}
    forward, backward = (count_mirrors(matrix, partition) for matrix in (task.adjacency, task.transpose))
    assert forward != backward
    assert bytes_["bytes"] == bytes_["formula_bytes"] == 4 * (forward + backward) * WIDTH * 3


def test_ranks_that_do_not_agree_are_refused_before_the_first_epoch():
    """Rank 0 builds its engine as agreed, rank 1 with one thing changed; in the last case a stage has two ways."""
    agreed = dict(model=Model("gcn", 4, WIDTH), cut=(1, 4, "order"), techniques=Techniques())
    pipeline, graph = Grid(2, 1, 4), Grid(1, 2, 1)
    changes = {
        "seed": (pipeline, agreed, dict(model=Model("gcn", 4, WIDTH, seed=1))),
        "chunks": (pipeline, agreed, dict(cut=(1, 5, "order"))),
        "period": (pipeline, agreed, dict(techniques=Techniques(period=3))),
        "shuffle": (pipeline, agreed, dict(techniques=Techniques(shuffle=False))),
        "graph and partition": (pipeline, agreed, dict(cut=(1, 4, "random"))),
        "weights": (graph, {**agreed, "cut": (2, 1, "order")}, dict(scale_weights=2.0)),
    }
    cases = [(grid, first, {**first, **changed}) for grid, first, changed in changes.values()]
    for messages in run_ranks(build_in_rank, 2, args=(task_of("gcn"), cases)):
        for fact, message in zip(changes, messages, strict=True):
            assert f"all ranks need the same {fact}; rank 0 has " in message
            assert ", rank 1 has " in message


def test_a_grid_must_fit_the_processes():
    task, model = task_of("gcn"), Model("gcn", 4, WIDTH)
    partition = make_partition(task.adjacency, 1, 4, "order")
    with pytest.raises(JobError, match="needs 3 processes and there are 2"):
        run_ranks(train_in_rank, 2, args=(task, model, Grid(3, 1, 4), partition, 1))

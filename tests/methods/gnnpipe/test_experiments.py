"""Every experiment at a tiny size: its rows are those that the card's claims and figures read."""

from __future__ import annotations

import pytest

from assay.experiment import Run
from assay.network import network_reason
from methods.gnnpipe import Grid, Model, experiments, make_partition, make_shards, worker
from methods.gnnpipe.cluster import time_worker


@pytest.fixture(autouse=True)
def small_graphs(monkeypatch):
    """Cora's and the streams' names stand for graphs of 120 vertices."""
    from methods.shared import graph

    load = graph.load_graph
    sizes = dict(num_nodes=120, num_blocks=4, num_classes=4, degree=16, homophily=0.5)
    monkeypatch.setattr(graph, "load_graph", lambda name, **options: load("csbm", **{**sizes, **options}))


def run_of(experiment, **parameters):
    run = Run(experiment.name, "quick", 0, "csbm", timed=experiment.timed)
    experiment.function(run, **parameters)
    found = {}
    for row in run.rows:
        knobs = tuple(row.setting[k] for k in ("model", "layers", "world_size", "gbit", "hops") if k in row.setting)
        found.setdefault((row.method, row.metric, *knobs), []).append(row.value)
    return run, found


def test_traffic_meets_the_closed_forms_and_only_graph_parallelism_grows_with_depth():
    _, found = run_of(experiments.traffic, world_sizes=[3], layers=[2, 4], hidden=8, chunks=2, hybrid_stages=1)
    for method in ("graph", "pipeline", "hybrid"):
        for model in ("gcn", "graphsage", "gcnii"):
            bytes_ = [found[method, "bytes", model, depth, 3][0] for depth in (2, 4)]
            assert bytes_ == [found[method, "formula_bytes", model, depth, 3][0] for depth in (2, 4)]
            assert (bytes_[1] == bytes_[0]) == (method == "pipeline")
            weights = [found[method, name, model, 4, 3] for name in ("weight_bytes", "ring_bytes")]
            assert weights[0] == weights[1]


def test_accuracy_compares_with_the_full_graph_from_the_same_weights():
    run, found = run_of(experiments.accuracy, num_layers=2, hidden=8, stages=2, chunks=4, epochs=25,
                        variants=["pipeline", "no_shuffle"])  # fmt: skip
    for method in ("full", "pipeline", "no_shuffle"):
        assert 0 < found[method, "epochs_to_reach"][0] <= 25
        assert found[method, "accuracy"][0] > 30
    assert [len(curve.x) for curve in run.curves] == [5, 5, 5]


def test_chunked_gradients_shrink_with_the_hops_as_the_theory_says():
    _, found = run_of(experiments.gradient_bias, num_nodes=200, num_layers=3, hidden=8, chunks=20, orders=40)
    for hops, scaled, unscaled in ((0, 1.0, 1.0), (1, 1.0, 1 / 2), (2, 2 / 3, 1 / 6)):
        assert found["pipeline", "theory", hops] == [pytest.approx(scaled)]
        assert found["no_scaling", "theory", hops] == [pytest.approx(unscaled)]
        assert found["pipeline", "share", hops][0] == pytest.approx(scaled, abs=0.15)
        assert found["no_scaling", "share", hops][0] == pytest.approx(unscaled, abs=0.15)


def test_simulated_epochs_are_shorter_on_faster_wires_and_methods_that_do_not_fit_say_so():
    _, found = run_of(experiments.simulated_time, graph={}, layers=[4], hidden=8, chunks=4, world_sizes=[4, 7, 8],
                      hybrid_stages=4, gbits=[0.001, 1], repeats=1)  # fmt: skip
    assert found["graph", "epoch_s", 4, 4, 0.001] > found["graph", "epoch_s", 4, 4, 1]
    assert found["hybrid", "epoch_s", 4, 8, 1] != [None]
    assert found["hybrid", "epoch_s", 4, 4, 1] == [None]
    assert found["pipeline", "epoch_s", 4, 7, 1] == [None]  # 7 stages for 6 blocks
    assert ("pipeline", "crossover_gbit", 4, 4) in found


def test_memory_of_a_stage_is_less_than_that_of_the_whole():
    _, found = run_of(experiments.memory, graph={}, num_layers=8, hidden=8, chunks=4, workers=4)
    assert found["pipeline", "peak_bytes"] < found["full", "peak_bytes"]


def test_the_memory_of_a_pipelines_worker_is_that_of_its_second_stage():
    _, found = run_of(experiments.memory, graph={}, num_layers=8, hidden=8, chunks=4, workers=4)
    run = Run("memory", "quick", 0, "csbm")
    task, model = experiments.load_task(run, "gcn", 8), Model("gcn", 8, 8)
    (shard,) = make_shards(task.adjacency, make_partition(task.adjacency, 1, 4, "metis"))
    for rank in (0, 1):
        run.memory(
            str(rank), lambda rank=rank: time_worker(worker(task, model, Grid(4, 1, 4), shard, rank, alone=True), 1)
        )
    first, second = (row.value for row in run.rows if row.metric == "peak_bytes")
    assert found["pipeline", "peak_bytes"] == [second] != [first]


@pytest.mark.skipif(network_reason() is not None, reason="needs network namespaces")
def test_the_race_on_a_limited_wire_times_whole_epochs_in_pairs():
    run, found = run_of(experiments.wire_time, num_layers=3, hidden=8, chunks=2, gbit=0.05, pairs=3, repeats=1)
    for method in ("graph", "pipeline", "naive"):
        rows = [row for row in run.rows if row.metric == "time_s" and row.method == method]
        assert [row.repeat for row in rows] == [0, 1, 2]
        assert found[method, "expected_over_measured", "gcnii", 3, 2][0] > 0


@pytest.mark.skipif(network_reason() is not None, reason="needs network namespaces")
def test_ranks_that_sleep_take_as_long_as_the_simulator_says():
    _, found = run_of(experiments.replayed_time, num_layers=3, hidden=64, chunks=2, world_sizes=[3], gbits=[0.01],
                      repeats=1)  # fmt: skip
    for method in ("graph", "pipeline"):
        assert found[method, "expected_over_measured", 3, 3, 0.01] == [pytest.approx(1, abs=0.4)]

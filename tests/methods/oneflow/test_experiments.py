"""Every experiment at a tiny size: its rows are those that the card's claims and figures read."""

from __future__ import annotations

import pytest

from assay.experiment import Run
from methods.oneflow import experiments


def run_of(experiment, **parameters):
    run = Run(experiment.name, "quick", 0, timed=experiment.timed)
    experiment.function(run, **parameters)
    found = {}
    for row in run.rows:
        knobs = {k: v for k, v in row.setting.items() if k not in ("world_size", "dtype")}
        found.setdefault((row.method, row.metric, *knobs.values()), []).append(row.value)
    return found


def test_boxing_is_counted_beside_the_table_and_dtensor():
    found = run_of(experiments.boxing, shape=[8, 4], world_sizes=[2], disjoint=[[1, 1]])
    table = {key[2:]: value for key, value in found.items() if key[:2] == ("oneflow", "table_bytes")}
    assert len(table) == 2 * 16
    for pair, bytes_ in table.items():
        assert found["oneflow", "bytes", *pair] == bytes_
    assert found["oneflow", "peer_bytes", "S(0)->S(1)", "same"] == [64]
    assert found["dtensor", "peer_bytes", "S(0)->S(1)", "same"] == [128]
    assert ("dtensor", "peer_bytes", "S(0)->P", "same") not in found  # which it refuses
    theirs = {key[2:]: value for key, value in found.items() if key[:2] == ("dtensor", "peer_bytes")}
    assert len(theirs) > 8
    assert all(found["oneflow", "peer_bytes", *pair] <= bytes_ for pair, bytes_ in theirs.items())


def test_plans_are_run_by_all_three():
    found = run_of(experiments.plans, world_sizes=[2], batches=[16], width=8, steps=2)
    for plan in ("data", "column", "row", "model", "zero", "found", "tight"):
        assert found["oneflow", "bytes", plan, 16] == found["oneflow", "predicted_bytes", plan, 16]
        assert found["dtensor", "loss_difference", plan, 16][0] < 1e-10
    assert found["by_hand", "bytes", "data", 16] == found["oneflow", "bytes", "data", 16]


def test_digits_train_the_same_by_every_plan():
    found = run_of(experiments.equivalence, world_sizes=[2], batch=32, hidden=8, steps=3)
    assert len(found["oneflow", "loss_difference", "zero", 32]) == 2  # two precisions
    assert all(value < 1e-5 for key, values in found.items() if key[1] == "loss_difference" for value in values)


def test_chains_are_counted_for_both_searches():
    found = run_of(experiments.signatures, devices=2, lengths=[1], sizes=[4, 8])
    assert found["optimal", "optimal_share", 1] == [1.0]
    assert found["optimal", "chains", 1] == [8 * 9]
    assert 0 < found["greedy", "optimal_share", 1][0] < 1


def test_the_search_is_compared_with_every_expert():
    found = run_of(experiments.plan_search, devices=4, width=8192, batches=[1024])
    least = found["oneflow", "cost", 1024][0]
    assert all(found[name, "cost", 1024][0] >= least for name in ("data", "model", "hybrid"))
    assert found["oneflow", "splits_model", 1024] == [1]
    assert found["data", "mesh_dimensions", 1024] == [1]
    assert found["hybrid", "mesh_dimensions", 1024] == [2]


def test_races_in_ranks_time_both_runtimes():
    found = run_of(experiments.boxing_time, world_size=2, sides=[8], pairs=2)
    assert len(found["oneflow", "time_s", "P->B", 256]) == len(found["dtensor", "time_s", "P->B", 256]) == 2
    found = run_of(experiments.step_time, world_size=2, sizes=[[16, 8, 8, 4], [8, 16, 16, 4]], pairs=2)
    for method in ("oneflow", "dtensor", "by_hand"):
        assert len(found[method, "time_s", "model"]) == len(found[method, "time_s", "data"]) == 2


def test_the_actors_race():
    found = run_of(experiments.pipeline_time, batches=3, unit_s=1e-4, pairs=2)
    assert {key[2:] for key in found if key[:2] == ("actors", "time_s")} == {(1,), (2,), (3,), (4,)}
    assert ("sequential", "time_s") in found
    found = run_of(experiments.overlap, elements=100_000, side=32, batches=2, pairs=2)
    assert {key[2:] for key in found if key[:2] == ("actors", "time_s")} == {(1,), (2,)}


def test_bounds_and_schedules_are_the_theorys():
    found = run_of(experiments.back_pressure, items=60, ratio=10, unit_s=1e-4)
    assert [found["actors", "in_flight", r] for r in (1, 2, 3)] == [[1], [2], [3]]
    assert found["queues", "in_flight", 0][0] > 10
    found = run_of(experiments.schedules, graphs=10, batches=3)
    assert found["actors", "finished"] == found["actors", "cycles"] == [1.0]
    assert found["actors", "period", 2] == [pytest.approx(4)]

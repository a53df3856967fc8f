"""The experiments at a tiny size, with the rows that the card's claims rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.experiment import Run
from methods.dcdm import experiments, hotpaths
from methods.dcdm.dcdm import Solution
from methods.dcdm.workloads import CLASSICAL, PATIENCE, Grid, Training, iterations_to, trained

TINY: dict[str, Any] = dict(size=8, steps=120, channels=8, vectors=100, ritz=60)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of trained networks, for all tests of this file."""
    return tmp_path_factory.mktemp("networks")


def run_of(name: str, cache: Path, *, timed: bool = False, **parameters: Any) -> Run:
    run = Run(name, "quick", seed=0, timed=timed, cache=cache, code="test")
    getattr(experiments, name).function(run, **parameters)
    return run


def value(run: Run, metric: str, method: str, **setting: Any) -> float:
    (found,) = [
        row.value
        for row in run.rows
        if row.metric == metric and row.method == method and setting.items() <= row.setting.items()
    ]
    assert found is not None
    return found


def test_iterations_of_every_method_are_side_by_side(cache: Path) -> None:
    pytest.importorskip("pyamg")
    run = run_of("iterations", cache, training=TINY, scales=[1, 2], systems=["bunny"])
    for method in ("dcdm", *CLASSICAL):
        for scale in (1, 2):
            at = dict(scale=scale, system="bunny")
            assert 1 <= value(run, "iterations_4", method, **at) <= value(run, "iterations_6", method, **at)
    small, large = (value(run, "iterations_4", "cg", scale=scale) for scale in (1, 2))
    assert large > small
    for method in ("dcdm", "one_shot"):
        assert 0 <= value(run, "missed_4", method, scale=1) <= value(run, "missed_6", method, scale=1) <= 1
    assert {curve.method for curve in run.curves} == {"dcdm", "one_shot", *CLASSICAL}
    assert all(curve.y[0] == pytest.approx(1) or curve.method.startswith("deflated") for curve in run.curves)


def test_without_pyamg_multigrid_is_untested_and_the_rest_runs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "HAS_PYAMG", False)
    run = run_of("iterations", cache, training=TINY, scales=[1], systems=["box"])
    assert not [row for row in run.rows if row.method == "amg_pcg"]
    (row,) = [row for row in run.rows if row.metric == "untested"]
    assert "pyamg" in row.reason
    assert value(run, "iterations_4", "cg", system="box") > 1


def test_solvers_of_the_cpu_are_untested_on_too_many_cells() -> None:
    run = Run("iterations", "gpu", seed=0)
    assert experiments.testable(run, CLASSICAL, 256**3) == ("cg", "jacobi_pcg", "deflated_pcg", "deflated_long")
    assert any("minutes" in row.reason for row in run.rows)


def test_a_network_is_trained_once_and_read_back(cache: Path) -> None:
    training = Training(**TINY)
    run = Run("training", "quick", seed=0, cache=cache, code="test")
    first, record = trained(run, training)
    again, _ = trained(run, training)
    other, _ = trained(Run("training", "quick", seed=1, cache=cache, code="test"), training)
    r = torch.randn(1, 8, 8)
    assert torch.equal(first(r), again(r))
    assert not torch.equal(first(r), other(r))
    assert len(record["losses"]) == TINY["steps"]
    assert record["train_s"] > 0


def test_directions_differ_by_memory_and_s_2_is_not_worse_than_none(cache: Path) -> None:
    run = run_of("conjugation", cache, training=TINY, scales=[1], systems=["box"])
    counts = {name: value(run, "iterations_4", name) for name in ("dcdm_s0", "dcdm", "dcdm_all")}
    assert counts["dcdm_all"] <= counts["dcdm"] + 1
    assert counts["dcdm"] < counts["dcdm_s0"]


def test_energy_ratios_are_below_one(cache: Path) -> None:
    run = run_of("energy", cache, training=TINY, systems=["box", "bunny", "sealed"])
    ratios = [row.value for row in run.rows if row.metric == "energy_ratio"]
    assert len(ratios) == 3
    assert all(0 < ratio <= 1 for ratio in ratios)


def test_seconds_race_every_solver_to_the_same_tolerance(cache: Path) -> None:
    pytest.importorskip("pyamg")
    run = run_of("seconds", cache, timed=True, training=TINY, cases=[("box", 8, 4)], pairs=2)
    names = {row.method for row in run.rows if row.metric == "time_s"}
    assert names == {"dcdm", *CLASSICAL, "scipy_cg", "sine_transform"}
    assert 1 <= value(run, "iterations", "dcdm", digits=4) < value(run, "iterations", "cg", digits=4)
    run = run_of("parts", cache, timed=True, training=TINY, sizes=[8], pairs=2)
    applied = {row.method for row in run.rows if row.metric == "time_s" and row.setting["part"] == "application"}
    assert applied == {"dcdm", "cg", "ic_pcg", "amg_pcg"}


def test_a_solver_that_misses_the_tolerance_is_not_timed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cubes = dict(size=8, dim=3, steps=20, channels=4, vectors=64, ritz=100, batch_size=8)
    monkeypatch.setattr("methods.dcdm.workloads.PATIENCE", 2)
    run = run_of("seconds_three_dimensions", cache, timed=True, training=cubes, cases=[("bunny", 8, 4)], pairs=2)
    assert {row.method for row in run.rows if row.metric == "time_s"} == {"scipy_cg"}
    missed = [row.reason for row in run.rows if row.metric == "untested"]
    assert "dcdm misses 1e-4 in 2 iterations" in missed


def test_solvers_of_a_grid_agree_on_the_solution() -> None:
    pytest.importorskip("pyamg")
    grid = Grid("ellipse", 12)
    b = grid.right_hand_sides(0)["blob"]
    exact = np.linalg.solve(grid.matrix.toarray(), grid.vector(b))
    for name in CLASSICAL:
        found = grid.classical(name, b)(b=grid.vector(b), tol=1e-10)
        assert np.allclose(found.x, exact, atol=1e-7 * np.abs(exact).max()), name


def test_right_hand_sides_follow_the_seed() -> None:
    grid = Grid("box", 12)
    one, two = grid.right_hand_sides(0), grid.right_hand_sides(1)
    assert all(torch.equal(grid.right_hand_sides(0)[name], b) for name, b in one.items())
    assert not any(torch.equal(two[name], b) for name, b in one.items())


def test_iterations_are_read_off_the_residuals() -> None:
    found = Solution(None, [1.0, 1e-2, 1e-4, 1e-5])
    assert iterations_to(found, 4) == 2
    assert iterations_to(found, 6) is None


def test_a_missed_solve_counts_as_all_iterations_it_was_given() -> None:
    run = Run("iterations", "quick", seed=0)
    with run.method("dcdm") as m:
        # the last one needs no iteration: deflation may have found the solution before the first
        experiments.counted(m, [Solution(None, [1.0, 0.5]), Solution(None, [1.0, 1e-7]), Solution(None, [1e-9])])
    assert value(run, "iterations_4", "dcdm") == pytest.approx(PATIENCE ** (1 / 3))


def test_an_unknown_solver_is_refused() -> None:
    grid = Grid("box", 8)
    with pytest.raises(ValueError, match="no solver 'gmres'; there are cg, jacobi_pcg"):
        grid.classical("gmres", grid.right_hand_sides(0)["blob"])


@pytest.mark.parametrize("name", [name for name, f in vars(hotpaths).items() if callable(f) and f.__module__ ==
                                  hotpaths.__name__ and not name.startswith("_")])  # fmt: skip
def test_hot_paths_run(name: str) -> None:
    getattr(hotpaths, name)()()

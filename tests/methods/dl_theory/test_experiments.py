"""What the experiments compare: shapes of equal size, initialisations, and rows that claims are made of."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from assay import ROOT
from assay.card import load_card
from assay.experiment import Run, experiments_of, seed_everything
from assay.record import JobRecord, Result, Row
from assay.verdict import judge
from methods.dl_theory import ACTIVATIONS, Networks, experiments
from methods.dl_theory.baselines import FAR_OFF
from methods.dl_theory.contenders import CONTENDERS, Recipe, example
from methods.dl_theory.experiments import (
    aspect_ratio,
    deep_training,
    exact_width,
    fluctuations,
    full_weights,
    mutual_information,
    ntk_at_initialisation,
    off_criticality,
    skip_connections,
    two_classes,
    universality,
)
from methods.dl_theory.training import Task, best_by_validation, width_of

# profile standard, with as few networks and steps as there can be
TINY = {
    "constants": {}, "fluctuations": dict(nets=50), "exact_width": dict(nets=50), "full_weights": dict(n=8, nets=50),
    "power_laws": {}, "universality": dict(n=50, nets=50), "off_criticality": dict(n=50, nets=50),
    "skip_connections": dict(nets=5_000, depth=3), "mutual_information": dict(wide=50, nets=50),
    "ntk_at_initialisation": dict(nets=2), "ntk_change": dict(nets=1), "deep_training": dict(n=8, steps=1),
    "aspect_ratio": dict(steps=1),
}  # fmt: skip


def run_of(experiment, dataset: str | None = None, **parameters: object) -> Run:
    run = Run(experiment.name, "standard", seed=0, dataset=dataset)
    seed_everything(0)
    experiment.function(run, **{**experiment.parameters("standard"), **parameters})
    return run


def rows_of(experiment, dataset: str | None = None, **parameters: object) -> list[Row]:
    return [row for row in run_of(experiment, dataset, **parameters).rows if row.metric != "wall_s"]


def one(rows: list[Row], method: str, metric: str, **setting: object) -> float:
    (row,) = [
        row
        for row in rows
        if (row.method, row.metric) == (method, metric) and all(row.setting.get(k) == v for k, v in setting.items())
    ]
    return row.value


@pytest.mark.parametrize("depth", [2, 3, 6, 32])
def test_shapes_of_every_depth_have_nearly_the_same_number_of_weights(depth: int) -> None:
    n = width_of(20_000, depth, 64, 10)
    sizes = [(depth - 2) * width**2 + 74 * width for width in (n, n + 1)]
    assert sizes[0] <= 20_000 < sizes[1]


@pytest.mark.parametrize(("init", "C_W"), [("critical", 2), *FAR_OFF.items(), ("torch_default", 1 / 3)])
def test_initialisations_differ_in_the_variance_of_weights(init: str, C_W: float) -> None:
    torch.manual_seed(0)
    networks, _ = CONTENDERS[init].build(example(), Recipe(depth=2, width=128, nets=4, lrs=(0.1,)))
    assert float(networks.weights[0].var() * 64) == pytest.approx(C_W, rel=0.03)


def test_in_the_figure_first_order_is_a_line_of_slope_nu_and_infinite_width_does_not_fluctuate() -> None:
    curves = {
        (curve.method, curve.setting["activation"], curve.setting.get("n")): curve
        for curve in run_of(fluctuations, widths=[50, 100], nets=20).curves
    }
    for name, nu in (("relu", 5), ("linear", 2), ("tanh", 2 / 3)):
        theory, null = (curves[method, name, None] for method in ("theory", "infinite_width"))
        assert theory.y == pytest.approx([nu * x for x in theory.x])
        assert null.y == [0] * 11
        assert theory.x == null.x == curves["networks", name, 100].x


def test_the_slope_of_the_logarithm_is_nu_and_that_of_the_variance_bends_upwards() -> None:
    rows = rows_of(fluctuations, widths=[200], nets=20_000)
    for name, nu in (("relu", 5), ("linear", 2)):
        slope = one(rows, "networks", "slope", activation=name, n=200)
        assert slope == pytest.approx(nu, rel=0.1)
        assert slope < one(rows, "networks", "plain_slope", activation=name, n=200)


def test_variances_are_compared_up_to_three_tenths_and_logarithms_beyond() -> None:
    rows = rows_of(exact_width, nets=100)
    assert {row.setting["multiplied"] for row in rows if row.metric == "over_exact"} == {5, 10, 15}
    assert {row.setting["multiplied"] for row in rows if row.metric == "log_over_exact"} == {50}


def test_rates_off_criticality_are_those_of_the_susceptibilities() -> None:
    rows = rows_of(off_criticality, n=500, depth=11, nets=300)
    for side, rate in (("below", math.log(0.8)), ("critical", 0), ("above", math.log(1.2))):
        for metric in ("kernel_rate", "distance_rate"):
            assert one(rows, "theory", metric, activation="relu", side=side) == pytest.approx(rate, abs=1e-12)
            assert one(rows, "networks", metric, activation="relu", side=side) == pytest.approx(rate, abs=0.01)


def test_information_of_networks_grows_beyond_the_ratio_where_the_series_peaks() -> None:
    rows = rows_of(mutual_information, nets=1_000)
    assert one(rows, "theory", "information", at="peak") > one(rows, "theory", "information", at="four_peaks")
    assert one(rows, "networks", "information", at="peak") < one(rows, "networks", "information", at="four_peaks")


def test_the_tangent_kernel_is_trained_on_two_balanced_classes_of_unit_rows() -> None:
    x, y = two_classes(Run("any", "quick", seed=0, dataset="digits"))
    assert x.shape == (24, 64)
    assert float(y.sum()) == 0
    torch.testing.assert_close(x.square().mean(dim=1), torch.ones(24))


def test_the_rate_is_picked_by_validation_and_its_test_accuracy_reported() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(90, 6), torch.randint(2, (90,))
    x[:, 0] += 4 * y  # learned by a rate of 1 and not at all by a rate of 0
    task = Task((x[:30], y[:30]), (x[30:60], y[30:60]), (x[60:], 1 - y[60:]), 2)
    networks = Networks.draw(ACTIVATIONS["relu"], [6, 20, 2], 4, 0.0, 2.0)
    found = best_by_validation(networks, task, (torch.ones(2), torch.ones(2)), [0.0, 1.0], steps=30, nets=2)
    assert found["best_lr"] == 1.0
    assert found["validation_accuracy"] > 85
    assert found["accuracy"] < 15  # the test labels are swapped: nothing was picked by them


def test_training_experiments_record_every_contender_at_every_depth() -> None:
    rows = rows_of(deep_training, "digits", depths=[2, 3], n=8, steps=2, lrs=[0.1])
    assert {(row.method, row.setting["depth"]) for row in rows if row.metric == "accuracy"} == {
        (name, depth)
        for name in ("critical", "small_weights", "large_weights", "torch_default", "plain_sgd")
        for depth in (2, 3)
    }
    rows = rows_of(aspect_ratio, "digits", weights=1_000, depths=[2, 4], steps=2, lrs=[0.1])
    assert one(rows, "critical", "ratio", activation="tanh", depth=2) == 2 / 13


def test_networks_with_weights_and_the_chain_have_one_variance() -> None:
    rows = rows_of(full_weights, n=16, depth=8)
    for name in ("relu", "tanh"):
        weights, networks = (one(rows, method, "log_variance", activation=name) for method in ("weights", "networks"))
        assert weights == pytest.approx(networks, rel=0.15)


def test_kernels_of_networks_follow_their_recursion_and_vertices_their_universal_slope() -> None:
    run = run_of(universality, n=200, depth=30, nets=1_000)
    for name in ("tanh", "sin", "relu"):
        assert one(run.rows, "networks", "kernel_over_recursion", activation=name) == pytest.approx(1, abs=0.05)
        (theory,) = [c for c in run.curves if (c.method, c.setting["activation"]) == ("theory", name)]
        assert theory.y[-1] == pytest.approx(1, abs=0.1)
    for name in ("tanh", "sin"):
        assert one(run.rows, "networks", "vertex_slope", activation=name) == pytest.approx(2 / 3, rel=0.25)


def test_of_relu_the_recursion_with_a_skip_holds_where_the_formula_does_not() -> None:
    rows = rows_of(skip_connections, nets=10_000, gammas=[0.0, 0.7])
    formula, recursion, found = (
        one(rows, method, "nu", activation="relu", gamma=0.7) for method in ("theory", "recursion", "networks")
    )
    assert found == pytest.approx(recursion, rel=0.15)
    assert found > 1.5 * formula
    assert one(rows, "networks", "nu", activation="linear", gamma=0.0) == pytest.approx(2, rel=0.15)


def test_the_ntk_at_initialisation_has_the_mean_of_the_recursion_and_varies_less_in_wide_networks() -> None:
    rows = rows_of(ntk_at_initialisation, nets=500, shapes=[[16, 4], [64, 4], [64, 8]])
    for name in ("relu", "tanh"):
        assert one(rows, "networks", "ntk_over_recursion", activation=name, n=64, depth=8) == pytest.approx(1, abs=0.1)
        narrow, wide, deep = (
            one(rows, "networks", "ntk_variance", activation=name, n=n, depth=depth)
            for n, depth in ((16, 4), (64, 4), (64, 8))
        )
        assert narrow > 2 * wide
        assert deep > 1.3 * wide


def test_the_experiments_record_what_every_claim_of_the_card_is_judged_by() -> None:
    card = load_card(ROOT / "methods" / "dl_theory" / "paper.yaml")
    declared = experiments_of(experiments)
    assert declared.keys() == TINY.keys()
    rows, replicates, runs = [], {}, {}
    for name, tiny in TINY.items():
        replicates[name] = declared[name].replicates("standard")
        (dataset,) = declared[name].datasets("standard", card.datasets.standard)
        runs[name] = run_of(declared[name], dataset, **tiny)
        found = [row for row in runs[name].rows if row.metric != "wall_s"]
        rows += [replace(row, seed=seed) for seed in range(replicates[name]) for row in found]
    jobs = {(row.experiment, row.setting.get("dataset"), row.seed) for row in rows}
    records = [JobRecord(*job, "done", "", 1.0) for job in sorted(jobs, key=str)]
    result = Result("dl_theory", "standard", {}, {}, replicates, {}, records, rows)
    for claim, of_card in card.claims.items():
        verdict = judge(card, claim, result, "standard")
        assert (verdict.verdict == "untested") == (of_card.untested is not None), (claim, verdict.reason)
        assert all(part["verdict"] != "untested" for part in verdict.parts), claim

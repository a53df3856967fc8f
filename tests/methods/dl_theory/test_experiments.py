"""What the experiments compare: shapes of equal size, initialisations, and rows that claims are made of."""

from __future__ import annotations

import math

import pytest
import torch

from assay.experiment import Run
from assay.record import Row
from methods.dl_theory import ACTIVATIONS, Networks
from methods.dl_theory.baselines import FAR_OFF, infinite_width_vertex, relu_networks
from methods.dl_theory.experiments import (
    aspect_ratio,
    deep_training,
    exact_width,
    fluctuations,
    mutual_information,
    off_criticality,
    two_classes,
)
from methods.dl_theory.training import Task, best_by_validation, width_of


def rows_of(experiment, dataset: str | None = None, **parameters: object) -> list[Row]:
    profile = "quick" if "quick" in experiment.profiles else "standard"
    run = Run(experiment.name, profile, seed=0, dataset=dataset)
    experiment.function(run, **{**experiment.parameters(profile), **parameters})
    return [row for row in run.rows if row.metric != "wall_s"]


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
    networks = relu_networks(init, [64, 128, 10], 4)
    assert float(networks.weights[0].var() * 64) == pytest.approx(C_W, rel=0.03)


def test_the_null_model_does_not_fluctuate() -> None:
    assert not infinite_width_vertex(torch.ones(7)).any()


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
    rows = rows_of(off_criticality, n=500, nets=300)
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
        (name, depth) for name in ("critical", "small_weights", "large_weights", "torch_default") for depth in (2, 3)
    }
    rows = rows_of(aspect_ratio, "digits", weights=1_000, depths=[2, 4], steps=2, lrs=[0.1])
    assert one(rows, "critical", "ratio", activation="tanh", depth=2) == 2 / 13

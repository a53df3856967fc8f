"""What the trained networks see and share: parts of the images, starts, rates, steps; and what each row stands for."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

import datasets
from assay.experiment import Run, seed_everything
from datasets.images import Images
from methods.dl_theory import (
    ACTIVATIONS,
    Networks,
    batched_ntk,
    contenders,
    experiments,
    gradient_descent,
    metric_chain,
)
from methods.dl_theory.training import Task, best_by_validation
from methods.shared.networks import accuracy, cross_entropy
from tests.methods.blindness import run_small


def seeded_run(name: str, seed: int = 0, **parameters: Any) -> Run:
    seed_everything(seed)
    return run_small("dl_theory", name, seed=seed, **parameters)


def values(run: Run, metric: str, method: str, **setting: object) -> list[float]:
    return [
        row.value
        for row in run.rows
        if (row.metric, row.method) == (metric, method) and all(row.setting.get(k) == v for k, v in setting.items())
    ]


def test_rows_are_centred_by_the_training_images_and_no_part_holds_rows_of_another() -> None:
    torch.manual_seed(0)
    data = Images(torch.rand(40, 1, 3, 3), torch.arange(40) % 3, torch.rand(12, 1, 3, 3) + 1, torch.arange(12) % 3)
    task = Task.of(data, torch.device("cpu"))
    wanted = (
        (data.train_x[:30], data.train_y[:30]),
        (data.train_x[30:], data.train_y[30:]),
        (data.test_x, data.test_y),
    )
    for (x, y), (images, labels) in zip((task.train, task.validation, task.test), wanted, strict=True):
        rows = (images - data.train_x.mean(dim=0)).flatten(1)
        torch.testing.assert_close(x, 3 * rows / rows.norm(dim=1, keepdim=True))
        assert torch.equal(y, labels)


def test_the_two_classes_are_centred_by_their_own_images() -> None:
    images = datasets.load("digits")
    x, y = experiments.two_classes(Run("any", "quick", seed=0, dataset="digits"))
    chosen = torch.cat([images.train_x[images.train_y == label][:12] for label in (0, 1)]).flatten(1)
    rows = chosen - chosen.mean(dim=0)
    torch.testing.assert_close(x, 8 * rows / rows.norm(dim=1, keepdim=True))
    assert y.flatten().tolist() == [1.0] * 12 + [-1.0] * 12


def test_a_grid_of_rates_is_trained_by_momentum_on_batches_of_a_hundred_and_reports_the_mean_of_its_networks() -> None:
    torch.manual_seed(1)
    x, y = torch.randn(300, 5), torch.randint(3, (300,))
    task = Task((x[:150], y[:150]), (x[150:200], y[150:200]), (x[200:], y[200:]), 3)
    networks = Networks.draw(ACTIVATIONS["tanh"], [5, 8, 3], 6, 0.0, 1.0)
    by_hand, rates, lrs = deepcopy(networks), (torch.ones(2), torch.full((2,), 2.0)), [0.1, 1.0]
    torch.manual_seed(2)
    found = best_by_validation(networks, task, rates, lrs, steps=4, nets=3)
    torch.manual_seed(2)
    lr = torch.tensor([0.1, 0.1, 0.1, 1.0, 1.0, 1.0])
    gradient_descent(by_hand, *task.train, cross_entropy, 4, lr, rates, momentum=0.9, batch_size=100)
    for ours, theirs in zip(networks.weights, by_hand.weights, strict=True):
        torch.testing.assert_close(ours, theirs)
    best = int(accuracy(networks, *task.validation).view(2, 3).mean(dim=1).argmax())
    of_best = accuracy(networks, *task.test).view(2, 3)[best]
    assert of_best.unique().numel() > 1
    assert found["accuracy"] == pytest.approx(float(of_best.mean()))
    assert found["best_lr"] == lrs[best]


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each training of an experiment was given, before it has run; it runs all the same."""
    given: list[dict[str, Any]] = []

    def seen(networks: Networks, task: Task, rates: tuple[Tensor, Tensor], lrs: list[float], steps: int, nets: int,
             plain: Callable[..., dict[str, float]] = best_by_validation) -> dict[str, float]:  # fmt: skip
        variances = [float(W.var() * W.shape[1]) for W in networks.weights]
        shapes = [tuple(W.shape) for W in networks.weights]
        given.append(dict(variances=variances, shapes=shapes, rates=[r.tolist() for r in rates], lrs=lrs, steps=steps))
        return plain(networks, task, rates, lrs, steps, nets)

    monkeypatch.setattr(contenders, "best_by_validation", seen)
    return given


def test_contenders_differ_in_their_start_and_one_in_its_rates_and_in_nothing_else(
    trainings: list[dict[str, Any]],
) -> None:
    seeded_run("deep_training", dataset="digits", depths=[4], n=40, steps=3, lrs=[0.1, 0.3])
    starts = {"critical": 2.0, "small_weights": 1.2, "large_weights": 3.0, "torch_default": 1 / 3, "plain_sgd": 1 / 3}
    for given, (name, C_W) in zip(trainings, starts.items(), strict=True):
        assert given["variances"] == pytest.approx([C_W] * 4, rel=0.2), name
        assert given["shapes"] == [(2, 64, 40), (2, 40, 40), (2, 40, 40), (2, 40, 10)]
        assert (given["lrs"], given["steps"]) == ([0.1, 0.3], 3)
        of_biases, of_weights = given["rates"]
        assert of_biases == ([1.0] * 4 if name == "plain_sgd" else [0.25] * 4)
        assert of_weights == ([64, 40, 40, 40] if name == "plain_sgd" else [0.25] * 4)


def test_each_shape_is_critical_and_trained_with_the_rates_of_its_own_activation(
    trainings: list[dict[str, Any]],
) -> None:
    run = seeded_run(
        "aspect_ratio", dataset="digits", weights=3_000, depths=[2, 4], steps=3, lrs=[0.1, 0.3, 1.0], nets=2
    )
    wanted = (
        (2.0, [0.5] * 2, [0.5] * 2), (2.0, [0.25] * 4, [0.25] * 4),  # ReLU
        (1.0, [1, 1 / 2], [1] * 2), (1.0, [1, 1 / 2, 1 / 3, 1 / 4], [1] * 4),  # tanh
    )  # fmt: skip
    for given, (C_W, of_biases, of_weights) in zip(trainings, wanted, strict=True):
        assert given["variances"] == pytest.approx([C_W] * len(of_biases), rel=0.15)
        assert given["rates"] == [pytest.approx(of_biases), of_weights]
        assert 2_700 < sum(n_in * n_out for _, n_in, n_out in given["shapes"]) <= 3_000
        assert {shape[0] for shape in given["shapes"]} == {6}
        assert given["steps"] == 3
    for name in ("relu", "tanh"):
        validation = values(run, "validation_accuracy", "critical", activation=name)
        ratios = values(run, "ratio", "critical", activation=name)
        assert len(set(validation)) == 2
        assert values(run, "best_ratio", "critical", activation=name) == [ratios[validation.index(max(validation))]]


def test_the_ntk_is_compared_after_sixty_steps_of_the_weights_at_one_over_its_top_eigenvalue() -> None:
    run = seeded_run("ntk_change", seed=3, dataset="digits", widths=[8], depths=[2], nets=2)
    seed_everything(3)
    x, y = experiments.two_classes(run)
    networks = Networks.draw(ACTIVATIONS["tanh"], [64, 8, 1], 2, 0.0, 1.0)
    before = batched_ntk(networks, x, 0.0, 1.0)
    lr = 1 / torch.linalg.eigvalsh(before).amax(dim=1)
    W, V = networks.weights
    for _ in range(60):  # gradients of half the squared error, written out
        hidden = (x @ W).tanh()
        error = hidden @ V - y
        of_W = x.T @ (error @ V.mT * (1 - hidden.square()))
        W, V = W - lr[:, None, None] / 64 * of_W, V - lr[:, None, None] / 8 * (hidden.mT @ error)
    after = batched_ntk(Networks(networks.sigma, [W, V], networks.biases), x, 0.0, 1.0)
    wanted = ((after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)).mean()
    assert values(run, "ntk_change", "networks", activation="tanh") == pytest.approx([float(wanted)], rel=1e-3)


def test_sampled_networks_have_the_exact_variance_of_as_many_layers_as_were_multiplied() -> None:
    run = seeded_run("exact_width", n=50, layers=[2, 4, 20], nets=6_000)
    for name in ("relu", "linear"):
        assert values(run, "over_exact", "networks", activation=name) == pytest.approx([1, 1], abs=0.15)
    assert values(run, "log_over_exact", "networks") == pytest.approx([1], abs=0.1)


def test_the_slope_with_a_skip_is_that_of_one_layer_whatever_the_depth() -> None:
    for depth in (2, 4):
        run = seeded_run("skip_connections", n=50, depth=depth, nets=10_000, gammas=[0.0, 0.5])
        for gamma, nu in ((0.0, 2), (0.5, 0.75 * 2.5)):
            found = values(run, "nu", "networks", activation="linear", gamma=gamma)
            assert found == pytest.approx(values(run, "nu", "theory", activation="linear", gamma=gamma), rel=0.1)
            assert found == pytest.approx([nu], rel=0.1)


def test_full_weights_are_compared_at_the_critical_point_of_each_activation() -> None:
    run = seeded_run("full_weights", n=16, depth=8, nets=2_000)
    for name, C_W in (("relu", 2.0), ("tanh", 1.0)):
        wanted = metric_chain(ACTIVATIONS[name], 1.0, 16, 9, 4_000, 0.0, C_W)[-1].log().var()
        for method in ("networks", "weights"):
            found = values(run, "log_variance", method, activation=name)
            assert found == pytest.approx([float(wanted)], rel=0.15), (name, method)


def test_recursions_have_their_own_constants_at_a_thousand_layers() -> None:
    run = seeded_run("power_laws", layers=[10, 1000])
    for name, decay in (("tanh", 2), ("sin", 1)):
        at = dict(activation=name, layer=1000)
        assert values(run, "scaled_kernel", "theory", **at) == pytest.approx([1], abs=5e-3)
        assert values(run, "kernel", "theory", **at) == pytest.approx([1 / (1000 * decay)], rel=5e-3)
    assert values(run, "vertex_slope", "theory", activation="tanh", layer=10) == pytest.approx([0.552], abs=6e-4)


def test_information_is_that_of_wide_networks_where_its_leading_term_holds_and_of_their_law_where_it_does_not() -> None:
    run = seeded_run("mutual_information", wide=500, n=100, nets=2_000)
    assert values(run, "over_leading", "networks") == pytest.approx([0.95, 0.95], abs=0.08)
    for at in ("peak", "four_peaks", "sixteen_peaks"):
        exact = values(run, "information", "log_normal", at=at)
        assert values(run, "information", "networks", at=at) == pytest.approx(exact, rel=0.3)

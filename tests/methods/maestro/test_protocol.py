"""What the contenders are trained and judged on: parts, starts, recipes, budgets, the rule for the lasso, and costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import assay
import datasets
from assay.experiment import Run, seed_everything
from datasets.images import Images as Loaded
from methods.maestro import (
    Recipe,
    contenders,
    deploy,
    experiments,
    greedy_ranks,
    low_rank_layers,
    train_maestro,
    training,
    uniform_ranks,
)
from methods.maestro import study as studies
from methods.maestro.baselines import (
    pufferfish_form,
    svd_after_training,
    train_dense,
    train_factorised,
    train_pufferfish,
)
from methods.maestro.contenders import Plan, Task
from methods.maestro.study import Study
from methods.maestro.training import Images, Trained, accuracy, fit, mean_loss
from methods.shared.accounting import counted, parameter_count
from methods.shared.batchnorm import recalibrate_batch_norm
from methods.shared.hosts import mlp
from tests.methods.blindness import run_small

DIGITS: dict[str, Any] = dict(dataset="digits", host="mlp", train_size=200)
SEED = 3


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(contenders.RECIPES, "mlp", SHORT)
    monkeypatch.setattr(studies, "VALIDATION", 60)


SHORT = Plan(lr=0.02, epochs=2, batch_size=32)


def study(seed: int = SEED) -> Study:
    return Study(Run("any", "quick", seed, "digits"), "mlp", 200)


def by_hand(train: Callable[..., Any], recipe: Recipe = SHORT, **options: Any) -> Any:
    """A contender's training, from the one start of the replicate."""
    seed_everything(SEED)
    return train(mlp(), study().train, recipe, **options)


def values(run: Run, metric: str) -> dict[tuple[str | None, Any], Any]:
    knobs = ("share", "budget", "lambda_gl")
    return {
        (row.method, next((row.setting[k] for k in knobs if k in row.setting), None)): row.value
        for row in run.rows
        if row.metric == metric
    }


def test_validation_follows_the_training_images_and_all_are_standardised_by_these() -> None:
    ours, data = study(), datasets.load("digits")
    mean, deviation = data.train_x[:200].mean(), data.train_x[:200].std()
    parts = (
        (ours.train, data.train_x[:200], data.train_y[:200]),
        (ours.val, data.train_x[200:260], data.train_y[200:260]),
        (ours.test, data.test_x, data.test_y),
    )
    for part, x, y in parts:
        torch.testing.assert_close(part.x * deviation + mean, x)
        assert torch.equal(part.y, y)


def test_contenders_of_a_replicate_start_alike_and_replicates_do_not() -> None:
    first, again, other = (next(study(seed).dense().parameters()) for seed in (SEED, SEED, SEED + 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nets_are_judged_with_statistics_of_their_own_on_the_training_batches() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    net[1].running_mean.fill_(1e3)  # another net's
    ours, cut = study(), deploy(net)
    assert len(set(training.logits(net, ours.val.x).argmax(1).tolist())) == 1
    recalibrate_batch_norm(cut, ours.train.x.split(500))
    assert len(set(training.logits(cut, ours.val.x).argmax(1).tolist())) > 1
    assert ours.val_accuracy(net) == accuracy(cut, ours.val)


def test_every_epoch_takes_each_image_once_in_an_order_of_its_own() -> None:
    seen: list[Tensor] = []

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.append(x[:, 0])
        return training.cross_entropy(model, x, y)

    torch.manual_seed(0)
    x = torch.arange(10.0)[:, None]
    fit(nn.Linear(1, 3), Images(x, torch.arange(10) % 3), Recipe(lr=1e-3, epochs=2, batch_size=4), loss)
    assert [len(part) for part in seen] == [4, 4, 2] * 2
    orders = torch.cat(seen).view(2, 10)
    assert orders.sort(dim=1).values.tolist() == [x[:, 0].tolist()] * 2
    assert not torch.equal(orders[0], orders[1])


def test_truncation_cuts_nets_of_one_recipe_and_trains_the_separate_ones_at_their_ranks() -> None:
    run = run_small("maestro", "truncation", seed=SEED, **DIGITS, shares=[25, 100], separate=[25])
    found, sizes, test = values(run, "accuracy"), values(run, "parameters"), study().test
    dense = by_hand(train_dense)
    plain, quarter = by_hand(train_factorised), by_hand(train_factorised, share=0.25)
    models = {"maestro": by_hand(train_maestro).model, "plain_factorised": plain.model,
              "svd": svd_after_training(dense.model)}  # fmt: skip
    for name, model in models.items():
        for share in (25, 100):
            net = deploy(model, uniform_ranks(model, share / 100))
            assert found[name, share] == accuracy(net, test), (name, share)
            assert sizes[name, share] == parameter_count(net)
    assert found["dense", 100] == accuracy(dense.model, test)
    assert found["separate", 25] == accuracy(deploy(quarter.model), test)
    assert sizes["separate", 25] == sizes["svd", 25]
    macs = values(run, "training_macs")
    assert (macs["dense", None], macs["plain_factorised", None]) == (dense.macs, plain.macs)
    assert macs["separate", None] == quarter.macs < plain.macs


def test_a_full_pass_costs_the_whole_net_on_top_of_the_same_cuts() -> None:
    macs = values(run_small("maestro", "single_pair", seed=SEED, **DIGITS), "training_macs")
    assert macs["maestro_full_pass", None] == macs["maestro", None] + by_hand(train_factorised).macs


@pytest.mark.parametrize(
    ("validation", "chosen"), [([90.0, 79.5, 89.5, 78.9], 2e-3), ([79.5, 79.2, 78.0, 70.0], 1e-3), ([10.0] * 4, 0.0)]
)
def test_the_lasso_is_the_largest_within_a_point_of_the_dense_net_or_else_the_smallest(
    validation: list[float], chosen: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores are handed out by the number of the call: the dense net's, 80, and then one for each lasso."""
    scores = iter([80.0, *validation])
    monkeypatch.setattr(Study, "val_accuracy", lambda *_: next(scores))
    lambdas = [0.0, 1e-3, 2e-3, 4e-3]
    run = run_small("maestro", "lasso", seed=SEED, **DIGITS, lambdas=lambdas)
    assert values(run, "chosen_lambda") == {(None, None): chosen}
    for metric in ("accuracy", "parameters", "training_macs", "rank_spread"):
        found = values(run, metric)
        assert found["maestro_chosen", None] == found["maestro", chosen]
    net = deploy(by_hand(train_maestro, lambda_gl=chosen).model)
    assert values(run, "accuracy")["maestro", chosen] == accuracy(net, study().test)


def test_each_training_is_kept_under_its_own_key(tmp_path: Any) -> None:
    run = Run("any", "quick", SEED, "digits", cache=tmp_path)
    ours = Study(run, "mlp", 200)
    nets = [ours.trained("maestro", lambda_gl=value).model for value in (0.0, 5e-3)]
    nets += [ours.trained("separate", share=1.0).model, ours.trained("maestro_full_pass").model]
    weights = [next(iter(low_rank_layers(net).values())).U for net in nets]
    assert not any(torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])
    torch.testing.assert_close(ours.trained("maestro").model.state_dict(), nets[0].state_dict())


def test_after_shrinking_no_step_cuts_to_a_rank_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts: list[tuple[int, int]] = []
    plain = training.lod_loss

    def seen(model: nn.Module, x: Tensor, y: Tensor, layer: Any, rank: int, **options: Any) -> Tensor:
        cuts.append((rank, layer.rank))
        return plain(model, x, y, layer, rank, **options)

    monkeypatch.setattr(training, "lod_loss", seen)
    monkeypatch.setattr(training, "SHRINK_BELOW", 5.0)
    result = by_hand(train_maestro, replace(SHORT, epochs=3, batch_size=20), lambda_gl=1e-3)
    assert 0 < sum(result.ranks[0].values()) < 202
    assert all(rank <= left for rank, left in cuts)


def test_footprints_keep_to_their_budgets_on_the_greedy_path_of_the_validation_loss() -> None:
    run = run_small("maestro", "footprint", seed=SEED, **DIGITS, budgets=[75, 40])
    sizes, full = values(run, "parameters"), parameter_count(mlp())
    matched, pufferfish = values(run, "matched_parameters"), by_hand(train_pufferfish, warmup=1).model
    size = parameter_count(deploy(pufferfish))
    assert matched["pufferfish", None] == size
    ours = study()
    assert values(run, "matched_accuracy")["pufferfish", None] == accuracy(deploy(pufferfish), ours.test)
    model = by_hand(train_maestro).model
    path = list(greedy_ranks(model, lambda: mean_loss(model, ours.val), counted(model, ours.val.x[:1]).positions))
    for budget, found in ((0.75 * full, sizes["maestro", 75]), (0.4 * full, sizes["maestro", 40]),
                          (size, matched["maestro", None])):  # fmt: skip
        ranks = next(ranks for ranks in path if parameter_count(deploy(model, ranks)) <= budget)
        assert found == parameter_count(deploy(model, ranks))
    ranks = next(ranks for ranks in path if parameter_count(deploy(model, ranks)) <= 0.4 * full)
    assert values(run, "accuracy")["maestro", 40] == accuracy(deploy(model, ranks), ours.test)
    for name in ("svd", "plain_factorised"):
        assert 0.6 * size < matched[name, None] <= size
        assert 0.6 * 0.75 * full < sizes[name, 75] <= 0.75 * full


def test_pufferfish_trains_as_many_epochs_as_all_and_counts_both_parts() -> None:
    data, recipe = study().train, replace(SHORT, epochs=5)
    dense, form = (counted(net, data.x[:1]).macs for net in (mlp(), pufferfish_form(mlp())))
    assert train_pufferfish(mlp(), data, recipe, warmup=2).macs == 3 * 200 * (2 * dense + 3 * form)


def test_lenets_contenders_have_one_recipe_but_for_the_rate_that_was_tuned_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    few = Loaded(torch.rand(12, 1, 28, 28), torch.arange(12) % 10, torch.rand(4, 1, 28, 28), torch.arange(4))
    monkeypatch.setattr(datasets, "load", lambda name: few)
    given: dict[str, Plan] = {}

    def seen(name: str, task: Task, plan: Plan) -> Trained:
        given[name] = plan
        return contenders.train(name, task, plan)

    monkeypatch.setattr(studies, "train", seen)
    run = Run("any", "standard", SEED, "fashion_mnist", folder=assay.ROOT / "methods" / "maestro")
    ours = Study(run, "lenet", 8)
    names = ["dense", "plain_factorised", "separate", "pufferfish", "maestro", "maestro_full_pass"]
    for name in names:
        ours.trained(name)
    tuned_as = {"separate": "plain_factorised", "maestro": "maestro_chosen"}
    for name in names:
        tuned = run.tuned(tuned_as.get(name, name))
        assert given[name] == Plan(lr=tuned["lr"], epochs=6, batch_size=64, warmup=tuned.get("warmup", 1)), name
    monkeypatch.setattr(experiments, "LENET", dict(datasets=["fashion_mnist"], host="lenet", train_size=8))
    experiments.validation_score("dense", {"lr": 0.123}, seed=1000)
    assert given["dense"].lr == 0.123
    experiments.validation_score("maestro", {"lr": 0.0123, "lambda_gl": 7e-4}, seed=1000)
    assert (given["maestro"].lr, given["maestro"].lambda_gl) == (0.0123, 7e-4)


def test_the_linear_experiments_tell_ordered_factors_from_plain_ones() -> None:
    seed_everything(SEED)
    run = run_small("maestro", "svd_recovery", seed=SEED, steps=1_000)
    found = values(run, "error")
    assert found["plain_factorised", None] > 3 * found["maestro", None]
    (ordered, _) = run.curves
    assert len(ordered.y) == 40
    assert ordered.y[-1] < 1.5 * found["maestro", None] < ordered.y[0]  # watched to the end of training
    run = run_small("maestro", "pca_recovery", seed=SEED, steps=600)
    for curve in run.curves:
        assert values(run, "found_rank")[curve.method, None] == sum(value > 1e-3 for value in curve.y)
    assert any(1e-9 < value < 1e-3 for curve in run.curves for value in curve.y)
    run = run_small("maestro", "data_order", seed=SEED, steps=1_500)
    of_data, of_svd = (values(run, f"error_to_{which}")["maestro", None] for which in ("data_order", "svd"))
    assert of_data < 0.5 < of_svd

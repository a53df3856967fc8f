"""From trained factors to a smaller net: what is cut, merged, counted and recalibrated; and the training around it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from assay.experiment import Run
from methods.maestro import (
    LowRankLinear,
    Recipe,
    decompose,
    deploy,
    experiments,
    greedy_ranks,
    low_rank_layers,
    ranks_of,
    train_maestro,
    training,
    truncated,
    uniform_ranks,
)
from methods.maestro.baselines import (
    pufferfish_form,
    svd_after_training,
    train_dense,
    train_factorised,
    train_pufferfish,
)
from methods.maestro.deployment import with_ranks
from methods.maestro.experiments import (
    data_order,
    footprint,
    lasso,
    pca_recovery,
    single_pair,
    step_time,
    svd_recovery,
    truncation,
)
from methods.maestro.study import Study
from methods.maestro.training import Images, accuracy, fit, logits
from methods.shared.accounting import MacCounter, counted, parameter_count
from methods.shared.batchnorm import recalibrate_batch_norm
from methods.shared.hosts import lenet, mlp, resnet18


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def digits() -> Study:
    return Study(Run("any", "quick", seed=0, dataset="digits"), "mlp", 1_000)


@pytest.mark.parametrize(
    ("m", "n", "r", "merged"), [(9, 6, 3, False), (9, 6, 4, True), (100, 50, 33, False), (100, 50, 34, True)]
)
def test_a_layer_is_merged_back_from_rank_m_n_over_m_plus_n_on(m: int, n: int, r: int, merged: bool) -> None:
    assert (r < m * n / (m + n)) is not merged
    net = deploy(LowRankLinear(m, n), {"": r})
    assert isinstance(net, nn.Linear) is merged
    assert parameter_count(net) == (m * n if merged else r * (m + n)) + n


def test_a_convolution_is_merged_back_by_the_same_rule_with_its_kernel() -> None:
    conv = decompose(nn.Conv2d(6, 16, 5, padding=1))
    for rank, parameters in ((14, 14 * 166 + 16), (15, 16 * 150 + 16)):
        assert parameter_count(deploy(conv, {"": rank})) == parameters


def test_a_deployed_net_is_the_cut_net_and_holds_no_more_than_it_uses() -> None:
    model, x = decompose(lenet()), torch.randn(3, 1, 28, 28)
    for share in (1.0, 0.5, 0.1):
        ranks = uniform_ranks(model, share)
        net = deploy(model, ranks)
        with with_ranks(model, ranks):
            torch.testing.assert_close(net(x), model(x), rtol=1e-4, atol=1e-5)
        assert all(layer.U.shape[1] == layer.rank for layer in low_rank_layers(net).values())
    assert list(ranks_of(model).values()) == [6, 16, 120, 84, 10]  # the trained net stays


def test_a_layer_of_rank_zero_outputs_its_bias_and_costs_nothing_else() -> None:
    for dense, x in ((nn.Linear(4, 3), torch.randn(2, 4)), (nn.Conv2d(4, 3, 3), torch.randn(2, 4, 5, 5))):
        net = deploy(decompose(dense), {"": 0})
        assert parameter_count(net) == 3
        bias = dense.bias if x.dim() == 2 else dense.bias[:, None, None]
        torch.testing.assert_close(net(x), bias.expand_as(net(x)))
        assert counted(net, x[:1]).macs == 0


def test_ranks_that_do_not_exist_are_refused() -> None:
    model = decompose(mlp())
    with pytest.raises(ValueError, match="has rank 10, so it cannot be cut to 11"):
        deploy(model, {"5": 11})
    with pytest.raises(ValueError, match="'head' is no factorised layer; the model has 1, 3, 5"):
        deploy(model, {"head": 1})


def test_macs_of_lenet_are_those_of_its_layers() -> None:
    dense = 24 * 24 * 6 * 25 + 8 * 8 * 16 * 150 + 256 * 120 + 120 * 84 + 84 * 10
    assert counted(lenet(), torch.zeros(1, 1, 28, 28)).macs == dense
    model = decompose(lenet())
    full = 24 * 24 * 6 * (25 + 6) + 8 * 8 * 16 * (150 + 16) + 120 * (256 + 120) + 84 * (120 + 84) + 10 * (84 + 10)
    assert counted(model, torch.zeros(1, 1, 28, 28)).macs == full > dense  # two maps; merged where they are deployed
    assert counted(deploy(model), torch.zeros(1, 1, 28, 28)).macs == dense
    wanted = 24 * 24 * 2 * (25 + 6) + 8 * 8 * 4 * (150 + 16) + 30 * (256 + 120) + 21 * (120 + 84) + 3 * (84 + 10)
    assert counted(deploy(model, uniform_ranks(model, 0.25)), torch.zeros(1, 1, 28, 28)).macs == wanted


def test_training_counts_the_ranks_in_use_three_times_the_forward_pass() -> None:
    data = Images(torch.randn(64, 1, 8, 8), torch.randint(10, (64,)))
    one_step = Recipe(lr=0.01, epochs=1, batch_size=64)
    assert fit(mlp(), data, one_step) == 3 * 64 * (64 * 128 + 128 * 128 + 128 * 10)
    layers = [(64, 128), (128, 128), (128, 10)]
    full = 3 * 64 * sum(min(m, n) * (m + n) for m, n in layers)
    cut = {3 * 64 * (min(m, n) - b) * (m + n) for m, n in layers for b in range(1, min(m, n) + 1)}
    assert train_factorised(mlp(), data, one_step).macs == full
    for seed in range(4):
        found = []
        for full_pass in (False, True):
            model = mlp()
            torch.manual_seed(seed)  # the same pair
            found.append(train_maestro(model, data, one_step, full_pass=full_pass).macs)
        assert full - found[0] in cut
        assert found[1] == found[0] + full


def test_a_layer_multiplies_its_factors_with_nothing_but_its_inputs() -> None:
    for dense, x in ((nn.Linear(9, 6), torch.randn(5, 9)), (nn.Conv2d(2, 6, 3), torch.randn(5, 2, 6, 6))):
        layer = decompose(dense)
        for b in (1, 3, 6):
            with FlopCounterMode(display=False) as flops, truncated(layer, b), MacCounter(layer) as counter:
                layer(x).sum().backward()
            # inputs need no gradient, so the first of the two maps has two products, the second three
            positions = counter.macs // (b * (len(layer.U) + len(layer.V)))
            assert flops.get_total_flops() == 2 * positions * b * (3 * len(layer.U) + 2 * len(layer.V))


def test_the_counter_leaves_no_hook_behind() -> None:
    model = mlp()
    with MacCounter(model) as counter:
        model(torch.randn(2, 1, 8, 8))
    seen = counter.macs
    model(torch.randn(2, 1, 8, 8))
    assert counter.macs == seen > 0


def test_recalibrated_statistics_are_the_mean_of_the_batches_own() -> None:
    norm = nn.BatchNorm2d(3)
    batches = [torch.randn(8, 3, 4, 4) * scale + scale for scale in (1, 2, 3)]
    norm(batches[2])  # statistics of another net
    recalibrate_batch_norm(norm.eval(), batches)
    means = torch.stack([x.mean((0, 2, 3)) for x in batches])
    variances = torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in batches])
    torch.testing.assert_close(norm.running_mean, means.mean(0))
    torch.testing.assert_close(norm.running_var, variances.mean(0))
    assert norm.momentum == 0.1
    assert not norm.training


def test_a_cut_residual_net_runs_after_recalibration() -> None:
    model, x = decompose(resnet18(4)), torch.randn(16, 1, 12, 12)
    net = deploy(model, uniform_ranks(model, 0.25))
    recalibrate_batch_norm(net, x.split(8))
    assert net.eval()(x).isfinite().all()
    assert parameter_count(net) < 0.6 * parameter_count(resnet18(4))


def test_greedy_cuts_take_the_column_that_matters_least_for_its_macs() -> None:
    model = nn.Sequential(LowRankLinear(4, 4), LowRankLinear(4, 4))
    # all that the loss sees: two ranks of the first layer and one of the second
    path = list(greedy_ranks(model, lambda: float(model[0].rank < 2) + float(model[1].rank < 1), {"0": 1, "1": 1}))
    assert path[-1] == {"0": 1, "1": 1}
    assert path.index({"0": 2, "1": 1}) == len(path) - 2  # the cut that hurts comes last
    assert len(path) == 6
    assert ranks_of(model) == {"0": 4, "1": 4}


def test_greedy_weighs_a_loss_by_the_macs_that_it_saves() -> None:
    model = nn.Sequential(LowRankLinear(2, 2), LowRankLinear(2, 2))
    path = greedy_ranks(model, lambda: 0.3 * (model[0].rank < 2) + 0.2 * (model[1].rank < 2), {"0": 100, "1": 1})
    assert next(path) == {"0": 1, "1": 2}


def test_the_learning_rate_falls_only_where_the_recipe_says_so() -> None:
    resnet = Recipe(0.1, 300, decay=True)
    assert [resnet.lr_at(e) for e in (0, 149, 150, 224, 225)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    assert Recipe(0.1, 6).lr_at(5) == 0.1


def test_pufferfish_keeps_the_first_and_the_last_layer_and_a_quarter_of_the_others() -> None:
    form = pufferfish_form(lenet())
    assert ranks_of(form) == {"3": 4, "7": 30, "9": 21}
    assert parameter_count(deploy(form)) == 17_454
    assert parameter_count(lenet()) == 44_426


def test_every_contender_learns_the_digits_and_the_dense_and_svd_nets_are_one_function(digits: Study) -> None:
    recipe = Recipe(lr=0.02, epochs=10, batch_size=32)
    dense = train_dense(digits.dense(), digits.train, recipe).model
    assert accuracy(dense, digits.test) > 85
    torch.testing.assert_close(svd_after_training(dense)(digits.test.x), dense(digits.test.x), rtol=1e-3, atol=1e-3)
    for result in (
        train_factorised(digits.dense(), digits.train, recipe),
        train_pufferfish(digits.dense(), digits.train, recipe, warmup=3),
        train_maestro(digits.dense(), digits.train, recipe),
    ):
        assert accuracy(result.model, digits.test) > 80


def test_a_lasso_shrinks_layer_by_layer_and_a_stronger_one_more(digits: Study) -> None:
    recipe = Recipe(lr=0.02, epochs=6, batch_size=32)
    left = []
    for strength in (0.0, 2e-3, 4e-3):
        torch.manual_seed(0)
        result = train_maestro(digits.dense(), digits.train, recipe, strength)
        totals = [sum(ranks.values()) for ranks in result.ranks]
        assert totals == sorted(totals, reverse=True)
        left.append((totals[-1], result.macs))
    assert left[0][0] == 202 > left[1][0] > left[2][0]
    assert left[0][1] > left[2][1]


def test_training_goes_on_where_shrinking_has_removed_everything(
    digits: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SHRINK_BELOW", float("inf"))
    outputs, macs = [], []
    for epochs in (1, 3):
        torch.manual_seed(0)
        result = train_maestro(digits.dense(), digits.train, Recipe(lr=0.02, epochs=epochs), lambda_gl=1e-4)
        assert [set(ranks.values()) for ranks in result.ranks] == [{0}] * epochs
        outputs.append(logits(result.model, digits.test.x[:2]))
        macs.append(result.macs)
    torch.testing.assert_close(outputs[1][0], low_rank_layers(result.model)["5"].bias)  # only biases are left,
    assert (outputs[1] - outputs[0]).abs().max() > 1e-3  # they learn on,
    assert macs[0] == macs[1]  # and cost nothing


def test_a_budget_that_no_ranks_keep_to_is_refused(digits: Study) -> None:
    model = decompose(mlp())
    ranks = digits.fitted(model, [8_000.0, 15_000.0])
    assert all(parameter_count(deploy(model, ranks[budget])) <= budget for budget in ranks)
    with pytest.raises(ValueError, match="no ranks of this net keep to 500 parameters"):
        digits.fitted(model, [500.0])


def test_experiments_record_what_the_card_asks_for(digits: Study) -> None:
    def rows(experiment: object, **parameters: object) -> set[tuple[str | None, str]]:
        run = Run("any", "quick", seed=0, dataset="digits")
        experiment.function(run, host="mlp", train_size=300, **parameters)
        assert all(row.value is not None for row in run.rows)
        return {(row.method, row.metric) for row in run.rows}

    found = rows(truncation, shares=[25, 50], separate=[25, 50])
    assert {("maestro", "accuracy"), ("svd", "accuracy"), ("separate", "training_macs")} <= found
    found = rows(lasso, lambdas=[0.0, 1e-3])
    assert {("maestro_chosen", m) for m in ("accuracy", "parameters", "rank_spread", "training_macs")} <= found
    assert ("maestro_full_pass", "training_macs") in rows(single_pair)
    assert {("pufferfish", "matched_accuracy"), ("maestro", "matched_macs")} <= rows(footprint, budgets=[50])


def test_the_linear_experiments_record_what_the_card_asks_for() -> None:
    def rows(experiment: object) -> tuple[dict[tuple[str | None, str], float], list[str]]:
        run = Run("any", "quick", seed=0)
        experiment.function(run, steps=80)
        return {(row.method, row.metric): row.value for row in run.rows}, [curve.metric for curve in run.curves]

    found, curves = rows(svd_recovery)
    assert found[("maestro", "error")] > 0 < found[("plain_factorised", "error")]
    assert curves == ["error_by_step"] * 2
    found, curves = rows(pca_recovery)
    assert 0 < found[("maestro", "angle")] <= 90
    assert found[("maestro", "found_rank")] in range(11)
    assert curves == ["importance"] * 2
    found, _ = rows(data_order)
    assert min(found[("maestro", m)] for m in ("error_to_data_order", "error_to_svd", "first_over_third")) > 0


def test_times_are_recorded_of_training_and_inference() -> None:
    run = Run("any", "quick", seed=0, timed=True)
    step_time.function(run, pairs=1)
    found = {(row.method, row.setting["phase"]): row.value for row in run.rows if row.metric == "time_s"}
    assert set(found) == {(name, phase) for name in ("dense", "maestro") for phase in ("training", "inference")}
    assert min(found.values()) > 0


def test_a_trial_of_tuning_is_judged_on_validation_and_maestro_at_the_size_of_pufferfish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(experiments, "LENET", dict(datasets=["digits"], host="mlp", train_size=300))
    scores = {
        name: experiments.validation_score(name, {"lr": 0.02, **more}, seed=1000)
        for name, more in (
            ("dense", {}), ("plain_factorised", {}), ("pufferfish", {"warmup": 2}), ("maestro_chosen", {}),
            ("maestro_full_pass", {}), ("maestro", {"lambda_gl": 0.0}),
        )
    }  # fmt: skip
    assert all(0 <= score <= 100 for score in scores.values())
    assert scores["dense"] > 60
    assert scores["maestro"] < scores["maestro_chosen"]  # one training; the first is cut

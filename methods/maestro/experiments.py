"""The experiments of Maestro: what ordered decomposition finds, what one training gives, and what it costs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from assay.experiment import Run, experiment
from methods.maestro.baselines import pufferfish_form, svd_after_training
from methods.maestro.contenders import CONTENDERS
from methods.maestro.deployment import deploy, uniform_ranks
from methods.maestro.layers import LowRankLinear, decompose, low_rank_layers
from methods.maestro.linear import (
    SAMPLE_VALUES,
    TARGET_VALUES,
    column_importances,
    data_ordered_problem,
    largest_angle,
    learn,
    matrix_of,
    prefix_error,
    prefixes,
    svd_terms,
)
from methods.maestro.maestro import RankSampler, lod_loss
from methods.maestro.study import Study
from methods.maestro.training import cross_entropy
from methods.shared.accounting import parameter_count
from methods.shared.hosts import lenet

LINEAR = {"maestro": True, "plain_factorised": False}  # method -> whether it is trained by LoD
POINTS = 40
DIGITS = dict(replicates=3, datasets=["digits"], host="mlp", train_size=1_000)
LENET = dict(replicates=5, datasets=["fashion_mnist"], host="lenet", train_size=20_000)
RESNET = dict(replicates=3, datasets=["fashion_mnist"], host="resnet18", train_size=58_000)


@experiment(quick=dict(replicates=3, datasets=[], steps=2_000), standard=dict(replicates=10, datasets=[], steps=2_000))
def svd_recovery(run: Run, steps: int) -> None:
    """A linear target (6, 9) of rank 3 from the 9 unit vectors: `error` of the prefixes against its truncated SVD."""
    for name, ordered in LINEAR.items():
        with run.method(name) as m:
            target = matrix_of(TARGET_VALUES, 6, 9)
            wanted = prefixes(svd_terms(target, 3))
            errors: list[float] = []
            layer = LowRankLinear(9, 6, bias=False)
            learn(layer, torch.eye(9), target.T, steps, lr=0.5, ordered=ordered, every=steps // POINTS,
                  watch=lambda: errors.append(prefix_error(layer, wanted)))  # noqa: B023  # fmt: skip
            m["error"] = prefix_error(layer, wanted)
            m.curve("error_by_step", x=range(0, steps, steps // POINTS), y=errors, x_name="step")


@experiment(quick=dict(replicates=3, datasets=[], steps=2_500), standard=dict(replicates=10, datasets=[], steps=2_500))
def pca_recovery(run: Run, steps: int) -> None:
    """A linear autoencoder of 3 samples in R^10: `angle` of the decoder's prefixes to PCA, and the rank it keeps."""
    for name, ordered in LINEAR.items():
        with run.method(name) as m:
            x = matrix_of(SAMPLE_VALUES, 3, 10)
            axes = torch.linalg.svd(x, full_matrices=False)[2].T
            layer = LowRankLinear(10, 10, bias=False)
            learn(layer, x, x, steps, lr=0.1, ordered=ordered, columns_penalty=1e-2)
            decoder, importances = layer.U.detach(), column_importances(layer)
            m.record("angle", max(largest_angle(decoder[:, :k], axes[:, :k]) for k in (1, 2, 3)), unit="degrees")
            m.record("found_rank", int((importances > 1e-3).sum()), evidence="counted")
            m.curve("importance", x=range(1, 11), y=importances.tolist(), x_name="column")


@experiment(quick=dict(replicates=3, datasets=[], steps=3_000), standard=dict(replicates=10, datasets=[], steps=10_000))
def data_order(run: Run, steps: int) -> None:
    """Inputs that weigh a map's smallest singular term most: prefixes against the order of the data and of the SVD.

    The learning rate of the notebook, 10, diverges on these problems; it is 3.
    """
    with run.method("maestro") as m:
        terms, x, y = data_ordered_problem()
        layer = LowRankLinear(9, 6, bias=False)
        learn(layer, x, y, steps, lr=3.0, ordered=True)
        # what a map does to directions that the data lack, no loss can know
        seen = torch.linalg.svd(x, full_matrices=False)[2]
        m["error_to_data_order"] = prefix_error(layer, prefixes(terms.flip(0)), within=seen.T @ seen)
        m["error_to_svd"] = prefix_error(layer, prefixes(terms), within=seen.T @ seen)
        importances = column_importances(layer)
        m["first_over_third"] = importances[0] / importances[2]


@experiment(
    quick=dict(**DIGITS, shares=[5, 10, 25, 50, 100], separate=[25, 50]),
    standard=dict(**LENET, shares=[5, 10, 25, 50, 75, 100], separate=[25, 50]),
    gpu=dict(**RESNET, shares=[5, 10, 25, 50, 75, 100], separate=[25, 50]),
    timeout=36_000,
)
def truncation(run: Run, host: str, train_size: int, shares: list[int], separate: list[int]) -> None:
    """Test accuracy where every layer keeps the same share of its ranks, `share` in percent, without retraining.

    `separate` is the control: for each share a net of these ranks, trained from the start for as long.
    """
    study = Study(run, host, train_size)
    nets = {name: study.trained(name) for name in ("maestro", "plain_factorised", "dense")}
    models = {name: nets[name].model for name in ("maestro", "plain_factorised")}
    models["svd"] = svd_after_training(nets["dense"].model)
    for name, model in models.items():
        for share in shares:
            with run.method(name, share=share) as m:
                study.record(m, model, uniform_ranks(model, share / 100))
    with run.method("dense", share=100) as m:
        study.record(m, nets["dense"].model)
    for name, result in nets.items():
        with run.method(name) as m:
            m.record("training_macs", result.macs, evidence="counted")
    total = 0
    for share in separate:
        with run.method("separate", share=share) as m:
            result = study.trained("separate", share=share / 100)
            study.record(m, result.model)
            total += result.macs
    with run.method("separate") as m:
        m.record("training_macs", total, evidence="counted")


@experiment(
    quick=dict(**DIGITS, lambdas=[0.0, 1e-3]),
    standard=dict(**LENET, lambdas=[0.0, 1e-5, 8e-5, 6.4e-4]),
    gpu=dict(**RESNET, lambdas=[0.0, 1e-6, 8e-6, 6.4e-5]),
    timeout=36_000,
)
def lasso(run: Run, host: str, train_size: int, lambdas: list[float]) -> None:
    """Accuracy, size and training cost against `lambda_gl`, and at the one that the authors' rule chooses.

    The rule: the largest lambda_gl whose validation accuracy is at most a point below that of the dense net; if there
    is none, the smallest. It is the method `maestro_chosen`.
    """
    study = Study(run, host, train_size)
    dense, plain = study.trained("dense"), study.trained("plain_factorised")
    for name, result in (("dense", dense), ("plain_factorised", plain)):
        with run.method(name) as m:
            study.record(m, result.model)
            m.record("training_macs", result.macs, evidence="counted")
    least = study.val_accuracy(dense.model) - 1
    nets = {value: study.trained("maestro", lambda_gl=value) for value in lambdas}
    reaching = [value for value in lambdas if study.val_accuracy(nets[value].model) >= least]
    chosen = max(reaching, default=min(lambdas))
    for value, result in nets.items():
        for name, setting in (("maestro", {"lambda_gl": value}), ("maestro_chosen", {})):
            if name == "maestro" or value == chosen:
                with run.method(name, **setting) as m:
                    study.record(m, result.model)
                    m.record("training_macs", result.macs, evidence="counted")
                    layers = low_rank_layers(result.model).values()
                    kept = [100 * layer.rank / layer.U.shape[1] for layer in layers]
                    m.record("rank_spread", max(kept) - min(kept), unit="% of full rank", evidence="counted")
                    alive = [
                        100 * sum(ranks.values()) / sum(layer.U.shape[1] for layer in layers) for ranks in result.ranks
                    ]
                    m.curve("alive", x=range(1, len(alive) + 1), y=alive, x_name="epoch", unit="%")
    run.value("chosen_lambda", chosen, evidence="measured")


@experiment(standard=LENET, gpu=RESNET, timeout=36_000)
def single_pair(run: Run, host: str, train_size: int) -> None:
    """A cut pass a step, or a pass of the whole net before it; accuracy at full rank, without a lasso."""
    study = Study(run, host, train_size)
    for name in ("maestro", "maestro_full_pass"):
        with run.method(name) as m:
            result = study.trained(name)
            study.record(m, result.model)
            m.record("training_macs", result.macs, evidence="counted")


@experiment(
    quick=dict(**DIGITS, budgets=[75, 50, 25]),
    standard=dict(**LENET, budgets=[75, 50, 25, 10]),
    gpu=dict(**RESNET, budgets=[75, 50, 25, 10]),
    timeout=36_000,
)
def footprint(run: Run, host: str, train_size: int, budgets: list[int]) -> None:
    """Accuracy where ranks are cut greedily to a share of the dense net's parameters, `budget` in percent.

    Also `matched_accuracy`: all cut to the parameters of Pufferfish's net, which has been trained at them. Maestro is
    trained once, with the lasso that was tuned for that footprint, and then cut to all of these sizes.
    """
    study = Study(run, host, train_size)
    dense, pufferfish = study.trained("dense").model, study.trained("pufferfish").model
    matched, full = parameter_count(deploy(pufferfish)), parameter_count(dense)
    models = {
        "maestro": study.trained("maestro", study.plan("maestro")).model,
        "svd": svd_after_training(dense),
        "plain_factorised": study.trained("plain_factorised").model,
    }
    for name, model in models.items():
        found = study.fitted(model, [matched, *(full * budget / 100 for budget in budgets)])
        with run.method(name) as m:
            study.record(m, model, found[matched], prefix="matched_")
        for budget in budgets:
            with run.method(name, budget=budget) as m:
                study.record(m, model, found[full * budget / 100])
    with run.method("pufferfish") as m:
        study.record(m, pufferfish, prefix="matched_")


@experiment(
    standard=dict(replicates=5, datasets=[], pairs=30), gpu=dict(replicates=5, datasets=[], pairs=30), timed=True
)
def step_time(run: Run, pairs: int) -> None:
    """Seconds of LeNet for a batch of 64: a training step, dense and by LoD; inference, dense and at 25 % of ranks."""
    dense = lenet().to(run.device)
    model = decompose(dense)
    small = deploy(model, uniform_ranks(model, 0.25))
    x, y = torch.randn(64, 1, 28, 28, device=run.device), torch.randint(10, (64,), device=run.device)
    layers, sampler = low_rank_layers(model), RankSampler(model)

    def ordered_loss() -> Tensor:
        name, rank = next(sampler)
        return lod_loss(model, x, y, layers[name], rank)

    run.race(
        {
            "dense[phase=training]": _stepper(dense, lambda: cross_entropy(dense, x, y)),
            "maestro[phase=training]": _stepper(model, ordered_loss),
            "dense[phase=inference]": torch.no_grad()(lambda: dense(x)),
            "maestro[phase=inference]": torch.no_grad()(lambda: small(x)),
        },
        pairs=pairs,
    )


def _stepper(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def validation_score(method: str, hyperparameters: dict[str, float], seed: int) -> float:
    """Validation accuracy of LeNet: that of `maestro` when cut to Pufferfish's parameters, the others' as they are.

    `maestro_chosen` stands for Maestro without a lasso: one learning rate for all that it is chosen from.
    """
    study = Study(Run("tune", "standard", seed, LENET["datasets"][0]), LENET["host"], LENET["train_size"])
    name = "maestro" if method == "maestro_chosen" else method
    model = study.trained(name, CONTENDERS[method].recipe_on(study.host), **hyperparameters).model
    if method != "maestro":
        return study.val_accuracy(model)
    size = parameter_count(deploy(pufferfish_form(study.dense())))
    return study.val_accuracy(model, study.fitted(model, [size])[size])

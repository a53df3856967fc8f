"""The experiments of DDO: what is exact, what exact likelihoods gain, and what diffusion models gain."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

import datasets
from assay.experiment import MethodRows, Run, experiment
from methods.ddo import exact, theory
from methods.ddo.baselines import negative_log_likelihood, pretrain, steps_of_equal_compute
from methods.ddo.contenders import (
    CLASSIFIER_RATES,
    CONTENDERS,
    FIXED,
    GRID,
    ON_POINTS,
    RATES,
    Plan,
    Start,
)
from methods.ddo.ddo import Round, likelihood_loss, lowest
from methods.ddo.densities import BernoulliMixture, TableDensity
from methods.ddo.images import ImageStudy
from methods.ddo.likelihood import MADE, SoftmaxChain
from methods.ddo.networks import PointMLP
from methods.ddo.plane import PlaneStudy, draw
from methods.shared.diffusion import EDM, Denoiser, edm_loss, frozen
from methods.shared.unet import UNet

HALF_LIFE_OF_EXACT = 50  # steps
SHOWN = 64  # images of each method that a figure shows


@experiment(quick=dict(datasets=[]), standard=dict(datasets=[]))
def start(run: Run) -> None:
    """Fact 1: how far DDO's gradient at p = p_ref is from beta/2 times that of maximum likelihood."""
    for family, gap in (("categorical", exact.categorical_gradient_gap), ("made", exact.made_gradient_gap)):
        for alpha in (0.5, 1.0, 4.0):
            run.value("gradient_gap", gap(alpha, beta=0.7), family=family, alpha=alpha)


@experiment(quick=dict(datasets=[]), standard=dict(datasets=[]))
def stability(run: Run) -> None:
    """Fact 2: the least eigenvalue of I^-1 Hessian at p = p_ref = p_data, by differentiation and by formula."""
    for beta in (0.05, 0.3, 1.0, 1.5):
        threshold = theory.alpha_threshold(beta)
        for side, factor in (("below", 0.98), ("above", 1.02)):
            run.value(
                "eigenvalue_beside_threshold", exact.least_eigenvalue(factor * threshold, beta), beta=beta, side=side
            )
        for name, eigenvalue in (("ddo", exact.least_eigenvalue), ("theory", theory.stability_eigenvalue)):
            for alpha in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0):
                with run.method(name, beta=beta, alpha=alpha) as m:
                    m.record("eigenvalue", eigenvalue(alpha, beta), evidence="counted")


@experiment(quick=dict(datasets=[], steps=200), standard=dict(datasets=[], steps=2_000))
def misfit(run: Run, steps: int) -> None:
    """Fact 2b: one Gaussian on two, at its maximum likelihood. Where plain gradient descent on DDO goes from there.

    `drift` starts exactly there, `escape` a step of 1e-6 along the least stable direction away from there; both are
    distances in (mu, log sigma).
    """
    problem = theory.MisfitGaussian()
    at = problem.maximum_likelihood()
    lam = problem.relative_score_covariance(at)
    for alpha, beta in ((1.0, 1.0), (2.0, 1.0), (4.0, 1.0), (2.0, 0.3)):
        pair = f"{alpha:g}/{beta:g}"
        values, vectors = torch.linalg.eigh(problem.hessian(at, alpha, beta))
        for i, value in enumerate(values.tolist()):
            run.value("eigenvalue", value, pair=pair, which=i)
        run.value("alpha_over_threshold", alpha / theory.alpha_threshold(beta, float(lam[0])), pair=pair)
        loss = problem.loss(at, alpha, beta)
        for metric, moved in (("drift", 0.0), ("escape", 1e-6)):
            end = theory.descend(at + moved * vectors[:, 0], loss, lr=0.5, steps=steps)
            run.value(metric, float((end - at).norm()), pair=pair)


@experiment(quick=dict(datasets=[]), standard=dict(datasets=[]))
def optima(run: Run) -> None:
    """Facts 3 and the value of the GAN loss: L-BFGS over all distributions of six states, against the closed forms."""
    p_data, p_ref = exact.random_distributions(6, seed=0)
    for beta in (1.0, 0.5, 0.2):
        alpha = theory.normalizing_alpha(p_data, p_ref, beta)
        formula = theory.optimum(p_data, p_ref, alpha, beta)
        found, value = exact.minimise(p_data, p_ref, alpha, beta)
        run.value("optimum_error", float((found - formula).abs().max()), beta=beta)
        run.value("optimum_sum_error", abs(float(formula.sum()) - 1), beta=beta)
        # above 1 the optimum is further from the reference than the data are: it overshoots
        run.value("overshoot", theory.kl(found, p_ref) / theory.kl(p_data, p_ref), beta=beta)
        if beta == 1:
            wanted = 2 * torch.tensor(2.0).double().log() - 2 * theory.js(p_data, p_ref)
            run.value("gan_value_error", abs(value - float(wanted)))
            run.value("gan_optimum_error", float((found - p_data).abs().max()))


@experiment(
    quick=dict(datasets=[], replicates=3, steps=600, round_steps=80),
    standard=dict(datasets=[], replicates=6, steps=6_000, round_steps=400),
)
def grid_chain(run: Run, steps: int, round_steps: int) -> None:
    """A softmax chain on a 32 x 32 grid with eight unequal modes: exact likelihoods, two rounds, alpha 1 and 4.

    The pool holds as many samples as a round takes, for the paper draws those of autoregressive models as it goes.
    """
    density = TableDensity.ring()
    plan = Plan(round_steps, batch_size=512, lr=1e-3, half_life=HALF_LIFE_OF_EXACT, pool_size=512 * round_steps)

    def record(m: MethodRows, model: nn.Module) -> None:
        with torch.no_grad():
            p = model.log_table().exp()
        m.record("forward_kl", theory.kl(density.table, p), unit="nats")
        m.record("js", theory.js(density.table, p), unit="nats")

    with run.method("pretrained") as m:
        model = pretrain(SoftmaxChain(32, 32), negative_log_likelihood, density.sample, steps, 512, lr=1e-2)
        record(m, model)
    begun = Start(model, density.sample, sample_of, negative_log_likelihood, likelihood_loss, unscored)
    with run.method("mle") as m:
        record(m, CONTENDERS["mle"].build(begun, plan)[-1])
    for alpha in (1.0, 4.0):
        with run.method("ddo", alpha=alpha, beta=1.0) as m:
            record(m, CONTENDERS["ddo"].build(begun, replace(plan, pairs=((alpha, 1.0),)))[-1][0].model)


def sample_of(model: nn.Module, n: int) -> Tensor:
    return model.sample(n)


def unscored(model: nn.Module) -> float:
    """Where a round has one candidate there is nothing to choose."""
    return 0.0


@experiment(
    standard=dict(datasets=[], replicates=5, hidden=256, steps=3_000, round_steps=120, rounds=2,
                  candidates=[(1.0, 0.3), (1.0, 1.0), (2.0, 1.0), (1.0, 0.1)]),
)  # fmt: skip
def bits(
    run: Run, hidden: int, steps: int, round_steps: int, rounds: int, candidates: list[tuple[float, float]]
) -> None:
    """A MADE on 64 bits whose distribution is known: a mixture fitted to digits, from which all data are drawn.

    `ddo` is chosen among rounds and pairs, `mle` among rounds and as many learning rates, both by the sum of the two
    divergences on draws of their own. `ddo_paper` has the pair of the paper's autoregressive models.
    """
    images = datasets.load("digits")
    density = BernoulliMixture.fit((images.train_x.flatten(1) > 0.5).float(), components=40)
    plan = Plan(round_steps, 512, 3e-4, HALF_LIFE_OF_EXACT, pool_size=512 * round_steps, rounds=rounds)

    @torch.no_grad()
    def divergences(model: nn.Module) -> tuple[float, float]:
        """KL(data || model) and KL(model || data), in nats, on 20,000 fresh draws each."""
        real, fake = density.sample(20_000), model.sample(20_000)
        forward, reverse = density.log_prob(real) - model.log_prob(real), model.log_prob(fake) - density.log_prob(fake)
        return float(forward.mean()), float(reverse.mean())

    def validate(model: nn.Module) -> float:
        return sum(divergences(model))

    def record(m: MethodRows, model: nn.Module) -> None:
        forward, reverse = divergences(model)
        m.record("forward_kl", forward, unit="nats")
        m.record("reverse_kl", reverse, unit="nats")
        m.record("both_kl", forward + reverse, unit="nats")

    with run.method("pretrained") as m:
        model = pretrain(MADE(64, hidden), negative_log_likelihood, density.sample, steps, 512, lr=1e-2)
        record(m, model)
    begun = Start(model, density.sample, sample_of, negative_log_likelihood, likelihood_loss, validate)
    rates = tuple(rate * plan.lr for rate in (1.0, 0.3, 0.1, 3.0))
    with run.method("mle") as m:
        tried = CONTENDERS["mle"].build(begun, replace(plan, rates=rates))
        kept, m["validation"] = lowest(tried, validate)
        record(m, kept)
        given(m, model, len(tried))
    for name, pairs in (("ddo", candidates), ("ddo_paper", CONTENDERS["ddo_paper"].recipe.pairs)):
        with run.method(name) as m:
            record(m, best(m, CONTENDERS[name].build(begun, replace(plan, pairs=tuple(pairs)))))
            given(m, model, rounds * len(pairs))


def given(m: MethodRows, model: nn.Module, trials: int) -> None:
    """What a contender was given: models that it trained and chose from, and the parameters of each."""
    m.record("parameters", sum(p.numel() for p in model.parameters()), evidence="counted")
    m.record("trials", trials, evidence="counted")


def best(m: MethodRows, rounds: list[list[Round]]) -> nn.Module:
    """The model of the best score of all rounds, which is recorded."""
    kept, m["validation"] = lowest([tried[0] for tried in rounds], lambda kept: kept.score)
    return kept.model


@experiment(
    quick=dict(datasets=[], replicates=3, width=32, steps=1_200, round_steps=100, rounds=2, points=2_000, pool=2_000,
               candidates=[(1.0, 1.0), (2.0, 1.0)], rates=[3e-4, 1e-3], likelihood_points=200, more=False),
    standard=dict(datasets=[], replicates=5, width=32, steps=5_000, round_steps=150, rounds=4, points=10_000,
                  pool=20_000, candidates=GRID, rates=RATES, likelihood_points=4_000, more=True),
)  # fmt: skip
def plane(
    run: Run, width: int, steps: int, round_steps: int, rounds: int, points: int, pool: int,
    candidates: list[tuple[float, float]], rates: list[float], likelihood_points: int, more: bool,
) -> None:  # fmt: skip
    """A small diffusion model of twelve modes on a ring, in front of and behind DDO.

    `ddo` and the baselines are chosen on pools of validation and measured on fresh ones. `mle` has DDO's steps and
    rate; `mle_tuned` has as many trials of the rate as DDO has pairs, `mle_compute` too, and with them the compute of
    DDO's whole search and its pools. `mle_compute_fixed` has DDO's rate and the compute of DDO with one pair.
    `discriminator_guidance` trains each of its classifiers for as many steps as pretraining took. `more` adds the last
    three. Rows with a round show the way there; round 0 is the pretrained model. `steps` are those of a round, of all
    its trials; of maximum likelihood at equal compute they count a round of DDO with its pool.
    """
    plan = replace(ON_POINTS, steps=round_steps, pool_size=pool, rounds=rounds)
    with run.method("pretrained") as m:
        study = PlaneStudy.of(width, steps, points, likelihood_points)
        report(run, "pretrained", m, study, study.pretrained)
        m.record("steps", steps, evidence="counted")
    with run.method("data") as m:
        study.record(m, study.density.sample(points))
        run.artifact("samples", {"points": study.density.sample(1_000).half().numpy()}, method="data")
    tuned = replace(plan, rates=tuple(rates))
    plans = dict(mle=plan, mle_tuned=tuned)
    if more:
        plans |= dict(
            mle_compute=replace(tuned, steps=steps_of_equal_compute(plan, trials=len(rates))),
            mle_compute_fixed=replace(plan, steps=steps_of_equal_compute(plan)),
            discriminator_guidance=replace(plan, steps=steps, rates=tuple(CLASSIFIER_RATES)),
        )
    for name, of in plans.items():
        with run.method(name) as m:
            models = CONTENDERS[name].build(study.start, of)
            kept = study.chosen(m, models)
            if name == "discriminator_guidance":  # its likelihood is not known
                study.quality(m, kept)
                m.record("nfe", network_calls(kept), evidence="counted")
                given(m, study.pretrained, len(models))
            else:
                report(run, name, m, study, kept)
                m.record("steps", len(of.at_rates) * of.steps, evidence="counted")
                given(m, study.pretrained, len(of.at_rates) * rounds)
        if name == "mle":
            record_rounds(run, "mle_rounds", study, models)
    with run.method("ddo") as m:
        played = CONTENDERS["ddo"].build(study.start, replace(plan, pairs=tuple(candidates)))
        report(run, "ddo", m, study, best(m, played))
        m.record("steps", round_steps, evidence="counted")
        given(m, study.pretrained, rounds * len(candidates))
    record_rounds(run, "ddo_rounds", study, [tried[0].model for tried in played])
    for tried in played[0]:  # all from the same reference and pool
        with run.method("ddo_grid", alpha=tried.alpha, beta=tried.beta) as m:
            study.quality(m, tried.model)
    for name in FIXED:
        with run.method(name) as m:
            models = at_one_pair(name, study, plan)
            report(run, name, m, study, models[-1])
        record_rounds(run, f"{name}_rounds", study, models)


def at_one_pair(name: str, study: PlaneStudy, plan: Plan) -> list[nn.Module]:
    """The model of each round of a contender of `FIXED`."""
    pairs = CONTENDERS[name].recipe.pairs
    return [tried[0].model for tried in CONTENDERS[name].build(study.start, replace(plan, pairs=pairs))]


def report(run: Run, name: str, m: MethodRows, study: PlaneStudy, model: nn.Module) -> None:
    """Quality, both divergences, the sampler's calls of the network, and some of the samples."""
    x = study.quality(m, model)
    run.artifact("samples", {"points": x[:1_000].half().numpy()}, method=name)
    study.divergences(m, model)
    m.record("nfe", network_calls(model), evidence="counted")


def network_calls(denoiser: Denoiser) -> int:
    """Calls of a network for one sample, the denoiser's and, where one guides it, the classifier's."""
    calls: list[nn.Module] = []
    with register_module_forward_hook(lambda module, *_: calls.append(module)):
        draw(denoiser, 10)
    return sum(isinstance(module, PointMLP) for module in calls)


def record_rounds(run: Run, name: str, study: PlaneStudy, models: list[nn.Module]) -> None:
    for round_, model in enumerate([study.pretrained, *models]):
        with run.method(name, round=round_) as m:
            study.quality(m, model)


@experiment(
    standard=dict(datasets=[], replicates=5, widths=[16, 64], steps=2_500, round_steps=100, rounds=2, points=10_000,
                  pool=10_000),
)  # fmt: skip
def capacity(run: Run, widths: list[int], steps: int, round_steps: int, rounds: int, points: int, pool: int) -> None:
    """The plane with smaller and larger networks, last round, two fixed pairs."""
    plan = replace(ON_POINTS, steps=round_steps, pool_size=pool, rounds=rounds)
    for width in widths:
        with run.method("pretrained", width=width) as m:
            study = PlaneStudy.of(width, steps, points, likelihood_points=0)
            study.quality(m, study.pretrained)
        with run.method("mle", width=width) as m:
            study.quality(m, CONTENDERS["mle"].build(study.start, plan)[-1])
        for name in FIXED:
            with run.method(name, width=width) as m:
                study.quality(m, at_one_pair(name, study, plan)[-1])


@experiment(
    standard=dict(datasets=["digits"], replicates=5, size=8, channels=12, levels=2, steps=1_500, batch_size=64, lr=2e-3,
                  round_steps=50, finetuning_lr=2e-4, rounds=2, samples=600, classifier_steps=300,
                  candidates=[(1.0, 0.1), (1.0, 1.0), (2.0, 0.1)], rates=[1.0, 0.3, 3.0]),
    gpu=dict(datasets=["fashion_mnist"], replicates=3, size=32, channels=64, levels=3, steps=30_000, batch_size=256,
             lr=1e-3, round_steps=300, finetuning_lr=1e-4, rounds=5, samples=10_000, classifier_steps=5_000,
             candidates=[(alpha, beta) for alpha in (1.0, 2.0, 4.0) for beta in (0.02, 0.05, 0.1)],
             rates=[10 ** (-i / 4) for i in range(-3, 6)]),
    timeout=6 * 3600,
)  # fmt: skip
def images(
    run: Run, size: int, channels: int, levels: int, steps: int, batch_size: int, lr: float, round_steps: int,
    finetuning_lr: float, rounds: int, samples: int, classifier_steps: int, candidates: list[tuple[float, float]],
    rates: list[float],
) -> None:  # fmt: skip
    """An EDM U-Net on images. The Frechet distance is in features of a classifier trained here: it is not FID.

    `rates` are multiples of the finetuning rate that maximum likelihood may choose from; as many as DDO has pairs.
    """
    data = datasets.load(run.dataset, split=run.seed) if run.dataset == "digits" else datasets.load(run.dataset)
    plan = Plan(round_steps, batch_size, finetuning_lr, round_steps / 5, pool_size=2 * samples, rounds=rounds)
    with run.method("pretrained") as m:
        study = ImageStudy.of(data, size, classifier_steps, samples, run.device)
        network = EDM(UNet(channels, levels), sigma_data=float(study.train.std())).to(run.device)
        model = frozen(pretrain(network, edm_loss, study.real, steps, batch_size, lr))
        measure(run, "pretrained", m, study, model)
        m.record("accuracy", 100 * study.accuracy, unit="%")
    with run.method("data") as m:
        m["frechet_few"] = study.floor()
        keep(run, "data", study.real(SHOWN))
    begun = study.start(model)
    tuned = replace(plan, rates=tuple(rate * finetuning_lr for rate in rates))
    for name, of in dict(mle=plan, mle_tuned=tuned).items():
        with run.method(name) as m:
            models = CONTENDERS["mle"].build(begun, of)
            measure(run, name, m, study, study.chosen(m, models))
            given(m, model, len(models))
    with run.method("ddo") as m:
        played = CONTENDERS["ddo"].build(begun, replace(plan, pairs=tuple(candidates)))
        measure(run, "ddo", m, study, best(m, played))
        given(m, model, rounds * len(candidates))
        reached = [model, *(tried_models[0].model for tried_models in played)]
        by_round = [study.distance(study.draw_from(at, study.test_noise), study.test) for at in reached]
        m.curve("frechet", x=range(len(reached)), y=by_round, x_name="round")


def measure(run: Run, name: str, m: MethodRows, study: ImageStudy, model: nn.Module) -> None:
    """The distance of fresh samples to the test images, also of as few as the floor has, and some of the samples."""
    x = study.draw_from(model, study.test_noise)
    m["frechet"], m["frechet_few"] = (study.distance(part, study.test) for part in (x, x[: study.few]))
    keep(run, name, x[:SHOWN])


def keep(run: Run, name: str, x: Tensor) -> None:
    """Images (n, 1, H, W) for a figure, of the first replicate alone."""
    if run.seed == 0:
        run.artifact("samples", {"images": x.squeeze(1).cpu().numpy()}, method=name)

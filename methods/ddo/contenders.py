"""The contenders: ways to go on from one pretrained model, DDO and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from assay.contenders import Contender
from methods.ddo.baselines import DiscriminatorGuidance, continue_mle, negative_log_likelihood, pretrain
from methods.ddo.ddo import Loss, Recipe, Round, likelihood_loss, lowest, self_play
from methods.ddo.densities import BernoulliMixture
from methods.ddo.likelihood import MADE

GRID = [(alpha, beta) for alpha in (0.5, 1.0, 2.0, 4.0) for beta in (0.3, 1.0, 10.0)]
RATES = [3e-3 / 2**i for i in range(12)]  # as many as GRID has pairs, around the recipe's rate
# together as many trials as GRID has in four rounds: around pretraining's rate, and a perfect discriminator's weight
CLASSIFIER_RATES, WEIGHTS = [1e-3, 3e-3, 1e-2], [0.25 * i for i in range(1, 17)]


@dataclass(frozen=True)
class Start:
    """Where all contenders of one run start.

    Attributes:
        model: pretrained, frozen.
        real, sample: draw n real data; n samples of a model by its ordinary sampler.
        likelihood: the loss of maximum likelihood of a batch.
        loss: DDO's.
        validate: a model's score on validation; lower is better.
    """

    model: nn.Module
    real: Callable[[int], Tensor]
    sample: Callable[[nn.Module, int], Tensor]
    likelihood: Callable[[nn.Module, Tensor], Tensor]
    loss: Loss
    validate: Callable[[nn.Module], float]


@dataclass(frozen=True)
class Plan(Recipe):
    """A round's recipe, how many rounds, and what is tried.

    Attributes:
        pairs: (alpha, beta) that each round of DDO tries.
        rates: learning rates that maximum likelihood tries; its recipe's own where there are none.
    """

    rounds: int = 2
    pairs: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    rates: tuple[float, ...] = ()

    @property
    def at_rates(self) -> list[Plan]:
        return [replace(self, lr=rate) for rate in self.rates or (self.lr,)]


def ddo(start: Start, plan: Plan) -> list[list[Round]]:
    """Rounds of self-play, each with its candidates, best first."""
    play = self_play(start.model, start.real, start.sample, start.loss, plan.pairs, start.validate, plan, plan.rounds)
    return list(play)


def mle(start: Start, plan: Plan) -> list[nn.Module]:
    """Maximum likelihood goes on at each rate for all rounds: the model of every round and rate."""
    of_rates = (continue_mle(start.model, start.likelihood, start.real, at, plan.rounds) for at in plan.at_rates)
    return [model for of_rate in of_rates for model in of_rate]


def mle_by_round(start: Start, plan: Plan) -> list[nn.Module]:
    """Maximum likelihood with DDO's search: each round goes on from the best of its rates, by validation."""
    best, kept = start.model, []
    for _ in range(plan.rounds):
        tried = [next(continue_mle(best, start.likelihood, start.real, at, 1)) for at in plan.at_rates]
        best, _ = lowest(tried, start.validate)
        kept.append(best)
    return kept


def guided(start: Start, plan: Plan) -> list[Any]:
    """Denoisers of points under discriminator guidance, of a classifier for each rate at each of `WEIGHTS`.

    The classifier is as wide as the denoiser, and each is trained for `plan.steps`.
    """
    pool, found = start.sample(start.model, plan.pool_size), []
    for at in plan.at_rates:
        guidance = DiscriminatorGuidance(start.model, start.model.network.width)
        guidance.fit(pool, start.real, at.steps, at.batch_size, at.lr)
        found += [guidance.denoiser(weight) for weight in WEIGHTS]
    return found


ON_POINTS = Plan(steps=150, batch_size=512, lr=3e-4, half_life=30, pool_size=20_000, rounds=4)
CONTENDERS = {
    "ddo": Contender(ddo, ON_POINTS),
    "ddo_a1": Contender(ddo, replace(ON_POINTS, pairs=((1.0, 1.0),))),
    "ddo_a2": Contender(ddo, replace(ON_POINTS, pairs=((2.0, 1.0),))),
    "ddo_paper": Contender(ddo, replace(ON_POINTS, pairs=((10.0, 0.02),))),  # of its autoregressive models
    "mle": Contender(mle, ON_POINTS, less="DDO's rate and steps; mle_tuned and mle_compute have its search too"),
    "mle_tuned": Contender(mle_by_round, ON_POINTS),
    "mle_compute": Contender(mle_by_round, ON_POINTS),  # in as many steps as cost what DDO costs
    "mle_compute_fixed": Contender(mle, ON_POINTS, less="the compute of DDO with one pair, at DDO's rate"),
    "discriminator_guidance": Contender(guided, replace(ON_POINTS, rates=tuple(CLASSIFIER_RATES))),
}
FIXED = ("ddo_a1", "ddo_a2")  # one pair, that of the recipe, in every round


def train(name: str, start: Start, plan: Plan) -> Any:
    """What a contender makes of the start; its random draws are of the global generator."""
    made = CONTENDERS[name].build(start, plan)
    return [tried[0].model for tried in made] if name.startswith("ddo") else made


def example(seed: int = 0) -> Start:
    """A MADE on twelve bits of a known mixture, and its divergence from it on fresh draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        density = BernoulliMixture(torch.full((4,), 0.25), torch.rand(4, 12).round() * 0.9 + 0.05)
        model = pretrain(MADE(12, 8), negative_log_likelihood, density.sample, 20, 64, lr=1e-2)

    @torch.no_grad()
    def divergence(found: nn.Module) -> float:
        x = density.sample(500)
        return float((density.log_prob(x) - found.log_prob(x)).mean())

    def sample(found: nn.Module, n: int) -> Tensor:
        return found.sample(n)

    return Start(model, density.sample, sample, negative_log_likelihood, likelihood_loss, divergence)

"""Direct Discriminative Optimization (Zheng et al., ICML 2025): a likelihood model is its own GAN discriminator.

Maximum likelihood lets a model of limited capacity spread mass between the modes of the data. A GAN would sharpen it,
but needs a discriminator and gradients through sampling. DDO needs neither: it keeps the pretrained model p_ref frozen
and finetunes a copy p so that the ratio of the two likelihoods tells real data from samples of p_ref. With

    r(x) = log p(x) - log p_ref(x),         discriminator d(x) = sigmoid(beta r(x)),

    L(p) = - E_data log sigmoid(beta r)  -  alpha E_ref log sigmoid(-beta r)

has its optimum, at alpha = beta = 1, in p = p_data: the discriminator *is* the new generator. Then p becomes the next
p_ref (self-play). beta keeps the sigmoid of an image's large r from saturating, alpha weighs the two terms.

A diffusion model has no r(x) at hand, but its evidence bound is an expectation over noise levels and noise,
r ~ E[-Delta], Delta = ||F - F_hat||^2 - ||F_ref - F_hat||^2 (`methods/shared/diffusion.py` has F and its target F_hat).
By Jensen's inequality the expectation may stand outside of -log sigmoid, so one draw of (sigma, noise) a sample, shared
by both networks, bounds the loss from above:

    L(p) <= - E_{sigma, noise} [ E_data log sigmoid(-beta Delta)  +  alpha E_ref log sigmoid(beta Delta) ].
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.shared.checks import check_numbers, check_sizes
from methods.shared.diffusion import EDM, EMA, frozen, squared_errors, training_noise

Candidate = TypeVar("Candidate")


class LikelihoodModel(Protocol):
    """A model whose likelihood is exact."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) (N,) of a batch (N, ...), in nats."""


class Loss(Protocol):
    """DDO's loss of a batch of real data (N, ...) and one of samples of the reference (M, ...)."""

    def __call__(
        self, model: nn.Module, reference: nn.Module, real: Tensor, fake: Tensor, alpha: float, beta: float
    ) -> Tensor: ...


def ddo_loss(real_log_ratio: Tensor, fake_log_ratio: Tensor, alpha: float, beta: float) -> Tensor:
    """The loss of log-ratios r on real data (N,) and on samples of the reference (M,). Scalar.

    log(1 - sigmoid(u)) is written log sigmoid(-u), which is finite where the first form overflows.

    Raises ValueError where alpha or beta is not above 0, or ratios are not one a sample.
    """
    check_numbers("ddo_loss", above=0.0, alpha=alpha, beta=beta)
    if real_log_ratio.dim() != 1 or fake_log_ratio.dim() != 1:
        raise ValueError(f"ddo_loss: log-ratios are (N,) and (M,); got {tuple(real_log_ratio.shape)} and "
                         f"{tuple(fake_log_ratio.shape)}")  # fmt: skip
    return -F.logsigmoid(beta * real_log_ratio).mean() - alpha * F.logsigmoid(-beta * fake_log_ratio).mean()


def log_ratio(model: LikelihoodModel, reference: LikelihoodModel, x: Tensor) -> Tensor:
    """r(x) (N,). The reference takes no gradient."""
    with torch.no_grad():
        of_reference = reference.log_prob(x)
    return model.log_prob(x) - of_reference


def likelihood_loss(
    model: LikelihoodModel, reference: LikelihoodModel, real: Tensor, fake: Tensor, alpha: float, beta: float
) -> Tensor:
    """DDO's loss for models with exact likelihoods."""
    return ddo_loss(log_ratio(model, reference, real), log_ratio(model, reference, fake), alpha, beta)


def diffusion_log_ratio(model: EDM, reference: EDM, y: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """-Delta (N,): one draw's estimate of r(y), at noise levels sigma (N,) and noise (N, ...) shared by both networks.

    The sum runs over all entries of y. Were the noise not shared, its variance would bury the difference.
    """
    with torch.no_grad():
        of_reference = squared_errors(reference, y, sigma, noise)
    return of_reference - squared_errors(model, y, sigma, noise)


def diffusion_loss(model: EDM, reference: EDM, real: Tensor, fake: Tensor, alpha: float, beta: float) -> Tensor:
    """DDO's loss for diffusion models: one noise level, of pretraining's distribution, and one noise a sample."""
    both = torch.cat([real, fake])
    ratio = diffusion_log_ratio(model, reference, both, *training_noise(both))
    return ddo_loss(ratio[: len(real)], ratio[len(real) :], alpha, beta)


@dataclass(frozen=True)
class Recipe:
    """How a round finetunes: Adam at a constant rate, and an average of the weights, which is what is kept.

    Attributes:
        steps: optimizer steps of a round.
        batch_size: real data of a step, and as many samples of the reference.
        lr: Adam's learning rate.
        half_life: of the average of weights, in steps.
        pool_size: samples that are drawn from the reference at the start of a round.
    """

    steps: int
    batch_size: int
    lr: float
    half_life: float
    pool_size: int

    def __post_init__(self) -> None:
        check_sizes("Recipe", steps=self.steps, batch_size=self.batch_size, pool_size=self.pool_size)
        check_numbers("Recipe", above=0.0, lr=self.lr, half_life=self.half_life)


def finetune(model: nn.Module, loss: Callable[[nn.Module], Tensor], recipe: Recipe) -> nn.Module:
    """A frozen copy of `model`, trained on `loss`, called anew in each step, and averaged over steps."""
    trained = copy.deepcopy(model).requires_grad_(True)
    average = EMA(trained, recipe.half_life)
    optimizer = torch.optim.Adam(trained.parameters(), lr=recipe.lr, fused=True)
    for _ in range(recipe.steps):
        optimizer.zero_grad()
        loss(trained).backward()
        optimizer.step()
        average.update(trained)
    return average.model


def ddo_round(
    reference: nn.Module, pool: Tensor, real: Callable[[int], Tensor], loss: Loss, alpha: float, beta: float,
    recipe: Recipe,
) -> nn.Module:  # fmt: skip
    """One round: finetune a copy of the reference against a pool of its own samples.

    Args:
        pool: samples of the reference (M, ...).
        real: draws a batch of real data of the given size.
        loss: `likelihood_loss` or `diffusion_loss`.
    """
    check_numbers("ddo_round", above=0.0, alpha=alpha, beta=beta)
    if not len(pool):
        raise ValueError("ddo_round: the pool of the reference's samples is empty")

    def of_step(model: nn.Module) -> Tensor:
        fake = pool[torch.randint(len(pool), (recipe.batch_size,), device=pool.device)]
        return loss(model, reference, real(recipe.batch_size), fake, alpha, beta)

    return finetune(reference, of_step, recipe)


@dataclass(frozen=True)
class Round:
    """The model that a round has kept, its (alpha, beta), and its score on validation."""

    model: nn.Module
    alpha: float
    beta: float
    score: float


def self_play(
    model: nn.Module,
    real: Callable[[int], Tensor],
    sample: Callable[[nn.Module, int], Tensor],
    loss: Loss,
    candidates: Sequence[tuple[float, float]],
    validate: Callable[[nn.Module], float],
    recipe: Recipe,
    rounds: int,
) -> Iterator[list[Round]]:
    """Rounds of DDO: each yields its candidates, best first, and the best is the next round's reference.

    Args:
        real, sample: draw n real data; n samples of a model by its ordinary sampler.
        candidates: pairs (alpha, beta) that each round tries from the same reference and pool.
        validate: a score on held-out data or a pool of its own, lower is better; not finite is worst.

    Raises:
        ValueError: no round, or no candidate.
        FloatingPointError: no candidate of a round has a finite score.
    """
    check_sizes("self_play", rounds=rounds, candidates=len(candidates))
    for _ in range(rounds):
        reference = frozen(model)
        pool = sample(reference, recipe.pool_size)
        tried = []
        for alpha, beta in candidates:
            trained = ddo_round(reference, pool, real, loss, alpha, beta, recipe)
            tried.append(Round(trained, alpha, beta, validate(trained)))
        model = lowest(tried, lambda candidate: candidate.score)[0].model
        tried.sort(key=lambda candidate: candidate.score if math.isfinite(candidate.score) else math.inf)
        yield tried


def lowest(candidates: Sequence[Candidate], score: Callable[[Candidate], float]) -> tuple[Candidate, float]:
    """The first candidate with the lowest score, and that score; each is scored once, and NaN or infinity never wins.

    Raises FloatingPointError where no score is finite.
    """
    scores = [score(candidate) for candidate in candidates]
    finite = [i for i, value in enumerate(scores) if math.isfinite(value)]
    if not finite:
        raise FloatingPointError(f"none of {len(scores)} candidates has a finite score: all have diverged")
    best = min(finite, key=lambda i: scores[i])
    return candidates[best], scores[best]


def main() -> None:
    """Fit a small MADE to bits whose distribution is known, then finetune it by DDO; print KL divergences both ways."""
    from methods.ddo.densities import BernoulliMixture
    from methods.ddo.likelihood import MADE

    torch.manual_seed(0)
    data = BernoulliMixture(torch.full((4,), 0.25), torch.rand(4, 12).round() * 0.9 + 0.05)
    model = MADE(12, hidden=8)

    def report(name: str, found: nn.Module) -> None:
        with torch.no_grad():
            real, fake = data.sample(4_000), found.sample(4_000)
            forward = (data.log_prob(real) - found.log_prob(real)).mean()
            reverse = (found.log_prob(fake) - data.log_prob(fake)).mean()
        print(f"{name:18}  KL(data || model) {forward:.3f}  KL(model || data) {reverse:.3f} nats")

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(400):
        loss = -model.log_prob(data.sample(256)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    report("maximum likelihood", model)
    for number in (1, 2):
        reference = frozen(model)  # the copy that is trained below is told apart from this one
        model = copy.deepcopy(model).requires_grad_(True)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(150):
            loss = likelihood_loss(model, reference, data.sample(256), reference.sample(256), alpha=1.0, beta=1.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        report(f"DDO, round {number}", model)

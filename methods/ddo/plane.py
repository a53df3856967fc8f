"""The study on the plane: a small diffusion model of a ring of modes whose density is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.experiment import MethodRows
from methods.ddo.baselines import DiscriminatorGuidance, continue_mle, pretrain
from methods.ddo.ddo import Recipe, Round, diffusion_loss, lowest, self_play
from methods.ddo.densities import GaussianMixture
from methods.ddo.metrics import Region, sliced_w2
from methods.ddo.networks import PointMLP
from methods.shared.diffusion import EDM, Denoiser, edm_loss, frozen, heun, log_likelihood

SAMPLER_STEPS = 18
FLOW_STEPS = 64  # of the likelihood, and of the samples that it is measured on
RATE = 3e-4  # of finetuning
HALF_LIFE = 30


def draw_from(denoiser: Denoiser, noise: Tensor, steps: int = SAMPLER_STEPS) -> Tensor:
    """Samples (n, 2) from noise (n, 2) by Heun's method, in chunks that stay in the cache."""
    return torch.cat([heun(denoiser, part, steps) for part in noise.split(2_000)])


def draw(denoiser: Denoiser, n: int) -> Tensor:
    """Samples (n, 2) from fresh noise."""
    return draw_from(denoiser, torch.randn(n, 2))


def finetuning(steps: int, pool_size: int, lr: float = RATE) -> Recipe:
    return Recipe(steps=steps, batch_size=512, lr=lr, half_life=HALF_LIFE, pool_size=pool_size)


@dataclass(frozen=True)
class PlaneStudy:
    """A pretrained model, and the density it learnt.

    Attributes:
        test_noise, test_data: (points, 2), what every reported pool starts from and is held against, so that
            contenders are compared pair by pair. Pools of training and of validation have noise of their own, and
            validation's are as large.
        likelihood_points: how many of each the two divergences are estimated on.
    """

    density: GaussianMixture
    region: Region
    pretrained: nn.Module
    test_noise: Tensor
    test_data: Tensor
    likelihood_points: int

    @classmethod
    def of(cls, width: int, steps: int, points: int, likelihood_points: int) -> PlaneStudy:
        density = GaussianMixture.ring()
        model = pretrain(EDM(PointMLP(width)), edm_loss, density.sample, steps, batch_size=512, lr=3e-3)
        noise, data = torch.randn(points, 2), density.sample(points)
        return cls(density, Region.of(density), frozen(model), noise, data, likelihood_points)

    def validate(self, denoiser: Denoiser) -> float:
        """The score of a pool of its own, which the reported numbers never see; lower is better."""
        return self.region.cell_tv(draw(denoiser, len(self.test_noise)))

    def ddo(self, candidates: Sequence[tuple[float, float]], recipe: Recipe, rounds: int) -> list[list[Round]]:
        """Rounds of self-play, each with its candidates, best first."""
        real, validate = self.density.sample, self.validate
        return list(self_play(self.pretrained, real, draw, diffusion_loss, candidates, validate, recipe, rounds))

    def mle(self, recipe: Recipe, rounds: int) -> list[nn.Module]:
        return list(continue_mle(self.pretrained, edm_loss, self.density.sample, recipe, rounds))

    def tuned_mle(self, recipes: Sequence[Recipe], rounds: int) -> list[nn.Module]:
        """The same with DDO's search: each round goes on from the best of its learning rates, by validation."""
        best, kept = self.pretrained, []
        for _ in range(rounds):
            tried = [next(continue_mle(best, edm_loss, self.density.sample, recipe, 1)) for recipe in recipes]
            best, _ = lowest(tried, self.validate)
            kept.append(best)
        return kept

    def guided(
        self, width: int, steps: int, pool_size: int, rates: Sequence[float], weights: Sequence[float]
    ) -> list[Denoiser]:
        """Discriminator guidance by a classifier for each learning rate, each at several weights."""
        pool, found = draw(self.pretrained, pool_size), []
        for rate in rates:
            guidance = DiscriminatorGuidance(self.pretrained, width)
            guidance.fit(pool, self.density.sample, steps, batch_size=512, lr=rate)
            found += [guidance.denoiser(weight) for weight in weights]
        return found

    def chosen(self, m: MethodRows, denoisers: Sequence[Denoiser]) -> Denoiser:
        """The best by validation, whose score there is recorded."""
        best, m["validation"] = lowest(denoisers, self.validate)
        return best

    def quality(self, m: MethodRows, denoiser: Denoiser) -> Tensor:
        """Record the quality of the samples that the test noise becomes, and return them, (points, 2)."""
        x = draw_from(denoiser, self.test_noise)
        self.record(m, x)
        return x

    def record(self, m: MethodRows, x: Tensor) -> None:
        m.record("inside", 100 * self.region.share_inside(x), unit="%")
        m.record("log_density", float(self.density.log_prob(x).mean()), unit="nats")
        m["cell_tv"], m["mode_tv"] = self.region.cell_tv(x), self.region.mode_tv(x)
        m["sliced_w2"] = sliced_w2(x, self.test_data)

    def divergences(self, m: MethodRows, denoiser: Denoiser) -> None:
        """KL both ways, in nats, between the data and what the model's probability flow turns noise into.

        Samples and likelihoods follow the flow with the same number of steps. The divergence of the flow is exact; the
        steps are not, and neither is the mean over points.
        """
        model_x = draw_from(denoiser, self.test_noise[: self.likelihood_points], FLOW_STEPS)
        data_x = self.test_data[: self.likelihood_points]
        of_model, of_data = (log_likelihood(denoiser, x, FLOW_STEPS) for x in (model_x, data_x))
        m.record("reverse_kl", float((of_model - self.density.log_prob(model_x)).mean()), unit="nats")
        m.record("forward_kl", float((self.density.log_prob(data_x) - of_data).mean()), unit="nats")
        m.record("log_likelihood", float(of_data.mean()), unit="nats")

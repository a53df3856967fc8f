"""The study on the plane: a small diffusion model of a ring of modes whose density is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.experiment import MethodRows
from methods.ddo.baselines import pretrain
from methods.ddo.contenders import Start
from methods.ddo.ddo import diffusion_loss, lowest
from methods.ddo.densities import GaussianMixture
from methods.ddo.metrics import Region, sliced_w2
from methods.ddo.networks import PointMLP
from methods.shared.diffusion import EDM, Denoiser, edm_loss, frozen, heun, log_likelihood

SAMPLER_STEPS = 18
FLOW_STEPS = 64  # of the likelihood, and of the samples that it is measured on


def draw_from(denoiser: Denoiser, noise: Tensor, steps: int = SAMPLER_STEPS) -> Tensor:
    """Samples (n, 2) from noise (n, 2) by Heun's method, in chunks that stay in the cache."""
    return torch.cat([heun(denoiser, part, steps) for part in noise.split(2_000)])


def draw(denoiser: Denoiser, n: int) -> Tensor:
    """Samples (n, 2) from fresh noise."""
    return draw_from(denoiser, torch.randn(n, 2))


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

    @property
    def start(self) -> Start:
        return Start(self.pretrained, self.density.sample, draw, edm_loss, diffusion_loss, self.validate)

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

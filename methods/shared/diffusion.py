"""The diffusion core of EDM (Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022).

Data y are seen as x = y + sigma n, n ~ N(0, I), at every noise level sigma. A network F is trained inside a denoiser

    D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)                                            (equation 7)
    c_skip = sd^2 / (sigma^2 + sd^2)         c_out   = sigma sd / sqrt(sigma^2 + sd^2)
    c_in   = 1 / sqrt(sigma^2 + sd^2)        c_noise = ln(sigma) / 4                             (Table 1)

whose inputs and targets have unit variance at every sigma where the data have variance sd^2. Samples follow the
probability-flow equation dx/dsigma = (x - D(x; sigma)) / sigma from pure noise down to sigma = 0 (Algorithm 1).
A network here is any module that maps (N, ...) and c_noise (N,) to (N, ...).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from methods.shared.checks import check_numbers, check_sizes

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Maps x (N, ...) at noise levels sigma (N,) to the expected clean data (N, ...)."""

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0
LOG_SIGMA_MEAN, LOG_SIGMA_STD = -1.2, 1.2


class Coefficients(NamedTuple):
    skip: Tensor
    out: Tensor
    in_: Tensor
    noise: Tensor


class EDM(nn.Module):
    """A network in EDM's preconditioning: called with x (N, ...) and sigma (N,), it denoises.

    Args:
        network: F, called with c_in x (N, ...) and c_noise (N,).
        sigma_data: standard deviation of the data.
    """

    def __init__(self, network: nn.Module, sigma_data: float = 0.5) -> None:
        super().__init__()
        check_numbers("EDM", above=0.0, sigma_data=sigma_data)
        self.network, self.sigma_data = network, sigma_data

    def coefficients(self, sigma: Tensor, dim: int) -> Coefficients:
        """c_skip, c_out, c_in of shape (N, 1, ...) for data of `dim` dimensions with the batch, and c_noise (N,)."""
        total = (sigma**2 + self.sigma_data**2).view(-1, *[1] * (dim - 1))
        s = sigma.view(total.shape)
        return Coefficients(
            self.sigma_data**2 / total, s * self.sigma_data * total.rsqrt(), total.rsqrt(), sigma.log() / 4
        )  # fmt: skip

    def raw(self, x: Tensor, sigma: Tensor) -> Tensor:
        """F(c_in x; c_noise)."""
        c = self.coefficients(sigma, x.dim())
        return self.network(c.in_ * x, c.noise)

    def target(self, y: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """What F should return for D(x; sigma) = y: (y - c_skip x) / c_out."""
        c = self.coefficients(sigma, x.dim())
        return (y - c.skip * x) / c.out

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        c = self.coefficients(sigma, x.dim())
        return c.skip * x + c.out * self.network(c.in_ * x, c.noise)


def training_sigmas(n: int, device: torch.device | str = "cpu") -> Tensor:
    """Noise levels (n,) of training: ln(sigma) ~ N(-1.2, 1.2^2)."""
    return (LOG_SIGMA_MEAN + LOG_SIGMA_STD * torch.randn(n, device=device)).exp()


def squared_errors(model: EDM, y: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """||F - target||^2 of each sample (N,), summed over its entries: EDM's loss at the weight 1 / c_out^2.

    y, noise: (N, ...). sigma: (N,), above 0. Raises ValueError where shapes differ.
    """
    if noise.shape != y.shape or sigma.shape != y.shape[:1]:
        raise ValueError(f"noise is of the data's shape and sigma one a sample; got data {tuple(y.shape)}, noise "
                         f"{tuple(noise.shape)}, sigma {tuple(sigma.shape)}")  # fmt: skip
    x = y + sigma.view(-1, *[1] * (y.dim() - 1)) * noise
    return (model.raw(x, sigma) - model.target(y, x, sigma)).square().flatten(1).sum(dim=1)


def training_noise(y: Tensor) -> tuple[Tensor, Tensor]:
    """Fresh noise levels (N,) and noise (N, ...) for a batch y (N, ...). Raises TypeError where y is not floats."""
    if not y.is_floating_point():
        raise TypeError(f"noise is added to floats; the data are {y.dtype}")
    return training_sigmas(len(y), y.device), torch.randn_like(y)


def edm_loss(model: EDM, y: Tensor) -> Tensor:
    """The training loss of a batch y (N, ...): the mean of `squared_errors` at fresh noise levels and noise."""
    return squared_errors(model, y, *training_noise(y)).mean()


def sampling_sigmas(steps: int) -> Tensor:
    """Noise levels (steps + 1,) of sampling (equation 5), float64, from 80 to 0.002 and then 0."""
    check_sizes("sampling_sigmas", least=2, steps=steps)  # the schedule has both ends
    top, low = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
    levels = (top + torch.linspace(0, 1, steps, dtype=torch.float64) * (low - top)) ** RHO
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


def evaluations(steps: int) -> int:
    """Calls of the denoiser for one sample (NFE): two a step but one in the last."""
    return 2 * steps - 1


@torch.no_grad()
def heun(denoiser: Denoiser, noise: Tensor, steps: int = 18) -> Tensor:
    """Samples of the denoiser's distribution by Heun's second-order method (Algorithm 1, deterministic).

    Args:
        noise: (N, ...) of N(0, I).
        steps: steps of the schedule; `evaluations(steps)` calls of the denoiser.
    """
    sigmas = sampling_sigmas(steps)
    x = noise * sigmas[0].item()
    for here, there in pairwise(sigmas.tolist()):
        slope = (x - denoiser(x, x.new_full((len(x),), here))) / here
        euler = x + (there - here) * slope
        if there == 0:
            return euler
        slope_there = (euler - denoiser(euler, x.new_full((len(x),), there))) / there
        x = x + (there - here) / 2 * (slope + slope_there)
    raise AssertionError("the schedule ends at 0")


def log_likelihood(denoiser: Denoiser, x: Tensor, steps: int = 64) -> Tensor:
    """log p(x) (N,) of the distribution that the probability-flow equation samples, in nats.

    x (N, d) is carried up to the highest noise level, where the distribution is taken as N(0, sigma^2 I), and the
    divergence of the flow is added up on the way. The divergence is exact, by d backward passes: for small d.
    """
    levels = sampling_sigmas(steps)[:-1].flip(0).tolist()

    def flow(x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            slope = (x - denoiser(x, x.new_full((len(x),), sigma))) / sigma
            rows = [torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1])]
        return slope.detach(), torch.stack(rows).sum(dim=0)

    gained = x.new_zeros(len(x))
    for here, there in pairwise(levels):
        slope, divergence = flow(x, here)
        slope_there, divergence_there = flow(x + (there - here) * slope, there)
        x = x + (there - here) / 2 * (slope + slope_there)
        gained = gained + (there - here) / 2 * (divergence + divergence_there)
    top = levels[-1]
    return gained - x.square().sum(dim=1) / (2 * top**2) - x.shape[1] * math.log(top * math.sqrt(2 * math.pi))


def frozen(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode that takes no gradient."""
    return copy.deepcopy(model).requires_grad_(False).eval()


class EMA:
    """An exponential moving average of a model's weights, kept as the frozen `model`.

    Args:
        half_life: steps after which a step's weights count half.
    """

    def __init__(self, model: nn.Module, half_life: float) -> None:
        check_numbers("EMA", above=0.0, half_life=half_life)
        self.model, self.decay = frozen(model), 0.5 ** (1 / half_life)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for average, new in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(new, 1 - self.decay)
        for average, new in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(new)

"""The diffusion core against Gaussian data, whose optimal denoiser, samples and likelihoods are known."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from methods.shared.diffusion import (
    EDM,
    EMA,
    edm_loss,
    evaluations,
    frozen,
    heun,
    log_likelihood,
    sampling_sigmas,
    squared_errors,
    training_sigmas,
)

STD = 0.7
double = partial(torch.randn, dtype=torch.float64)


def optimal(x: Tensor, sigma: Tensor, std: float = STD) -> Tensor:
    """The expected clean data where they are N(0, std^2 I)."""
    return (std**2 / (std**2 + sigma**2)).view(-1, *[1] * (x.dim() - 1)) * x


class Linear(nn.Module):
    """A network with one weight, to be seen through."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        return self.weight * x + c_noise.view(-1, *[1] * (x.dim() - 1))


@pytest.mark.parametrize("sigma", [0.002, 0.1, 0.5, 3.0, 80.0])
def test_inputs_and_targets_have_unit_variance_at_every_noise_level(sigma: float) -> None:
    torch.manual_seed(0)
    model, levels = EDM(Linear(), sigma_data=STD), torch.full((200_000,), sigma, dtype=torch.float64)
    y = STD * double(200_000, 1)
    x = y + sigma * double(200_000, 1)
    assert float((model.coefficients(levels, 2).in_ * x).var()) == pytest.approx(1, abs=0.015)
    assert float(model.target(y, x, levels).var()) == pytest.approx(1, abs=0.015)


def test_denoising_is_what_the_raw_network_and_its_target_say() -> None:
    torch.manual_seed(0)
    model, y, sigma, noise = EDM(Linear(), STD), double(6, 1, 2, 2), torch.rand(6).double() + 0.1, double(6, 1, 2, 2)
    x = y + sigma.view(6, 1, 1, 1) * noise
    c_out = sigma * STD / (sigma**2 + STD**2).sqrt()
    weighted = (model(x, sigma) - y).square().flatten(1).sum(dim=1) / c_out**2
    torch.testing.assert_close(squared_errors(model, y, sigma, noise), weighted)
    assert torch.equal(model.coefficients(sigma, 4).noise, sigma.log() / 4)


def test_the_loss_draws_its_own_noise_levels_of_the_stated_distribution() -> None:
    torch.manual_seed(0)
    logs = training_sigmas(100_000).log()
    assert float(logs.mean()) == pytest.approx(-1.2, abs=0.02)
    assert float(logs.std()) == pytest.approx(1.2, abs=0.02)
    # a network that returns 0 leaves the target, of unit variance in each of the 3 entries
    zero = EDM(Linear(), STD)
    zero.network.forward = lambda x, c_noise: torch.zeros_like(x)
    assert float(edm_loss(zero, STD * torch.randn(100_000, 3))) == pytest.approx(3, abs=0.05)


def test_training_finds_the_optimal_denoiser_of_gaussian_data() -> None:
    class Affine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 1))

        def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
            return self.layers(torch.cat([x, c_noise.unsqueeze(1)], dim=1))

    torch.manual_seed(0)
    model = EDM(Affine(), sigma_data=0.5)  # not the data's own, so that F has something to learn
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(600):
        optimizer.zero_grad()
        edm_loss(model, STD * torch.randn(256, 1)).backward()
        optimizer.step()
    sigma = training_sigmas(2000)
    x = (STD**2 + sigma**2).sqrt().unsqueeze(1) * torch.randn(2000, 1)
    with torch.no_grad():
        error = (model(x, sigma) - optimal(x, sigma)).square().mean()
    assert float(error) < 5e-3 * STD**2


def test_the_schedule_runs_from_80_to_0_002_and_ends_at_0() -> None:
    sigmas = sampling_sigmas(18)
    assert len(sigmas) == 19
    assert sigmas[0].item() == pytest.approx(80)
    assert sigmas[-2].item() == pytest.approx(0.002)
    assert sigmas[-1] == 0
    torch.testing.assert_close((sigmas[:-1] ** (1 / 7)).diff(2), torch.zeros(16).double(), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="at least 2"):
        sampling_sigmas(1)


@pytest.mark.parametrize(("steps", "nfe"), [(18, 35), (32, 63), (40, 79)])
def test_18_steps_take_35_evaluations(steps: int, nfe: int) -> None:
    calls = []

    def counted(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(float(sigma[0]))
        return optimal(x, sigma)

    heun(counted, torch.randn(3, 2), steps)
    assert len(calls) == nfe == evaluations(steps)
    assert 0 not in calls


def test_samples_of_the_optimal_denoiser_have_the_datas_standard_deviation() -> None:
    torch.manual_seed(0)
    noise = double(50_000, 2)
    x = heun(optimal, noise, steps=128)
    torch.testing.assert_close(x, noise * STD, rtol=1e-3, atol=1e-9)  # the flow is linear: one factor for all


def test_a_point_mass_is_sampled_exactly() -> None:
    there = torch.tensor([0.3, -0.2], dtype=torch.float64)
    x = heun(lambda x, sigma: there.expand_as(x), double(10, 2), steps=5)
    torch.testing.assert_close(x, there.expand(10, 2), rtol=0, atol=1e-12)


def test_heuns_error_falls_with_the_square_of_the_steps() -> None:
    exact = STD * 80 / math.sqrt(STD**2 + 80**2)
    errors = [abs(float(heun(optimal, torch.ones(1, 1).double(), n)) - exact) for n in (32, 64, 128)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.25)


def test_the_likelihood_of_gaussian_data_is_the_closed_form() -> None:
    x = double(20, 2)
    wanted = -x.square().sum(dim=1) / (2 * STD**2) - 2 * math.log(STD * math.sqrt(2 * math.pi))
    coarse, fine = (log_likelihood(optimal, x, steps) - wanted for steps in (64, 256))
    assert float(fine.abs().max()) < 6e-3
    assert float(fine.abs().max()) < float(coarse.abs().max()) / 8


def test_the_average_halves_the_weight_of_a_step_after_its_half_life() -> None:
    model = EDM(Linear())
    average = EMA(model, half_life=5)
    with torch.no_grad():
        model.network.weight.fill_(1.3)
    for _ in range(5):
        average.update(model)
    assert float(average.model.network.weight) == pytest.approx(0.8)
    assert not average.model.network.weight.requires_grad


def test_a_frozen_copy_follows_no_change_and_takes_no_gradient() -> None:
    model = EDM(Linear())
    copy = frozen(model)
    with torch.no_grad():
        model.network.weight.add_(1)
    assert float(copy.network.weight) == pytest.approx(0.3)
    assert not any(p.requires_grad for p in copy.parameters())
    assert not copy.training
    assert model.network.weight.requires_grad


def test_a_standard_deviation_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="sigma_data"):
        EDM(Linear(), sigma_data=0)

"""Numbers of official code. github.com/NVlabs/DDO at d7b366bd18676471b7bc51e26c5eb8dabcad44d0 holds samplers and no
training; its `edm_sampler` ran in float64. Preconditioning and the denoising loss are those of github.com/NVlabs/edm at
008a4e5316c8e3bfe61a62f874bddba254295afb, which it finetunes: `EDMPrecond` and `EDMLoss`, in float32. DDO's loss itself
has no official code: `test_ddo.py` and `test_theory.py` hold two derivations against each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from methods.shared.diffusion import EDM, heun, squared_errors


def wave(size: int, phase: float) -> Tensor:
    return torch.sin(0.37 * torch.arange(size).double() ** 2 + 0.11 + phase)


@pytest.mark.parametrize(
    ("steps", "first", "norm"),
    [
        (18, [0.0961988189815204, 0.28550946519796117, 0.5696249994938791, -0.12698643160644818, -0.10381886202433646,
              0.07065868955091492], 1.6698070949409842),
        (32, [0.09056600913272565, 0.27315195139198983, 0.5512895349892385, -0.1214164381955426, -0.09913933605217143,
              0.06818784315203916], 1.6075349110978647),
    ],
)  # fmt: skip
def test_samples_are_those_of_the_official_sampler(steps: int, first: list[float], norm: float) -> None:
    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        t = sigma.unsqueeze(1)
        return 0.25 / (0.25 + t**2) * x + 0.1 * t / (1 + t) * torch.sin(x + t)

    x = heun(denoiser, wave(24, 0).view(4, 6), steps)
    assert x[0].tolist() == pytest.approx(first, rel=1e-9)
    assert float(x.norm()) == pytest.approx(norm, rel=1e-9)


class Waves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.7, 0.3]))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        return torch.sin(self.w[0] * x) + self.w[1] * c_noise.view(-1, 1, 1, 1) * x


def test_denoiser_loss_and_gradient_are_those_of_edm() -> None:
    model, y = EDM(Waves()), wave(128, 0).float().view(4, 2, 4, 4)
    sigma = (wave(4, 1).float() * 1.2 - 1.2).exp()
    losses = squared_errors(model, y, sigma, wave(128, 2).float().view_as(y))
    losses.mean().backward()
    assert losses.tolist() == pytest.approx(
        [42.07639694213867, 49.78699493408203, 43.965599060058594, 13.884138107299805], rel=1e-5
    )
    assert model.network.w.grad.tolist() == pytest.approx([-4.185930252075195, 0.08932247757911682], rel=1e-4)
    denoised = model(y, torch.tensor([0.02, 0.5, 3.0, 40.0]))[:, 0, 1, 2].tolist()
    assert denoised == pytest.approx(
        [0.7675501704216003, 0.2568586468696594, -0.061429500579833984, -0.011227606795728207], rel=1e-5
    )

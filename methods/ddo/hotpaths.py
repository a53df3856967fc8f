"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from methods.ddo.ddo import diffusion_loss, likelihood_loss
from methods.ddo.likelihood import MADE
from methods.ddo.networks import PointMLP
from methods.shared.diffusion import EDM, edm_loss, frozen, heun
from methods.shared.unet import UNet

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _network(network: Callable[[], nn.Module]) -> EDM:
    torch.manual_seed(0)
    return EDM(network()).to(DEVICE)


def _ddo_step(model: nn.Module, loss: Callable[..., torch.Tensor], *shape: int) -> Callable[[], object]:
    reference, (real, fake) = frozen(model), torch.rand(2, *shape, device=DEVICE).round()
    return lambda: loss(model, reference, real, fake, 1.0, 1.0).backward()


def mle_step() -> Callable[[], object]:
    model, y = _network(lambda: PointMLP(32)), torch.randn(512, 2, device=DEVICE)
    return lambda: edm_loss(model, y).backward()


def ddo_step() -> Callable[[], object]:
    return _ddo_step(_network(lambda: PointMLP(32)), diffusion_loss, 512, 2)


def ddo_step_of_a_u_net() -> Callable[[], object]:
    return _ddo_step(_network(lambda: UNet(16, 2)), diffusion_loss, 64, 1, 8, 8)


def ddo_step_of_a_made() -> Callable[[], object]:
    torch.manual_seed(0)
    return _ddo_step(MADE(64, 256).to(DEVICE), likelihood_loss, 512, 64)


def pool_of_2000_points() -> Callable[[], object]:
    model, noise = _network(lambda: PointMLP(32)).eval(), torch.randn(2_000, 2, device=DEVICE)
    return lambda: heun(model, noise)


def pool_of_2000_rows_of_bits() -> Callable[[], object]:
    torch.manual_seed(0)
    model = MADE(64, 256).to(DEVICE)
    return lambda: model.sample(2_000)

"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from methods.maestro.deployment import deploy, uniform_ranks
from methods.maestro.layers import decompose
from methods.maestro.maestro import group_lasso
from methods.maestro.training import Images, Recipe, fit, train_maestro
from methods.shared.hosts import lenet

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ONE_EPOCH = Recipe(lr=0.01, epochs=1)


def _lenet_and_images() -> tuple[nn.Module, Images]:
    torch.manual_seed(0)
    images = Images(torch.randn(1024, 1, 28, 28, device=DEVICE), torch.randint(10, (1024,), device=DEVICE))
    return lenet().to(DEVICE), images


def dense_epoch() -> Callable[[], object]:
    model, images = _lenet_and_images()
    return lambda: fit(model, images, ONE_EPOCH)


def ordered_epoch() -> Callable[[], object]:
    model, images = _lenet_and_images()
    return lambda: train_maestro(model, images, ONE_EPOCH)


def ordered_epoch_with_lasso() -> Callable[[], object]:
    model, images = _lenet_and_images()
    return lambda: train_maestro(model, images, ONE_EPOCH, lambda_gl=8e-5)


def hierarchical_lasso_and_gradient() -> Callable[[], object]:
    model = decompose(_lenet_and_images()[0])
    return lambda: group_lasso(model).backward()


def deployed_inference() -> Callable[[], object]:
    model, images = _lenet_and_images()
    factorised = decompose(model)
    small = deploy(factorised, uniform_ranks(factorised, 0.25)).eval()
    return torch.no_grad()(lambda: small(images.x))

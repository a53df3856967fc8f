"""The contenders: one shape of network from several initialisations, each with rates for its layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import datasets
from assay.contenders import Contender
from methods.dl_theory.activations import ACTIVATIONS
from methods.dl_theory.baselines import FAR_OFF, plain_rates, torch_default
from methods.dl_theory.criticality import critical_point, depth_scaled_rates
from methods.dl_theory.training import Task, best_by_validation
from methods.shared.networks import Networks


@dataclass(frozen=True)
class Recipe:
    """A shape, and how it is trained: SGD with momentum 0.9 on batches of 100.

    Attributes:
        depth: layers; all but the last have `width` outputs.
        lrs: learning rates that are tried, each with `nets` networks; validation chooses one.
        activation: a key of `ACTIVATIONS`.
    """

    depth: int = 5
    width: int = 128
    steps: int = 300
    lrs: tuple[float, ...] = (3e-4, 3e-3, 0.03, 0.3, 3.0, 30.0)
    nets: int = 1
    activation: str = "relu"

    def widths(self, task: Task) -> list[int]:
        """n_0, n_1, ..., n_L."""
        return [task.test[0].shape[1], *[self.width] * (self.depth - 1), task.classes]


Built = tuple[Networks, tuple[Tensor, Tensor]]
"""Networks, `nets` side by side for each rate, and the rates lambda_b and lambda_W of their layers."""


def _drawn(C_W: float | None = None) -> Callable[[Task, Recipe], Built]:
    """Normal weights of variance C_W / n, by default the critical one, with depth-scaled rates."""

    def build(task: Task, recipe: Recipe) -> Built:
        point, nets = critical_point(recipe.activation), len(recipe.lrs) * recipe.nets
        variances = (point.C_b, point.C_W) if C_W is None else (0.0, C_W)
        networks = Networks.draw(ACTIVATIONS[recipe.activation], recipe.widths(task), nets, *variances)
        return networks, depth_scaled_rates(point, recipe.depth)

    return build


def _torch_default(plain: bool) -> Callable[[Task, Recipe], Built]:
    """PyTorch's initialisation, with depth-scaled rates, or plain: one rate for all, as its users have it."""

    def build(task: Task, recipe: Recipe) -> Built:
        widths, nets = recipe.widths(task), len(recipe.lrs) * recipe.nets
        rates = plain_rates(widths) if plain else depth_scaled_rates(critical_point(recipe.activation), recipe.depth)
        return torch_default(ACTIVATIONS[recipe.activation], widths, nets), rates

    return build


CONTENDERS = {
    "critical": Contender(_drawn(), Recipe()),
    **{name: Contender(_drawn(C_W), Recipe()) for name, C_W in FAR_OFF.items()},
    "torch_default": Contender(_torch_default(plain=False), Recipe()),
    "plain_sgd": Contender(_torch_default(plain=True), Recipe()),
}


def train(name: str, task: Task, recipe: Recipe) -> tuple[Networks, dict[str, float]]:
    """Networks of a contender, trained at all rates of the recipe, and what the best rate by validation gives."""
    networks, rates = CONTENDERS[name].build(task, recipe)
    networks = networks.to(task.test[0].device)
    return networks, best_by_validation(networks, task, rates, list(recipe.lrs), recipe.steps, recipe.nets)


def example(seed: int = 0) -> Task:
    """Digits of 8 x 8 pixels, split by the seed."""
    return Task.of(datasets.load("digits", split=seed), torch.device("cpu"))

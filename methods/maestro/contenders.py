"""The contenders: one untrained net, dense or as factors, each trained in its own way by one recipe."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from assay.contenders import Contender
from methods.maestro.baselines import pufferfish_form, train_dense, train_factorised, train_pufferfish
from methods.maestro.layers import decompose
from methods.maestro.training import Images, Recipe, Trained, train_maestro


class Task(NamedTuple):
    """An untrained net and the images that it is trained on."""

    dense: nn.Module
    images: Images


@dataclass(frozen=True)
class Plan(Recipe):
    """A recipe, and what is one contender's own.

    Attributes:
        lambda_gl: weight of Maestro's lasso.
        warmup: dense epochs of Pufferfish.
        share: of the full ranks that plain factors have.
    """

    lambda_gl: float = 0.0
    warmup: int = 1
    share: float = 1.0


# By host; the paper's for ResNet18. LeNet's learning rates are tuned (`tuned.json`), the perceptron's is one for all.
RECIPES = {
    "mlp": Plan(lr=0.02, epochs=10, batch_size=32, warmup=3),
    "lenet": Plan(lr=0.01, epochs=6, batch_size=64),
    "resnet18": Plan(lr=0.1, epochs=30, weight_decay=1e-4, decay=True, warmup=10),
}
RATES = [0.005, 0.01, 0.02, 0.05, 0.1]


def _factors(dense: nn.Module, plan: Plan) -> nn.Module:
    return decompose(dense, share=plan.share)


CONTENDERS = {
    "dense": Contender(lambda dense, plan: copy.deepcopy(dense), RECIPES, dict(lr=RATES)),
    "plain_factorised": Contender(_factors, RECIPES, dict(lr=RATES)),
    "separate": Contender(_factors, RECIPES, less="has the learning rate that is found for plain_factorised"),
    "pufferfish": Contender(lambda dense, plan: pufferfish_form(dense), RECIPES, dict(lr=RATES, warmup=[1, 2, 3])),
    "maestro": Contender(_factors, RECIPES, dict(lr=RATES, lambda_gl=[0, 1e-5, 8e-5, 6.4e-4])),
    "maestro_chosen": Contender(_factors, RECIPES, dict(lr=RATES)),
    "maestro_full_pass": Contender(_factors, RECIPES, dict(lr=RATES)),
}
"""What builds the form that is trained. `maestro` is tuned with a lasso at Pufferfish's size, `maestro_chosen` at full
rank without one."""


def train(name: str, task: Task, plan: Plan) -> Trained:
    """A contender after its training. The task's net is left as it is."""
    trainers: dict[str, Callable[[], Trained]] = {
        "dense": lambda: train_dense(*task, plan),
        "plain_factorised": lambda: train_factorised(*task, plan, plan.share),
        "separate": lambda: train_factorised(*task, plan, plan.share),
        "pufferfish": lambda: train_pufferfish(*task, plan, plan.warmup),
        "maestro": lambda: train_maestro(*task, plan, plan.lambda_gl),
        "maestro_full_pass": lambda: train_maestro(*task, plan, full_pass=True),
    }
    return trainers[name]()


def example(seed: int = 0) -> Task:
    """A perceptron of 16 inputs, and 60 images of noise in three classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        images = Images(torch.randn(60, 1, 4, 4), torch.arange(60) % 3)
        return Task(nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)), images)

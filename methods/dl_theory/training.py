"""The task that networks of the theory are trained on, and the choice of a learning rate by validation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from datasets.images import Images
from methods.shared.networks import Networks, accuracy, cross_entropy, gradient_descent

MOMENTUM, BATCH_SIZE = 0.9, 100


@dataclass(frozen=True)
class Task:
    """Classification of images as rows with |x|^2/n_0 = 1, a quarter of the training images held out for validation."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int

    @classmethod
    def of(cls, images: Images, device: torch.device) -> Task:
        """Rows are centred by the mean training image and scaled to |x|^2 = n_0, as the kernel's first layer wants."""
        centre = images.train_x.flatten(1).mean(dim=0)
        train_x, test_x = (unit_rows(x.flatten(1) - centre) for x in (images.train_x, images.test_x))
        kept = len(train_x) * 3 // 4  # a stratified split comes shuffled
        parts = (
            (train_x[:kept], images.train_y[:kept]), (train_x[kept:], images.train_y[kept:]), (test_x, images.test_y)
        )  # fmt: skip
        train, validation, test = ((x.to(device), y.to(device)) for x, y in parts)
        return cls(train, validation, test, int(images.train_y.max()) + 1)


def unit_rows(x: Tensor) -> Tensor:
    """Rows scaled to |x|^2 = n_0."""
    return F.normalize(x, dim=1) * math.sqrt(x.shape[1])


def best_by_validation(
    networks: Networks, task: Task, rates: tuple[Tensor, Tensor], lrs: list[float], steps: int, nets: int
) -> dict[str, float]:
    """Train `nets` networks at each learning rate of a grid, and report the rate of the best mean validation accuracy.

    Args:
        networks: len(lrs) * nets of them, those of a rate side by side.
        rates: lambda_b and lambda_W by layer.
    """
    lr = torch.tensor(lrs, device=task.train[0].device).repeat_interleave(nets)
    gradient_descent(networks, *task.train, cross_entropy, steps, lr, rates, MOMENTUM, BATCH_SIZE)
    by_rate = accuracy(networks, *task.validation).view(len(lrs), nets).mean(dim=1)
    best = int(by_rate.argmax())
    test = accuracy(networks, *task.test).view(len(lrs), nets)[best].mean()
    return {"accuracy": float(test), "validation_accuracy": float(by_rate[best]), "best_lr": lrs[best]}


def width_of(parameters: int, depth: int, n_in: int, n_out: int) -> int:
    """Hidden width at which depth layers have at most so many weights: (L-2) n^2 + (n_in + n_out) n."""
    ends, inner = n_in + n_out, depth - 2
    if inner == 0:
        return parameters // ends
    return int((math.sqrt(ends**2 + 4 * inner * parameters) - ends) / (2 * inner))

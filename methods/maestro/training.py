"""One training loop for every contender, and Maestro's use of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.maestro.layers import decompose, low_rank_layers, ranks_of
from methods.maestro.maestro import SHRINK_BELOW, RankSampler, group_lasso, lod_loss, shrink
from methods.shared.accounting import MacCounter, training_macs
from methods.shared.checks import check_numbers, check_sizes

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum.

    decay: the learning rate falls tenfold at half and at three quarters of the epochs; else it stays.
    """

    lr: float
    epochs: int
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay: bool = False

    def __post_init__(self) -> None:
        check_sizes("Recipe", epochs=self.epochs, batch_size=self.batch_size)
        check_numbers("Recipe", above=0.0, lr=self.lr)
        check_numbers("Recipe", least=0.0, momentum=self.momentum, weight_decay=self.weight_decay)

    def lr_at(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        falls = sum(epoch >= int(part * self.epochs) for part in (0.5, 0.75)) if self.decay else 0
        return self.lr * 0.1**falls


@dataclass(frozen=True)
class Images:
    """Images (N, 1, H, W), standardised by the mean and deviation of the training pixels, and classes (N,)."""

    x: Tensor
    y: Tensor


@dataclass
class Trained:
    """A model, the MACs that its training took, and the ranks after each epoch where they can change."""

    model: nn.Module
    macs: int
    ranks: list[dict[str, int]]


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def fit(model: nn.Module, data: Images, recipe: Recipe, loss: Loss = cross_entropy,
        after_epoch: Callable[[nn.Module], object] = lambda model: None,
        epochs: Iterable[int] | None = None) -> int:  # fmt: skip
    """Train in place; returns the MACs of the forward and backward passes.

    Args:
        after_epoch: called at the end of each epoch.
        epochs: which of the recipe's epochs are run here; default all.
    """
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    with MacCounter(model) as counter:
        for epoch in range(recipe.epochs) if epochs is None else epochs:
            optimizer.param_groups[0]["lr"] = recipe.lr_at(epoch)
            model.train()
            for batch in torch.randperm(len(data.x), device=data.x.device).split(recipe.batch_size):
                optimizer.zero_grad()
                loss(model, data.x[batch], data.y[batch]).backward()
                optimizer.step()
            after_epoch(model)
    return training_macs(counter.macs)


def train_maestro(dense: nn.Module, data: Images, recipe: Recipe, lambda_gl: float = 0.0, *,
                  full_pass: bool = False) -> Trained:  # fmt: skip
    """Factorise an untrained net and train it by LoD; with a lasso, shrink it after every epoch.

    Raises ValueError where lambda_gl is negative or not finite.
    """
    check_numbers("train_maestro", least=0.0, lambda_gl=lambda_gl)
    model = decompose(dense)
    layers, sampler, history = low_rank_layers(model), RankSampler(model), []

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if not any(ranks_of(model).values()):
            return cross_entropy(model, x, y)  # a lasso too strong has left nothing but biases
        name, rank = next(sampler)
        total = lod_loss(model, x, y, layers[name], rank, full_pass=full_pass)
        return total + lambda_gl * group_lasso(model) if lambda_gl else total

    def after_epoch(model: nn.Module) -> None:
        if lambda_gl and shrink(model, SHRINK_BELOW) != (history[-1] if history else None):
            sampler.rebuild()
        history.append(ranks_of(model))

    macs = fit(model, data, recipe, loss, after_epoch)
    return Trained(model, macs, history)


@torch.no_grad()
def logits(model: nn.Module, x: Tensor) -> Tensor:
    """(N, 10), in evaluation mode."""
    model.eval()
    return torch.cat([model(part) for part in x.split(250)])


def accuracy(model: nn.Module, data: Images) -> float:
    """In percent. Outputs that are no numbers are wrong."""
    scores = logits(model, data.x)
    return 100 * float(((scores.argmax(1) == data.y) & scores.isfinite().all(1)).float().mean())


def mean_loss(model: nn.Module, data: Images) -> float:
    """Mean cross-entropy."""
    return float(F.cross_entropy(logits(model, data.x), data.y))

"""What Maestro is compared with: no factors, factors after, factors without an order, and Pufferfish's fixed ranks.

All train for the epochs of the same recipe; the learning rate is tuned for each alike.
"""

from __future__ import annotations

import copy

from torch import nn

from methods.maestro.layers import decompose
from methods.maestro.training import Images, Recipe, Trained, fit

PUFFERFISH_SHARE = 0.25


def train_dense(dense: nn.Module, data: Images, recipe: Recipe) -> Trained:
    """The net without factors."""
    model = copy.deepcopy(dense)
    return Trained(model, fit(model, data, recipe), [])


def svd_after_training(dense: nn.Module) -> nn.Module:
    """A trained net factorised afterwards: cutting its ranks is truncated SVD, the best for each matrix alone."""
    return decompose(dense)


def train_factorised(dense: nn.Module, data: Images, recipe: Recipe, share: float = 1.0) -> Trained:
    """U V^T from the same start as Maestro's, trained as it is: nothing in the loss orders the columns.

    share: of the full ranks. Less than 1 is the net that one trains where the rank is known beforehand.
    """
    model = decompose(dense, share=share)
    return Trained(model, fit(model, data, recipe), [])


def train_pufferfish(dense: nn.Module, data: Images, recipe: Recipe, warmup: int) -> Trained:
    """Dense for some epochs, then all layers but the first and the last at a quarter of their rank (Wang et al., 2021).

    warmup: epochs before the switch.
    """
    model = copy.deepcopy(dense)
    macs = fit(model, data, recipe, epochs=range(warmup))
    model = pufferfish_form(model)
    return Trained(model, macs + fit(model, data, recipe, epochs=range(warmup, recipe.epochs)), [])


def pufferfish_form(dense: nn.Module) -> nn.Module:
    """The factorised net of a dense one, by truncated SVD."""
    layers = [name for name, module in dense.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    return decompose(dense, skip=(layers[0], layers[-1]), share=PUFFERFISH_SHARE)

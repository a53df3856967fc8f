"""Many small perceptrons as one tensor: networks are the leading dimension of everything.

Networks of a batch never meet: each has its own weights, and the gradient of the sum of their losses is each one's own.
So a grid of learning rates or a block of seeds costs one loop, not one loop each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.shared.checks import check_numbers, check_sizes

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Networks:
    """Perceptrons of one shape. weights: L of (nets, n_in, n_out); biases: L of (nets, 1, n_out)."""

    sigma: Callable[[Tensor], Tensor]
    weights: list[Tensor]
    biases: list[Tensor]

    @classmethod
    def draw(
        cls, sigma: Callable[[Tensor], Tensor], widths: list[int], nets: int, C_b: float, C_W: float,
        generator: torch.Generator | None = None,
    ) -> Networks:  # fmt: skip
        """W ~ N(0, C_W / n_in), b ~ N(0, C_b), float32. widths: n_0, n_1, ..., n_L.

        Raises:
            ValueError, TypeError: no network, no layer, a width below 1, or a variance below 0.
        """
        check_sizes("Networks.draw", nets=nets, layers=len(widths) - 1, narrowest=min(widths, default=0))
        check_numbers("Networks.draw", least=0.0, C_b=C_b, C_W=C_W)
        weights, biases = [], []
        for n_in, n_out in pairwise(widths):
            weights.append(torch.randn(nets, n_in, n_out, generator=generator) * math.sqrt(C_W / n_in))
            biases.append(torch.randn(nets, 1, n_out, generator=generator) * math.sqrt(C_b))
        return cls(sigma, weights, biases)

    def to(self, device: torch.device) -> Networks:
        """The same networks on another device; draws are the same on all of them."""
        return Networks(self.sigma, *([t.to(device) for t in group] for group in (self.weights, self.biases)))

    @property
    def depth(self) -> int:
        return len(self.weights)

    def parameters(self) -> list[Tensor]:
        return [*self.weights, *self.biases]

    def signals(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs of each layer and its preactivations, L of (nets, N, n) each, for x (N, n_0) or (nets, N, n_0)."""
        inputs, preactivations = [], []
        signal = x.expand(len(self.weights[0]), *x.shape[-2:])
        for W, b in zip(self.weights, self.biases, strict=True):
            inputs.append(signal)
            preactivations.append(torch.baddbmm(b, signal, W))
            signal = self.sigma(preactivations[-1])
        return inputs, preactivations

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs (nets, N, n_L)."""
        return self.signals(x)[1][-1]


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """Mean over a batch, (nets,), of logits (nets, N, classes) and y (N,)."""
    nets, N, _ = outputs.shape
    return F.cross_entropy(outputs.flatten(0, 1), y.repeat(nets), reduction="none").view(nets, N).mean(dim=1)


def half_squares(outputs: Tensor, y: Tensor) -> Tensor:
    """Half the sum of squares, (nets,): the loss whose gradient flow the NTK describes without a factor."""
    return (outputs - y).square().sum(dim=(1, 2)) / 2


def gradient_descent(
    networks: Networks, x: Tensor, y: Tensor, loss: Loss, steps: int, lr: Tensor, rates: tuple[Tensor, Tensor],
    momentum: float = 0.0, batch_size: int | None = None,
) -> None:  # fmt: skip
    """Train in place: W^(l) -= lr lambda_W^(l)/n_in m_W, b^(l) -= lr lambda_b^(l) m_b, m <- momentum m + gradient.

    Args:
        x, y: (N, n_0) and the targets of `loss`, shared by all networks.
        lr: (nets,), a rate for each network.
        rates: lambda_b and lambda_W by layer, (L,) each.
        batch_size: examples of a step, drawn anew; all where None.

    Raises:
        ValueError, TypeError: no examples, a rate lr that is not finite or below 0, or an option out of range.
    """
    check_sizes("gradient_descent", least=0, steps=steps)
    check_sizes("gradient_descent", **({} if batch_size is None else {"batch_size": batch_size}))
    check_numbers("gradient_descent", least=0.0, momentum=momentum)
    if not len(x) or not bool(((lr >= 0) & lr.isfinite()).all()):
        raise ValueError(f"gradient_descent: wants examples, and finite lr of at least 0; got {len(x)}, {lr.tolist()}")
    parameters = networks.parameters()
    for parameter in parameters:
        parameter.requires_grad_()
    step_W = [lr[:, None, None] * float(rate) / W.shape[1] for rate, W in zip(rates[1], networks.weights, strict=True)]
    step_b = [lr[:, None, None] * float(rate) for rate in rates[0]]
    moving = [torch.zeros_like(parameter) for parameter in parameters]
    for _ in range(steps):
        rows = slice(None)
        if batch_size is not None:
            rows = torch.randint(len(x), (batch_size,)).to(x.device)
        gradients = torch.autograd.grad(loss(networks(x[rows]), y[rows]).sum(), parameters)
        with torch.no_grad():
            for parameter, size, mean, gradient in zip(parameters, step_W + step_b, moving, gradients, strict=True):
                parameter.sub_(size * mean.mul_(momentum).add_(gradient))
    for parameter in parameters:
        parameter.requires_grad_(False)


@torch.no_grad()
def accuracy(networks: Networks, x: Tensor, y: Tensor) -> Tensor:
    """Percent right, (nets,). Outputs that are no numbers are wrong."""
    outputs = networks(x)
    right = (outputs.argmax(dim=2) == y) & outputs.isfinite().all(dim=2)
    return 100 * right.float().mean(dim=1)

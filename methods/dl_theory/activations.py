"""Activation functions as the theory sees them: values, derivatives, and what kind of function they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.shared.checks import check_numbers


@dataclass(frozen=True)
class Activation:
    """A function sigma, applied to each preactivation; smooth but for a kink that it may have at 0.

    Attributes:
        name: as in `ACTIVATIONS`.
        function: elementwise, in any floating dtype.
        slopes: (a_+, a_-) where sigma(z) = a_+ z for z > 0 and a_- z for z < 0 (scale-invariant), else None.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    slopes: tuple[float, float] | None = None

    def __call__(self, z: Tensor) -> Tensor:
        return self.function(z)

    def derivative(self, z: Tensor) -> Tensor:
        """sigma'(z), the shape of z, detached."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.function(z).sum(), z)
        return slope

    def derivatives_at_zero(self, order: int = 3) -> list[float]:
        """sigma, sigma', ... at 0 (sigma_0, sigma_1, ... of the book). Meaningless for a function with a kink."""
        with torch.enable_grad():
            z = torch.zeros((), dtype=torch.float64, requires_grad=True)
            values = [self.function(z)]
            for _ in range(order):
                if not values[-1].requires_grad:  # a constant has no graph and no slope
                    values.append(torch.zeros_like(z))
                    continue
                (slope,) = torch.autograd.grad(values[-1], z, create_graph=True)
                values.append(slope)
        return [float(value.detach()) for value in values]

    def moment(self, power: int) -> float:
        """A_k = (a_+^k + a_-^k) / 2 of a scale-invariant function (the book's A_2 and A_4)."""
        if self.slopes is None:
            raise ValueError(f"{self.name} is not scale-invariant: it has no A_{power}")
        return sum(slope**power for slope in self.slopes) / 2


def leaky_relu(negative_slope: float = 0.01) -> Activation:
    """z for z > 0, negative_slope * z otherwise."""
    check_numbers("leaky_relu", negative_slope=negative_slope)
    return Activation("leaky_relu", lambda z: F.leaky_relu(z, negative_slope), (1.0, negative_slope))


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation("linear", lambda z: 1.0 * z, (1.0, 1.0)),
    "relu": Activation("relu", torch.relu, (1.0, 0.0)),
    "leaky_relu": leaky_relu(),
    "tanh": Activation("tanh", torch.tanh),
    "sin": Activation("sin", torch.sin),
    "gelu": Activation("gelu", F.gelu),
    "swish": Activation("swish", F.silu),
    "sigmoid": Activation("sigmoid", torch.sigmoid),
    "softplus": Activation("softplus", F.softplus),
}

_OF_MODULE: dict[type[nn.Module], str] = {
    nn.Identity: "linear", nn.ReLU: "relu", nn.Tanh: "tanh", nn.GELU: "gelu", nn.SiLU: "swish",
    nn.Sigmoid: "sigmoid", nn.Softplus: "softplus",
}  # fmt: skip


def activation_of(source: str | nn.Module | Activation) -> Activation:
    """An activation by its name (`ACTIVATIONS`) or as PyTorch's module, such as `nn.Tanh()`.

    Raises:
        ValueError: unknown; an `Activation(name, function)` of your own is accepted everywhere instead.
    """
    if isinstance(source, Activation):
        return source
    if isinstance(source, nn.LeakyReLU):
        return leaky_relu(source.negative_slope)
    name = source if isinstance(source, str) else _OF_MODULE.get(type(source), type(source).__name__)
    plain_gelu = getattr(source, "approximate", "none") == "none"
    plain_softplus = (getattr(source, "beta", 1), getattr(source, "threshold", 20)) == (1, 20)
    if name not in ACTIVATIONS or not (plain_gelu and plain_softplus):
        raise ValueError(
            f"no activation {source!r}: give one of {', '.join(ACTIVATIONS)}, PyTorch's module for it with its default "
            "options, or an Activation(name, function)"
        )
    return ACTIVATIONS[name]

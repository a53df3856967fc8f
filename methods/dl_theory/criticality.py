"""Critical initialisation: the (C_b, C_W) at which signals neither explode nor die, found by solving for it.

    K* = C_b + C_W g(K*),    chi_par(K*) = chi_perp(K*) = 1

Dividing the two susceptibilities leaves one equation in K, g'(K) = <sigma'^2>_K; then C_W = 1/<sigma'^2> and
C_b = K - C_W g(K), which must not be negative. Three cases have a solution (chapter 5):

    scale-invariant   the equation holds for every K: (C_b, C_W) = (0, 1/A_2)
    K* = 0            sigma(0) = 0, sigma'(0) != 0 and a_1 = sigma_3/sigma_1 + (3/4)(sigma_2/sigma_1)^2 < 0:
                      (0, 1/sigma_1^2); the kernel falls as 1/((-a_1) l)
    half-stable       a root K* > 0 (GELU, SWISH), which attracts kernels from one side only
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from methods.dl_theory.activations import Activation, activation_of
from methods.dl_theory.expectations import chi_parallel, chi_perpendicular, mean_square
from methods.shared.checks import check_numbers, check_sizes

Universality = Literal["scale-invariant", "K* = 0", "half-stable"]
SEARCHED = (1e-3, 1e3)


class NoCriticalPoint(ValueError):
    """The activation has no (C_b, C_W) at which both susceptibilities are 1."""


@dataclass(frozen=True)
class CriticalPoint:
    """A critical initialisation.

    Attributes:
        C_b, C_W: variance of biases; n_in times the variance of weights.
        K: the fixed point K*; None where every kernel is one (scale-invariant).
        universality: the class.
        p: exponent of the product of chi_perp from layer l to L, (l/L)^p: 1 for K* = 0, else 0 (at K*).
    """

    C_b: float
    C_W: float
    K: float | None
    universality: Universality

    @property
    def p(self) -> int:
        return int(self.universality == "K* = 0")


def kernel_decay(sigma: Activation) -> float:
    """-a_1 of a K* = 0 activation: K^(l) -> 1/((-a_1) l). tanh 2, sin 1."""
    _, first, second, third = sigma.derivatives_at_zero()
    return -(third / first + 0.75 * (second / first) ** 2)


def critical_point(activation: str | nn.Module | Activation, gamma: float = 0.0) -> CriticalPoint:
    """The critical initialisation of an activation, solved for numerically.

    Args:
        activation: a name, PyTorch's module, or an `Activation` of your own.
        gamma: strength of the skip connection, in [0, 1). Critical then means gamma^2 + chi = 1, so that both
            variances shrink by 1 - gamma^2 while K* stays.

    Raises:
        NoCriticalPoint: there is none (sigmoid, softplus).
        ValueError: gamma outside [0, 1).
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma = {gamma:g}: a skip connection with a critical point has 0 <= gamma < 1")
    sigma = activation_of(activation)
    C_b, C_W, K, universality = _solve(sigma)
    return CriticalPoint((1 - gamma**2) * C_b, (1 - gamma**2) * C_W, K, universality)


def _solve(sigma: Activation) -> tuple[float, float, float | None, Universality]:
    if sigma.slopes is not None:
        return 0.0, 1 / sigma.moment(2), None, "scale-invariant"
    value, slope = sigma.derivatives_at_zero(1)
    if abs(value) < 1e-12 and abs(slope) > 1e-12 and kernel_decay(sigma) > 0:
        return 0.0, 1 / slope**2, 0.0, "K* = 0"
    found = [_constants(sigma, K) for K in _roots(sigma)]
    for C_b, C_W, K in found:
        if C_b >= 0:
            return C_b, C_W, K, "half-stable"
    why = (
        f"it would need C_b = {found[0][0]:.3g} < 0"
        if found
        else f"chi_par and chi_perp differ at every kernel from {SEARCHED[0]:g} to {SEARCHED[1]:g}"
    )
    raise NoCriticalPoint(
        f"{sigma.name} has no critical initialisation: {why}. Use tanh, ReLU or GELU, or give C_b and C_W yourself"
    )


def _excess(sigma: Activation, K: Tensor | float) -> Tensor:
    """(chi_par - chi_perp) / C_W."""
    return chi_parallel(sigma, K, 1.0) - chi_perpendicular(sigma, K, 1.0)


def _roots(sigma: Activation) -> Iterator[float]:
    low, high = (math.log10(end) for end in SEARCHED)
    grid = torch.logspace(low, high, 121, dtype=torch.float64)
    signs = torch.sign(_excess(sigma, grid))
    for at in torch.nonzero(signs[1:] * signs[:-1] < 0).flatten():
        bracket = (float(grid[at]), float(grid[at + 1]))
        yield float(brentq(lambda K: float(_excess(sigma, K)), *bracket, xtol=1e-13, rtol=1e-14))


def _constants(sigma: Activation, K: float) -> tuple[float, float, float]:
    C_W = float(1 / chi_perpendicular(sigma, K, 1.0))
    return K - C_W * float(mean_square(sigma, K)), C_W, K


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    """The linear layers in the order of registration: of an `nn.Sequential`, the order of computation."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


@torch.no_grad()
def critical_init_(module: nn.Module, activation: str | nn.Module | Activation, gamma: float = 0.0) -> nn.Module:
    """Initialise every `nn.Linear` of a perceptron critically, in place: W ~ N(0, C_W/fan_in), b ~ N(0, C_b).

        model = critical_init_(nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 10)), "tanh")

    Scale inputs so that |x|^2/n_0 is about 1; for GELU and SWISH so that C_b + C_W |x|^2/n_0 >= K*, because their fixed
    point attracts from one side only.

    Args:
        module: a perceptron; its `nn.Linear`s are what is initialised.
        activation: the activation between them.
        gamma: strength of its skip connections.

    Returns:
        The module.

    Raises:
        NoCriticalPoint: the activation has none.
        ValueError: no linear layer in the module.
    """
    point = critical_point(activation, gamma)
    layers = linear_layers(module)
    if not layers:
        raise ValueError(f"{type(module).__name__} has no nn.Linear to initialise")
    for layer in layers:
        nn.init.normal_(layer.weight, std=math.sqrt(point.C_W / layer.in_features))
        if layer.bias is not None:
            nn.init.normal_(layer.bias, std=math.sqrt(point.C_b))
    return module


def depth_scaled_rates(point: CriticalPoint, depth: int) -> tuple[Tensor, Tensor]:
    """(lambda_b, lambda_W), each (depth,) float64, at which every layer contributes equally to the NTK (chapter 9).

    With p of the class: lambda_W = L^{p-1} and lambda_b^(l) = l^{-p} L^{p-1}. Scale-invariant: both 1/L; K* = 0:
    1 and 1/l. (The equivalence principle, derived again here; the book's notation differs.)
    """
    check_sizes("depth_scaled_rates", depth=depth)
    layer = torch.arange(1, depth + 1, dtype=torch.float64)
    scale = float(depth) ** (point.p - 1)
    return scale * layer ** (-point.p), torch.full((depth,), scale, dtype=torch.float64)


def parameter_groups(module: nn.Module, activation: str | nn.Module | Activation, lr: float) -> list[dict[str, Any]]:
    """Groups for `torch.optim.SGD` with depth-scaled rates: lr lambda_W / fan_in for weights, lr lambda_b for biases.

        torch.optim.SGD(parameter_groups(model, "tanh", lr=0.5))

    Every parameter is in one group: what belongs to no nn.Linear (norms, embeddings), of which the theory says nothing,
    has `lr` itself, in a last group.

    Args:
        module: a perceptron; its layers are counted in the order of `linear_layers`.
        lr: learning rate, of which each group has its multiple.
    """
    check_numbers("parameter_groups", above=0.0, lr=lr)
    layers = linear_layers(module)
    rates_b, rates_W = depth_scaled_rates(critical_point(activation), len(layers))
    groups: list[dict[str, Any]] = []
    for layer, rate_b, rate_W in zip(layers, rates_b.tolist(), rates_W.tolist(), strict=True):
        groups.append({"params": [layer.weight], "lr": lr * rate_W / layer.in_features})
        if layer.bias is not None:
            groups.append({"params": [layer.bias], "lr": lr * rate_b})
    grouped = {id(p) for group in groups for p in group["params"]}
    others = [p for p in module.parameters() if id(p) not in grouped]
    return [*groups, {"params": others, "lr": lr}] if others else groups


def main() -> None:
    """Critical points of some activations, and thirty layers that train where PyTorch's initialisation does not."""
    for name in ("relu", "tanh", "gelu"):
        point = critical_point(name)
        print(f"{name:5}  C_b {point.C_b:.3f}  C_W {point.C_W:.3f}  {point.universality}")
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    y = (x[:, :1] > 0).float()
    for init in ("PyTorch's", "critical"):
        torch.manual_seed(0)
        layers = [part for width in (8, *[32] * 29) for part in (nn.Linear(width, 32), nn.Tanh())]
        net = nn.Sequential(*layers, nn.Linear(32, 1))
        if init == "critical":
            critical_init_(net, "tanh")
        optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
        for step in range(1, 121):
            loss = (net(x) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 60 == 0:
                print(f"30 layers of tanh, {init} initialisation  step {step:3}  loss {loss:.4f}")

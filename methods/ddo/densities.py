"""Known densities to learn: what a model puts where can be held against the truth, not against a sample of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GaussianMixture:
    """Isotropic Gaussians of one width on the plane.

    Attributes:
        means: (K, 2).
        std: standard deviation of each coordinate within a mode.
        weights: (K,), summing to 1.
    """

    means: Tensor
    std: float
    weights: Tensor

    @classmethod
    def ring(cls, modes: int = 12, std: float = 0.05) -> GaussianMixture:
        """Modes on a circle of radius 0.7, which makes each coordinate's standard deviation about EDM's 0.5.

        Weights are as 1 : 2 : 3 around the circle, so that a model that drops the light modes is found out.
        """
        angle = 2 * math.pi * torch.arange(modes) / modes
        weights = 1.0 + torch.arange(modes) % 3
        return cls(0.7 * torch.stack([angle.cos(), angle.sin()], dim=1), std, weights / weights.sum())

    def joint(self, x: Tensor) -> Tensor:
        """log of weight times density of each mode at x (N, 2): (N, K)."""
        squares = (x.unsqueeze(1) - self.means).square().sum(dim=2)
        return self.weights.log() - squares / (2 * self.std**2) - math.log(2 * math.pi * self.std**2)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density (N,) at x (N, 2), in nats."""
        return self.joint(x).logsumexp(dim=1)

    def sample(self, n: int) -> Tensor:
        """Points (n, 2)."""
        component = torch.multinomial(self.weights, n, replacement=True)
        return self.means[component] + self.std * torch.randn(n, 2)


@dataclass(frozen=True)
class BernoulliMixture:
    """A mixture of K products of D independent bits.

    Attributes:
        weights: (K,), summing to 1.
        probs: (K, D), the probability of a one.
    """

    weights: Tensor
    probs: Tensor

    @classmethod
    def fit(cls, x: Tensor, components: int, iterations: int = 50) -> BernoulliMixture:
        """By expectation maximisation on bits x (N, D). Probabilities stay within [0.01, 0.99]."""
        model = cls(torch.full((components,), 1 / components), x[torch.randperm(len(x))[:components]] * 0.5 + 0.25)
        for _ in range(iterations):
            responsibility = model.joint(x).softmax(dim=1)
            mass = responsibility.sum(dim=0) + 1e-6
            model = cls(mass / mass.sum(), ((responsibility.T @ x) / mass.unsqueeze(1)).clamp(0.01, 0.99))
        return model

    def joint(self, x: Tensor) -> Tensor:
        """log of weight times probability of each component at x (N, D): (N, K)."""
        return self.weights.log() + x @ self.probs.log().T + (1 - x) @ (1 - self.probs).log().T

    def log_prob(self, x: Tensor) -> Tensor:
        """log p (N,) of bits x (N, D), in nats."""
        return self.joint(x).logsumexp(dim=1)

    def sample(self, n: int) -> Tensor:
        """Bits (n, D), 0.0 or 1.0."""
        return torch.bernoulli(self.probs[torch.multinomial(self.weights, n, replacement=True)])


@dataclass(frozen=True)
class TableDensity:
    """Probabilities of the cells of a square grid: table (S, S), summing to 1."""

    table: Tensor

    @classmethod
    def ring(cls, size: int = 32, modes: int = 8) -> TableDensity:
        """A ring of modes of weights 1 : 2 : ... : modes, plus one part in a thousand spread over all cells."""
        centre, angle = (size - 1) / 2, 2 * math.pi * torch.arange(modes) / modes
        means = centre + 0.65 * centre * torch.stack([angle.cos(), angle.sin()], dim=1)
        weights = 1.0 + torch.arange(modes)
        mixture = GaussianMixture(means, size / 32, weights / weights.sum())
        cells = torch.cartesian_prod(torch.arange(size), torch.arange(size)).float()
        table = mixture.log_prob(cells).exp().view(size, size)
        return cls(0.999 * table / table.sum() + 0.001 / size**2)

    def sample(self, n: int) -> Tensor:
        """Cells (n, 2) int64."""
        flat = torch.multinomial(self.table.flatten(), n, replacement=True)
        return torch.stack([flat // len(self.table), flat % len(self.table)], dim=1)

"""How good samples are against a known density."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.ddo.densities import GaussianMixture


@dataclass(frozen=True)
class Region:
    """The smallest region that holds 95 % of a density, and the mass of its cells: (mode, inside or outside).

    Attributes:
        log_density: the least log-density inside.
        masses: (K, 2) of each mode outside and inside the region, summing to 1.
    """

    density: GaussianMixture
    log_density: float
    masses: Tensor

    @classmethod
    def of(cls, density: GaussianMixture, points: int = 200_000) -> Region:
        """Estimated from the density's own draws, with a fixed seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            x = density.sample(points)
        level = float(density.log_prob(x).kthvalue(points // 20).values)
        empty = cls(density, level, torch.zeros(0))
        return cls(density, level, empty.frequencies(x))

    def frequencies(self, x: Tensor) -> Tensor:
        """(K, 2) shares of points x (N, 2) by nearest mode, outside and inside the region; NaN if a point is."""
        if not bool(x.isfinite().all()):
            return torch.full((len(self.density.means), 2), torch.nan)
        joint = self.density.joint(x)
        inside = joint.logsumexp(dim=1) >= self.log_density
        cell = 2 * torch.cdist(x, self.density.means).argmin(dim=1) + inside
        return torch.bincount(cell, minlength=2 * len(self.density.means)).view(-1, 2) / len(x)

    def share_inside(self, x: Tensor) -> float:
        """Share of points inside; 0.95 for the density itself."""
        return float(self.frequencies(x)[:, 1].sum())

    def cell_tv(self, x: Tensor) -> float:
        """Total variation between the masses of the cells: it punishes strays and missing modes alike."""
        return float((self.frequencies(x) - self.masses).abs().sum() / 2)

    def mode_tv(self, x: Tensor) -> float:
        """Total variation between the masses of the modes."""
        return float((self.frequencies(x) - self.masses).sum(dim=1).abs().sum() / 2)


def sliced_w2(x: Tensor, y: Tensor, directions: int = 64) -> float:
    """Sliced 2-Wasserstein distance of equally many points x, y (N, 2), over evenly spaced directions."""
    angle = torch.pi * torch.arange(directions) / directions
    axes = torch.stack([angle.cos(), angle.sin()])
    gaps = (x @ axes).sort(dim=0).values - (y @ axes).sort(dim=0).values
    return float(gaps.square().mean().sqrt())

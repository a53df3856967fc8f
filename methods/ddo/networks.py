"""A perceptron of points that EDM's preconditioning wraps, and the classifier of images whose features are compared."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from methods.shared.unet import noise_features


class PointMLP(nn.Module):
    """Points (N, 2) and c_noise (N,) to (N, out): three hidden layers of one width, SiLU."""

    def __init__(self, width: int, out: int = 2) -> None:
        super().__init__()
        self.width = width
        widths = [2 + 8, width, width, width]
        hidden = [nn.Sequential(nn.Linear(a, b), nn.SiLU()) for a, b in pairwise(widths)]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, out))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        return self.layers(torch.cat([x, noise_features(c_noise)], dim=1))


class Classifier(nn.Module):
    """Images (N, 1, H, W) to logits (N, classes); `features` are the 32 entries before the last layer."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 32),
            nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

"""Small image networks that methods are applied to: a perceptron for 8 x 8 digits, LeNet, ResNet18 with batch norm."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10


def mlp() -> nn.Sequential:
    """(B, 1, 8, 8) -> (B, 10), hidden layers of 128."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, CLASSES)
    )


def lenet() -> nn.Sequential:
    """(B, 1, 28, 28) -> (B, 10); as the official code, convolutions without padding."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, CLASSES),
    )  # fmt: skip


class _Block(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


def resnet18(width: int = 64) -> nn.Sequential:
    """(B, 1, H, W) -> (B, 10): the form for small images, a 3 x 3 convolution first and no pooling after it."""
    stages, channels = [], width
    for stage in range(4):
        for block in range(2):
            stages.append(_Block(channels, width * 2**stage, stride=2 if stage and not block else 1))
            channels = width * 2**stage
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), *stages,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES),
    )  # fmt: skip


HOSTS = {"mlp": mlp, "lenet": lenet, "resnet18": resnet18}

"""The network of DCDM: a residual, as an image, in; an approximate solution, up to its scale, out.

Fully convolutional, so the weights for one grid fit every other. With C = 3-wide convolution and ReLU:

    x = linear conv(r);  a = C(x);  b = C(a);  `fine` times { a = C(b) + a;  b = C(a) }
    p = average of 2^d cells of b;  `coarse` times { p = C(C(p)) + p }
    u = nearest(p) + b;  `up` times { u = C(C(u)) + u };  out = linear map of channels to 1

The first layer and the output have no ReLU, and no layer normalises anything. Biases make f other than linear in r.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.shared.checks import check_option, check_sizes

# The paper's two models: pairs of convolutions at the fine level, the coarse level, and after up-sampling.
LAYOUTS = {64: dict(fine=1, coarse=3, up=2), 128: dict(fine=2, coarse=5, up=3)}


class DirectionNet(nn.Module):
    """The model that the paper trains at N = 64 or 128.

    Args:
        dim: 2 or 3, dimensions of the grid. layout: 64 or 128, which of the two models. channels: 16 in the paper.

    Shape: (batch, *grid) -> (batch, *grid), every side of the grid even. 97,457 and 152,881 parameters at dim 3 and 16
    channels.
    """

    def __init__(self, dim: int = 3, layout: int = 64, channels: int = 16) -> None:
        super().__init__()
        check_option("DirectionNet", "dim", dim, (2, 3))
        check_option("DirectionNet", "layout", layout, LAYOUTS)
        check_sizes("DirectionNet", channels=channels)
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[dim]
        pairs = LAYOUTS[layout]

        def layers(count: int) -> nn.ModuleList:
            return nn.ModuleList(conv(channels, channels, 3, padding=1) for _ in range(count))

        self.dim = dim
        self.first = conv(1, channels, 3, padding=1)
        self.fine = layers(2 + 2 * pairs["fine"])
        self.coarse = layers(2 * pairs["coarse"])
        self.up = layers(2 * pairs["up"])
        self.last = conv(channels, 1, 1)
        for layer in self.modules():
            if isinstance(layer, conv):
                # Keras' default, which the official code trains from; from torch's smaller one some seeds never start
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        # oneDNN's kernels for this layout take a half to two thirds of the time of a training step on a CPU
        self.to(memory_format=self._layout)

    @property
    def _layout(self) -> torch.memory_format:
        return torch.channels_last if self.dim == 2 else torch.channels_last_3d

    def forward(self, r: Tensor) -> Tensor:
        if r.dim() != self.dim + 1 or r.dtype != self.first.weight.dtype:
            raise ValueError(f"the network takes {self.first.weight.dtype} of {self.dim} dimensions and the batch; got "
                             f"{r.dtype} of shape {tuple(r.shape)}")  # fmt: skip
        if any(side % 2 or not side for side in r.shape[1:]):
            raise ValueError(f"the network halves the grid: sides have to be even, got {tuple(r.shape[1:])}")
        x = self.first(r.unsqueeze(1).to(memory_format=self._layout))
        a = F.relu(self.fine[0](x))
        b = F.relu(self.fine[1](a))
        for one, two in _pairs(self.fine[2:]):
            a = F.relu(one(b)) + a
            b = F.relu(two(a))
        p = F.avg_pool2d(b, 2) if self.dim == 2 else F.avg_pool3d(b, 2)
        for one, two in _pairs(self.coarse):
            p = F.relu(two(F.relu(one(p)))) + p
        u = F.interpolate(p, scale_factor=2, mode="nearest") + b
        for one, two in _pairs(self.up):
            u = F.relu(two(F.relu(one(u)))) + u
        return self.last(u).squeeze(1)


def _pairs(layers: nn.ModuleList) -> list[tuple[nn.Module, nn.Module]]:
    return list(zip(layers[::2], layers[1::2], strict=True))

"""A small U-Net of images under noise, and the features of a noise level that it shares with other networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def noise_features(c_noise: Tensor) -> Tensor:
    """sin and cos of c_noise (N,) at frequencies 1, 2, 4, 8: (N, 8)."""
    angle = c_noise.unsqueeze(1) * torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=c_noise.dtype, device=c_noise.device)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class ResBlock(nn.Module):
    """Two 3 x 3 convolutions with a skip; between them the noise embedding scales and shifts the channels."""

    def __init__(self, channels_in: int, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm_in, self.conv_in = nn.GroupNorm(4, channels_in), nn.Conv2d(channels_in, channels, 3, padding=1)
        self.norm_out, self.conv_out = nn.GroupNorm(4, channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * channels)
        self.skip = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()
        nn.init.zeros_(self.conv_out.weight)  # a block starts as its skip

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulate(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.norm_out(self.conv_in(F.silu(self.norm_in(x)))) * (1 + scale) + shift
        return self.skip(x) + self.conv_out(F.silu(h))


class UNet(nn.Module):
    """Images (N, 1, H, W) and c_noise (N,) to (N, 1, H, W). No dropout: it would not cancel in a log-ratio.

    Args:
        channels: of the first level, a multiple of 4; each level below halves the image and has twice as many.
        levels: at least 1; H and W divide by 2^(levels - 1).
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        embedding, widths = 4 * channels, [channels * 2**i for i in range(levels)]
        self.embed = nn.Sequential(nn.Linear(8, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.down = nn.ModuleList(
            ResBlock(a, b, embedding) for a, b in zip([channels, *widths[:-1]], widths, strict=True)
        )
        self.middle = ResBlock(widths[-1], widths[-1], embedding)
        self.up = nn.ModuleList(
            ResBlock(a + b, b, embedding) for a, b in zip([widths[-1], *widths[:0:-1]], widths[::-1], strict=True)
        )
        self.last = nn.Sequential(nn.GroupNorm(4, channels), nn.SiLU(), nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        embedding = self.embed(noise_features(c_noise))
        h, skips = self.first(x), []
        for level, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2) if level else h, embedding)
            skips.append(h)
        h = self.middle(h, embedding)
        for level, block in enumerate(self.up):
            h = F.interpolate(h, scale_factor=2.0) if level else h
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
        return self.last(h)

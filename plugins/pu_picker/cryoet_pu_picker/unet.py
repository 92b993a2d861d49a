"""A 2-D U-Net that ends at half the resolution of its input."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UNetSlices(nn.Module):
    """Slices (n, channels_in, h, w) -> (n, features, ceil(h / 2), ceil(w / 2)).

    A stem of stride 2, ``levels`` levels of two convolutions each, of width, 2 width, ... channels,
    and back.
    """

    def __init__(self, channels_in: int, width: int, levels: int, features: int) -> None:
        super().__init__()
        channels = [width << level for level in range(levels)]
        self.stride = 2 << (levels - 1)
        self.reach = _reach(levels)
        self.stem = nn.Sequential(
            nn.Conv2d(channels_in, max(width // 2, 1), 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(max(width // 2, 1)),
            nn.ReLU(inplace=True),
        )
        before = [max(width // 2, 1), *channels[:-1]]
        self.down = nn.ModuleList(double(a, b) for a, b in zip(before, channels, strict=True))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.up = nn.ModuleList(_raised(2 * c, c) for c in channels[-2::-1])
        self.merge = nn.ModuleList(double(2 * c, c) for c in channels[-2::-1])
        self.out = nn.Conv2d(width, features, 1)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.xavier_normal_(module.weight)

    def forward(self, slices: Tensor) -> Tensor:
        x = self.stem(slices)
        skips = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            raised = up(x)[..., : skip.shape[-2], : skip.shape[-1]]
            x = merge(torch.cat((skip, raised), 1))
        maps: Tensor = self.out(x)
        return maps


def double(before: int, after: int) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU, twice."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [
            nn.Conv2d(channels, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _raised(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(before, after, 2, stride=2), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


def _reach(levels: int) -> int:
    """Voxels of the input on either side that one of the output depends on, at most."""
    there = sum(2 * (2 << level) for level in range(levels))
    back = sum(2 * (2 << level) for level in range(levels - 1))
    pools = sum(2 << level for level in range(levels - 1))
    return 3 + there + back + 2 * pools

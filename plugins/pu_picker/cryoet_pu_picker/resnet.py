"""The first half of a ResNet-18 and two steps up again, ending at half the resolution of the
input.
"""

from __future__ import annotations

from torch import Tensor, nn


class ResNetSlices(nn.Module):
    """Slices (n, channels_in, h, w) -> (n, features, ceil(h / 2), ceil(w / 2)); the paper's width
    is 64.

    Weights start random.
    """

    stride, reach = 8, 72

    def __init__(self, channels_in: int, width: int, features: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels_in, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        twice = 2 * width
        self.blocks = nn.Sequential(
            Residual(width, width),
            Residual(width, width),
            Residual(width, twice, stride=2),
            Residual(twice, twice),
        )
        self.up = nn.ModuleList((_raised(twice, width), _raised(width, features)))

    def forward(self, slices: Tensor) -> Tensor:
        half = self.stem(slices)
        quarter = self.pool(half)
        x: Tensor = self.blocks(quarter)
        for up, like in zip(self.up, (quarter, half), strict=True):
            x = up(x)[..., : like.shape[-2], : like.shape[-1]]
        return x


class Residual(nn.Module):
    """A basic residual block."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.short: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.short = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.body(x) + self.short(x))
        return y


def _raised(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(after, after, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )

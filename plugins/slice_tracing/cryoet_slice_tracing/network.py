"""The detector: a small 2-D U-Net that says for each place of a slice whether a particle's section
is centred there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

STRIDE = 2
"""Voxels of the slice per value of the heat map, in y and x."""
OFFSET = (STRIDE - 1) / 2
"""Voxel that value 0 stands for: the middle of its two, so that a slice turned over gives the heat
map turned over.
"""
LEVELS = 3
REACH = 56
"""Voxels around a value that it depends on, to each side: four convolutions per level and the stem.
"""


class Detector(nn.Module):
    """Slices (n, 1, h, w), h and w multiples of 8, to logits (n, 1, h / 2, w / 2)."""

    def __init__(self, width: int, prior: float = 0.01) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        self.stem = nn.Sequential(nn.Conv2d(1, width, 6, STRIDE, 2, bias=False), *_after(width))
        self.down = nn.ModuleList(_block(widths[max(i - 1, 0)], widths[i]) for i in range(LEVELS))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(widths[i + 1], widths[i], 2, 2) for i in range(LEVELS - 1)
        )
        self.merge = nn.ModuleList(_block(2 * widths[i], widths[i]) for i in range(LEVELS - 1))
        self.head = nn.Conv2d(width, 1, 1)
        # starts from "hardly anything is a particle", as most of a slice is not
        nn.init.constant_(self.head.bias, math.log(prior / (1 - prior)))  # type: ignore[arg-type]

    def forward(self, slices: Tensor) -> Tensor:
        x, skips = self.stem(slices), []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        for level in reversed(range(LEVELS - 1)):
            x = self.merge[level](torch.cat([skips[level], self.up[level](x)], 1))
        heat: Tensor = self.head(x)
        return heat


def _block(inner: int, outer: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for channels in (inner, outer):
        parts += [nn.Conv2d(channels, outer, 3, padding=1, bias=False), *_after(outer)]
    return nn.Sequential(*parts)


def _after(width: int) -> list[nn.Module]:
    # batch statistics in training, fixed ones in use, so that a tile gives what the whole slice
    # does
    return [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]

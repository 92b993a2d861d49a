"""YOPO, "you only pool once": every block's output is pooled to one number per channel, at its own
scale.

Zeng et al., "High-throughput cryo-ET structural pattern mining by unsupervised deep iterative
subtomogram clustering" (DISCA); layer table in the project's paper 002 and its reference
implementation's published description.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryoet_core.support.errors import UserError


class GaussianDropout(nn.Module):
    """Multiply by N(1, rate / (1 - rate)) while training."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.deviation = (rate / (1 - rate)) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.deviation * torch.randn_like(x)) if self.training else x


class Yopo(nn.Module):
    """Volumes (n, 1, d, h, w) -> features (n, dim).

    Blocks of valid 3x3x3 convolution, ELU, batch normalisation; global maxima of every block's
    output, side by side, normalised, give the features by one linear layer. Because convolutions
    are valid and maxima are global, moving a particle within an empty box changes nothing. Input
    noise: GaussianDropout(0.5).
    """

    def __init__(self, width: int = 64, blocks: int = 10, dim: int = 1024, bin: int = 1) -> None:
        super().__init__()
        self.dim, self.bin = dim, bin
        channels = [width + i * (width // 4) for i in range(blocks)]
        self.noise = GaussianDropout(0.5)
        self.convolutions = nn.ModuleList(
            nn.Conv3d(before, after, 3)
            for before, after in zip([1, *channels], channels, strict=False)
        )
        # Keras' momentum 0.99 is torch's 0.01
        self.norms = nn.ModuleList(nn.BatchNorm3d(c, eps=1e-3, momentum=0.01) for c in channels)
        self.merged = nn.BatchNorm1d(sum(channels), eps=1e-3, momentum=0.01)
        self.feature = nn.Linear(sum(channels), dim)
        for layer in (*self.convolutions, self.feature):
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, volumes: Tensor) -> Tensor:
        x = nn.functional.avg_pool3d(volumes, self.bin) * self.bin if self.bin > 1 else volumes
        x = self.noise(x)
        pooled = []
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(nn.functional.elu(convolution(x)))
            pooled.append(x.amax(dim=(2, 3, 4)))
        features: Tensor = self.feature(self.merged(torch.cat(pooled, 1)))
        return features


def yopo(box: int, *, blocks: int = 10, bin: int = 1, **options: int) -> Yopo:
    """The encoder ``disca.yopo``; its weights fit every box that is large enough."""
    check_box(box, blocks, bin)
    return Yopo(blocks=blocks, bin=bin, **options)


def check_box(box: int, blocks: int, bin: int) -> None:
    """UserError where the cubes are too small for the network."""
    need = (2 * blocks + 1) * bin
    if box < need:
        raise UserError(
            f"`blocks` {blocks} with `bin` {bin} needs cubes of at least {need} voxels, the data "
            f"set has {box}; "
            "lower `blocks` or `bin`, or cut larger cubes"
        )


def forward_flops(width: int, blocks: int, dim: int, bin: int, box: int) -> int:
    """Floating-point operations of one volume's forward pass, two per multiply-add, "valid" output
    sizes counted.
    """
    size, before, total = box // bin, 1, 0
    for i in range(blocks):
        after, size = width + i * (width // 4), size - 2
        total += 2 * 27 * before * after * size**3
        before = after
    merged = sum(width + i * (width // 4) for i in range(blocks))
    return total + 2 * merged * dim

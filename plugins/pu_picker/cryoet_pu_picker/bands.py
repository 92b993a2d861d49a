"""Beside the voxels themselves the network is shown them smoothed in 3-D.

At these noise levels a slice alone shows little. The paper's network looks at single slices and joins them at the end;
its reference code smooths before. Here the voxels and Gaussians of them, at widths between a particle's detail and the
particle itself, are the channels of the input, so few labels suffice to find what is large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, pad

SHARES = (0.1, 0.2, 0.4)
"""Standard deviations in diameters: a tenth of the smallest species to what fits the largest as a whole."""
REACH = 3.0
"""Standard deviations at which the Gaussians end."""


def widths_of(diameters: Sequence[float], voxel_size: float) -> list[float]:
    """Standard deviations of the Gaussians in voxels, for species of these diameters in Å."""
    low, high = min(diameters), max(diameters)
    return [share * each / voxel_size for share, each in zip(SHARES, (low, math.sqrt(low * high), high), strict=True)]


class Bands(nn.Module):
    """Voxels (b, 1, d, h, w), clipped to [-clip, clip], and Gaussians of them, each of deviation 1: (b, k, d, h, w).

    widths: standard deviations of the Gaussians in voxels. Beyond its ends a volume is reflected; ``reach`` voxels from
    there nothing of that is seen.
    """

    scales: Tensor

    def __init__(self, widths: Sequence[float], clip: float) -> None:
        super().__init__()
        self.widths, self.clip = tuple(widths), clip
        self.channels = 1 + len(self.widths)
        self.reach = max((len(_kernel(width)) // 2 for width in self.widths), default=0)
        self.register_buffer("scales", torch.ones(self.channels))

    def measure(self, volumes: Tensor) -> None:
        """Take the deviations of these volumes (b, 1, d, h, w) as those of all."""
        self.scales.fill_(1)
        self.scales.copy_(1 / self(volumes).std((0, 2, 3, 4)).clamp(min=1e-6))

    def forward(self, volumes: Tensor) -> Tensor:
        volumes = volumes.clamp(-self.clip, self.clip)
        bands = torch.cat([volumes, *(_smoothed(volumes, width) for width in self.widths)], 1)
        return bands * self.scales[:, None, None, None]


def _kernel(width: float) -> Tensor:
    """A Gaussian that sums to 1."""
    half = max(1, math.ceil(REACH * width))
    kernel = torch.exp(-((torch.arange(-half, half + 1) / width) ** 2) / 2)
    return kernel / kernel.sum()


def _smoothed(volumes: Tensor, width: float) -> Tensor:
    """One axis after the other."""
    kernel = _kernel(width).to(volumes)
    for axis in (2, 3, 4):
        shape = [1] * 5
        shape[axis] = len(kernel)
        volumes = conv3d(_longer(volumes, axis, len(kernel) // 2), kernel.reshape(shape))
    return volumes


def _longer(volumes: Tensor, axis: int, by: int) -> Tensor:
    """Reflected at both ends of an axis, as often as it takes."""
    if volumes.shape[axis] == 1:
        return volumes.repeat_interleave(1 + 2 * by, axis)
    while by:
        step = min(by, volumes.shape[axis] - 1)
        ends = [0] * 6  # from the last axis on
        ends[2 * (4 - axis)] = ends[2 * (4 - axis) + 1] = step
        volumes, by = pad(volumes, ends, mode="reflect"), by - step
    return volumes

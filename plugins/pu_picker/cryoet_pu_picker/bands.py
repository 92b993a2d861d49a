"""Beside the voxels themselves the network is shown them smoothed in 3-D.

At these noise levels a slice alone shows little. The paper's network looks at single slices and joins them at the end;
its reference code smooths before. Here the voxels, Gaussians of them at widths between a particle's detail and the
particle itself, and the difference of Gaussians that answers most to a ball of each species' diameter, are the channels
of the input, so few labels suffice to find what is large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

SHARES = (0.1, 0.2, 0.4)
"""Standard deviations in diameters: a tenth of the smallest species to what fits the largest as a whole."""
BALL = 0.275
"""Standard deviation in diameters of the narrower Gaussian whose difference to one ``RATIO`` as wide answers most to
the centre of a solid ball."""
RATIO = 1.1
REACH = 3.0
"""Standard deviations at which the Gaussians end."""


def widths_of(diameters: Sequence[float], voxel_size: float) -> list[float]:
    """Standard deviations of the Gaussians in voxels, for species of these diameters in Å."""
    low, high = min(diameters), max(diameters)
    return [share * each / voxel_size for share, each in zip(SHARES, (low, math.sqrt(low * high), high), strict=True)]


class Bands(nn.Module):
    """Voxels (b, 1, d, h, w), clipped to [-clip, clip], Gaussians and blobs of them, of deviation 1: (b, k, d, h, w).

    widths: standard deviations of the Gaussians in voxels. balls: diameters in voxels; for each the last channels hold
    how much a place is like the centre of a ball of that size. Beyond its ends a volume is reflected; ``reach`` voxels
    from there nothing of that is seen.
    """

    scales: Tensor

    def __init__(self, widths: Sequence[float], clip: float, balls: Sequence[float] = ()) -> None:
        super().__init__()
        self.widths, self.clip, self.balls = tuple(widths), clip, tuple(balls)
        self.channels = 1 + len(self.widths) + len(self.balls)
        widest = [*self.widths, *(RATIO * BALL * ball for ball in self.balls)]
        self.reach = max((_half(width) for width in widest), default=0)
        self.register_buffer("scales", torch.ones(self.channels))

    def measure(self, volumes: Tensor) -> None:
        """Take the deviations of these volumes (b, 1, d, h, w) as those of all."""
        self.scales.fill_(1)
        self.scales.copy_(1 / self(volumes).std((0, 2, 3, 4)).clamp(min=1e-6))

    def forward(self, volumes: Tensor, inside: tuple[slice, slice, slice] | None = None) -> Tensor:
        """``inside``: the part (z, y, x) whose bands are wanted; the rest of the volume is only what they look at."""
        inside = inside or (slice(None), slice(None), slice(None))
        volumes = volumes.clamp(-self.clip, self.clip)
        bands = [volumes[(..., *inside)], *(_smoothed(volumes, width, inside) for width in self.widths)]
        for ball in self.balls:
            narrow = _smoothed(volumes, BALL * ball, inside)
            bands.append(narrow - _smoothed(volumes, RATIO * BALL * ball, inside))
        return torch.cat(bands, 1) * self.scales[:, None, None, None]


def _half(width: float) -> int:
    """How far a Gaussian goes, in voxels."""
    return max(1, math.ceil(REACH * width))


def _smoothed(volumes: Tensor, width: float, inside: tuple[slice, slice, slice]) -> Tensor:
    """One axis after the other, as products with banded matrices: faster than convolutions of one channel."""
    z, y, x = (
        _matrix(size, width, volumes.dtype, volumes.device)[part]
        for size, part in zip(volumes.shape[2:], inside, strict=True)
    )
    volumes = (z @ volumes.flatten(3)).unflatten(3, volumes.shape[3:])
    return (y @ volumes) @ x.T


@lru_cache(maxsize=64)
def _matrix(size: int, width: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size, size): row i is the Gaussian about voxel i, summing to 1, reflected at both ends as often as it takes."""
    half = _half(width)
    steps = torch.arange(-half, half + 1)
    kernel = torch.exp(-((steps / width) ** 2) / 2)
    places = torch.arange(size)[:, None] + steps
    period = max(2 * (size - 1), 1)
    folded = torch.minimum(places % period, -places % period).clamp(max=size - 1)
    matrix = torch.zeros(size, size).scatter_add_(1, folded, (kernel / kernel.sum()).expand(size, -1))
    return matrix.to(device, dtype)

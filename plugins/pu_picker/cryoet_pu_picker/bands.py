"""Beside the voxels themselves the network is shown them smoothed in 3-D.

At these noise levels a slice alone shows little. The paper's network looks at single slices and
joins them at the end; its reference code smooths before. Here the voxels, Gaussians of them at
widths between a particle's detail and the particle itself, the power of its detail (texture), and
the difference of Gaussians that answers most to a ball of each species' diameter, are the channels
of the input, so few labels suffice to find what is large, and to tell a ribosome from a hollow
particle of its size. Power is the same in any orientation, which a slice is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

SHARES = (0.1, 0.2, 0.4)
"""Standard deviations in diameters: a tenth of the smallest species to what fits the largest as a
whole.
"""
BALL = 0.275
"""Standard deviation in diameters of the narrower Gaussian whose difference to one ``RATIO`` as
wide answers most to the centre of a solid ball."""
RATIO = 1.1
DETAILS = 2
"""Octaves whose power is a channel: from the voxels to the first Gaussian, and from that to the
second.
"""
FAINTEST = 1e-6
"""Power of detail, at least: voxels that are all alike have none."""
REACH = 3.0
"""Standard deviations at which the Gaussians end."""


def widths_of(diameters: Sequence[float], voxel_size: float) -> list[float]:
    """Standard deviations of the Gaussians in voxels, for species of these diameters in Å."""
    low, high = min(diameters), max(diameters)
    return [
        share * each / voxel_size
        for share, each in zip(SHARES, (low, math.sqrt(low * high), high), strict=True)
    ]


class Bands(nn.Module):
    """Voxels (b, 1, d, h, w), clipped to [-clip, clip], Gaussians, textures and blobs, of deviation
    1: (b, k, d, h, w).

    widths: standard deviations of the Gaussians in voxels. texture: standard deviation in voxels of
    the Gaussian over which the power of detail is averaged, for ``DETAILS`` more channels; 0: none.
    balls: diameters in voxels; for each the last channels hold how much a place is like the centre
    of a ball of that size. Beyond its ends a volume is reflected; ``reach`` voxels from there
    nothing of that is seen.
    """

    scales: Tensor
    offsets: Tensor

    def __init__(
        self,
        widths: Sequence[float],
        clip: float,
        balls: Sequence[float] = (),
        texture: float = 0.0,
    ) -> None:
        super().__init__()
        self.widths, self.clip, self.balls, self.texture = (
            tuple(widths),
            clip,
            tuple(balls),
            texture,
        )
        details = DETAILS if texture else 0
        assert len(self.widths) >= details, "texture is of what is between Gaussians"
        self.channels = 1 + len(self.widths) + details + len(self.balls)
        reaches = [
            _half(width) for width in (*self.widths, *(RATIO * BALL * ball for ball in self.balls))
        ]
        reaches += [_half(width) + _half(texture) for width in self.widths[:details]]
        self.reach = max(reaches, default=0)
        self.register_buffer("scales", torch.ones(self.channels))
        if texture:
            self.register_buffer("offsets", torch.zeros(details))

    def measure(self, volumes: Tensor) -> None:
        """Take the deviations of these volumes (b, 1, d, h, w) as those of all, and their mean
        texture as usual.
        """
        self.scales.fill_(1)
        if self.texture:
            first = 1 + len(self.widths)
            self.offsets.fill_(0)
            self.offsets.copy_(self(volumes)[:, first : first + DETAILS].mean((0, 2, 3, 4)))
        self.scales.copy_(1 / self(volumes).std((0, 2, 3, 4)).clamp(min=1e-6))

    def forward(
        self,
        volumes: Tensor,
        inside: tuple[slice, slice, slice] | None = None,
        clean: Tensor | None = None,
    ) -> Tensor:
        """``inside``: the part (z, y, x) whose bands are wanted; the rest of the volume is only
        what they look at.

        clean: the same volumes before noise was added, whose texture is taken: power that noise
        adds is no detail.
        """
        inside = inside or (slice(None), slice(None), slice(None))
        clean = (volumes if clean is None else clean).clamp(-self.clip, self.clip)
        volumes = volumes.clamp(-self.clip, self.clip)
        key = (..., *inside)
        bands = [
            volumes[key],
            *(_smoothed(volumes, width, inside) for width in self.widths),
        ]
        bands += self._textures(clean, inside) if self.texture else []
        for ball in self.balls:
            narrow = _smoothed(volumes, BALL * ball, inside)
            bands.append(narrow - _smoothed(volumes, RATIO * BALL * ball, inside))
        return torch.cat(bands, 1) * self.scales[:, None, None, None]

    def _textures(self, volumes: Tensor, inside: tuple[slice, slice, slice]) -> list[Tensor]:
        everywhere = (slice(None), slice(None), slice(None))
        levels = [
            volumes,
            *(_smoothed(volumes, width, everywhere) for width in self.widths[:DETAILS]),
        ]
        octaves = zip(levels[:-1], levels[1:], self.offsets, strict=True)
        powers = (
            (_smoothed((fine - coarse) ** 2, self.texture, inside), usual)
            for fine, coarse, usual in octaves
        )
        return [power.clamp(min=FAINTEST).log() - usual for power, usual in powers]


def _half(width: float) -> int:
    """How far a Gaussian goes, in voxels."""
    return max(1, math.ceil(REACH * width))


def _smoothed(volumes: Tensor, width: float, inside: tuple[slice, slice, slice]) -> Tensor:
    """One axis after the other, as products with banded matrices: faster than convolutions of one
    channel.
    """
    z, y, x = (
        _matrix(size, width, volumes.dtype, volumes.device)[part]
        for size, part in zip(volumes.shape[2:], inside, strict=True)
    )
    volumes = (z @ volumes.flatten(3)).unflatten(3, volumes.shape[3:])
    return (y @ volumes) @ x.T


@lru_cache(maxsize=64)
def _matrix(size: int, width: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size, size): row i is the Gaussian about voxel i, summing to 1, reflected at both ends as
    often as it takes.
    """
    half = _half(width)
    steps = torch.arange(-half, half + 1)
    kernel = torch.exp(-((steps / width) ** 2) / 2)
    places = torch.arange(size)[:, None] + steps
    period = max(2 * (size - 1), 1)
    folded = torch.minimum(places % period, -places % period).clamp(max=size - 1)
    matrix = torch.zeros(size, size).scatter_add_(
        1, folded, (kernel / kernel.sum()).expand(size, -1)
    )
    return matrix.to(device, dtype)

"""The hybrid network: every slice alone through a 2-D encoder and decoder, slices joined by a few
3-D layers.

Paper 004, section 3.3 and figure 2; layer by layer after its reference code (nextpyp/cet_pick,
BSD).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, normalize, pad

from cryoet_pu_picker.bands import Bands
from cryoet_pu_picker.resnet import ResNetSlices
from cryoet_pu_picker.unet import UNetSlices

STRIDE = (1, 2, 2)
"""Voxels (z, y, x) of the input for one of the heat map."""
LOWEST_START = 0.05
"""Where the heat map starts at least: from a prior of 1e-3 it would need hundreds of steps to rise.
"""
LARGEST_GAIN = 1.0
"""Of the filters at the start, whose deviation in a tomogram is 1."""


class Filter(NamedTuple):
    """A linear filter of the bands: ``weights`` (k,), with answers of deviation 1; ``level``: what
    a typical label has.

    The level is the mean over labels, each answered by a filter that has not seen it.
    """

    weights: Tensor
    level: float


class HybridNetwork(nn.Module):
    """Bands of volumes (b, k, d, h, w) to a heat map (b, c, d, ceil(h / 2), ceil(w / 2)); ``bands``
    makes the k of one.

    priors: of each of the c species; the heat map starts there. features: channels of what the
    heads look at, and of the projection for the contrast. Where the bands hold a blob for each
    species, a linear filter of the bands times a ``gain`` is part of the logit: an untrained
    network finds what the filter finds, and a trained one has learnt what else there is to see.
    With the temperature of the contrast, the likeness of the features to those of the labels is
    part of the picks' scores.
    """

    filters: Tensor

    def __init__(
        self,
        backbone: str,
        width: int,
        levels: int,
        features: int,
        priors: Sequence[float],
        bands: Bands,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        self.bands = bands
        self.gain = nn.Parameter(torch.zeros(len(bands.balls))) if bands.balls else None
        if bands.balls:
            self.register_buffer("filters", torch.zeros(len(bands.balls), bands.channels))
        self.likeness = Likeness(len(priors), features, temperature) if temperature else None
        self.unet = backbone == "unet"
        self.slices = (
            UNetSlices(bands.channels, width, levels, features)
            if self.unet
            else ResNetSlices(bands.channels, width, features)
        )
        dilations = (4, 4) if self.unet else (1,)
        self.fusion = nn.Sequential(
            *(layer for step in dilations for layer in _joined(features, step))
        )
        self.deep = 1 if self.unet else 0
        self.heat = Columns(features, len(priors), 2 * self.deep + 1)
        self.projection = Columns(features, features, 2 * self.deep + 1, bias=False)
        nn.init.normal_(self.heat.weight, std=1e-3)
        start = torch.tensor([min(max(prior, LOWEST_START), 0.5) for prior in priors])
        with torch.no_grad():
            self.heat.bias.copy_(start.logit())  # type: ignore[union-attr]

    @torch.no_grad()
    def trust(self, filters: Sequence[Filter]) -> None:
        """Start from these filters of the species: what answers like their typical label is a
        particle by even odds.

        A filter to which the typical label is no more than what is around gets the gain 0.
        """
        assert self.gain is not None, "no blobs among the bands"
        for c, (weights, level) in enumerate(filters):
            self.filters[c] = weights
            odds = -float(self.heat.bias[c])  # type: ignore[index]
            self.gain[c] = min(odds / level, LARGEST_GAIN) if level > 0 else 0.0

    @property
    def alignment(self) -> int:
        """Moving the input by this many voxels in y or x moves the heat map alike."""
        return self.slices.stride

    @property
    def fused(self) -> int:
        """How many slices to either side are joined with each."""
        return sum(isinstance(layer, nn.Conv3d) for layer in self.fusion) + self.deep

    @property
    def margin(self) -> tuple[int, int, int]:
        """How far (z, y, x) the heat map looks, in voxels of the tomogram, at most."""
        # turned over, a cell of the heat map is seen from its other voxel
        planes = 1 + self.slices.reach
        planes += 2 * sum(
            layer.dilation[1] for layer in self.fusion if isinstance(layer, nn.Conv3d)
        )
        return self.fused + self.bands.reach, planes + self.bands.reach, planes + self.bands.reach

    def joined(self, bands: Tensor) -> Tensor:
        """(b, features, d, ceil(h / 2), ceil(w / 2))."""
        b, _, d, h, w = bands.shape
        flat = bands.transpose(1, 2).reshape(b * d, -1, h, w)
        maps = self.slices(flat.contiguous(memory_format=torch.channels_last))
        stacked = maps.unflatten(0, (b, d)).transpose(1, 2)
        joined: Tensor = self.fusion(stacked)
        return joined

    def forward(self, bands: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the heat map, and features of unit length over channels (b, features, ...),
        both float32.
        """
        joined = self.joined(bands)
        return self._heat(joined, bands), normalize(self.projection(joined).float(), dim=1)

    def logits(self, volumes: Tensor, turns: bool = False) -> Tensor:
        """The logits of the heat map of volumes (b, 1, d, h, w), mean 0 and deviation 1.

        turns: the mean of those of the volumes as they are and turned by 180 degrees about each
        axis.
        """
        h, w = volumes.shape[3:]
        bands = self.bands(volumes)
        if not turns:
            return self._evidence(bands)
        # cells turned over are cells only where the edges are whole cells, of every resolution
        bands = pad(bands, (0, -w % self.alignment, 0, -h % self.alignment, 0, 0), mode="replicate")
        total = torch.zeros(())
        for axes in ((), (2, 3), (2, 4), (3, 4)):
            seen = bands.flip(axes)
            total = total.to(bands.device) + self._evidence(seen).flip(axes)
        return total[..., : -(-h // STRIDE[1]), : -(-w // STRIDE[2])] / 4

    def _evidence(self, bands: Tensor) -> Tensor:
        if self.likeness is None or not self.likeness.known:
            return self._heat(self.joined(bands), bands)
        logits, features = self(bands)
        total: Tensor = logits + self.likeness(features)
        return total

    def _heat(self, joined: Tensor, bands: Tensor) -> Tensor:
        heat: Tensor = self.heat(joined).float()
        if self.gain is None:
            return heat
        cells = avg_pool3d(bands.float(), STRIDE, ceil_mode=True, count_include_pad=False)
        return heat + torch.einsum("c,ck,bkdhw->bcdhw", self.gain, self.filters, cells)


class Likeness(nn.Module):
    """What the features of a voxel say for each species, as a logit: their similarity to the
    labels' over temperature.

    That is how the supervised contrast weighs features. It is even odds half-way between a label
    and the average voxel.
    """

    prototypes: Tensor
    halfway: Tensor

    def __init__(self, species: int, features: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("prototypes", torch.zeros(species, features))
        self.register_buffer("halfway", torch.zeros(species))

    @property
    def known(self) -> bool:
        """Whether the labels have been seen."""
        return bool(self.prototypes.any())

    def learn(self, labels: Sequence[Tensor], about: Tensor) -> None:
        """labels: of each species the features (n, f) at its labels; about (m, f): those of voxels
        anywhere.
        """
        for c, own in enumerate(labels):
            self.prototypes[c] = normalize(own.mean(0), dim=0)
            self.halfway[c] = (
                (own @ self.prototypes[c]).mean() + (about @ self.prototypes[c]).mean()
            ) / 2

    def forward(self, features: Tensor) -> Tensor:
        """(b, f, d, h, w) -> (b, c, d, h, w)."""
        similar = torch.einsum("cf,bfdhw->bcdhw", self.prototypes, features)
        return (similar - self.halfway[:, None, None, None]) / self.temperature


class Columns(nn.Conv2d):
    """A 3-D convolution that is one voxel wide in y and x: (b, f, d, h, w) -> (b, g, d, h, w).

    As a 2-D convolution over (d, h w) it is three times faster on a CPU.
    """

    def __init__(self, before: int, after: int, depth: int, bias: bool = True) -> None:
        super().__init__(before, after, (depth, 1), padding=(depth // 2, 0), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        flat: Tensor = super().forward(x.flatten(3))
        slices: Tensor = flat.unflatten(3, x.shape[3:])
        return slices


def _joined(features: int, dilation: int) -> list[nn.Module]:
    layer = nn.Conv3d(
        features,
        features,
        3,
        padding=(1, dilation, dilation),
        dilation=(1, dilation, dilation),
        bias=False,
    )
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return [layer, nn.ReLU(inplace=True)]

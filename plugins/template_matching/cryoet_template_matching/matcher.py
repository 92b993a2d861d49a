"""Locally normalised correlation of a volume with a template in many rotations at once.

For rotation R: the template is turned, weighted in Fourier space with what the tomogram has seen,
and normalised under the mask M, t = M (T - mean) / (w deviation), w = sum M. The score at x is the
correlation of t with V over the deviation of V under the mask at x: a correlation coefficient
weighted by M, between -1 and 1 (Roseman 2003). The mask is a sphere, so one deviation serves all
rotations.

Two rotations share a pair of complex transforms, as real and imaginary part: on CPUs that takes
half the time of two pairs of real ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn.functional import grid_sample

from cryoet_core.algorithms.transforms import oversample, sampling_grid
from cryoet_template_matching.filters import RadialFilter

AXES = (-3, -2, -1)
EDGE = 1.5
"""Voxels over which the mask falls outside the particle."""
FLAT = 1e-2
"""The least deviation of the standardised volume under the mask: a flat region scores 0, not noise
over nothing.
"""
SAMPLE = 4
"""The mean square of the scores is that of one rotation in so many batches."""
FINE = 2
"""How much finer than the volume the template is sampled before it is turned."""


@dataclass(frozen=True)
class Matches:
    """For each voxel (d, h, w): best score, index of its rotation, and the volume as it was
    compared.

    square: the mean square of the scores, over the voxels and a sample of the rotations.
    """

    best: Tensor
    index: Tensor
    volume: Tensor
    square: float


def sphere(radius: float) -> Tensor:
    """A mask (m, m, m), m odd: 1 within ``radius`` voxels of the middle, then a cosine fall over
    ``EDGE``.
    """
    half = math.ceil(radius + EDGE)
    line = torch.arange(-half, half + 1, dtype=torch.float64)
    distance = (line[:, None, None].square() + line[:, None].square() + line.square()).sqrt()
    return (0.5 + 0.5 * torch.cos(math.pi * ((distance - radius) / EDGE).clamp(0, 1))).float()


def box_of(radius: float) -> int:
    """Edge of the box in which templates are weighted: their streaks must not come back from the
    other side.
    """
    return int(next_fast_len(math.ceil(1.5 * (2 * math.ceil(radius + EDGE) + 1)), real=True))


class Matcher:
    """One template at one voxel size. radius: voxels. weights (b, b, b): of all frequencies of a
    box, or None.
    """

    def __init__(
        self,
        density: Tensor,
        radius: float,
        weights: Tensor | None = None,
        radial: RadialFilter | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.mask = sphere(radius).to(device)
        self.weight = float(self.mask.sum())
        self.edge = self.mask.shape[0]
        self.half = self.edge // 2
        self.fine = oversample(density[None, None].float(), FINE).to(device)
        if radial is not None:
            box = (weights.shape[0],) * 3 if weights is not None else (box_of(radius),) * 3
            own = radial.transfer(box)
            weights = own if weights is None else weights * own
        self.weights = None if weights is None else weights.to(device)
        self.radial = radial
        self.device = torch.device(device)

    @property
    def margin(self) -> int:
        """Voxels around a voxel that its score depends on."""
        return self.half + (self.radial.reach if self.radial is not None else 0)

    def templates(self, rotations: Tensor) -> Tensor:
        """(k, m, m, m): the template turned, weighted, and normalised under the mask, of weighted
        deviation 1 / w.
        """
        edge = [self.edge] * 3
        grid = sampling_grid(self.fine.shape[2:], edge, rotations.to(self.fine), scale=FINE)
        source = self.fine.expand(len(rotations), -1, -1, -1, -1)
        turned = grid_sample(
            source, grid, mode="bilinear", padding_mode="zeros", align_corners=True
        )[:, 0]
        if self.weights is not None:
            turned = self._weighted(turned)
        mean = (turned * self.mask).sum(AXES, keepdim=True) / self.weight
        centred = turned - mean
        spread = (centred.square() * self.mask).sum(AXES, keepdim=True) / self.weight
        return centred * self.mask / (self.weight * spread.sqrt().clamp(min=1e-12))

    def _weighted(self, turned: Tensor) -> Tensor:
        assert self.weights is not None
        packed = _packed(turned)
        spectrum = torch.fft.fftn(packed, s=self.weights.shape, dim=AXES) * self.weights
        inner = (slice(None), *(slice(0, self.edge),) * 3)
        return _unpacked(torch.fft.ifftn(spectrum, dim=AXES)[inner], len(turned))

    def search(self, volume: Tensor, rotations: Tensor, batch: int = 2) -> Matches:
        """Scores of every voxel at least ``margin`` from the faces, (d - 2 margin, ...), over all
        rotations.

        What is compared are the correlations, as the deviation of the volume is the same for all
        rotations; the real and imaginary parts keep bests of their own until the end.
        """
        prepared, batch = Prepared(self, volume), batch + batch % 2
        best = torch.full((*prepared.core, 2), -torch.inf, device=self.device)
        index = torch.zeros((*prepared.core, 2), dtype=torch.int32, device=self.device)
        squares, sampled = torch.zeros((), dtype=torch.float64, device=self.device), 0
        for start in range(0, len(rotations), batch):
            some = rotations[start : start + batch].to(self.device)
            pairs = prepared.correlations(self.templates(some))
            for number, pair in enumerate(pairs):
                if start + 2 * number + 1 == len(rotations):
                    pair[..., 1] = -torch.inf  # the last of an odd number is alone
                index.masked_fill_(pair > best, start + 2 * number)
                torch.maximum(best, pair, out=best)
            if start // batch % SAMPLE == 0:
                first = pairs[0, ..., 0] * prepared.scale
                squares += first.square().mean(dtype=torch.float64)
                sampled += 1
        second = best[..., 1] > best[..., 0]
        index = torch.where(second, index[..., 1] + 1, index[..., 0])
        return Matches(
            best.amax(dim=-1) * prepared.scale, index, prepared.filtered, float(squares) / sampled
        )


class Prepared:
    """A volume made ready: filtered, transformed, its deviation under the mask at each voxel
    known.
    """

    def __init__(self, matcher: Matcher, volume: Tensor) -> None:
        self.size = [next_fast_len(n, real=True) for n in volume.shape]
        half, margin = matcher.half, matcher.margin
        self.core = tuple(n - 2 * margin for n in volume.shape)
        self.inner = tuple(slice(margin, n - margin) for n in volume.shape)
        # where the correlation at core voxel 0 comes out, as the template begins ``half`` before
        # its middle
        self.region = tuple(slice(half + margin, half + margin + n) for n in self.core)
        self.spectrum = torch.fft.fftn(volume, s=self.size)
        if matcher.radial is not None:
            self.spectrum *= matcher.radial.transfer((self.size[0], self.size[1], self.size[2])).to(
                volume.device
            )
            volume = torch.fft.ifftn(self.spectrum).real
        self.volume = volume
        mask = torch.fft.fftn(matcher.mask, s=self.size)
        # one complex transform gives the sums of V and of V^2 under the mask
        sums = torch.fft.ifftn(
            mask * torch.fft.fftn(torch.complex(volume, volume.square()), s=self.size)
        )
        mean, square = (
            part / matcher.weight for part in (sums[self.region].real, sums[self.region].imag)
        )
        self.padded = self.spectrum.new_zeros(0)
        self.scale = 1 / (square - mean.square()).clamp(min=FLAT**2).sqrt()

    @property
    def filtered(self) -> Tensor:
        """The filtered volume at the core's voxels."""
        return self.volume[self.inner]

    def correlations(self, templates: Tensor) -> Tensor:
        """((k + 1) // 2, d, h, w, 2): of the core with each pair of templates (k, m, m, m), not yet
        over ``scale``.
        """
        packed = _packed(templates.flip(AXES))
        if len(self.padded) != len(packed):
            self.padded = packed.new_zeros(len(packed), *self.size)
        filled = (slice(None), *map(slice, packed.shape[1:]))
        self.padded[filled] = packed  # the rest stays 0 from call to call
        products = torch.fft.fftn(self.padded, dim=AXES).mul_(self.spectrum)
        region = (slice(None), *self.region)
        return torch.view_as_real(torch.fft.ifftn(products, dim=AXES)[region])


def _packed(volumes: Tensor) -> Tensor:
    """(k, ...) real as ((k + 1) // 2, ...) complex; of an odd number the last is alone."""
    first, second = volumes[0::2], volumes[1::2]
    if len(second) < len(first):
        second = torch.cat((second, torch.zeros_like(first[:1])))
    return torch.complex(first, second)


def _unpacked(pairs: Tensor, count: int) -> Tensor:
    """What ``_packed`` made, as it was."""
    return torch.stack((pairs.real, pairs.imag), dim=1).flatten(0, 1)[:count]

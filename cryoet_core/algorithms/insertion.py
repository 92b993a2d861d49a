"""Cubes from the 2-D images of tilt series: each image is a central slice of the particle's Fourier
transform.

A slice is spread over the grid with trilinear weights and the sum divided by what all slices have
seen, V(k) = sum_t w_t F_t(k) / (sum_t w_t CTF_t^2(k) + r), F_t being the image's transform times
its CTF: the Wiener filter of a tilt series (as for subtomogram averages in Bharat et al., Structure
2015, doi 10.1016/j.str.2015.06.026) with a constant r in place of the unknown noise-to-signal
ratio.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from cryoet_core.algorithms.fourier import ctf

REGULARISATION = 0.5
"""r as a share of the mean of the weights that are not zero: particles are noisy, so little is
sharpened.
"""


@dataclass(frozen=True)
class TiltSeries:
    """How the t images of a tilt series lie in the tomogram.

    axes (t, 2, 3): directions of the image's x and y in the tomogram, components (x, y, z). defocus
    (t,): um, mean of both directions, positive for underfocus. dose (t,): electrons per Å^2 before
    each image. scale (t,): further weight of each image. voltage: kV, cs: mm.
    """

    axes: Tensor
    defocus: Tensor
    dose: Tensor
    scale: Tensor
    voltage: float = 300.0
    cs: float = 2.7
    amplitude_contrast: float = 0.07

    def __len__(self) -> int:
        return len(self.defocus)

    def select(self, tilts: Tensor) -> TiltSeries:
        """These tilts only."""
        parts = (self.axes[tilts], self.defocus[tilts], self.dose[tilts], self.scale[tilts])
        return TiltSeries(*parts, self.voltage, self.cs, self.amplitude_contrast)

    def tilts(self) -> Tensor:
        """Angles (t,) about y in degrees, so that the images see the planes kz = kx tan(angle)."""
        beam = torch.linalg.cross(self.axes[:, 0], self.axes[:, 1])
        beam = beam * torch.where(beam[:, 2:] < 0, -1.0, 1.0)
        return torch.rad2deg(torch.atan2(-beam[:, 0], beam[:, 2]))

    def axis(self) -> str:
        """The axis of the tomogram nearest to the tilt axis, "x" or "y"."""
        beam = torch.linalg.cross(self.axes[:, 0], self.axes[:, 1])
        return "y" if beam[:, 0].abs().sum() >= beam[:, 1].abs().sum() else "x"


def critical_dose(k: Tensor, voltage: float) -> Tensor:
    """Electrons per Å^2 after which a frequency (1/Å) has lost 1 - 1/e of its signal, at 300 kV and
    below.

    Grant and Grigorieff, eLife 2015, doi 10.7554/eLife.06980, eq. 3; at 200 kV and less four fifths
    of it.
    """
    return (0.24499 * k.clamp(min=1e-6) ** -1.6649 + 2.8141) * (0.8 if voltage <= 200 else 1.0)


class Insertion:
    """The way from the images of one tilt series to cubes; all particles of a tomogram share it.

    box: voxels, voxel_size: Å, of images and cubes alike. premultiplied: the images were multiplied
    by their CTF.
    """

    def __init__(
        self, series: TiltSeries, box: int, voxel_size: float, *, premultiplied: bool
    ) -> None:
        self.box = box
        ky, kx = torch.meshgrid(
            torch.fft.fftfreq(box) * box, torch.fft.rfftfreq(box) * box, indexing="ij"
        )
        inside = (ky.square() + kx.square()).sqrt() <= box / 2 - 1
        self.inside = inside
        self.radius = (ky.square() + kx.square()).sqrt()[inside] / (box * voxel_size)
        flat = torch.stack([kx[inside], ky[inside]], 1)  # (m, 2)
        points = torch.einsum(
            "ma,tac->tmc", flat.double(), series.axes.double()
        ).float()  # (t, m, 3) x, y, z
        # A line through the origin holds every frequency of kx = 0 twice, once with each sign.
        both = torch.where(kx[inside] == 0, 0.5, 1.0)
        transfer = self._transfer(series)
        weight = self._dose(series) * both
        self.gain = weight if premultiplied else weight * transfer
        self.target, self.share = _neighbours(torch.stack([points, -points]).flip(-1), box)
        seen = (weight * transfer.square()).expand(2, -1, -1)
        density = torch.zeros(box**3)
        for target, share in zip(self.target, self.share, strict=True):
            density.index_add_(0, target, (seen * share.view_as(seen)).reshape(-1))
        self.weight = density.view(box, box, box)
        floor = REGULARISATION * density[density > 0].mean()
        self.filter = 1 / (self.weight + floor)

    def _transfer(self, series: TiltSeries) -> Tensor:
        """(t, m), positive where contrast is not reversed, so that the images keep the contrast
        that they have.
        """
        return -ctf(
            self.radius,
            series.defocus,
            series.cs,
            series.voltage,
            series.amplitude_contrast,
        )

    def _dose(self, series: TiltSeries) -> Tensor:
        lost = series.dose[:, None] / (2 * critical_dose(self.radius, series.voltage))
        return torch.exp(-lost) * series.scale[:, None]

    def __call__(self, images: Tensor) -> Tensor:
        """Images (b, t, box, box), particle at box // 2, to cubes (b, box, box, box), float32."""
        b = len(images)
        spectra = (
            torch.fft.rfft2(torch.fft.ifftshift(images.float(), dim=(-2, -1)))[..., self.inside]
            * self.gain
        )
        values = torch.stack([spectra, spectra.conj()], 1).reshape(b, -1)  # (b, 2 t m)
        total = torch.zeros(b, self.box**3, dtype=values.dtype)
        for target, share in zip(self.target, self.share, strict=True):
            total.index_add_(1, target, values * share)
        cubes = torch.fft.ifftn(
            total.view(b, *(self.box,) * 3) * self.filter, dim=(-3, -2, -1)
        ).real
        shifted: Tensor = torch.fft.fftshift(cubes, dim=(-3, -2, -1))
        return shifted.float()


def _neighbours(points: Tensor, box: int) -> tuple[list[Tensor], list[Tensor]]:
    """For each of the eight corners around points (..., 3) z, y, x: flat indices and trilinear
    weights.
    """
    low = points.floor()
    rest = points - low
    targets, shares = [], []
    for corner in product((0, 1), repeat=3):
        place = (low.long() + torch.tensor(corner)) % box
        targets.append(((place[..., 0] * box + place[..., 1]) * box + place[..., 2]).reshape(-1))
        shares.append(torch.where(torch.tensor(corner) == 1, rest, 1 - rest).prod(-1).reshape(-1))
    return targets, shares

"""Image formation by a tilt series (route "tilts"): projection, CTF of each image, back-projection.

Each image has the defocus gradient of its tilt and the decay of the dose that the specimen has had
by then, taken in order of growing tilt. A weighted back-projection brings the density back on its
own scale, so that missing wedge, gaps between tilts and streaks come by themselves. The specimen is
taken as thin: the defocus is that of its middle plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn.functional import interpolate

from cryoet_core.algorithms.fourier import ctf, electron_wavelength, tilt_angles
from cryoet_core.simulate.projection import back_project, detector_width, project
from cryoet_core.simulate.tomogram_settings import TomogramSettings

Array = NDArray[np.float64]
PAD = 48
PHASE_STEP = 0.5
"""Radians at the Nyquist frequency between the defoci at which images are computed; between them
they are blended.
"""
MEAN_FREE_PATH = 3000.0
"""Å of ice at 300 kV that an electron passes on average before it is lost to the image by inelastic
scattering.
"""


class TiltRoute:
    """Reconstructions of densities of any shape, protein bright, and of their noise."""

    def __init__(self, settings: TomogramSettings, defocus: float) -> None:
        self.settings, self.defocus = settings, defocus
        self.tilts = tilt_angles(settings.tilt_range, settings.tilt_step)

    def image(self, density: Tensor) -> Tensor:
        """Reconstruct a density from its tilt series without noise.

        Parameters
        ----------
        density : Tensor, shape (z, y, x)
            Protein positive.

        Returns
        -------
        Tensor, shape (z, y, x)
            The image, protein bright.
        """
        depth, _, width = density.shape
        series = project(density, self.tilts)
        doses = exposures(self.tilts, self.settings.dose)
        for row, (tilt, dose) in enumerate(zip(self.tilts, doses, strict=True)):
            series[row] = self._exposed(series[row], tilt, dose, width)
        return self.reconstruct(series, depth, width)

    def noise(
        self,
        shape: Sequence[int],
        generator: np.random.Generator,
        profile: Array,
        device: torch.device,
    ) -> Tensor:
        """Reconstruct white noise in every image, times ``profile``.

        It grows with the path through the ice, by which a steeper image has fewer electrons.

        Parameters
        ----------
        shape : sequence of int
            Voxels (z, y, x).
        generator : numpy.random.Generator
            The source of random numbers.
        profile : ndarray, shape (y, x)
            Standard deviation of the noise over the field.
        device : torch.device
            Where to compute.

        Returns
        -------
        Tensor, shape (z, y, x)
            Noise of arbitrary scale.
        """
        depth, height, width = shape
        series = torch.empty((len(self.tilts), height, detector_width(depth, width)), device=device)
        field = torch.from_numpy(profile.astype(np.float32))[None, None]
        field = interpolate(field, series.shape[1:], mode="bilinear")[0, 0].to(device)
        thickness = depth * self.settings.voxel_size
        for row, tilt in enumerate(self.tilts):
            white = torch.from_numpy(
                generator.standard_normal(tuple(series.shape[1:]), dtype=np.float32)
            )
            path = thickness / max(math.cos(math.radians(tilt)), 0.1)
            series[row] = (
                white.to(device) * field * math.exp((path - thickness) / (2 * MEAN_FREE_PATH))
            )
        return self.reconstruct(series, depth, width)

    def reconstruct(self, series: Tensor, depth: int, width: int) -> Tensor:
        """Reconstruct a density on its own scale by weighted back-projection.

        Parameters
        ----------
        series : Tensor, shape (tilts, y, x')
            The images.
        depth, width : int
            Voxels of the volume along z and x.

        Returns
        -------
        Tensor, shape (depth, y, width)
            The density.
        """
        filtered = ramp(series) * angular_weights(self.tilts).to(series)[:, None, None]
        return back_project(filtered, self.tilts, depth, width)

    def _exposed(self, image: Tensor, tilt: float, dose: float, width: int) -> Tensor:
        """One projection (y, x') through contrast transfer and radiation damage, the latter by
        Grant & Grigorieff.
        """
        s = self.settings
        size = [int(next_fast_len(n + PAD, real=True)) for n in image.shape]
        squares = _squares(size, s.voxel_size, image.device)
        spectrum = torch.fft.rfft2(image, s=size) * _damage(squares.sqrt(), dose)
        if not s.ctf:
            return _cropped(spectrum, size, image.shape)
        pixels = image.shape[1]
        across = (torch.arange(pixels, device=image.device) - pixels // 2) * s.voxel_size
        limit = abs(width / 2 * s.voxel_size * math.sin(math.radians(tilt)))
        rise = (across * math.tan(math.radians(tilt))).clamp(-limit, limit) * 1e-4  # um
        defoci = self._defoci(float(rise.abs().max()))
        transfer = -ctf(
            squares.sqrt(), defoci, s.cs, s.voltage, s.amplitude_contrast, s.bfactor, s.phase_shift
        )
        place = (
            (self.defocus + rise - defoci[0]) / (defoci[1] - defoci[0])
            if len(defoci) > 1
            else torch.zeros_like(rise)
        )
        out = torch.zeros_like(image)
        for index, filtered in enumerate(transfer):
            out += _cropped(spectrum * filtered, size, image.shape) * (
                1 - (place - index).abs()
            ).clamp(min=0)
        return out

    def _defoci(self, reach: float) -> list[float]:
        """Defoci in um from ``reach`` below to ``reach`` above the middle's, near enough to blend
        between them.
        """
        wavelength, nyquist = (
            electron_wavelength(self.settings.voltage),
            0.5 / self.settings.voxel_size,
        )
        phase = math.pi * wavelength * nyquist**2 * reach * 1e4
        steps = math.ceil(2 * phase / PHASE_STEP)
        return (
            [self.defocus + reach * (2 * i / steps - 1) for i in range(steps + 1)]
            if steps
            else [self.defocus]
        )


def ramp(series: Tensor) -> Tensor:
    """Weight images by |k| along x', with the discrete filter that keeps slow changes right.

    Its coefficients are 1/4 at 0, -1 / (pi n)^2 at odd n and 0 at even ones.

    Parameters
    ----------
    series : Tensor, shape (tilts, y, x')
        The images.

    Returns
    -------
    Tensor, shape (tilts, y, x')
        The weighted images.

    References
    ----------
    Ramachandran and Lakshminarayanan (1971). PNAS 68, 2236-2240. doi 10.1073/pnas.68.9.2236
    """
    pixels = series.shape[2]
    length = int(next_fast_len(2 * pixels, real=True))
    distance = torch.arange(length, dtype=torch.float64)
    distance = torch.minimum(distance, length - distance)
    kernel = torch.where(distance % 2 == 1, -1 / (math.pi * distance) ** 2, 0.0)
    kernel[0] = 0.25
    weights = torch.fft.rfft(kernel).real.float().to(series.device)
    out = torch.empty_like(series)
    for row, image in enumerate(series):
        out[row] = torch.fft.irfft(torch.fft.rfft(image, n=length) * weights, n=length)[:, :pixels]
    return out


def angular_weights(tilts: Sequence[float]) -> Tensor:
    """Return the angle that each of evenly spaced tilts stands for.

    Tilts of 90 and -90 degrees have half an angle each.

    Parameters
    ----------
    tilts : sequence of float
        Tilts in degrees.

    Returns
    -------
    Tensor, shape (tilts,)
        Radians.
    """
    angles = torch.tensor(tilts, dtype=torch.float64)
    half = (angles[1] - angles[0]) / 2
    return torch.deg2rad((angles + half).clamp(max=90) - (angles - half).clamp(min=-90))


def exposures(tilts: Sequence[float], dose: float) -> list[float]:
    """Return the dose that the specimen has had in the middle of each image.

    Images are taken in order of growing tilt from 0 degrees.

    Parameters
    ----------
    tilts : sequence of float
        Tilts in degrees.
    dose : float
        e/Å^2 of the whole series.

    Returns
    -------
    list of float
        e/Å^2 for each image.
    """
    order = sorted(range(len(tilts)), key=lambda i: (abs(tilts[i]), tilts[i]))
    each = dose / len(tilts)
    return [each * (order.index(row) + 0.5) for row in range(len(tilts))]


def _damage(k: Tensor, dose: float) -> Tensor:
    """exp(-dose / (2 N(k))) with the critical exposure N = 0.245 k^-1.665 + 2.81 (Grant &
    Grigorieff 2015, eq. 3).
    """
    return torch.exp(-dose / (2 * (0.245 * k.clamp(min=1e-6) ** -1.665 + 2.81)))


def _squares(size: Sequence[int], voxel_size: float, device: torch.device) -> Tensor:
    y, x = (
        torch.fft.fftfreq(size[0], voxel_size, device=device),
        torch.fft.rfftfreq(size[1], voxel_size, device=device),
    )
    squares: Tensor = y.square()[:, None] + x.square()
    return squares


def _cropped(spectrum: Tensor, size: Sequence[int], shape: Sequence[int]) -> Tensor:
    image: Tensor = torch.fft.irfft2(spectrum, s=tuple(size))
    cropped: Tensor = image[: shape[0], : shape[1]]
    return cropped

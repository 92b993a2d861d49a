"""Form images by one filter in 3-D: CTF, missing wedge, detector, and noise of an exact SNR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from cryoet_core.algorithms.fourier import ctf, electron_wavelength, radial_frequency, wedge_mask

if TYPE_CHECKING:
    from cryoet_core.simulate.settings import SimulationSettings

AXES = (-3, -2, -1)


class Images(NamedTuple):
    """Images of a batch of densities.

    Attributes
    ----------
    volumes : Tensor, shape (b, box, box, box)
        With noise.
    clean : Tensor or None
        Without noise, where it is asked for.
    snr : Tensor, shape (b,)
        Measured in the volumes.
    """

    volumes: Tensor
    clean: Tensor | None
    snr: Tensor


class Microscope:
    """The filters of one simulation, computed once; each particle has the transfer of its defocus.

    Protein is bright: the transfer is that of a micrograph, where protein is dark, with the
    opposite sign.

    Parameters
    ----------
    settings : SimulationSettings
        Optics, tilt range and box size.
    device : torch.device or str
        Where to compute.
    """

    def __init__(self, settings: SimulationSettings, device: torch.device | str = "cpu") -> None:
        self.settings, self.box = settings, settings.box
        box, voxel_size = settings.box, settings.voxel_size
        seen = wedge_mask(box, settings.tilt_range, tilt_step=settings.tilt_step)
        if settings.mtf == "sinc":
            seen = seen * torch.sinc(radial_frequency(box, voxel_size) * voxel_size)
        self.seen = seen.to(device)
        # |k|^2 * (box * voxel)^2 is a whole number: the CTF is computed once for each and looked
        # up.
        squares = (radial_frequency(box) * box).square().round().long()
        self.lookup = squares.to(device)
        self.radii = (torch.arange(int(squares.max()) + 1).double().sqrt() / (box * voxel_size)).to(
            device
        )
        double = torch.full((box // 2 + 1,), 2.0)
        double[0] = 1
        if box % 2 == 0:
            double[-1] = 1
        counts = double.expand(box, box, -1).clone()
        counts[0, 0, 0] = 0  # the mean is no variance
        self.counts = (counts / float(box) ** 6).to(device)

        self.band: Tensor | float = 1.0
        if settings.snr_mode == "aitom":
            self.band = _low_pass(box, voxel_size).to(device)
            self.seen = self.seen * _sphere(box).to(device)

    def transfer(self, defocus: Sequence[float]) -> Tensor:
        """Return the contrast transfer with the missing wedge and the detector, protein bright.

        Parameters
        ----------
        defocus : sequence of float
            Underfocus of each image in µm.

        Returns
        -------
        Tensor, shape (b or 1, box, box, box // 2 + 1)
            The transfer over Fourier space.
        """
        if not self.settings.ctf:
            return self.seen[None]
        values = [defocus[0]] if len(set(defocus)) == 1 else list(defocus)
        return self._contrast(values)[:, self.lookup] * self.seen

    def _contrast(self, defocus: list[float]) -> Tensor:
        s = self.settings
        if s.snr_mode == "aitom":
            return aitom_ctf(self.radii, defocus, s.cs, s.voltage, s.voxel_size)
        return -ctf(
            self.radii, defocus, s.cs, s.voltage, s.amplitude_contrast, s.bfactor, s.phase_shift
        )

    def variance(self, spectrum: Tensor) -> Tensor:
        """Return the variance over the box of volumes, from their half spectra (Parseval).

        Parameters
        ----------
        spectrum : Tensor, shape (b, box, box, box // 2 + 1)
            Half spectra.

        Returns
        -------
        Tensor, shape (b,)
            One variance for each volume.
        """
        return (torch.view_as_real(spectrum).square().sum(-1) * self.counts).sum(AXES)

    def back(self, spectrum: Tensor) -> Tensor:
        """Transform half spectra back to volumes.

        Parameters
        ----------
        spectrum : Tensor, shape (b, box, box, box // 2 + 1)
            Half spectra.

        Returns
        -------
        Tensor, shape (b, box, box, box)
            The volumes.
        """
        volumes: Tensor = torch.fft.irfftn(spectrum, s=(self.box,) * 3, dim=AXES)
        return volumes

    def project(self, densities: Tensor, defocus: Sequence[float]) -> Tensor:
        """Form images without noise.

        Parameters
        ----------
        densities : Tensor, shape (b, box, box, box)
            Densities, protein positive.
        defocus : sequence of float
            Underfocus of each image in µm.

        Returns
        -------
        Tensor, shape (b, box, box, box)
            The images.
        """
        return self.back(torch.fft.rfftn(densities, dim=AXES) * self.transfer(defocus) * self.band)

    def image(
        self,
        target: Tensor,
        around: Tensor | None,
        present: Tensor,
        noise: Tensor | None,
        defocus: Sequence[float],
    ) -> Images:
        """Form images of densities with noise.

        SNR = var(signal) / var(noise) over the final volume, where the signal is that of the target
        alone. Neighbours do not change the noise, nor does leaving the target out.

        Parameters
        ----------
        target : Tensor, shape (b, box, box, box)
            Densities of the targets.
        around : Tensor or None
            Images of the neighbours, of the same shape, which are added.
        present : Tensor of bool, shape (b,)
            Whether the target is shown.
        noise : Tensor or None
            White noise of the same shape; (b, 2, ...) in AITom's mode.
        defocus : sequence of float
            Underfocus of each image in µm.

        Returns
        -------
        Images
            Volumes with and without noise, and their SNR.
        """
        raw = torch.fft.rfftn(target, dim=AXES)
        transfer = self.transfer(defocus)
        signal = raw * transfer * self.band
        scene = signal * present[:, None, None, None]
        neighbours = 0.0 if around is None else around
        clean = self.back(scene) + neighbours if self.settings.clean or noise is None else None
        if noise is None:
            assert clean is not None
            infinite = torch.full((len(clean),), math.inf, device=clean.device)
            return Images(clean, clean if self.settings.clean else None, infinite)
        aitom = self.settings.snr_mode == "aitom"
        disturbance = self._aitom(raw, transfer, noise) if aitom else self._white(signal, noise)
        ratio = self.variance(signal) / self.variance(disturbance)
        return Images(self.back(scene + disturbance) + neighbours, clean, ratio)

    def _white(self, signal: Tensor, noise: Tensor) -> Tensor:
        """White noise behind wedge and detector, scaled so that the ratio of variances is exactly
        the SNR.
        """
        shaped: Tensor = torch.fft.rfftn(noise, dim=AXES) * self.seen
        scale = (self.variance(signal) / (self.settings.snr * self.variance(shaped))).sqrt()
        return shaped * scale[:, None, None, None]

    def _aitom(self, raw: Tensor, transfer: Tensor, noise: Tensor) -> Tensor:
        """AITom's steps: half of the noise before the CTF, half after it, both through a low-pass.

        The variance of each half is (signal variance) / (2 SNR), measured before the low-pass,
        times the inverse of the filter's mean square; the delivered ratio is therefore another (0.4
        to 0.65 of the nominal one).
        """
        power = (transfer.square() * self.counts).sum(AXES) * float(self.box) ** 3
        level = self.variance(raw * transfer) / (2 * self.settings.snr * power)
        first, second = torch.fft.rfftn(noise, dim=AXES).unbind(1)
        second = second * _detector(self.box).to(raw.device) * self.seen
        disturbance: Tensor = (
            (first * transfer + second) * self.band * level.sqrt()[:, None, None, None]
        )
        return disturbance


def aitom_ctf(
    k: Tensor, defocus: list[float], cs_mm: float, voltage_kv: float, voxel_size: float
) -> Tensor:
    """Return AITom's transfer: a sine without amplitude contrast, protein bright, with an envelope.

    The envelope is a Gaussian of 0.4.

    Parameters
    ----------
    k : Tensor, shape (n,)
        Spatial frequencies in 1/Å.
    defocus : list of float
        Underfocus in µm, m values.
    cs_mm : float
        Spherical aberration in mm.
    voltage_kv : float
        Acceleration voltage in kV.
    voxel_size : float
        Å per voxel.

    Returns
    -------
    Tensor, shape (m, n)
        The transfer at each frequency.
    """
    wavelength = electron_wavelength(voltage_kv)
    under = torch.tensor(defocus, dtype=torch.float64, device=k.device)[:, None] * 1e4
    chi = 0.5 * math.pi * (cs_mm * 1e7 * wavelength**3 * k**4 + 2 * under * wavelength * k**2)
    return (torch.sin(chi) * torch.exp(-((k * 2 * voxel_size / 0.4) ** 2))).float()


def _low_pass(box: int, voxel_size: float) -> Tensor:
    """AITom's low-pass to 4 nm: a sphere in Fourier voxels with a Gaussian edge of 2."""
    radius = math.floor(box * voxel_size / 10 / 4)
    return torch.exp(-(((radial_frequency(box) * box - radius).clamp(min=0) / 2) ** 2))


def _detector(box: int) -> Tensor:
    """AITom's detector: 1 at the origin, a Gaussian fall of 0.2 box, cut off at e^-3."""
    fall = torch.exp(-(((radial_frequency(box) * box - 1).clamp(min=0) / (0.2 * box)) ** 2))
    return torch.where(fall < math.exp(-3), 0.0, fall)


def _sphere(box: int) -> Tensor:
    return (radial_frequency(box) * box <= box / 2).float()

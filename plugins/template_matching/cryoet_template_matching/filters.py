"""What the tomogram has seen (wedge, contrast transfer) and the filters of tomogram and template
alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryoet_core.algorithms.fourier import ctf, radial_frequency, wedge_mask
from cryoet_core.tomograms import Tomogram
from cryoet_template_matching.config import TemplateMatchingConfig

SOFT = 1.0
"""Degrees over which the edge of the wedge falls."""
CUBES, EDGE = 27, 48
"""Cubes of so many voxels a side, of which the power spectrum is an average."""


def seen_frequencies(config: TemplateMatchingConfig, tomogram: Tomogram, box: int) -> Tensor:
    """Weights (box, box, box) of the template's spectrum, all frequencies: the wedge and the
    contrast transfer.

    The sign is that of a tomogram with bright protein.
    """
    weights = torch.ones(box, box, box)
    if config.wedge and tomogram.tilt_range is not None:
        weights = wedge_mask(box, tomogram.tilt_range, tomogram.tilt_axis, soft=SOFT, full=True)
    if config.ctf == "none":
        return weights
    k = radial_frequency(box, tomogram.voxel_size, full=True)
    transfer = -ctf(k, config.defocus, config.cs, config.voltage, config.amplitude_contrast)
    return weights * (transfer if config.ctf == "modulated" else transfer.abs())


@dataclass(frozen=True)
class RadialFilter:
    """A filter by |frequency| as a kernel (n, n, n) of n odd voxels, zero beyond: so tiles have no
    seams.
    """

    kernel: Tensor

    @property
    def reach(self) -> int:
        """Voxels to each side that a filtered voxel depends on."""
        return self.kernel.shape[0] // 2

    def transfer(self, shape: tuple[int, int, int]) -> Tensor:
        """Real factors (d, h, w) of all frequencies of a volume, whose edges may be shorter than
        the kernel.
        """
        folded = self.kernel
        for axis, size in enumerate(shape):
            places = (torch.arange(folded.shape[axis]) - self.reach) % size
            sides = list(folded.shape)
            sides[axis] = size
            folded = torch.zeros(sides).index_add_(axis, places, folded)
        spectrum: Tensor = torch.fft.fftn(folded).real
        return spectrum


def radial_filter(
    config: TemplateMatchingConfig, tomogram: Tomogram, reach: int
) -> RadialFilter | None:
    """Band-pass and whitening as the options ask for; None where they ask for neither.

    Scaled so that the tomogram, where its spectrum was measured, or white noise keeps its
    deviation.
    """
    if not (config.lowpass or config.highpass or config.whiten):
        return None
    box = 2 * reach + 1
    k = radial_frequency(box, tomogram.voxel_size, full=True)
    gain = torch.ones(box, box, box)
    power = torch.ones(box, box, box)
    if config.whiten:
        bands, density = power_spectrum(tomogram)
        power = torch.from_numpy(np.interp(k.numpy(), bands, density)).float()
        gain = gain / power.sqrt()
    # falls over an octave, so that the kernel is short and rings little
    if config.lowpass:
        gain = gain * _fall(k * config.lowpass)
    if config.highpass:
        gain = gain * (1 - _fall(k * config.highpass))
    kernel = torch.fft.fftshift(torch.fft.ifftn(gain).real) * _window(box)
    found = RadialFilter(kernel)
    level = float((found.transfer((box, box, box)).square() * power).mean() / power.mean())
    return RadialFilter(kernel / math.sqrt(level))


def _fall(relative: Tensor) -> Tensor:
    """1 below 1 / sqrt(2), 0 above sqrt(2), half at 1, a cosine in the logarithm between."""
    octaves = torch.log2(relative.clamp(min=1e-6))
    return 0.5 - 0.5 * torch.sin(math.pi * octaves.clamp(-0.5, 0.5))


def _window(box: int) -> Tensor:
    line = torch.hann_window(box + 2, periodic=False)[1:-1]
    return line[:, None, None] * line[:, None] * line


def power_spectrum(tomogram: Tomogram) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (1/Å) and mean power of the standardised tomogram at each, where the tilt range
    has seen them.

    From cubes on a fixed grid, under a Hann window; the lowest frequencies, which the window mixes
    with the mean, get the power of the lowest that it does not.
    """
    edge = min(EDGE, *tomogram.shape)
    mean, deviation = tomogram.statistics()
    window = torch.hann_window(edge)
    taper = window[:, None, None] * window[:, None] * window
    total = torch.zeros(edge, edge, edge)
    per_axis = round(CUBES ** (1 / 3))
    starts = [
        sorted({round(i * (n - edge) / (per_axis - 1)) for i in range(per_axis)})
        for n in tomogram.shape
    ]
    corners = [(z, y, x) for z in starts[0] for y in starts[1] for x in starts[2]]
    for corner in corners:
        z, y, x = (slice(start, start + edge) for start in corner)
        cube = (torch.from_numpy(tomogram.read((z, y, x))) - mean) / deviation
        total += torch.fft.fftn(cube * taper).abs().square()
    total /= len(corners) * float(taper.square().sum())
    seen = torch.ones_like(total)
    if tomogram.tilt_range is not None:
        seen = wedge_mask(edge, tomogram.tilt_range, tomogram.tilt_axis, full=True)
    shells = (radial_frequency(edge, full=True) * edge).round().long().clamp(max=edge // 2)
    weight = torch.bincount(shells.flatten(), seen.flatten())
    power = torch.bincount(shells.flatten(), (total * seen).flatten()) / weight.clamp(min=1)
    power[:2] = power[2]
    floor = 1e-3 * float(power.max())
    bands = np.arange(len(power)) / (edge * tomogram.voxel_size)
    return bands, power.clamp(min=floor).numpy()

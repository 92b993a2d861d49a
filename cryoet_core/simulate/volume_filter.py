"""Image formation of a whole tomogram by one filter in 3-D (route "filter"): CTF and missing wedge.

The wedge is a continuous one: gaps between single tilts, which open at the edge of a large volume's
Fourier space, come with the route "tilts" alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from cryoet_core.algorithms.fourier import ctf
from cryoet_core.simulate.tomogram_settings import TomogramSettings

Array = NDArray[np.float64]
PAD = 48
"""Voxels added to each axis, so that fringes and streaks do not come back in at the other side."""
TABLE = 1 << 16
SLAB = 1 << 22
"""Fourier voxels filtered at a time."""


class FilterRoute:
    """Images of densities of any shape, protein bright, and noise of the same missing wedge."""

    def __init__(self, settings: TomogramSettings, defocus: float) -> None:
        self.settings = settings
        top = 0.75 / settings.voxel_size**2  # |k|^2 in the corner of Fourier space
        squares = torch.linspace(0, top, TABLE, dtype=torch.float64)
        s = settings
        optics = (defocus, s.cs, s.voltage, s.amplitude_contrast, s.bfactor, s.phase_shift)
        self.contrast = -ctf(squares.sqrt(), *optics) if s.ctf else None
        self.per_square = (TABLE - 1) / top

    def image(self, density: Tensor) -> Tensor:
        """Form the image of a density without noise.

        Parameters
        ----------
        density : Tensor, shape (z, y, x)
            Protein positive.

        Returns
        -------
        Tensor, shape (z, y, x)
            The image, protein bright.
        """
        d, h, w = density.shape
        padded = [next_fast_len(n + PAD, real=True) for n in (d, h, w)]
        spectrum = torch.fft.rfftn(density, s=padded)
        self._apply(spectrum, padded[2])
        image: Tensor = torch.fft.irfftn(spectrum, s=padded)
        return image[:d, :h, :w].contiguous()

    def noise(
        self,
        shape: Sequence[int],
        generator: np.random.Generator,
        profile: Array,
        device: torch.device,
    ) -> Tensor:
        """Return white noise, times ``profile``, behind the missing wedge.

        It is periodic, so that its Fourier space is empty in the wedge.

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
        white = generator.standard_normal(tuple(shape), dtype=np.float32)
        white *= profile.astype(np.float32)
        spectrum = torch.fft.rfftn(torch.from_numpy(white).to(device))
        seen = wedge_plane(shape[0], shape[2], self.settings.tilt_range).to(device)
        spectrum *= seen[:, None]
        noise: Tensor = torch.fft.irfftn(spectrum, s=tuple(shape))
        return noise

    def _apply(self, spectrum: Tensor, width: int) -> None:
        depth, height, _ = spectrum.shape
        device, voxel = spectrum.device, self.settings.voxel_size
        seen = wedge_plane(depth, width, self.settings.tilt_range).to(device)
        if self.contrast is None:
            spectrum *= seen[:, None]
            return
        table = self.contrast.to(device)
        z, y = (torch.fft.fftfreq(n, voxel, device=device).square() for n in (depth, height))
        x = torch.fft.rfftfreq(width, voxel, device=device).square()
        rows = max(1, SLAB // (height * len(x)))
        plane = y[:, None] + x
        for start in range(0, depth, rows):
            part = slice(start, start + rows)
            index = ((z[part, None, None] + plane) * self.per_square).round().long()
            spectrum[part] *= table[index] * seen[part, None]


def wedge_plane(depth: int, width: int, tilt_range: tuple[float, float]) -> Tensor:
    """Return what a tilt series about y has seen, the same for every ky.

    The geometry is that of ``fourier.wedge_mask``: the tilt t sees the plane kz = kx tan(t).

    Parameters
    ----------
    depth, width : int
        Voxels of the volume along z and x.
    tilt_range : (float, float)
        Lowest and highest tilt in degrees.

    Returns
    -------
    Tensor, shape (depth, width // 2 + 1)
        Over (kz, kx >= 0): 1, or 0 in the missing wedge.
    """
    low, high = tilt_range
    kx = torch.fft.rfftfreq(width, dtype=torch.float64)[None, :]

    def seen_at(kz: Tensor) -> Tensor:
        beam = (
            kz.abs() if high >= 90 else -kz.abs()
        )  # the beam's line belongs to +90 and -90 degrees alike
        angle = torch.rad2deg(torch.atan2(torch.where(kx == 0, beam, kz), kx))
        return ((angle >= low - 1e-6) & (angle <= high + 1e-6)).float()

    kz = torch.fft.fftfreq(depth, dtype=torch.float64)[:, None]
    seen = seen_at(kz)
    # A Nyquist frequency and its opposite are one, so that both must have been seen.
    if depth % 2 == 0:
        middle = slice(depth // 2, depth // 2 + 1)
        seen[middle] = torch.minimum(seen[middle], seen_at(-kz[middle]))
    if width % 2 == 0:
        seen[:, -1] = torch.minimum(seen[:, -1], seen_at(-kz)[:, -1])
    seen[0, 0] = 1  # the tilt axis lies in every plane
    return torch.ones_like(seen) if high - low >= 180 else seen

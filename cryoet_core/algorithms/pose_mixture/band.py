"""The Fourier points that one resolution stage works with, and how to read them off rotated
volumes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

TiltRange = tuple[float, float] | None


def measured(points: Tensor, tilt_range: TiltRange, tilt_axis: str = "y") -> Tensor:
    """1 where a tilt series has measured the frequencies ``points`` (..., 3) = (kz, ky, kx), 0 in
    the missing wedge.

    The rule is that of ``fourier.wedge_mask``, for points off the grid.
    """
    if tilt_range is None or tilt_range[1] - tilt_range[0] >= 180:
        return torch.ones_like(points[..., 0])
    low, high = (math.tan(math.radians(max(-89.99, min(89.99, angle)))) for angle in tilt_range)
    # Friedel mates are the same measurement: fold to across >= 0, where the tilt angle is
    # atan(height / across).
    side = points[..., 2] if tilt_axis == "y" else -points[..., 1]
    across = side.abs()
    height = torch.where(side < 0, -points[..., 0], points[..., 0])
    symmetric = abs(low + high) < 1e-6
    if symmetric:  # one comparison: this runs for every particle, rotation and point
        return (height.abs() <= high * across + 1e-4).to(points.dtype)
    return ((height >= low * across - 1e-4) & (height <= high * across + 1e-4)).to(points.dtype)


class FrequencyBand:
    """The Fourier points with 0 < |k| <= ``radius`` (Fourier voxels of a cubic ``box``), one of
    each Friedel pair.

    Volumes are worked on after Fourier cropping to ``small`` voxels per axis, the least box that
    holds the band. Zero frequency is left out: standardised volumes carry no information there.
    """

    def __init__(
        self,
        box: int,
        radius: int,
        tilt_range: TiltRange,
        device: torch.device | str = "cpu",
        tilt_axis: str = "y",
    ) -> None:
        self.box = box
        self.radius = max(1, min(radius, box // 2 - 1))
        self.small = min(2 * (self.radius + 2), box)
        self.tilt_range, self.tilt_axis = tilt_range, tilt_axis
        line = torch.arange(-self.radius, self.radius + 1)
        points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
        z, y, x = points.unbind(1)
        length = points.double().norm(dim=1)
        mate = (x > 0) | ((x == 0) & (y > 0)) | ((x == 0) & (y == 0) & (z > 0))
        self.index = points[(length <= self.radius) & mate]
        self.points = self.index.float().to(device)
        self.shell = self.points.norm(dim=1).round().long().clamp(max=self.radius)
        self.seen = measured(self.points, tilt_range, tilt_axis) > 0
        self.index = self.index.to(device)
        # Padding to twice the box makes linear interpolation between Fourier points good enough.
        self._reach = min(2 * self.radius + 3, self.small)

    def crop(self, volumes: Tensor) -> Tensor:
        """(n, box, box, box) -> (n, small, small, small), the same Fourier coefficients within the
        band.
        """
        return resize(volumes, self.small)

    def coefficients(self, small: Tensor) -> Tensor:
        """Fourier coefficients (n, m) complex64 of cropped volumes (n, small, small, small) about
        their centre.
        """
        spectrum = torch.fft.fftn(torch.fft.ifftshift(small.float(), dim=(1, 2, 3)), dim=(1, 2, 3))
        z, y, x = self.index.unbind(1)
        values: Tensor = spectrum[:, z, y, x]
        return values

    def volumes(self, coefficients: Tensor) -> Tensor:
        """The real volumes (k, small, small, small) of coefficients (k, m)."""
        spectrum = coefficients.new_zeros((len(coefficients),) + (self.small,) * 3)
        z, y, x = self.index.unbind(1)
        spectrum[:, z, y, x] = coefficients
        spectrum[:, -z, -y, -x] = coefficients.conj()
        real: Tensor = torch.fft.fftshift(
            torch.fft.ifftn(spectrum, dim=(1, 2, 3)).real, dim=(1, 2, 3)
        )
        return real

    def spectrum(self, small: Tensor) -> Tensor:
        """Oversampled spectra (n, 2, g, g, h), real and imaginary part, of cropped volumes, for
        ``sample``.

        Only kx >= 0 is kept: the rest are the complex conjugates.
        """
        size, double = self.small, 2 * self.small
        low = double // 2 - size // 2
        padded = small.new_zeros((len(small),) + (double,) * 3, dtype=torch.float32)
        padded[:, low : low + size, low : low + size, low : low + size] = small
        spectrum = torch.fft.rfftn(padded, dim=(1, 2, 3))
        line = torch.arange(-self._reach, self._reach + 1, device=small.device)
        inner = spectrum[:, (line % double)[:, None], line % double, : self._reach + 1]
        # The centre lies at voxel ``size`` of ``double``: turning the origin there is a change of
        # sign of odd shells.
        sign = 1.0 - 2.0 * (line % 2)
        inner = inner * (sign[:, None, None] * sign[None, :, None] * sign[self._reach :])
        return torch.stack([inner.real, inner.imag], 1)

    def sample(self, spectrum: Tensor, points: Tensor) -> Tensor:
        """Values (n, c, 2, p), real and imaginary, of spectra (n, 2 c, g, g, h) at frequencies (n,
        p, 3); trilinear.
        """
        n, p = points.shape[:2]
        mate = points[..., 2:] < 0
        scale = points.new_tensor([2, 2, 4]) / self._reach
        grid = torch.where(mate, -points, points) * scale - points.new_tensor([0.0, 0.0, 1.0])
        values = grid_sample(spectrum, grid.flip(-1)[:, :, None, None, :], align_corners=True)[
            ..., 0, 0
        ]
        values = values.view(n, -1, 2, p)
        sign = 1.0 - 2.0 * mate[..., 0].to(values.dtype)
        values[:, :, 1] *= sign[:, None]
        return values

    def shell_mean(self, values: Tensor, which: Tensor | None = None) -> Tensor:
        """Mean of values (..., m) over each shell, (..., radius + 1); ``which`` selects points
        (default: all).
        """
        shell = self.shell if which is None else self.shell[which]
        total = values.new_zeros((*values.shape[:-1], self.radius + 1)).index_add_(
            -1, shell, values
        )
        count = values.new_zeros(self.radius + 1).index_add_(
            0, shell, torch.ones_like(values[(0,) * (values.ndim - 1)])
        )
        return total / count.clamp(min=1)


def resize(small: Tensor, size: int) -> Tensor:
    """Fourier crop or pad volumes (n, s, s, s) to (n, size, size, size); the Fourier coefficients
    stay the same.
    """
    n, old = len(small), small.shape[-1]
    spectrum = torch.fft.fftshift(
        torch.fft.fftn(torch.fft.ifftshift(small, dim=(1, 2, 3)), dim=(1, 2, 3)), dim=(1, 2, 3)
    )
    if size <= old:
        low = old // 2 - size // 2
        spectrum = spectrum[:, low : low + size, low : low + size, low : low + size]
    else:
        grown = spectrum.new_zeros((n, size, size, size))
        low = size // 2 - old // 2
        grown[:, low : low + old, low : low + old, low : low + old] = spectrum
        spectrum = grown
    volumes = torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=(1, 2, 3)), dim=(1, 2, 3)).real
    centred: Tensor = torch.fft.fftshift(volumes, dim=(1, 2, 3))
    return centred

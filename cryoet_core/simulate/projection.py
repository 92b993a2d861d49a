"""Exact parallel projection of volumes about y, and its adjoint, by shears in Fourier space.

Tilted by t, a specimen is seen at x' = x cos(t) + z sin(t) (``fourier.wedge_mask`` has the same
geometry). With a the axis x and b the axis z up to 45 degrees, or a = z, b = x and the complement
of the angle beyond, that is x' = c (a + b tan(p)) with |tan(p)| <= 1: after one transform along a,
the sheared sums of all tilts are one product of matrices for each frequency, and the stretch by c
is one more for each tilt. Nothing is interpolated: a projection's transform is the central slice of
the volume's, out to the detector's Nyquist frequency.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from scipy.fft import next_fast_len
from torch import Tensor

CHUNK_BYTES = 1 << 26


def detector_width(depth: int, width: int) -> int:
    """Return the number of pixels along x' in which every voxel is seen at every tilt.

    Parameters
    ----------
    depth, width : int
        Voxels of the volume along z and x.

    Returns
    -------
    int
        Pixels.
    """
    return math.ceil(math.hypot(depth, width)) + 2


def project(volume: Tensor, tilts: Sequence[float]) -> Tensor:
    """Compute line integrals of a volume, one image for each tilt.

    Voxel n // 2 of z and x is seen at pixel ``detector_width(...) // 2``.

    Parameters
    ----------
    volume : Tensor, shape (z, y, x)
        The density.
    tilts : sequence of float
        Tilts in degrees.

    Returns
    -------
    Tensor, shape (tilts, y, x')
        Line integrals; lengths are in voxels.
    """
    depth, height, width = volume.shape
    pixels = detector_width(depth, width)
    series = torch.empty((len(tilts), height, pixels), device=volume.device)
    for group in _groups(tilts, depth, width, volume.device):
        turned = volume.transpose(0, 2) if group.steep else volume  # (b, y, a)
        for rows in _chunks(height, len(turned), group.length):
            spectra = torch.fft.rfft(turned[:, rows], n=group.length, dim=2).permute(2, 0, 1)
            sheared = torch.bmm(group.shear, spectra.contiguous())  # (k, tilts, rows)
            for row, stretch, part in zip(
                group.rows, group.stretches, sheared.unbind(1), strict=True
            ):
                flat = torch.cat((part.real, part.imag)).T
                series[row, rows] = flat @ (stretch * group.counts)
    return series


def back_project(series: Tensor, tilts: Sequence[float], depth: int, width: int) -> Tensor:
    """Sum images smeared along the beam over all tilts.

    Each image is continued between its pixels as the band-limited function through them.

    Parameters
    ----------
    series : Tensor, shape (tilts, y, x')
        The images.
    tilts : sequence of float
        Tilts in degrees.
    depth, width : int
        Voxels of the volume along z and x.

    Returns
    -------
    Tensor, shape (depth, y, width)
        The volume.
    """
    height = series.shape[1]
    volume = torch.zeros((depth, height, width), device=series.device)
    for group in _groups(tilts, depth, width, series.device):
        across, along = (width, depth) if group.steep else (depth, width)
        for rows in _chunks(height, across, group.length):
            parts = [
                stretch @ series[row, rows].T
                for row, stretch in zip(group.rows, group.stretches, strict=True)
            ]
            real, imaginary = torch.stack(parts, 1).chunk(2)  # (k, tilts, rows)
            spectra = torch.bmm(group.shear.mH, torch.complex(real, imaginary)).permute(1, 2, 0)
            smeared = torch.fft.irfft(spectra, n=group.length, dim=2)[..., :along] * group.length
            volume[:, rows] += smeared.transpose(0, 2) if group.steep else smeared
    return volume


@dataclass(frozen=True)
class _Group:
    """Tilts that are sheared along one axis. shear (k, tilts, b): phases. stretches: (2 k, x') real
    for each tilt.

    counts (2 k, 1): how often each frequency of the half spectrum counts in a sum over all.
    """

    steep: bool
    rows: list[int]
    length: int
    shear: Tensor
    stretches: list[Tensor]
    counts: Tensor


def _groups(
    tilts: Sequence[float], depth: int, width: int, device: torch.device
) -> Iterator[_Group]:
    pixels = detector_width(depth, width)
    length = int(next_fast_len(math.ceil(pixels * math.sqrt(2)), real=True))
    for steep in (False, True):
        rows = [row for row, tilt in enumerate(tilts) if (abs(tilt) > 45) == steep]
        if not rows:
            continue
        along, across = (depth, width) if steep else (width, depth)
        angles = torch.deg2rad(
            torch.tensor([90 - tilts[r] if steep else tilts[r] for r in rows], dtype=torch.float64)
        )
        frequency = torch.fft.rfftfreq(length, dtype=torch.float64)
        b = torch.arange(across, dtype=torch.float64) - across // 2
        phase = -2 * math.pi * frequency[:, None, None] * torch.tan(angles)[:, None] * b
        detector = torch.arange(pixels, dtype=torch.float64) - pixels // 2
        stretches = []
        for c in torch.cos(angles).tolist():
            turn = 2 * math.pi * frequency[:, None] * (detector / c + along // 2)
            seen = (frequency < 0.5 * abs(c))[:, None] / (abs(c) * length)
            stretches.append(
                torch.cat((seen * torch.cos(turn), -seen * torch.sin(turn))).float().to(device)
            )
        counts = torch.where(frequency == 0, 1.0, 2.0).repeat(2)[:, None].float()
        shear = torch.polar(torch.ones_like(phase), phase).to(torch.complex64)
        yield _Group(steep, rows, length, shear.to(device), stretches, counts.to(device))


def _chunks(height: int, across: int, length: int) -> Iterator[slice]:
    """Rows of y that are computed at a time, so that memory stays bounded."""
    rows = max(1, CHUNK_BYTES // (across * length * 4))
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))

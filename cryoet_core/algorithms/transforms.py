"""Batched rotations and normalisation of volumes (n, 1, d, h, w); axes are (z, y, x).

A rotation matrix acts on column vectors (z, y, x) that start at the voxel n // 2 of each axis, the
centre of the discrete Fourier transform, where structures are centred. Rotations are active:
density at r moves to R r.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

Fill = Literal["mean", "noise"] | float
Mode = Literal["trilinear", "fourier"]


def standardise(volumes: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 of each volume (..., d, h, w); a constant volume
    becomes 0.
    """
    centred = volumes - volumes.mean(dim=(-3, -2, -1), keepdim=True)
    spread = centred.square().mean(dim=(-3, -2, -1), keepdim=True).sqrt()
    return centred / torch.where(spread > 0, spread, torch.ones_like(spread))


def random_rotations(
    n: int,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(n, 3, 3) rotations uniform on SO(3): normalised 4-D Gaussian quaternions. Drawn on the
    generator's device.
    """
    source = generator.device if generator is not None else torch.device("cpu")
    quaternions = torch.randn(n, 4, generator=generator, device=source, dtype=torch.float64)
    return quaternion_to_matrix(quaternions).to(device=device, dtype=dtype)


def quaternion_to_matrix(quaternions: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4), real part first, of any length
    but 0.
    """
    w, a, b, c = (quaternions / quaternions.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        (1 - 2 * (b * b + c * c), 2 * (a * b - c * w), 2 * (a * c + b * w)),
        (2 * (a * b + c * w), 1 - 2 * (a * a + c * c), 2 * (b * c - a * w)),
        (2 * (a * c - b * w), 2 * (b * c + a * w), 1 - 2 * (a * a + b * b)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def rotation_grid(step_degrees: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """(m, 3, 3) near-uniform rotations about ``step_degrees`` apart: m = 8 pi^2 / step^3, the
    identity first.

    Super-Fibonacci spirals on the unit quaternions (Alexa, CVPR 2022), turned as a whole so that
    the first is the identity. Raises ValueError for a step outside (0, 180].
    """
    if not 0 < step_degrees <= 180:
        raise ValueError(
            f"rotation_grid: step is {step_degrees} degrees, expected more than 0 and at most 180"
        )
    count = max(1, round(8 * math.pi**2 / math.radians(step_degrees) ** 3))
    turns = torch.arange(count, dtype=torch.float64) + 0.5
    alpha = 2 * math.pi * turns / math.sqrt(2.0)
    beta = 2 * math.pi * turns / 1.533751168755204288118041
    small, large = (turns / count).sqrt(), (1 - turns / count).sqrt()
    spiral = torch.stack(
        (small * alpha.sin(), small * alpha.cos(), large * beta.sin(), large * beta.cos()), -1
    )
    matrices = quaternion_to_matrix(spiral)
    return (matrices @ matrices[0].T).to(dtype)


def rotate(
    volumes: Tensor,
    matrices: Tensor,
    shifts: Tensor | None = None,
    fill: Fill = "mean",
    generator: torch.Generator | None = None,
    mode: Mode = "trilinear",
) -> Tensor:
    """Rotate volumes (n, 1, d, h, w) actively by matrices (n, 3, 3) about voxel n // 2, then move
    them by shifts.

    One volume with m matrices, or m volumes with one matrix, gives m volumes. shifts (n, 3) are in
    voxels (z, y, x). What comes from outside is the volume's mean, a number, or with "noise"
    Gaussian noise of the volume's own mean and standard deviation (``generator`` draws it).
    "trilinear" blurs by a share of a voxel; "fourier" samples a twice oversampled copy, as exact as
    a cubic spline at low and better at high frequencies, at seven times the cost.
    """
    if volumes.ndim != 5 or volumes.shape[1] != 1:
        raise ValueError(
            f"rotate: volumes have shape {tuple(volumes.shape)}, expected (n, 1, d, h, w)"
        )
    if matrices.ndim != 3 or matrices.shape[1:] != (3, 3):
        raise ValueError(f"rotate: matrices have shape {tuple(matrices.shape)}, expected (n, 3, 3)")
    if mode not in ("trilinear", "fourier"):
        raise ValueError(f"rotate: mode is {mode!r}, expected 'trilinear' or 'fourier'")
    count = max(len(volumes), len(matrices))
    # Small pieces keep the sampling grid in a CPU's cache; a GPU takes all at once.
    piece = 16 if volumes.device.type == "cpu" else max(count, 1)
    done = []
    for start in range(0, max(count, 1), piece):
        rows = slice(start, start + piece)
        done.append(
            _rotate_piece(
                volumes[rows] if len(volumes) == count else volumes,
                (matrices[rows] if len(matrices) == count else matrices).to(volumes),
                None
                if shifts is None
                else (shifts[rows] if len(shifts) == count else shifts).to(volumes),
                fill,
                generator,
                mode,
            )
        )
    return torch.cat(done) if len(done) > 1 else done[0]


def _rotate_piece(
    volumes: Tensor,
    matrices: Tensor,
    shifts: Tensor | None,
    fill: Fill,
    generator: torch.Generator | None,
    mode: Mode,
) -> Tensor:
    count = max(len(volumes), len(matrices))
    size = volumes.shape[2:]
    level = volumes.mean(dim=(-3, -2, -1), keepdim=True) if isinstance(fill, str) else float(fill)
    source = volumes - level
    spread = (
        source.square().mean(dim=(-3, -2, -1), keepdim=True).sqrt() if fill == "noise" else None
    )
    factor = 1
    if mode == "fourier":
        source, factor = oversample(source, 2), 2
    grid = sampling_grid([n * factor for n in size], size, matrices, shifts, scale=factor)
    turned = grid_sample(
        source.expand(count, -1, -1, -1, -1),
        grid.expand(count, -1, -1, -1, -1),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=True,
    )
    if spread is not None:
        device = generator.device if generator is not None else volumes.device
        noise = torch.randn(
            turned.shape, generator=generator, device=device, dtype=torch.float32
        ).to(turned)
        covered = _coverage(grid, [n * factor for n in size])
        turned = turned + (1 - covered) * spread * noise
    return turned + level


def oversample(volumes: Tensor, factor: int) -> Tensor:
    """Volumes (..., d, h, w) on a grid ``factor`` times as fine, by padding their spectrum; values
    keep their scale.

    The spectrum is divided by sinc^2, the mean response of trilinear interpolation on the fine
    grid, so that trilinear samples of the result follow the band-limited volume. What is at voxel n
    // 2 comes to n * factor // 2.
    """
    size = volumes.shape[-3:]
    spectrum = torch.fft.rfftn(torch.fft.ifftshift(volumes, dim=(-3, -2, -1)), dim=(-3, -2, -1))
    for axis, n in zip((-3, -2, -1), size, strict=True):
        whole = axis != -1
        frequency = torch.arange(-(n // 2) if whole else 0, n // 2 + 1, device=volumes.device)
        gain = torch.sinc(frequency / (n * factor)).to(volumes.dtype) ** -2
        if n % 2 == 0:  # the Nyquist plane is shared by both signs
            gain = torch.where(frequency.abs() == n // 2, gain / 2, gain)
        shape = [-1 if a == axis else 1 for a in (-3, -2, -1)]
        kept = spectrum.index_select(axis + volumes.ndim, frequency % n) * gain.reshape(shape)
        sides = list(spectrum.shape)
        sides[axis] = n * factor if whole else n * factor // 2 + 1
        spectrum = kept.new_zeros(sides).index_copy(
            axis + volumes.ndim, frequency % (n * factor), kept
        )
    fine = torch.fft.irfftn(spectrum, s=[n * factor for n in size], dim=(-3, -2, -1))
    centred: Tensor = torch.fft.fftshift(fine, dim=(-3, -2, -1)) * float(factor**3)
    return centred


def sampling_grid(
    source: Sequence[int],
    target: Sequence[int],
    matrices: Tensor,
    shifts: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Where each voxel of ``target`` boxes comes from, as ``grid_sample(..., align_corners=True)``
    wants it.

    (n, d, h, w, 3), the last axis (x, y, z). A target voxel p, from the target's centre, samples
    R^T (p - shift) * scale from the source's centre: ``scale`` is target voxel size / source voxel
    size. The grid is affine, so it is the sum of one term per axis: three times faster here than
    ``affine_grid``.
    """
    unit = torch.tensor([2 / (n - 1) for n in source], dtype=matrices.dtype, device=matrices.device)
    centre = torch.tensor([n // 2 for n in source], dtype=matrices.dtype, device=matrices.device)
    inverse = matrices.transpose(1, 2) * (unit * scale)[:, None]  # rows: source axes (z, y, x)
    start = (centre * unit - 1).expand(len(matrices), 3)
    if shifts is not None:
        start = start - torch.einsum("nij,nj->ni", inverse, shifts)
    columns = inverse.flip(1).unbind(2)
    z, y, x = (
        (torch.arange(n, dtype=matrices.dtype, device=matrices.device) - n // 2)[None, :, None]
        * column[:, None, :]
        for n, column in zip(target, columns, strict=True)
    )
    plane = (z + start.flip(1)[:, None, :])[:, :, None] + y[:, None]
    return plane[:, :, :, None] + x[:, None, None]


def _coverage(grid: Tensor, size: Sequence[int]) -> Tensor:
    """(n, 1, d, h, w): the share of each trilinear sample that lies inside the source volume."""
    extent = torch.tensor(size[::-1], dtype=grid.dtype, device=grid.device)
    voxel = (grid + 1) * ((extent - 1) / 2)
    return torch.minimum(voxel + 1, extent - voxel).clamp(0, 1).prod(-1)[:, None]

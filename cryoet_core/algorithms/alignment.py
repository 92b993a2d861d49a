"""Alignment of particles to references by an exhaustive search over rotations, batched, at low
resolution.

A particle with the spectrum F, seen inside the wedge M, is compared with a reference G turned by R
as

    score(R, s) = Re sum_M w conj(F e^{2 pi i k s}) G_R / sqrt(sum_M w |G_R|^2)

over the frequencies up to a cutoff, w being the inverse power of the particles in each shell
(whitening). For all particles and rotations at once that is one matrix product for each shift.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from cryoet_core.algorithms.averages import TiltRange, Volumes, batches, class_averages
from cryoet_core.algorithms.fourier import wedge_mask
from cryoet_core.algorithms.transforms import random_rotations, rotate, rotation_grid

_PADDING = 2
"""A reference is padded to this many times its box before its spectrum is interpolated."""
_MEMORY = 1 << 26
"""Scores, particles x rotations, held at once."""


@dataclass(frozen=True)
class AlignmentBand:
    """The frequencies that are compared: integer vectors q (m, 3), their shells (m,), and weights
    (m,) >= 0.
    """

    q: Tensor
    shell: Tensor
    weight: Tensor
    cutoff: int

    def of(self, spectrum: Tensor) -> Tensor:
        """The band's coefficients (b, m) of spectra (b, d, h, w // 2 + 1) in the layout of
        ``rfftn``.
        """
        z, y, x = (self.q % spectrum.shape[1]).unbind(1)
        picked: Tensor = spectrum[:, z, y, x]
        return picked


@dataclass(frozen=True)
class AlignedPoses:
    """How particles lie: reference turned by ``rotations`` (n, 3, 3), moved by ``shifts`` (n, 3)
    voxels (z, y, x).
    """

    rotations: Tensor
    shifts: Tensor
    scores: Tensor


def make_band(box: int, cutoff: int, tilt_range: TiltRange, tilt_axis: str = "y") -> AlignmentBand:
    """All frequencies of shells 1..cutoff inside the wedge, each pair +-q once."""
    cutoff = min(cutoff, (box - 1) // 2)
    line = torch.arange(-cutoff, cutoff + 1)
    q = torch.cartesian_prod(line, line, line[cutoff:])
    shell = q.double().norm(dim=1).round().long()
    half = (q[:, 2] > 0) | (q[:, 1] > 0) | ((q[:, 1] == 0) & (q[:, 0] > 0))
    keep = (shell >= 1) & (shell <= cutoff) & half
    if tilt_range is not None:
        z, y, x = (q % box).unbind(1)
        keep &= wedge_mask(box, tilt_range, tilt_axis)[z, y, x] > 0.5
    return AlignmentBand(q[keep], shell[keep], torch.ones(int(keep.sum())), cutoff)


def whitened(band: AlignmentBand, spectra: Tensor) -> AlignmentBand:
    """The band with weights 1 / mean power of each shell, from coefficients (n, m) of some
    particles.
    """
    power = torch.zeros(band.cutoff + 1, dtype=torch.float64)
    count = torch.zeros_like(power)
    shell = band.shell.cpu()
    power.index_add_(0, shell, spectra.abs().double().square().mean(0).cpu())
    count.index_add_(0, shell, torch.ones(len(shell), dtype=torch.float64))
    mean = power / count.clamp_min(1)
    weight = torch.where(mean > 0, 1 / mean.clamp_min(1e-30), torch.zeros_like(mean))[shell]
    return AlignmentBand(
        band.q, band.shell, (weight / weight.max().clamp_min(1e-30)).float(), band.cutoff
    )


def spectra(volumes: Tensor, band: AlignmentBand) -> Tensor:
    """Coefficients (b, m) of volumes (b, 1, d, h, w), with the origin at voxel n // 2."""
    return band.of(
        torch.fft.rfftn(torch.fft.ifftshift(volumes[:, 0], dim=(1, 2, 3)), dim=(1, 2, 3))
    )


def turned_references(
    reference: Tensor, rotations: Tensor, band: AlignmentBand, batch_size: int = 1024
) -> Tensor:
    """Weighted, normalised coefficients (r, m) of a reference (d, h, w) turned by each of rotations
    (r, 3, 3).

    A turned volume has the turned spectrum, so only the band is sampled, at R^T q in the spectrum
    of the padded volume.
    """
    spectrum = _padded_spectrum(reference, band.cutoff)
    reach = spectrum.shape[-1] // 2
    weight, q = band.weight.to(spectrum), band.q.to(spectrum)
    rows = []
    for some in batches(rotations.to(spectrum), batch_size):
        points = (q @ some) * (_PADDING / reach)  # (r, m, 3): R^T q as a row vector
        sampled = grid_sample(spectrum, points.flip(-1)[None, None], align_corners=True)[0, :, 0]
        rows.append(torch.complex(sampled[0], sampled[1]))
    table = torch.cat(rows)
    norm = (weight * table.abs().square()).sum(1, keepdim=True).sqrt().clamp_min(1e-20)
    return table * (weight / norm)


def _padded_spectrum(volume: Tensor, cutoff: int) -> Tensor:
    """Real and imaginary part (1, 2, c, c, c) of a zero-padded volume's spectrum up to the cutoff,
    k = 0 in the centre.

    The volume is divided by what linear interpolation of the spectrum will multiply it with, sinc^2
    on each axis.
    """
    size = volume.shape[0]
    padded = size * _PADDING
    taper = torch.sinc((torch.arange(size) - size // 2) / padded).square().to(volume)
    volume = volume / (taper[:, None, None] * taper[:, None] * taper)
    start = padded // 2 - size // 2
    whole = torch.zeros(padded, padded, padded, device=volume.device)
    whole[start : start + size, start : start + size, start : start + size] = volume
    spectrum = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(whole)))
    reach = _PADDING * cutoff + 1
    part = slice(padded // 2 - reach, padded // 2 + reach + 1)
    return torch.view_as_real(spectrum[part, part, part]).permute(3, 0, 1, 2)[None].contiguous()


def search(
    coefficients: Tensor, table: Tensor, band: AlignmentBand, box: int, shifts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Best row of ``table`` (r, m) and best shift for each particle (b, m).

    ``shifts`` (b, s, 3) in voxels are each particle's candidates. Returns scores (b,), rows (b,),
    shifts (b, 3).
    """
    b = len(coefficients)
    best = torch.full((b,), -math.inf, device=coefficients.device)
    row, moved = (
        torch.zeros(b, dtype=torch.long, device=best.device),
        torch.zeros(b, 3, device=best.device),
    )
    waves = (2 * math.pi / box) * band.q.to(best)
    right = torch.cat((table.real, table.imag), 1).T
    for j in range(shifts.shape[1]):
        shift = shifts[:, j].to(best)
        at_origin = coefficients * torch.exp(1j * (shift @ waves.T))
        score, index = (torch.cat((at_origin.real, at_origin.imag), 1) @ right).max(1)
        better = score > best
        best, row = torch.where(better, score, best), torch.where(better, index, row)
        moved = torch.where(better[:, None], shift, moved)
    return best, row, moved


def shift_grid(radius: float, step: float) -> Tensor:
    """Shifts (s, 3) in voxels on a grid of ``step`` inside a ball of ``radius``, the zero shift
    first.
    """
    reach = int(radius / step + 1e-6)
    line = torch.arange(-reach, reach + 1) * step
    grid = torch.cartesian_prod(line, line, line)
    grid = grid[grid.norm(dim=1) <= radius + 1e-6]
    return grid[grid.norm(dim=1).argsort(stable=True)]


# ---- classes -------------------------------------------------------------------------------------


def aligned_averages(
    volumes: Volumes,
    labels: np.ndarray | Tensor,
    k: int | None = None,
    *,
    tilt_range: TiltRange = None,
    tilt_axis: str = "y",
    iterations: int = 6,
    max_shift: float = 4.0,
    step_degrees: float = 18.0,
    max_particles: int = 1000,
    generator: torch.Generator | None = None,
    batch_size: int = 256,
    report: Callable[[str], None] | None = None,
) -> tuple[Tensor, AlignedPoses]:
    """Averages (k, d, h, w) of particles that were aligned to their own class's average, and the
    poses found.

    The search starts from the unaligned averages at a resolution of box / 8 shells and ends at box
    / 4; its rotations are a grid that ends at ``step_degrees`` and is turned at random in each
    iteration. Only the first ``max_particles`` of each class are aligned, and only they are
    averaged. AlignedPoses of all others are the identity. ``report`` takes a line per iteration.
    """
    labels = torch.as_tensor(labels).long()
    k = k if k is not None else int(labels.max()) + 1
    chosen = _first_of_each(labels, k, max_particles)
    poses = AlignedPoses(
        torch.eye(3).repeat(len(labels), 1, 1),
        torch.zeros(len(labels), 3),
        torch.zeros(len(labels)),
    )
    average = partial(
        class_averages, volumes, chosen, k, tilt_range=tilt_range, tilt_axis=tilt_axis
    )
    averages = average(batch_size=batch_size)
    for iteration in range(iterations):
        share = iteration / max(iterations - 1, 1)
        band = make_band(volumes.box, round(volumes.box * (1 + share) / 8), tilt_range, tilt_axis)
        step = step_degrees * (1.8 - 0.8 * share)
        rotations = rotation_grid(step) @ random_rotations(1, generator)
        offsets = shift_grid(max_shift, 2.0) if iteration < 2 else shift_grid(1.0, 1.0)
        for name in range(k):
            members = (chosen == name).nonzero().flatten()
            _align_class(
                volumes,
                members,
                averages[name],
                rotations,
                offsets,
                band,
                poses,
                max_shift,
                batch_size,
            )
        averages = average(rotations=poses.rotations, shifts=poses.shifts, batch_size=batch_size)
        if report is not None:
            mean = float(poses.scores[chosen >= 0].mean()) if bool((chosen >= 0).any()) else 0.0
            report(f"alignment {iteration + 1} of {iterations}: mean score {mean:.4g}")
    return averages, poses


def _first_of_each(labels: Tensor, k: int, most: int) -> Tensor:
    """Labels with -1 for all but the first ``most`` rows of each class."""
    chosen = torch.full_like(labels, -1)
    for name in range(k):
        rows = (labels == name).nonzero().flatten()[:most]
        chosen[rows] = name
    return chosen


def _align_class(
    volumes: Volumes,
    members: Tensor,
    reference: Tensor,
    rotations: Tensor,
    offsets: Tensor,
    band: AlignmentBand,
    poses: AlignedPoses,
    max_shift: float,
    batch_size: int,
) -> None:
    """Update the poses of one class's members in place."""
    table: Tensor | None = None
    for rows in batches(members, min(batch_size, max(1, _MEMORY // len(rotations)))):
        coefficients = spectra(volumes[rows], band)
        if table is None:
            band = whitened(band, coefficients)
            table = turned_references(reference.to(coefficients.device), rotations, band)
        candidates = (poses.shifts[rows][:, None] + offsets).clamp(-max_shift, max_shift)
        score, row, shift = search(coefficients, table, band, volumes.box, candidates)
        poses.rotations[rows] = rotations[row.cpu()]
        poses.shifts[rows] = shift.cpu()
        poses.scores[rows] = score.cpu()


def aligned_to_each_other(
    averages: Tensor, reference: int = 0, step_degrees: float = 12.0, max_shift: float = 3.0
) -> Tensor:
    """Class averages (k, d, h, w) turned and moved to resemble one of them, for viewing side by
    side.
    """
    box = averages.shape[-1]
    band = make_band(box, box // 4, None)
    grid = rotation_grid(step_degrees).to(averages)
    table = turned_references(averages[reference], grid, band)
    offsets = shift_grid(max_shift, 1.0).expand(len(averages), -1, 3)
    _, row, shift = search(spectra(averages[:, None], band), table, band, box, offsets)
    rotation = grid[row]
    rotation[reference], shift[reference] = torch.eye(3).to(grid), torch.zeros(3).to(grid)
    back = rotation.transpose(1, 2)
    return rotate(averages[:, None], back, -torch.einsum("bij,bj->bi", back, shift))[:, 0]

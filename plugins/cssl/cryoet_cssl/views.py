"""Draw random views of subtomograms: one affine resampling, then one pass through Fourier space.

A view of a particle is what the microscope might have shown of it instead: rotated, shifted, seen
through the missing wedge of the data set, with other noise. The wedge is drawn after the rotation,
so it lies as in the data, and what the rotated subtomogram has lost in its own wedge stays lost.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from cryoet_core.algorithms.fourier import ctf, frequency_grid, radial_frequency
from cryoet_core.algorithms.transforms import random_rotations, rotate, standardise

DEFOCUS = (2.0, 6.0)
"""um, of the noise that is coloured by a contrast transfer function."""


class Views:
    """Draw one random, standardised view of each volume: ``views(volumes, generator)``.

    All numbers come from ``generator`` (on the CPU), noise on a GPU from one seeded by it, so that
    the same generator gives the same views.

    Parameters
    ----------
    config : Any
        A ``ViewConfig``.
    box : int
        Box size in voxels.
    voxel_size : float
        Voxel size in Å.
    tilt_range : tuple[float, float] | None
        Lowest and highest tilt in degrees; None for -60 and 60.
    tilt_axis : str
        "y" or "x".
    device : torch.device
        Device of the volumes.
    """

    def __init__(
        self,
        config: Any,
        box: int,
        voxel_size: float,
        tilt_range: tuple[float, float] | None,
        tilt_axis: str,
        device: torch.device,
    ) -> None:
        self.config, self.box = config, box
        self.tilt_range = tilt_range or (-60.0, 60.0)
        self.angles = _tilt_angles(box, tilt_axis).to(device)
        self.frequencies = radial_frequency(box, voxel_size).to(device)
        self.strength = 1.0
        """How much of crop, rotation, shift and scale is drawn, 0 to 1; it begins weakly."""

    def __call__(self, volumes: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one view (n, 1, b, b, b) of each volume."""
        noise = generator
        if volumes.device.type != "cpu":
            noise = torch.Generator(volumes.device).manual_seed(generator.initial_seed())
        turned = self.resampled(volumes, generator, noise)
        return standardise(self.filtered(turned, generator, noise))

    # ---- geometry --------------------------------------------------------------------------------

    def resampled(
        self, volumes: Tensor, generator: torch.Generator, noise: torch.Generator
    ) -> Tensor:
        """Crop and resize, rotate, shift and scale in one interpolation.

        Parameters
        ----------
        volumes : Tensor
            Volumes (n, 1, b, b, b), standardised, protein bright.
        generator : torch.Generator
            Source of random numbers, on the CPU.
        noise : torch.Generator
            Source of noise, on the device of the volumes.

        Returns
        -------
        Tensor
            Views (n, 1, b, b, b) before noise and wedge.
        """
        matrices, shifts = self.placements(len(volumes), generator)
        return rotate(volumes, matrices, shifts, fill=self.config.fill, generator=noise)

    def placements(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw matrices (n, 3, 3) and shifts (n, 3) in voxels for ``rotate``.

        A matrix is a rotation times a magnification. The voxel p of a view comes from o + (s / a)
        R^T (p - t): crop of relative edge s at o, rotation R, scale a, shift t. ``rotate`` samples
        M^T (p - u), which is the same for M = (s / a) R and u = t - (a / s) R o.
        """
        config = self.config
        crops = self.strength * _chance(n, config.crop_probability, generator)
        smallest, largest = config.crop
        edges = 1 - crops * (1 - _uniform(n, smallest, largest, generator))
        offsets = _uniform((n, 3), -0.5, 0.5, generator) * (self.box * (1 - edges))[:, None]
        moves = _chance(n, config.affine_probability, generator)
        scales = 1 + self.strength * moves * _uniform(n, -config.zoom, config.zoom, generator)
        shifts = (
            moves[:, None]
            * _uniform((n, 3), -1, 1, generator)
            * self.strength
            * config.shift
            * self.box
        )
        turns = moves[:, None, None].bool()
        rotations = torch.where(turns, self._rotations(n, generator), torch.eye(3))
        magnified = rotations * (edges / scales)[:, None, None]
        return magnified, shifts - torch.einsum("nij,nj->ni", rotations, offsets) * (
            scales / edges
        )[:, None]

    def _rotations(self, n: int, generator: torch.Generator) -> Tensor:
        if self.config.full_so3:
            return partial_rotations(random_rotations(n, generator), self.strength)
        limit = math.radians(self.config.angle) * self.strength
        return beam_rotations(_uniform(n, -limit, limit, generator))

    # ---- Fourier space ---------------------------------------------------------------------------

    def filtered(
        self, volumes: Tensor, generator: torch.Generator, noise: torch.Generator
    ) -> Tensor:
        """Add noise, then apply the missing wedge, which noise has too.

        Parameters
        ----------
        volumes : Tensor
            Volumes (n, 1, b, b, b), standardised, protein bright.
        generator : torch.Generator
            Source of random numbers, on the CPU.
        noise : torch.Generator
            Source of noise, on the device of the volumes.

        Returns
        -------
        Tensor
            Volumes (n, 1, b, b, b).
        """
        config, n = self.config, len(volumes)
        wedges, levels = (
            _chance(n, config.wedge, generator),
            _uniform(n, 0, config.noise, generator),
        )
        added = None
        if config.noise > 0:
            draws = torch.randn(volumes.shape, generator=noise, device=noise.device)
            added = draws * levels.to(volumes.device)[:, None, None, None, None]
            if config.noise_colour == "white":
                volumes, added = volumes + added, None
        if config.wedge == 0 and added is None:
            return volumes
        spectrum = torch.fft.rfftn(volumes, dim=(-3, -2, -1))
        if added is not None:
            spectrum = spectrum + torch.fft.rfftn(added, dim=(-3, -2, -1)) * self._colours(
                n, generator
            )
        if config.wedge > 0:
            spectrum = spectrum * self._masks(wedges, generator)
        seen: Tensor = torch.fft.irfftn(spectrum, s=volumes.shape[-3:], dim=(-3, -2, -1))
        return seen

    def _masks(self, wanted: Tensor, generator: torch.Generator) -> Tensor:
        """Return masks (n, 1, b, b, b // 2 + 1): 1 where the tilts of each view reach.

        Each end of the range varies by a jitter.
        """
        ends = torch.tensor(self.tilt_range) + self.config.wedge_jitter * _uniform(
            (len(wanted), 2), -1, 1, generator
        )
        ends = torch.where(wanted[:, None].bool(), ends, torch.tensor([-90.0, 90.0])).to(
            self.angles
        )
        low, high = (end[:, None, None, None, None] for end in ends.unbind(1))
        here, there = self.angles
        seen: Tensor = (here >= low) & (here <= high) & (there >= low) & (there <= high)
        masks: Tensor = (seen | here.isnan()).float()
        return masks

    def _colours(self, n: int, generator: torch.Generator) -> Tensor:
        """Return transfer functions (n, 1, b, b, b // 2 + 1) of random defocus, mean square 1."""
        defocus = _uniform(n, *DEFOCUS, generator).to(self.frequencies.device)
        transfer = ctf(self.frequencies, defocus)
        return (transfer / transfer.square().mean((1, 2, 3), keepdim=True).sqrt())[:, None]


def partial_rotations(matrices: Tensor, share: float) -> Tensor:
    """Rotate about the same axes as matrices (n, 3, 3) by ``share`` of the angle (Rodrigues)."""
    if share == 1:
        return matrices
    cosine = ((matrices.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)
    skew = matrices - matrices.mT
    skew = skew / skew.square().sum((1, 2), keepdim=True).div(2).sqrt().clamp(min=1e-6)
    angle = (share * cosine.acos())[:, None, None]
    return torch.eye(3) + angle.sin() * skew + (1 - angle.cos()) * skew @ skew


def beam_rotations(radians: Tensor) -> Tensor:
    """Return right-handed rotations (n, 3, 3) about the beam, axes (z, y, x)."""
    c, s, zero, one = (
        radians.cos(),
        radians.sin(),
        torch.zeros_like(radians),
        torch.ones_like(radians),
    )
    rows = ((one, zero, zero), (zero, c, s), (zero, -s, c))
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _tilt_angles(box: int, tilt_axis: str) -> Tensor:
    """Return tilts (2, b, b, b // 2 + 1) in degrees that see each frequency and its opposite.

    NaN on the tilt axis, which every tilt sees. The two differ only where an even box cannot hold
    both signs.
    """
    kz, ky, kx = (frequency_grid(box, full=True) * box).double()
    across = kx if tilt_axis == "y" else -ky
    height = torch.where(across < 0, -kz, kz)
    angle = torch.rad2deg(torch.atan2(height, across.abs()))
    angle[(height == 0) & (across == 0)] = float("nan")
    opposite = angle.flip((0, 1, 2)).roll((1, 1, 1), (0, 1, 2))
    return torch.stack((angle, opposite))[..., : box // 2 + 1].float().contiguous()


def _uniform(
    shape: int | tuple[int, ...], low: float, high: float, generator: torch.Generator
) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _chance(n: int, probability: float, generator: torch.Generator) -> Tensor:
    """(n,) of 0 and 1."""
    return (torch.rand(n, generator=generator) < probability).float()

"""Normalise poses: particles moved to the box centre, their principal axes rotated to z, y and x.

This follows the reference code of Uddin 2021, with two faults of that mended: weights come from
the density above a threshold inside a mask (where all voxels have weight, the background decides),
and rotations have determinant +1 (no mirror images).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cryoet_core.algorithms.centring import soft_sphere
from cryoet_core.algorithms.fourier import radial_frequency
from cryoet_core.algorithms.transforms import rotate, standardise

THRESHOLD = 1.0
"""Standard deviations above the mean in the sphere from which on density counts as the particle's.
"""


class Prepared(NamedTuple):
    """Volumes as the network sees them, and how the particles lie.

    The particle is the normalised one rotated by ``rotations``, then moved by ``shifts``.

    Attributes
    ----------
    volumes : Tensor
        Volumes (n, 1, d, h, w), mean 0, standard deviation 1.
    rotations : Tensor
        Rotations (n, 3, 3).
    shifts : Tensor
        Shifts (n, 3) in voxels.
    """

    volumes: Tensor
    rotations: Tensor
    shifts: Tensor


class Preparation:
    """Prepare subtomograms for the autoencoder.

    Poses are found in the subtomogram smoothed by at least ``least`` voxels, for noise has
    principal axes too.

    Parameters
    ----------
    box : int
        Box size in voxels.
    smoothing : float
        Standard deviation of a Gaussian in voxels, 0 for none.
    pose : bool
        Whether poses are normalised.
    device : torch.device | str, optional
        Device of the volumes.
    """

    least = 2.0

    def __init__(
        self, box: int, smoothing: float, pose: bool, device: torch.device | str = "cpu"
    ) -> None:
        self.smoothing, self.pose = smoothing, pose
        square = radial_frequency(box).square().to(device)
        self.blur = torch.exp(-2 * torch.pi**2 * smoothing**2 * square)
        self.further = torch.exp(-2 * torch.pi**2 * max(self.least**2 - smoothing**2, 0.0) * square)
        self.mask = soft_sphere(box, box / 2 - 1, device=device)

    def __call__(self, volumes: Tensor) -> Prepared:
        """Prepare standardised volumes (n, 1, d, h, w).

        What comes into a rotated subtomogram from outside is its mean.
        """
        n = len(volumes)
        seen = _filtered(volumes, self.blur) if self.smoothing > 0 else volumes
        if not self.pose:
            same = torch.eye(3, device=volumes.device).expand(n, 3, 3)
            return Prepared(standardise(seen), same, volumes.new_zeros(n, 3))
        turns, centres = principal_frame(_filtered(seen, self.further)[:, 0], self.mask)
        moved = -torch.einsum("nij,nj->ni", turns, centres)
        return Prepared(standardise(rotate(seen, turns, moved)), turns.transpose(1, 2), centres)


def principal_frame(volumes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Find rotations (n, 3, 3) of principal axes to z, y, x, and centres of mass (n, 3).

    Weights are the density above ``THRESHOLD`` standard deviations in the mask. The axis of
    largest extent becomes z, the second y. An axis points to where the third moment is positive;
    the last one follows from determinant +1. Centres are in voxels from voxel n // 2. Where no
    voxel has weight: no rotation, centre 0.

    Parameters
    ----------
    volumes : Tensor
        Volumes (n, d, h, w), protein bright.
    mask : Tensor
        Mask (d, h, w) in 0..1.

    Returns
    -------
    tuple[Tensor, Tensor]
        Rotations and centres.
    """
    share = mask / mask.sum()
    mean = (volumes * share).sum((1, 2, 3), keepdim=True)
    spread = ((volumes - mean).square() * share).sum((1, 2, 3), keepdim=True).sqrt()
    weights = ((volumes - mean - THRESHOLD * spread).relu() * mask).flatten(1).double()
    total = weights.sum(1, keepdim=True)
    empty = total[:, 0] <= 0
    weights = weights / torch.where(total > 0, total, torch.ones_like(total))
    places = _places(volumes.shape[1:], volumes.device)  # (d h w, 3)
    centres = weights @ places
    second = (
        torch.einsum("nv,va,vb->nab", weights, places, places)
        - centres[:, :, None] * centres[:, None, :]
    )
    axes = (
        torch.linalg.eigh(second).eigenvectors.flip(2).transpose(1, 2)
    )  # rows: directions, longest first
    along = (
        torch.einsum("nia,va->niv", axes, places)
        - torch.einsum("nia,na->ni", axes, centres)[..., None]
    )
    third = torch.einsum("nv,niv->ni", weights, along**3)
    axes = axes * torch.where(third < 0, -1.0, 1.0)[..., None]
    last = torch.linalg.cross(axes[:, 0], axes[:, 1])
    turns = torch.stack((axes[:, 0], axes[:, 1], last), 1)
    turns[empty], centres[empty] = torch.eye(3, dtype=turns.dtype, device=turns.device), 0.0
    return turns.to(volumes), centres.to(volumes)


def _places(shape: torch.Size, device: torch.device) -> Tensor:
    lines = [torch.arange(n, device=device, dtype=torch.float64) - n // 2 for n in shape]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).flatten(0, 2)


def _filtered(volumes: Tensor, transfer: Tensor) -> Tensor:
    size = volumes.shape[-3:]
    spectrum = torch.fft.rfftn(volumes, dim=(-3, -2, -1)) * transfer
    filtered: Tensor = torch.fft.irfftn(spectrum, s=size, dim=(-3, -2, -1))
    return filtered

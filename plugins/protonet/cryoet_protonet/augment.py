"""What may be done to a training volume without making it another structure."""

from __future__ import annotations

import torch
from torch import Tensor

from cryoet_core.transforms import random_rotations, rotate


def augmented(volumes: Tensor, how: str, generator: torch.Generator) -> Tensor:
    """Copies of volumes (n, 1, d, h, w), each changed by itself. ``how``: none, flips, rotations.

    flips: each axis reversed or not, about voxel n // 2. A wedge that is symmetric about the beam and the tilt axis
    stays where it is; an odd number of flips also changes the hand, which at these resolutions hardly shows. rotations:
    any of SO(3), corners filled with noise; the missing wedge turns with the particle.
    """
    if how == "flips":
        return _flipped(volumes, generator)
    if how == "rotations":
        return rotate(
            volumes, random_rotations(len(volumes), generator, volumes.device), fill="noise", generator=generator
        )
    return volumes


def _flipped(volumes: Tensor, generator: torch.Generator) -> Tensor:
    chosen = torch.rand(3, len(volumes), 1, 1, 1, 1, generator=generator).to(volumes.device) < 0.5
    for axis, choice in zip((-3, -2, -1), chosen, strict=True):
        turned = volumes.flip(axis)
        if volumes.shape[axis] % 2 == 0:  # else voxel n // 2 would move by one
            turned = turned.roll(1, axis)
        volumes = torch.where(choice, turned, volumes)
    return volumes

"""What may be done to a training volume without making it another structure."""

from __future__ import annotations

import torch
from torch import Tensor

from cryoet_core.algorithms.transforms import random_rotations, rotate


def augmented(volumes: Tensor, how: str, generator: torch.Generator) -> Tensor:
    """Copies of volumes (n, 1, d, h, w), each changed by itself. ``how``: none, flips, rotations.

    flips: each axis reversed or not, about voxel n // 2. A wedge that is symmetric about the beam
    and the tilt axis stays where it is; an odd number of flips also changes the hand, which at
    these resolutions hardly shows. rotations: any of SO(3), corners filled with noise; the missing
    wedge turns with the particle.
    """
    if how == "flips":
        return _flipped(volumes, generator)
    if how == "rotations":
        return rotate(
            volumes,
            random_rotations(len(volumes), generator, volumes.device),
            fill="noise",
            generator=generator,
        )
    return volumes


def _flipped(volumes: Tensor, generator: torch.Generator) -> Tensor:
    """Each of the eight ways at once, so that a volume is copied once and not once for each
    axis.
    """
    ways = torch.randint(8, (len(volumes),), generator=generator).to(volumes.device)
    turned = torch.empty_like(volumes)
    for way in range(8):
        axes = [axis for bit, axis in enumerate((-3, -2, -1)) if way >> bit & 1]
        moved = [
            axis for axis in axes if volumes.shape[axis] % 2 == 0
        ]  # else voxel n // 2 would move by one
        rows = (ways == way).nonzero()[:, 0]
        turned[rows] = (
            volumes[rows].flip(axes).roll([1] * len(moved), moved)
            if moved
            else volumes[rows].flip(axes)
        )
    return turned

"""Change a training volume without making it another structure."""

from __future__ import annotations

import torch
from torch import Tensor

from cryoet_core.algorithms.transforms import random_rotations, rotate


def augmented(volumes: Tensor, how: str, generator: torch.Generator) -> Tensor:
    """Copy volumes, each changed by itself.

    Parameters
    ----------
    volumes : Tensor
        Volumes (n, 1, d, h, w).
    how : str
        "none"; "flips": reverse each axis or not, about voxel n // 2; "rotations": any of SO(3),
        corners filled with noise. A wedge that is symmetric about the beam and the tilt axis stays
        where it is in flips; an odd number of flips also changes the hand, which at these
        resolutions hardly shows. In rotations the missing wedge rotates with the particle.
    generator : torch.Generator
        Source of random numbers, on the CPU.

    Returns
    -------
    Tensor
        Volumes (n, 1, d, h, w).
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
    """Flip in each of the eight ways at once, so that a volume is copied once and not per axis."""
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

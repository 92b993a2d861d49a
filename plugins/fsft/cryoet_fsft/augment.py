"""Copies of cubes that the microscope could have recorded as well: what keeps the missing wedge in
its place.
"""

from __future__ import annotations

import torch
from torch import Tensor

AXES = (2, 3, 4)


def augmented(volumes: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Volumes (n, 1, b, b, b), each turned by 180 degrees about one axis or none ("turns"), or
    mirrored in any of the three axes ("mirrors", which also make the other hand), or as they are
    ("none")."""
    if kind == "none":
        return volumes
    bits = torch.randint(2, (3, len(volumes)), generator=generator, dtype=torch.bool)
    if kind == "turns":  # an even number of mirrors is a rotation
        bits[2] = bits[0] ^ bits[1]
    for axis, chosen in zip(AXES, bits.to(volumes.device), strict=True):
        volumes = torch.where(chosen[:, None, None, None, None], mirrored(volumes, axis), volumes)
    return volumes


def mirrored(volumes: Tensor, axis: int) -> Tensor:
    """Mirrored along ``axis`` about voxel b // 2, where structures are centred."""
    flipped = volumes.flip(axis)
    return flipped.roll(1, axis) if volumes.shape[axis] % 2 == 0 else flipped

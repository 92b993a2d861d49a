"""Make copies of subtomograms that the microscope could have recorded as well.

They keep the missing wedge in its place.
"""

from __future__ import annotations

import torch
from torch import Tensor

AXES = (2, 3, 4)


def augmented(volumes: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Change each volume at random in a way that keeps the missing wedge in its place.

    Parameters
    ----------
    volumes : Tensor
        Volumes (n, 1, b, b, b).
    kind : str
        "turns": rotate each by 180 degrees about one axis or none; "mirrors": mirror each in any
        of the three axes, which also makes the other hand; "none": leave all as they are.
    generator : torch.Generator
        Source of random numbers, on the CPU.

    Returns
    -------
    Tensor
        Changed volumes (n, 1, b, b, b).
    """
    if kind == "none":
        return volumes
    bits = torch.randint(2, (3, len(volumes)), generator=generator, dtype=torch.bool)
    if kind == "turns":  # an even number of mirrors is a rotation
        bits[2] = bits[0] ^ bits[1]
    for axis, chosen in zip(AXES, bits.to(volumes.device), strict=True):
        volumes = torch.where(chosen[:, None, None, None, None], mirrored(volumes, axis), volumes)
    return volumes


def mirrored(volumes: Tensor, axis: int) -> Tensor:
    """Mirror along ``axis`` about voxel b // 2, where structures are centred."""
    flipped = volumes.flip(axis)
    return flipped.roll(1, axis) if volumes.shape[axis] % 2 == 0 else flipped

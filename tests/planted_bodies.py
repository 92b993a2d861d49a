"""Small densities that tests plant in unknown poses, and generators of known seeds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TILTS = (-60.0, 60.0)
BOX = 16


def generator(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(sum(1000**i * (part + 1) for i, part in enumerate(key)))


def body(kind: int, box: int = BOX) -> Tensor:
    """(box, box, box): blobs on a line, on an L or on a tetrahedron, each unlike its mirror image
    or the others.
    """
    places = (
        [(0, 0, -3.5), (0, 0, 0), (0, 0, 3.5)],
        [(-3, 0, -2), (3, 0, -2), (-3, 0, 3), (0, 3.5, 0)],
        [(2.5, 2.5, 2.5), (2.5, -2.5, -2.5), (-2.5, 2.5, -2.5), (-2.5, -2.5, 2.5), (0, 0, 0)],
    )[kind]
    line = torch.arange(box) - box // 2
    grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"))
    centres = torch.tensor(places, dtype=torch.float32) - torch.tensor(
        places, dtype=torch.float32
    ).mean(0)
    return torch.stack(
        [torch.exp(-(grid - c[:, None, None, None]).square().sum(0) / 4.0) for c in centres]
    ).sum(0)


def directly(volume: Tensor, points: Tensor) -> Tensor:
    """Fourier coefficients about voxel n // 2 by the sum that defines them, in double precision."""
    size = volume.shape[-1]
    line = torch.arange(size, dtype=torch.float64) - size // 2
    waves = [torch.exp(-2j * math.pi * points[:, a, None].double() * line / size) for a in range(3)]
    return torch.einsum("zyx,pz,py,px->p", volume.to(torch.complex128), *waves)

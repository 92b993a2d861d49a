"""Which rotations are tried: a uniform set, reduced by the template's symmetry, and a few about a
found one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryoet_core.algorithms.transforms import rotation_grid
from cryoet_core.simulate.shapes.pointgroups import point_group


def rotation_set(step: float, symmetry: str = "C1") -> Tensor:
    """(m, 3, 3) float32 rotations about ``step`` degrees apart, the identity first; of equivalent
    ones one is kept.

    R and R g turn a template of symmetry g alike, so of each class the one nearest to the identity
    is searched: the 8 pi^2 / step^3 rotations shrink by the order of the group.
    """
    grid = rotation_grid(step, dtype=torch.float64)
    group = torch.from_numpy(point_group(symmetry))
    own = grid.diagonal(dim1=1, dim2=2).sum(1)
    # trace(R g) for every pair
    others = torch.einsum("nij,gji->ng", grid, group)
    return grid[own >= others.amax(dim=1) - 1e-9].float()


def turn(vectors: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of vectors (..., 3) along the axis, as long as the angle in
    radians.
    """
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))
    rotations: Tensor = torch.linalg.matrix_exp(cross)
    return rotations


def neighbours(degrees: float) -> Tensor:
    """(15, 3, 3) rotations: none, ``degrees`` and back about each axis, and the eight steps between
    the axes.
    """
    line = torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)
    steps = torch.cartesian_prod(line, line, line)
    several = steps.abs().sum(dim=1)
    return turn(steps[several != 2] * math.radians(degrees)).float()


def angle_between(first: Tensor, second: Tensor) -> Tensor:
    """Degrees (...,) between rotations (..., 3, 3)."""
    trace = (first.double() * second.double()).sum(dim=(-2, -1))
    return torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))

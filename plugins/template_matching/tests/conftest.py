"""Densities for the tests: a body without symmetry, whose mirror image differs from it, and a place
for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

BLOBS = ((0, 0, 0, 1.0), (3, 1, 0, 0.8), (-1, 3.5, 1, 1.2), (0, -2, 3.5, 0.7), (-3, -1, -2, 1.0))
"""(z, y, x) in voxels from the middle, and height."""


def _body(
    size: int = 20, width: float = 1.4, blobs: tuple[tuple[float, ...], ...] = BLOBS
) -> Tensor:
    """(size, size, size), its middle at size // 2."""
    grid = np.stack(np.meshgrid(*[np.arange(size) - size // 2] * 3, indexing="ij"))
    density = np.zeros((size,) * 3)
    for *place, height in blobs:
        away = ((grid - np.array(place)[:, None, None, None]) ** 2).sum(0)
        density += height * np.exp(-away / (2 * width**2))
    return torch.from_numpy(density.astype(np.float32))


def _planted(volume: Tensor, density: Tensor, place: tuple[int, int, int]) -> Tensor:
    """The volume with a density added, its middle at ``place``."""
    out = volume.clone()
    corner = [p - n // 2 for p, n in zip(place, density.shape, strict=True)]
    out[tuple(slice(c, c + n) for c, n in zip(corner, density.shape, strict=True))] += density
    return out


@pytest.fixture(scope="session")
def body() -> Callable[..., Tensor]:
    """``body(size, width)``: five blobs of different heights."""
    return _body


@pytest.fixture(scope="session")
def planted() -> Callable[..., Tensor]:
    """``planted(volume, density, place)``."""
    return _planted

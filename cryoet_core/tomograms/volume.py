"""What is read region by region: the volumes and masks of tomograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

Region: TypeAlias = tuple[slice, slice, slice]
SAME_VOXELS = 0.02


class Volume(Protocol):
    """What a file offers: a shape and any region as float32, values as they stand there."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (z, y, x)."""

    def read(self, region: Region, /) -> np.ndarray:
        """Return a region (z, y, x)."""


class Mask(Protocol):
    """Whole numbers for each voxel of a tomogram: ids of particles, or classes."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (z, y, x), those of the tomogram."""

    def read(self, region: Region, /) -> np.ndarray:
        """Return a region (z, y, x)."""


@dataclass(frozen=True)
class ArrayVolume:
    """A volume in memory, or in a memory map.

    Attributes
    ----------
    array : numpy.ndarray
        (d, h, w), axes (z, y, x).
    """

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (z, y, x)."""
        d, h, w = self.array.shape
        return d, h, w

    def read(self, region: Region) -> np.ndarray:
        """Return a region (z, y, x), float32, a copy."""
        return np.array(self.array[region], dtype=np.float32)

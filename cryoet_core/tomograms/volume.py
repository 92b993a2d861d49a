"""What is read region by region: the volumes and masks of tomograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

Region: TypeAlias = tuple[slice, slice, slice]
SAME_VOXELS = 0.02


class Volume(Protocol):
    """What a file offers: its shape (z, y, x) and any region of it as float32, values as they stand
    there.
    """

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def read(self, region: Region, /) -> np.ndarray: ...


class Mask(Protocol):
    """Whole numbers (z, y, x) of the shape of a tomogram's volume: ids of particles, classes of
    voxels.
    """

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def read(self, region: Region, /) -> np.ndarray: ...


@dataclass(frozen=True)
class ArrayVolume:
    """A volume (z, y, x) in memory, or in a memory map."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        d, h, w = self.array.shape
        return d, h, w

    def read(self, region: Region) -> np.ndarray:
        return np.array(self.array[region], dtype=np.float32)

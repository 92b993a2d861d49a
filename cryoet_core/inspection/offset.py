"""How far picks lie from the middle of what they pick, on average.

Half a voxel already tells of a convention.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryoet_core.particles.cutting import boxes, inside
from cryoet_core.picks.table import Picks
from cryoet_core.tomograms import Tomograms

MOST, FEWEST = 400, 20
_PARTS = 10
_FINE = 16
"""Voxels of the average in a diameter, at most."""


@dataclass(frozen=True)
class Offset:
    """From the picks to the brightest place of their average.

    Attributes
    ----------
    vector : numpy.ndarray
        (3,), Å, axes (z, y, x).
    error : float
        Standard error of each component, Å.
    """

    vector: np.ndarray
    error: float

    @property
    def length(self) -> float:
        """The length of the vector in Å."""
        return float(np.linalg.norm(self.vector))

    def matters(self, voxel_size: float) -> bool:
        """Return whether it is more than chance, and than rounding to voxels.

        One in a thousand is longer by chance.

        Parameters
        ----------
        voxel_size : float
            Å, of the tomograms.
        """
        return self.length > max(4 * self.error, 0.4 * voxel_size)

    def __str__(self) -> str:
        parts = (
            f"{axis} {value:+.1f}".replace("-", "−")
            for axis, value in zip("zyx", self.vector, strict=True)
        )
        return f"{', '.join(parts)} Å"


def offset(tomograms: Tomograms, picks: Picks, diameter: float) -> Offset | None:
    """Find where the average about the picks is brightest.

    Parameters
    ----------
    tomograms : Tomograms
        The tomograms.
    picks : Picks
        At most ``MOST`` of them are averaged.
    diameter : float
        Å, of the particle.

    Returns
    -------
    Offset or None
        None for too few whole boxes.
    """
    from scipy.ndimage import gaussian_filter

    voxel = max(max(tomogram.voxel_size for tomogram in tomograms), diameter / _FINE)
    box = 2 * round(0.85 * diameter / voxel) + 1
    order = np.random.default_rng(0).permutation(len(picks))[:MOST]
    parts, count = np.zeros((_PARTS, box, box, box)), 0
    for tomogram in tomograms:
        rows = order[picks.tomograms[order] == tomogram.name]
        positions = picks.positions[rows]
        positions = positions[inside(tomogram, positions, box, voxel)]
        if not len(positions):
            continue
        mean, std = tomogram.statistics()
        for _, volumes in boxes(tomogram, positions, box, voxel):
            standard = np.clip((volumes - mean) / std, -4, 4)
            np.add.at(parts, (np.arange(len(volumes)) + count) % _PARTS, standard)
            count += len(volumes)
    if count < FEWEST:
        return None
    reach = max(1.0, diameter / 2 / voxel)
    parts = gaussian_filter(parts, (0, *[diameter / 6 / voxel] * 3))
    total = parts.sum(axis=0)
    without = np.array([_peak(total - part, reach) for part in parts])  # jackknife
    spread = np.square(without - without.mean(axis=0)).sum() * (_PARTS - 1) / _PARTS
    return Offset(_peak(total, reach) * voxel, float(np.sqrt(spread / 3)) * voxel)


def _peak(volume: np.ndarray, reach: float) -> np.ndarray:
    """Return the highest place (3,) within ``reach`` voxels of the middle, from there.

    A parabola along each axis places it between voxels.
    """
    middle = volume.shape[0] // 2
    distance = np.linalg.norm(np.indices(volume.shape) - middle, axis=0)
    place = np.unravel_index(np.where(distance <= reach, volume, -np.inf).argmax(), volume.shape)
    shift = np.zeros(3)
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis]
        if not 0 < place[axis] < volume.shape[axis] - 1:
            continue
        left, right = volume[tuple(place - step)], volume[tuple(place + step)]
        bend = left - 2 * volume[place] + right
        shift[axis] = np.clip(0.5 * (left - right) / bend, -0.5, 0.5) if bend < 0 else 0.0
    peak: np.ndarray = np.array(place) - middle + shift
    return peak

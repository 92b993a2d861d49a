"""Is protein bright or dark? What the density at known particle centres says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryoet_core.tomograms.volume import Volume

RADII = (30.0, 60.0, 100.0, 150.0)
"""Å; particles differ in size, so several are tried."""
MOST_VOXELS = 16
"""Radius in voxels at most: finely sampled tomograms are judged by the smaller radii alone."""
MOST_PICKS = 200
FEWEST_PICKS = 10
CLEAR = 6.0
"""Standard errors that the difference must have at one radius; at half of that no larger radius may
object. A smaller one may: many particles are hollow."""


@dataclass(frozen=True)
class ContrastVerdict:
    """What the density at picks says of the contrast.

    Attributes
    ----------
    sign : int
        +1 bright, -1 dark, 0 not clear.
    z : float
        The difference of particle and surroundings in standard errors.
    radius : float
        Å, at which the difference is largest; 0 where nothing could be compared.
    count : int
        The number of picks.
    """

    sign: int
    z: float
    radius: float
    count: int

    def __str__(self) -> str:
        if not self.radius:  # nothing was compared
            few = (
                f", it takes {FEWEST_PICKS}"
                if self.count < FEWEST_PICKS
                else " in voxels of this size"
            )
            return f"not clear ({self.count} pick{'s' if self.count != 1 else ''}{few})"
        word = {1: "bright", -1: "dark", 0: "not clear"}[self.sign]
        return (
            f"{word} ({self.z:+.1f} standard errors within {self.radius:g} Å of {self.count} picks)"
        )


def sign_at_picks(volume: Volume, voxel_size: float, positions: np.ndarray) -> ContrastVerdict:
    """Compare the density within a radius of each pick with that in a shell of 1.5 to 2 radii.

    The difference over picks is a median, its error comes from the median absolute deviation, so
    that a few wrong picks do not matter. NaN in the volume is passed over.

    Parameters
    ----------
    volume : Volume
        The density, as it stands in the file.
    voxel_size : float
        Å.
    positions : numpy.ndarray
        (n, 3), Å, axes (z, y, x); at most 200, evenly taken, are looked at.

    Returns
    -------
    ContrastVerdict
        Bright, dark or not clear.
    """
    radii = [radius for radius in RADII if 1.5 <= radius / voxel_size <= MOST_VOXELS]
    rows = np.unique(
        np.linspace(0, len(positions) - 1, min(len(positions), MOST_PICKS)).astype(int)
    )
    if len(rows) < FEWEST_PICKS or not radii:
        return ContrastVerdict(0, 0.0, 0.0, len(rows))
    differences = np.array(
        [
            _differences(volume, positions[row] / voxel_size, np.array(radii) / voxel_size)
            for row in rows
        ]
    )
    found = [_z(column) for column in differences.T]
    best = int(np.argmax(np.abs(found)))
    sign = int(np.sign(found[best])) if abs(found[best]) >= CLEAR else 0
    if any(abs(z) >= CLEAR / 2 and np.sign(z) != sign for z in found[best + 1 :]):
        sign = 0
    return ContrastVerdict(sign, float(found[best]), radii[best], len(rows))


def _differences(volume: Volume, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the mean within each radius less that of the shell, NaN beyond the volume."""
    reach = 2 * radii.max()
    spans = [
        (max(0, int(np.floor(c - reach))), min(size, int(np.ceil(c + reach)) + 1))
        for c, size in zip(centre, volume.shape, strict=True)
    ]
    if any(stop <= start for start, stop in spans):
        return np.full(len(radii), np.nan)
    z, y, x = (slice(*span) for span in spans)
    values = volume.read((z, y, x))
    lines = [
        (np.arange(start, stop) - c) ** 2 for (start, stop), c in zip(spans, centre, strict=True)
    ]
    squared = lines[0][:, None, None] + lines[1][:, None] + lines[2]
    finite = np.isfinite(values)
    answer = np.full(len(radii), np.nan)
    for index, radius in enumerate(radii):
        inner = finite & (squared <= radius**2)
        shell = finite & (squared > (1.5 * radius) ** 2) & (squared <= (2 * radius) ** 2)
        if inner.any() and shell.any():
            answer[index] = values[inner].mean(dtype=np.float64) - values[shell].mean(
                dtype=np.float64
            )
    return answer


def _z(differences: np.ndarray) -> float:
    """Return the median in its standard errors."""
    known = differences[np.isfinite(differences)]
    if len(known) < FEWEST_PICKS:
        return 0.0
    middle = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - middle)))
    # 1.2533: the standard error of a median over that of a mean; picks that all say the same have
    # no spread
    error = max(1.2533 * spread / np.sqrt(len(known)), 1e-3 * abs(middle))
    return middle / error if error > 0 else 0.0

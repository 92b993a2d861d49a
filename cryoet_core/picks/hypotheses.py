"""What the coordinates of picks may have meant: axis order, origin, binning, flips.

Each is a map from the positions as they were read to where they would be if the file had meant
something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

AXES = "zyx"
ORDERS = tuple(permutations(range(3)))
FLIPS = tuple(product((False, True), repeat=3))
SCALES = (1.0, 2.0, 4.0, 0.5, 0.25)
ORIGINS = (0, 1, -1)
"""The tomogram's centre is added to the coordinates, or taken from them, so many times."""


@dataclass(frozen=True)
class Hypothesis:
    """One way in which the coordinates of a file may have been misread.

    Attributes
    ----------
    order : tuple[int, ...]
        ``order[a]``: which of the axes that were read is axis a (z, y, x) in truth.
    flip : tuple[bool, ...]
        Whether each axis (z, y, x) is reversed.
    scale : float
        Å in truth for each Å read.
    origin : int
        How many times the tomogram's centre is added to the coordinates.
    """

    order: tuple[int, ...] = (0, 1, 2)
    flip: tuple[bool, ...] = (False, False, False)
    scale: float = 1.0
    origin: int = 0

    def positions(self, read: np.ndarray, shape: np.ndarray, voxel_size: float) -> np.ndarray:
        """Compute where positions lie if this hypothesis is true.

        Parameters
        ----------
        read : np.ndarray, shape (n, 3)
            Positions as they were read, in Å, (z, y, x).
        shape : np.ndarray, shape (3,)
            Shape of the tomogram in voxels, (z, y, x).
        voxel_size : float
            Voxel size of the tomogram in Å.

        Returns
        -------
        np.ndarray, shape (n, 3)
            Positions in Å, (z, y, x).
        """
        moved = read[:, list(self.order)] * self.scale + self.origin * (shape // 2) * voxel_size
        return np.where(self.flip, (shape - 1) * voxel_size - moved, moved)

    @property
    def changes(self) -> int:
        """In how many respects the file would have been misread."""
        return (self.order != (0, 1, 2)) + sum(self.flip) + (self.scale != 1) + (self.origin != 0)

    def __str__(self) -> str:
        """``as given``, or what is different: ``y and x swapped, y flipped``."""
        parts = [_order_words(self.order)] if self.order != (0, 1, 2) else []
        if self.scale != 1:
            parts.append(
                f"coordinates × {self.scale:g}"
                if self.scale > 1
                else f"coordinates / {1 / self.scale:g}"
            )
        if self.origin:
            parts.append(
                "counted from the centre"
                if self.origin > 0
                else "counted from the corner, not the centre"
            )
        flipped = [axis for axis, flip in zip(AXES, self.flip, strict=True) if flip]
        parts += [f"{' and '.join(flipped)} flipped"] if flipped else []
        return ", ".join(parts) or "as given"


def _order_words(order: tuple[int, ...]) -> str:
    moved = [a for a in range(3) if order[a] != a]
    if len(moved) == 2:
        return f"{AXES[moved[0]]} and {AXES[moved[1]]} swapped"
    read = ", ".join(f"{AXES[order[a]]} is {AXES[a]}" for a in range(3))
    return f"axes in another order ({read})"


GIVEN = Hypothesis()


def _moves_every_axis(one: Hypothesis) -> bool:
    """Whether no axis stays: rarer than two that are swapped."""
    return all(axis != read for axis, read in enumerate(one.order))


def single_changes() -> list[Hypothesis]:
    """List the coordinates as given, and everything that differs from them in one respect."""
    return [
        GIVEN,
        *(Hypothesis(order=order) for order in ORDERS[1:]),
        *(Hypothesis(flip=flip) for flip in FLIPS if sum(flip) == 1),
        *(Hypothesis(origin=origin) for origin in ORIGINS[1:]),
        *(Hypothesis(scale=scale) for scale in SCALES[1:]),
    ]


def every_combination() -> Iterator[Hypothesis]:
    """Iterate over all combinations of misreadings, those with the fewest changes first."""
    found = [
        Hypothesis(order, flip, scale, origin)
        for order, flip, scale, origin in product(ORDERS, FLIPS, SCALES, ORIGINS)
    ]
    return iter(sorted(found, key=lambda one: one.changes))


def likeliest_cause(read: np.ndarray, shape: tuple[int, ...], voxel_size: float) -> str | None:
    """Explain why positions lie outside a tomogram.

    The cause is the simplest misreading that puts all positions inside. Of equally simple ones it
    is that which spreads them widest: anything fits into a volume when it is made small enough.

    Parameters
    ----------
    read : np.ndarray, shape (n, 3)
        Positions as they were read, in Å, (z, y, x).
    shape : tuple[int, ...]
        Shape of the tomogram in voxels, (z, y, x).
    voxel_size : float
        Voxel size of the tomogram in Å.

    Returns
    -------
    str | None
        The cause in words; None where no misreading explains it.
    """
    size = np.array(shape)
    found: list[tuple[float, str]] = []
    candidates = [
        (str(one), one.positions(read, size, voxel_size))
        for one in sorted(single_changes()[1:], key=_moves_every_axis)
        if not any(one.flip)
    ]
    for factor in (8, 16):  # finer than what every combination tries: binnings of raw frames
        candidates.append((f"coordinates / {factor}", read / factor))
    candidates.append(("they are voxels, not Å", read * voxel_size))
    candidates.append(("they are nm, not Å", read * 10))
    candidates.append(("they are Å, not voxels", read / voxel_size))
    extent = (size - 1) * voxel_size
    for words, moved in candidates:
        if ((moved >= -voxel_size) & (moved <= extent + voxel_size)).all():
            spread = np.ptp(moved, axis=0) / np.maximum(extent, voxel_size)
            found.append((float(np.prod(np.clip(spread, 1e-3, None))), words))
    if not found:
        return None
    return max(found, key=lambda one: round(one[0], 9))[
        1
    ]  # of equal ones the first, which changes least

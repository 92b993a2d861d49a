"""Random neighbours around a target: near it, never overlapping, always reaching into the box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoet_core.simulate.scene.poses import from_quaternion
from cryoet_core.simulate.shapes.structures import Structure

Array = NDArray[np.float64]
GAP = 15.0
"""The widest random gap in Å between the target and a neighbour, along the line between them."""
ATTEMPTS = 60


@dataclass(frozen=True)
class Placed:
    """A structure in the box.

    Attributes
    ----------
    label : int
        Its class.
    rotation : ndarray, shape (3, 3)
        Its active rotation.
    centre : ndarray, shape (3,)
        Where its centre is, (z, y, x) in Å from the centre of the box.
    corners : ndarray, shape (m, 3)
        Corners of its convex hull in the box, in Å.
    """

    label: int
    rotation: Array
    centre: Array
    corners: Array  # of the convex hull, in the box

    @staticmethod
    def of(label: int, structure: Structure, rotation: Array, centre: Array) -> Placed:
        """Place a structure.

        Parameters
        ----------
        label : int
            Its class.
        structure : Structure
            The structure.
        rotation : ndarray, shape (3, 3)
            Its active rotation.
        centre : ndarray, shape (3,)
            Where its centre is, (z, y, x) in Å from the centre of the box.

        Returns
        -------
        Placed
            The placed structure.
        """
        return Placed(label, rotation, centre, structure.hull @ rotation.T + centre)

    def reach(self, direction: Array) -> float:
        """Return how far it extends along a unit vector from its centre, in Å."""
        return float(((self.corners - self.centre) @ direction).max())


def place_neighbours(
    target: Placed,
    structures: Sequence[Structure],
    count: int,
    half_box: float,
    generator: np.random.Generator,
) -> list[Placed]:
    """Place neighbours of any class around a target; fewer where the box has no room for more.

    A neighbour is pushed along a random direction until a plane across that direction separates it
    from the target, so their convex hulls cannot meet. The same test, on the line between centres,
    keeps neighbours apart.

    Parameters
    ----------
    target : Placed
        The target.
    structures : sequence of Structure
        The classes, in the order of their labels.
    count : int
        Most neighbours.
    half_box : float
        Half the side of the box in Å.
    generator : numpy.random.Generator
        The source of random numbers.

    Returns
    -------
    list of Placed
        The neighbours.
    """
    placed: list[Placed] = []
    for _ in range(count * ATTEMPTS):
        if len(placed) == count:
            break
        label = int(generator.integers(len(structures)))
        direction = generator.normal(size=3)
        direction /= np.linalg.norm(direction)
        free = Placed.of(
            label, structures[label], from_quaternion(generator.normal(size=4)), np.zeros(3)
        )
        distance = target.reach(direction) + free.reach(-direction) + GAP * generator.random()
        centre = target.centre + distance * direction
        candidate = Placed(label, free.rotation, centre, free.corners + centre)
        inside = (np.abs(candidate.corners) < half_box).all(axis=1).any()
        if inside and all(_apart(candidate, other) for other in placed):
            placed.append(candidate)
    return placed


def _apart(a: Placed, b: Placed) -> bool:
    line = b.centre - a.centre
    distance = float(np.linalg.norm(line))
    return distance > 0 and a.reach(line / distance) + b.reach(-line / distance) <= distance

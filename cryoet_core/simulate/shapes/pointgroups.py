"""The rotations of point groups, as matrices on (z, y, x) column vectors."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def point_group(name: str) -> Array:
    """Return the rotations of a point group.

    The main axis is z; the two-fold axes of D include x. T and O have their two-fold or four-fold
    axes along z, y and x; so has I its two-fold axes.

    Parameters
    ----------
    name : str
        "C7", "D2", "T", "O" or "I", with any order for C and D.

    Returns
    -------
    ndarray, shape (order, 3, 3)
        Rotations of (z, y, x) column vectors.

    Raises
    ------
    ValueError
        The name is another.

    Examples
    --------
    >>> point_group("D7").shape
    (14, 3, 3)
    """
    match = re.fullmatch(r"([CD])(\d+)", name)
    if match and int(match[2]) > 0:
        generators = [axis_rotation((1, 0, 0), 360 / int(match[2]))]
        if match[1] == "D":
            generators.append(axis_rotation((0, 0, 1), 180))
    elif name in ("T", "O", "I"):
        golden = (1 + math.sqrt(5)) / 2
        second = {"T": ((1, 0, 0), 180), "O": ((1, 0, 0), 90), "I": ((0, 1, golden), 72)}[name]
        generators = [axis_rotation((1, 1, 1), 120), axis_rotation(*second)]
    else:
        raise ValueError(f"point group is {name!r}, expected C<n>, D<n>, T, O or I")
    return _closure(generators)


def axis_rotation(axis: tuple[float, float, float], degrees: float) -> Array:
    """Return the right-handed rotation about an axis.

    Parameters
    ----------
    axis : (float, float, float)
        (z, y, x); in reversed axes a right-handed rotation takes the opposite sign.
    degrees : float
        The angle.

    Returns
    -------
    ndarray, shape (3, 3)
        The rotation.
    """
    u = np.asarray(axis, dtype=float)
    u = u / np.linalg.norm(u)
    angle = -math.radians(degrees)
    cross = np.array([[0, -u[2], u[1]], [u[2], 0, -u[0]], [-u[1], u[0], 0]])
    rotation: Array = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    return rotation


def _closure(generators: list[Array]) -> Array:
    group = [np.eye(3)]
    fresh = group
    while fresh:
        found: list[Array] = []
        for element in fresh:
            for generator in generators:
                product = generator @ element
                if not any(np.allclose(product, other, atol=1e-6) for other in group + found):
                    found.append(product)
        group = group + found
        fresh = found
    return np.array(group)

"""Random numbers of the simulator: every particle has generators of its own.

Nothing depends on batches. The same seed gives particle i the same class, pose, shift, neighbours
and white noise under any optics or SNR.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoet_core.algorithms.orientation import euler_to_matrix

Array = NDArray[np.float64]
ORDER, POSE, NOISE, CROWD = range(4)
"""What a stream of random numbers is for."""


def stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    """Return the generator of one particle for one purpose.

    Parameters
    ----------
    seed : int
        Seed of the simulation.
    index : int
        Number of the particle.
    purpose : int
        A constant of this module.

    Returns
    -------
    numpy.random.Generator
        The generator.
    """
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, purpose, index))))


@dataclass(frozen=True)
class Pose:
    """The random numbers of one particle's pose.

    Attributes
    ----------
    rotation : ndarray, shape (3, 3)
        Active rotation.
    shift : ndarray, shape (3,)
        Uniform in [-1, 1), to be scaled by the settings.
    fraction : float
        Uniform in [0, 1): where in the range of defocus.
    """

    rotation: Array
    shift: Array
    fraction: float


def draw_pose(seed: int, index: int, orientation: str = "uniform") -> Pose:
    """Draw the pose of a particle.

    Everything is drawn in one order whatever is used of it, so that poses stay paired between
    settings.

    Parameters
    ----------
    seed : int
        Seed of the simulation.
    index : int
        Number of the particle.
    orientation : str
        ``"uniform"`` on SO(3), or ``"aitom"``, see ``few_orientations``.

    Returns
    -------
    Pose
        The pose.
    """
    generator = stream(seed, index, POSE)
    quaternion, shift, fraction = (
        generator.normal(size=4),
        generator.uniform(-1, 1, 3),
        generator.random(),
    )
    entries = generator.random((3, 3))
    rotation = few_orientations(entries) if orientation == "aitom" else from_quaternion(quaternion)
    return Pose(rotation, shift, float(fraction))


def from_quaternion(quaternion: Array) -> Array:
    """Return the rotation of a quaternion of any length.

    Parameters
    ----------
    quaternion : ndarray, shape (4,)
        Real part first; normal numbers give rotations that are uniform on SO(3).

    Returns
    -------
    ndarray, shape (3, 3)
        The rotation.

    Examples
    --------
    >>> import numpy as np
    >>> from_quaternion(np.array([2.0, 0.0, 0.0, 0.0])).diagonal().tolist()
    [1.0, 1.0, 1.0]
    """
    w, a, b, c = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (b * b + c * c), 2 * (a * b - c * w), 2 * (a * c + b * w)],
            [2 * (a * b + c * w), 1 - 2 * (a * a + c * c), 2 * (b * c - a * w)],
            [2 * (a * c - b * w), 2 * (b * c + a * w), 1 - 2 * (a * a + b * b)],
        ]
    )


def few_orientations(entries: Array) -> Array:
    """Return a rotation by the law of AITom's generator, which is far from uniform.

    The ZYZ angles are read from the last row and column of the left singular vectors of uniform
    numbers, whose determinant may be -1. The matrix takes output to input coordinates, with the
    beam on its last axis.

    Parameters
    ----------
    entries : ndarray, shape (3, 3)
        Uniform numbers in [0, 1).

    Returns
    -------
    ndarray, shape (3, 3)
        The rotation.
    """
    vectors = np.linalg.svd(entries)[0]
    phi = np.arctan2(vectors[2, 1], vectors[2, 0])
    psi = np.arctan2(vectors[1, 2], -vectors[0, 2])
    theta = np.arctan2(np.hypot(vectors[2, 0], vectors[2, 1]), vectors[2, 2])
    return np.ascontiguousarray(euler_to_matrix(np.degrees([phi, theta, psi]))[0].T)


def class_order(seed: int, per_class: int, classes: int, empty: int) -> NDArray[np.int64]:
    """Return the class of each particle, in random order.

    Parameters
    ----------
    seed : int
        Seed of the simulation.
    per_class : int
        Subtomograms of each class.
    classes : int
        How many classes there are.
    empty : int
        How many subtomograms have no target.

    Returns
    -------
    ndarray of int64, shape (n,)
        Classes; the number ``classes`` stands for a subtomogram without a target.
    """
    labels = np.concatenate((np.repeat(np.arange(classes), per_class), np.full(empty, classes)))
    return stream(seed, 0, ORDER).permutation(labels)

"""Random numbers of the simulator: every particle has generators of its own, so nothing depends on
batches.

The same seed gives particle i the same class, pose, shift, neighbours and white noise under any
optics or SNR.
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
    """The generator of one particle for one purpose."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, purpose, index))))


@dataclass(frozen=True)
class Pose:
    """rotation: active (3, 3). shift: three numbers and fraction: one, all uniform, to be scaled by
    the settings.
    """

    rotation: Array
    shift: Array
    fraction: float


def draw_pose(seed: int, index: int, orientation: str = "uniform") -> Pose:
    """The pose of particle ``index``: shift in [-1, 1)^3, fraction (where in the defocus range) in
    [0, 1).

    Everything is drawn in one order whatever is used of it, so that poses stay paired between
    settings.
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
    """The rotation of a quaternion (real part first) of any length: uniform on SO(3) for normal
    numbers.
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
    """The orientation law of AITom's generator, far from uniform: from left singular vectors of
    uniform numbers.

    ``entries`` (3, 3) in [0, 1). Its ZYZ angles are read from the last row and column of the
    singular vectors, whose determinant may be -1, and the matrix takes output to input coordinates,
    with the beam on its last axis.
    """
    vectors = np.linalg.svd(entries)[0]
    phi = np.arctan2(vectors[2, 1], vectors[2, 0])
    psi = np.arctan2(vectors[1, 2], -vectors[0, 2])
    theta = np.arctan2(np.hypot(vectors[2, 0], vectors[2, 1]), vectors[2, 2])
    return np.ascontiguousarray(euler_to_matrix(np.degrees([phi, theta, psi]))[0].T)


def class_order(seed: int, per_class: int, classes: int, empty: int) -> NDArray[np.int64]:
    """The class of each particle, in random order; ``classes`` stands for a cube without a
    target.
    """
    labels = np.concatenate((np.repeat(np.arange(classes), per_class), np.full(empty, classes)))
    return stream(seed, 0, ORDER).permutation(labels)

"""RELION's Euler angles and the project's rotation matrices.

A matrix here is active, from the reference frame to the tomogram frame, on column vectors (z, y,
x). RELION's (rot, tilt, psi) are intrinsic ZYZ rotations of the coordinate system that carry the
particle onto the reference, so the active matrix is the inverse of the ZYZ product, with the axes
reversed from (x, y, z).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def euler_to_matrix(angles: ArrayLike) -> NDArray[np.float64]:
    """Matrices (n, 3, 3) of RELION angles (n, 3) = (rot, tilt, psi) in degrees."""
    values = np.radians(np.asarray(angles, dtype=np.float64).reshape(-1, 3))
    rot, tilt, psi = values.T
    product = _about_z(rot) @ _about_y(tilt) @ _about_z(psi)
    return np.ascontiguousarray(product.transpose(0, 2, 1)[:, ::-1, ::-1])


def matrix_to_euler(matrices: ArrayLike) -> NDArray[np.float64]:
    """RELION angles (n, 3) in degrees of matrices (n, 3, 3): rot and psi in [-180, 180], tilt in
    [0, 180].

    Where tilt is 0 or 180 only a combination of rot and psi is defined: psi is set to 0.
    """
    product = (
        np.asarray(matrices, dtype=np.float64).reshape(-1, 3, 3)[:, ::-1, ::-1].transpose(0, 2, 1)
    )
    sine = np.hypot(product[:, 0, 2], product[:, 1, 2])
    tilt = np.arctan2(sine, product[:, 2, 2])
    rot = np.where(
        sine < 1e-7,
        np.arctan2(-product[:, 0, 1], product[:, 1, 1]),
        np.arctan2(product[:, 1, 2], product[:, 0, 2]),
    )
    # psi is what remains after rot and tilt are taken back, so rounding near tilt 0 cannot break
    # their sum.
    c, s = np.cos(rot), np.sin(rot)
    psi = np.arctan2(
        c * product[:, 1, 0] - s * product[:, 0, 0],
        c * product[:, 1, 1] - s * product[:, 0, 1],
    )
    angles: NDArray[np.float64] = np.degrees(np.stack((rot, tilt, psi), axis=1))
    return angles


def _about_z(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return _assemble(angle, 0, 1, 2)


def _about_y(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return _assemble(angle, 2, 0, 1)


def _assemble(
    angle: NDArray[np.float64], first: int, second: int, axis: int
) -> NDArray[np.float64]:
    """Right-handed turns by ``angle`` in the plane (first, second) of (x, y, z)."""
    matrix = np.zeros((len(angle), 3, 3))
    matrix[:, axis, axis] = 1
    matrix[:, first, first] = matrix[:, second, second] = np.cos(angle)
    matrix[:, second, first] = np.sin(angle)
    matrix[:, first, second] = -np.sin(angle)
    return matrix

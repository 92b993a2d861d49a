"""Convert Euler angles of other programs to the project's rotations and back.

Matrices act on (z, y, x); unknown ones are NaN.
"""

from __future__ import annotations

import numpy as np

from cryoet_core.algorithms.orientation import euler_to_matrix, matrix_to_euler


def relion(angles: np.ndarray) -> np.ndarray | None:
    """Convert RELION's angles to rotations.

    Parameters
    ----------
    angles : np.ndarray, shape (n, 3)
        rot, tilt, psi in degrees, NaN where unknown.

    Returns
    -------
    np.ndarray, shape (n, 3, 3), or None
        Rotations, NaN where unknown; None where not one row is known.
    """
    return _known(angles, euler_to_matrix)


def to_relion(rotations: np.ndarray) -> np.ndarray:
    """Convert rotations to RELION's angles.

    Parameters
    ----------
    rotations : np.ndarray, shape (n, 3, 3)
        Rotations, NaN where unknown.

    Returns
    -------
    np.ndarray, shape (n, 3)
        rot, tilt, psi in degrees, NaN where unknown.
    """
    return _each(rotations, matrix_to_euler)


def zxz(angles: np.ndarray) -> np.ndarray | None:
    """Convert the angles of TOM, AV3 and STOPGAP to rotations.

    They rotate about z by phi, then about x by theta, then about z by psi.

    Parameters
    ----------
    angles : np.ndarray, shape (n, 3)
        phi, theta, psi in degrees, NaN where unknown.

    Returns
    -------
    np.ndarray, shape (n, 3, 3), or None
        Rotations, NaN where unknown; None where not one row is known.
    """
    return _known(angles, _zxz)


def dynamo(angles: np.ndarray) -> np.ndarray | None:
    """Convert Dynamo's angles to rotations.

    They rotate about z by -narot, then about x by -tilt, then about z by -tdrot.

    Parameters
    ----------
    angles : np.ndarray, shape (n, 3)
        tdrot, tilt, narot in degrees, NaN where unknown.

    Returns
    -------
    np.ndarray, shape (n, 3, 3), or None
        Rotations, NaN where unknown; None where not one row is known.
    """
    return _known(angles, lambda known: _zxz(-known[:, ::-1]))


def to_dynamo(rotations: np.ndarray) -> np.ndarray:
    """Convert rotations to Dynamo's angles.

    Parameters
    ----------
    rotations : np.ndarray, shape (n, 3, 3)
        Rotations, NaN where unknown.

    Returns
    -------
    np.ndarray, shape (n, 3)
        tdrot, tilt, narot in degrees, NaN where unknown.
    """
    return _each(rotations, lambda known: -_to_zxz(known)[:, ::-1])


def _zxz(angles: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    xyz: np.ndarray = Rotation.from_euler("zxz", angles, degrees=True).as_matrix()
    return np.ascontiguousarray(xyz[:, ::-1, ::-1])


def _to_zxz(rotations: np.ndarray) -> np.ndarray:
    """Convert by way of RELION's angles, where the same rotation is zyz.

    So the way out of gimbal lock is written once.
    """
    rot, tilt, psi = matrix_to_euler(rotations).T
    # Rz(-psi) Ry(-tilt) Rz(-rot), and Ry(a) is Rz(90) Rx(a) Rz(-90)
    angles = np.stack([-rot - 90, -tilt, -psi + 90], axis=1)
    wrapped: np.ndarray = (angles + 180) % 360 - 180
    return wrapped


def _known(angles: np.ndarray, convert: object) -> np.ndarray | None:
    assert callable(convert)
    known = np.isfinite(angles).all(axis=1)
    if not known.any():
        return None
    rotations = np.full((len(angles), 3, 3), np.nan)
    rotations[known] = convert(angles[known])
    return rotations


def _each(rotations: np.ndarray, convert: object) -> np.ndarray:
    assert callable(convert)
    known = np.isfinite(rotations).all(axis=(1, 2))
    angles = np.full((len(rotations), 3), np.nan)
    if known.any():
        angles[known] = convert(rotations[known])
    return angles


def orthonormal(matrices: np.ndarray) -> np.ndarray:
    """Tell which matrices are rotations, within a thousandth.

    Parameters
    ----------
    matrices : np.ndarray, shape (n, 3, 3)
        Any matrices.

    Returns
    -------
    np.ndarray, shape (n,), bool
        True for rotations.

    Examples
    --------
    >>> orthonormal(np.stack([np.eye(3), -np.eye(3)])).tolist()
    [True, False]
    """
    finite = (np.abs(matrices) < 2).all(axis=(1, 2))
    safe = np.where(finite[:, None, None], matrices, 0)
    error = np.abs(safe @ safe.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    good: np.ndarray = finite & (error < 1e-3) & (np.linalg.det(safe) > 0)
    return good

"""RELION angles and rotation matrices."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from cryoet_core.algorithms.orientation import euler_to_matrix, matrix_to_euler


def test_equals_the_inverse_of_scipys_intrinsic_zyz() -> None:
    angles = np.random.default_rng(0).uniform((-180, 0, -180), (180, 180, 180), (200, 3))
    xyz = Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix()
    assert np.allclose(euler_to_matrix(angles), xyz[:, ::-1, ::-1])


def test_direction_of_each_angle() -> None:
    # psi = 90 carries the reference's y axis onto x (a right-handed turn by -90 degrees about z).
    assert np.allclose(euler_to_matrix([0, 0, 90])[0] @ [0, 1, 0], [0, 0, 1])
    # tilt = 90 carries z onto -x.
    assert np.allclose(euler_to_matrix([0, 90, 0])[0] @ [1, 0, 0], [0, 0, -1])


def test_round_trip_of_angles_and_matrices() -> None:
    angles = np.random.default_rng(1).uniform((-179, 1, -179), (179, 179, 179), (500, 3))
    assert np.allclose(matrix_to_euler(euler_to_matrix(angles)), angles)
    matrices = Rotation.random(500, random_state=2).as_matrix()
    assert np.allclose(euler_to_matrix(matrix_to_euler(matrices)), matrices)


def test_gimbal_lock_keeps_the_matrix() -> None:
    angles = np.array([[30, 0, 50], [30, 180, 50], [0, 0, 0], [-170, 0, -170]], dtype=float)
    matrices = euler_to_matrix(angles)
    again = matrix_to_euler(matrices)
    assert np.allclose(euler_to_matrix(again), matrices, atol=1e-7)
    assert np.allclose(again[:, 2], 0)
    nearly = euler_to_matrix([[30, 1e-4, 50]]).astype(np.float32)
    assert np.allclose(euler_to_matrix(matrix_to_euler(nearly)), nearly, atol=1e-5)

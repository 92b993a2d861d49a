"""Soft targets: 1 at the centre's cell and nowhere else, round in Å, the larger value where
particles overlap.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cryoet_pu_picker.targets import splat
from cryoet_pu_picker.training import sigmas_of

SHAPE = (2, 2, 9, 16, 16)


def target(
    positions: list[list[float]], species: list[int], rows: list[int], sigmas: list[list[float]]
) -> np.ndarray:
    points = torch.tensor(positions, dtype=torch.float64).reshape(-1, 3)
    parts = (torch.tensor(species, dtype=torch.long), torch.tensor(rows, dtype=torch.long))
    return splat(points, *parts, torch.tensor(sigmas, dtype=torch.float64), SHAPE).numpy()


SIGMAS = [[2.0, 1.0, 1.0], [1.0, 0.5, 0.5]]


def test_a_particle_is_a_gaussian_about_its_cell() -> None:
    found = target([[4.2, 13.0, 16.4]], [1], [0], SIGMAS)
    cell = (4, 6, 8)  # voxels 12 and 13 are cell 6; 16 and 17 are cell 8
    for index in np.ndindex(*SHAPE[2:]):
        square = sum(((i - c) / s) ** 2 for i, c, s in zip(index, cell, SIGMAS[1], strict=True))
        expected = math.exp(-square / 2) if square <= 9 else -1.0
        assert found[(0, 1, *index)] == pytest.approx(expected, rel=1e-6)
    assert (found[0, 0] == -1).all()
    assert (found[1] == -1).all()


def test_overlapping_particles_take_the_larger_value() -> None:
    one = target([[4, 8, 8]], [0], [1], SIGMAS)
    other = target([[5, 12, 8]], [0], [1], SIGMAS)
    both = target([[4, 8, 8], [5, 12, 8]], [0, 0], [1, 1], SIGMAS)
    np.testing.assert_array_equal(both, np.maximum(one, other))
    assert (both == 1).sum() == 2


@pytest.mark.parametrize("voxels_across", [6, 12, 25, 40])
def test_only_the_centre_is_a_true_positive(voxels_across: int) -> None:
    sigmas = sigmas_of([float(voxels_across)], 1.0, 0.1)
    points = torch.tensor([[10.0, 40.0, 40.0]], dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.long)
    found = splat(points, zero, zero, sigmas, (1, 1, 21, 40, 40))
    assert (found == 1).sum() == 1
    assert ((found > 0) & (found < 1)).sum() >= 6
    # as long in z, with a stride of 1, as in y, with a stride of 2
    z, _, x = (found[0, 0] > math.exp(-2)).nonzero().T
    assert int(z.max() - z.min()) == pytest.approx(2 * int(x.max() - x.min()), abs=3)


def test_a_centre_outside_its_crop_shows_its_flank() -> None:
    found = target([[4, -2.0, 8]], [0], [0], SIGMAS)
    assert found.max() == pytest.approx(math.exp(-0.5))
    assert (target([[40, 8, 8]], [0], [0], SIGMAS) == -1).all()
    assert (target([], [], [], SIGMAS) == -1).all()


def test_turned_over_crops_have_turned_over_targets() -> None:
    """Cells are pairs of voxels, so flips of even crops agree with flips of targets for any
    position.
    """
    random = np.random.default_rng(0)
    for _ in range(10):
        z, y, x = random.uniform(0, (8, 31, 31))
        plain = target([[z, y, x]], [0], [0], SIGMAS)
        np.testing.assert_array_equal(target([[z, 31 - y, x]], [0], [0], SIGMAS), np.flip(plain, 3))
        np.testing.assert_array_equal(target([[z, y, 31 - x]], [0], [0], SIGMAS), np.flip(plain, 4))

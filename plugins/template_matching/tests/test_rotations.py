"""Rotation sets: evenly spread, complete, reduced by symmetry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cryoet_template_matching.rotations import angle_between, neighbours, rotation_set, turn

from cryoet_core.algorithms.transforms import random_rotations
from cryoet_core.simulate.shapes.pointgroups import point_group


@pytest.mark.parametrize("step", [30.0, 15.0])
def test_spread(step: float) -> None:
    """As many as fit; the nearest neighbour of nearly each within 30 % of the mean; none further
    off than a step.
    """
    rotations = rotation_set(step)
    assert len(rotations) == round(8 * math.pi**2 / math.radians(step) ** 3)
    angles = angle_between(rotations[:, None], rotations[None]) if len(rotations) < 1000 else None
    if angles is None:
        some = rotations[:: len(rotations) // 300]
        angles = angle_between(some[:, None], rotations[None])
    nearest = torch.where(angles < 0.1, 999.0, angles).amin(dim=1).numpy()
    assert abs(nearest.mean() / step - 1) < 0.3
    assert np.quantile(np.abs(nearest / nearest.mean() - 1), 0.98) < 0.3
    targets = random_rotations(300, torch.Generator().manual_seed(0))
    assert float(angle_between(targets[:, None], rotations[None]).amin(dim=1).max()) < step


@pytest.mark.parametrize("symmetry", ["C1", "C2", "C7", "D2", "D7", "O"])
def test_symmetry_leaves_one_of_each_class(symmetry: str) -> None:
    """Fewer by the order of the group, and still within a step of a rotation that turns the
    template like any other.
    """
    step = 20.0
    group = torch.from_numpy(point_group(symmetry)).float()
    whole, reduced = rotation_set(step), rotation_set(step, symmetry)
    assert len(reduced) == pytest.approx(len(whole) / len(group), rel=0.2)
    targets = random_rotations(100, torch.Generator().manual_seed(1))
    alike = targets[:, None] @ group
    angles = angle_between(alike[:, :, None], reduced[None, None]).flatten(1)
    assert float(angles.amin(dim=1).max()) < 1.2 * step
    np.testing.assert_allclose(reduced[0], np.eye(3), atol=1e-6)


def test_turns() -> None:
    vectors = torch.tensor([[0.0, 0.0, 0.0], [math.radians(40), 0, 0], [0.3, -0.2, 0.5]])
    matrices = turn(vectors)
    angles = angle_between(matrices, torch.eye(3).expand(3, 3, 3))
    np.testing.assert_allclose(angles, [0, 40, math.degrees(vectors[2].norm())], atol=0.05)
    np.testing.assert_allclose(matrices[2] @ vectors[2], vectors[2], atol=1e-6)


def test_neighbours_begin_with_none() -> None:
    around = neighbours(5.0)
    assert around.shape == (15, 3, 3)
    angles = angle_between(around, torch.eye(3).expand(15, 3, 3)).numpy()
    assert angles[0] < 0.05
    np.testing.assert_allclose(sorted(angles[1:])[:6], 5, atol=0.05)
    assert angles.max() == pytest.approx(5 * math.sqrt(3), abs=0.05)

"""Voxel labels from what is decoded."""

from __future__ import annotations

import numpy as np
import torch
from cryoet_autoencoder.targets import foreground, training_rows, voxel_labels

from cryoet_core.algorithms.centring import soft_sphere
from cryoet_core.algorithms.transforms import random_rotations, rotate


def test_labels_cover_each_voxel_once_and_follow_the_class() -> None:
    inside = torch.rand(4, 6, 6, 6) < 0.3
    classes = torch.tensor([1, 3, 0, 2], dtype=torch.uint8)
    labels = voxel_labels(inside, classes, 1)
    for row, number in zip(range(4), classes.tolist(), strict=True):
        assert int((labels[row] == number).sum()) == (int(inside[row].sum()) if number else 216)
        assert (
            int((labels[row] == 0).sum()) + int((labels[row] == number).sum()) * bool(number) == 216
        )


def test_binned_labels_go_by_the_greater_part() -> None:
    inside = torch.zeros(1, 4, 4, 4, dtype=torch.bool)
    inside[0, :2, :2, :1] = True  # half of a binned voxel
    inside[0, 2:, 2:, 2:3] = True
    inside[0, 2, 2, 2] = False  # less than half
    labels = voxel_labels(inside, torch.tensor([2], dtype=torch.uint8), 2)
    assert labels[0, 0, 0, 0] == 2
    assert int((labels > 0).sum()) == 1


def test_the_threshold_knows_no_intensity_scale() -> None:
    decoded = soft_sphere(12, 4)[None]
    same = torch.eye(3)[None]
    wanted = soft_sphere(12, 4) > 0.5
    for scale, level in ((1.0, 0.0), (7.0, -30.0)):
        inside = foreground(scale * decoded + level, 12, 1, 0.5, same, torch.zeros(1, 3))
        assert torch.equal(inside[0], wanted)
    larger = foreground(decoded, 12, 1, 0.2, same, torch.zeros(1, 3))
    assert int(larger.sum()) > int(wanted.sum())


def test_labels_lie_where_the_particle_lies() -> None:
    """Drawn in the normalised pose at half the resolution, an ellipsoid is found in the pose of its
    cube.
    """
    line = (torch.arange(24) - 12).float()
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    upright = torch.exp(-(((z / 5) ** 2 + (y / 3) ** 2 + (x / 3) ** 2) / 2))[None]
    decoded = torch.nn.functional.avg_pool3d(upright, 2)
    turns = random_rotations(6, torch.Generator().manual_seed(0))
    shifts = torch.tensor([[3.0, -2.0, 1.0]]).expand(6, 3)
    inside = foreground(decoded.expand(6, -1, -1, -1), 24, 2, 0.5, turns, shifts)
    wanted = rotate(upright[None], turns, shifts, fill=0.0)[:, 0] > 0.5
    both = (inside & wanted).flatten(1).sum(1)
    assert (2 * both / (inside.flatten(1).sum(1) + wanted.flatten(1).sum(1))).min() > 0.9


def test_boxes_that_binning_does_not_divide() -> None:
    decoded = soft_sphere(6, 2)[None]
    inside = foreground(decoded, 13, 2, 0.5, torch.eye(3)[None], torch.zeros(1, 3))
    assert inside.shape == (1, 13, 13, 13)
    assert inside.any()


def test_as_many_backgrounds_as_particles() -> None:
    classes = np.array([0, 1, 0, 2, 0, 0, 1, 0])
    rows = training_rows(classes, torch.Generator().manual_seed(0))
    assert len(rows) == len(set(rows.tolist())) == 6
    assert set(np.flatnonzero(classes)) <= set(rows.tolist())
    assert (classes[rows] == 0).sum() == 3
    few = training_rows(np.array([1, 1, 0]), torch.Generator().manual_seed(0))
    assert few.tolist() == [0, 1, 2]

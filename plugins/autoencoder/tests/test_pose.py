"""Pose normalisation: principal axes found, no mirror images, poses that lead back."""

from __future__ import annotations

import pytest
import torch
from cryoet_autoencoder.pose import Preparation, principal_frame
from cryoet_autoencoder.prepared import PreparedVolumes

from cryoet_core.algorithms.centring import soft_sphere
from cryoet_core.algorithms.transforms import random_rotations, rotate, standardise
from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_core.store import SubtomogramWriter, open_subtomograms

BOX = 32


def lopsided() -> torch.Tensor:
    """An ellipsoid, longest along z, shortest along x, heavier at its positive ends of z and y."""
    line = (torch.arange(BOX) - BOX // 2).float()
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    body = torch.sigmoid(4 * (1 - (z / 10) ** 2 - (y / 6) ** 2 - (x / 3.5) ** 2))
    horn = torch.exp(-((z - 9) ** 2 + y**2 + x**2) / 8) + torch.exp(
        -(z**2 + (y - 6) ** 2 + x**2) / 8
    )
    return (body + horn)[None, None]


def turned(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    turns = random_rotations(n, generator)
    shifts = 2 * torch.randn(n, 3, generator=generator)
    return rotate(lopsided(), turns, shifts.clamp(-3, 3), fill=0.0), turns, shifts.clamp(-3, 3)


def test_rotated_ellipsoids_come_back_aligned() -> None:
    cubes, _, _ = turned(12)
    ready = Preparation(BOX, 1.0, True)(standardise(cubes))
    upright = Preparation(BOX, 1.0, True)(standardise(lopsided())).volumes
    same = (ready.volumes * upright).mean((1, 2, 3, 4))
    assert same.min() > 0.95
    mirrored = (ready.volumes * upright.flip(4)).mean((1, 2, 3, 4))
    assert (same > mirrored - 1e-3).all()


def test_rotations_are_proper_and_lead_back() -> None:
    cubes, _, shifts = turned(12)
    cubes = standardise(cubes)
    ready = Preparation(BOX, 0.0, True)(cubes)
    torch.testing.assert_close(torch.linalg.det(ready.rotations), torch.ones(12))
    torch.testing.assert_close(
        ready.rotations @ ready.rotations.transpose(1, 2),
        torch.eye(3).expand(12, 3, 3),
        atol=1e-5,
        rtol=0,
    )
    back = standardise(rotate(ready.volumes, ready.rotations, ready.shifts))
    assert (back * cubes).mean((1, 2, 3, 4)).min() > 0.93
    own = Preparation(BOX, 0.0, True)(standardise(lopsided())).shifts
    assert (ready.shifts - shifts).norm(dim=1).max() < own.norm() + 1.0


def test_noise_around_the_particle_does_not_decide() -> None:
    cubes, _, _ = turned(8)
    noisy = standardise(
        cubes + 0.5 * torch.randn(cubes.shape, generator=torch.Generator().manual_seed(1))
    )
    clean = Preparation(BOX, 2.0, True)(standardise(cubes)).rotations
    found = Preparation(BOX, 2.0, True)(noisy).rotations
    longest = (clean[:, :, 0] * found[:, :, 0]).sum(1).abs()
    assert longest.min() > 0.95


def test_a_cube_without_anything_bright_stays_as_it_is() -> None:
    turns, centres = principal_frame(torch.zeros(2, 8, 8, 8), soft_sphere(8, 3))
    assert torch.equal(turns, torch.eye(3).expand(2, 3, 3))
    assert not centres.any()


def test_alone_as_in_a_batch_and_without_pose_as_it_lies() -> None:
    cubes = standardise(turned(3)[0])
    prepare = Preparation(BOX, 1.0, True)
    torch.testing.assert_close(
        prepare(cubes[1:2]).volumes, prepare(cubes).volumes[1:2], rtol=1e-3, atol=1e-4
    )
    plain = Preparation(BOX, 0.0, False)(cubes)
    torch.testing.assert_close(plain.volumes, cubes, rtol=1e-4, atol=1e-5)
    assert not plain.shifts.any()


def test_held_and_prepared_anew_are_the_same(tmp_path: pytest.TempPathFactory) -> None:
    cubes = turned(5)[0][:, 0].numpy()
    with SubtomogramWriter(tmp_path / "set.h5", BOX, 10.0) as writer:
        writer.append(cubes)
    volumes = DeviceVolumes(open_subtomograms([tmp_path / "set.h5"]))
    prepare = Preparation(BOX, 1.0, True)
    rows = torch.tensor([4, 1])
    held, anew = (PreparedVolumes(volumes, prepare, budget)[rows] for budget in (1 << 30, 0))
    torch.testing.assert_close(held, anew, rtol=0, atol=2e-3)
    assert held.shape == (2, 1, BOX, BOX, BOX)

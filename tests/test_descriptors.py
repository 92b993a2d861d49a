"""Rotation-invariant descriptors: what they must not see, and what they must."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryoet_core.algorithms.descriptors import Invariants
from cryoet_core.algorithms.fourier import apply_filter, wedge_mask
from cryoet_core.algorithms.transforms import random_rotations, rotate, standardise
from cryoet_core.simulate.shapes.pointgroups import point_group


def body(box: int, blobs: int, seed: int) -> Tensor:
    """(1, 1, box, box, box): blobs well inside the box."""
    line = torch.arange(box) - box // 2
    grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"))
    places = (
        box / 9 * torch.randn(blobs, 3, generator=torch.Generator().manual_seed(seed)).clamp(-2, 2)
    )
    return torch.stack(
        [torch.exp(-(grid - p[:, None, None, None]).square().sum(0) / 4) for p in places]
    ).sum(0)[None, None]


def spread_over_rotations(described: list[Tensor]) -> list[float]:
    """Per block, the deviation over rotations as a share of the block's own size."""
    return [float(block.std(0).norm() / block.mean(0).norm()) for block in described]


@pytest.mark.parametrize("box", [15, 16])
def test_right_angles_change_nothing(box: int) -> None:
    turns = torch.from_numpy(point_group("O")).float()
    turned = rotate(body(box, 6, 0), turns, fill=0.0)
    described = Invariants(box, None)(turned)
    assert [block.shape[1] for block in described] == [box // 2 + 1, box // 2 + 1, box // 2, 7]
    for share, limit in zip(
        spread_over_rotations(described), (1e-3, 1e-3, 0.02, 0.02), strict=True
    ):
        assert share < limit


def test_any_rotation_changes_less_than_another_body_does() -> None:
    box = 20
    turns = random_rotations(12, torch.Generator().manual_seed(1))
    noise = 0.3 * torch.randn(12, 1, box, box, box, generator=torch.Generator().manual_seed(2))
    turned = [standardise(rotate(body(box, blobs, 0), turns, mode="fourier")) for blobs in (2, 9)]
    described = [Invariants(box, None)(volumes + noise) for volumes in turned]
    for one, other in zip(*described, strict=True):
        within = max(float((block - block.mean(0)).norm(dim=1).max()) for block in (one, other))
        assert float((one.mean(0) - other.mean(0)).norm()) > 2 * within


def test_power_of_measured_frequencies_alone_is_looked_at() -> None:
    box = 16
    volumes = standardise(
        torch.randn(4, 1, box, box, box, generator=torch.Generator().manual_seed(2))
    )
    cut = apply_filter(volumes, wedge_mask(box, (-50.0, 50.0)))
    invariants = Invariants(box, (-50.0, 50.0))
    torch.testing.assert_close(invariants(cut)[2], invariants(volumes)[2], rtol=1e-4, atol=1e-4)
    assert (Invariants(box, None)(cut)[2] - Invariants(box, None)(volumes)[2]).abs().max() > 0.05


def test_power_shells_of_white_noise_are_level() -> None:
    box = 16
    noise = torch.randn(30, 1, box, box, box, generator=torch.Generator().manual_seed(3))
    power = Invariants(box, None)(noise)[2].exp().mean(0)
    torch.testing.assert_close(power[1:] / box**3, torch.ones(box // 2 - 1), rtol=0.15, atol=0)


def test_profile_is_the_mean_over_spheres() -> None:
    box = 16
    line = torch.arange(box) - box // 2
    radius = (line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2).sqrt()
    ball = torch.exp(-(radius**2) / 18)[None, None]
    profile, moment, _, quantiles = Invariants(box, None)(ball)
    expected = (9 / 10) ** 1.5 * torch.exp(
        -(torch.arange(box // 2 + 1) ** 2) / 20.0
    )  # blurred by one voxel more
    torch.testing.assert_close(profile[0, :7], expected[:7], rtol=0.05, atol=0.01)
    assert float(moment.max()) < 0.01
    assert bool((quantiles.diff(dim=1) >= 0).all())


def test_small_boxes_and_constant_volumes_give_numbers() -> None:
    for box in (4, 5, 8):
        for block in Invariants(box, (-60.0, 60.0))(torch.zeros(2, 1, box, box, box)):
            assert bool(torch.isfinite(block).all())

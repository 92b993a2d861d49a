"""Views: identity where nothing is asked, exact turns, the same seed the same view, the wedge where
it belongs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cryoet_cssl.config import ViewConfig
from cryoet_cssl.views import Views, beam_rotations, partial_rotations
from torch import Tensor

from cryoet_core.algorithms.fourier import wedge_mask
from cryoet_core.algorithms.transforms import random_rotations, rotate, standardise
from cryoet_core.support.errors import UserError

NOTHING = {
    "crop_probability": 0.0,
    "affine_probability": 0.0,
    "wedge": 0.0,
    "noise": 0.0,
}


def views(box: int = 12, **options: Any) -> Views:
    config = ViewConfig.from_layers("fast", {}, NOTHING | options)
    return Views(config, box, 10.0, (-60.0, 60.0), "y", torch.device("cpu"))


def cubes(n: int = 3, box: int = 12) -> Tensor:
    noise = torch.randn(n, 1, box, box, box, generator=torch.Generator().manual_seed(0))
    return standardise(noise)


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def test_nothing_asked_gives_the_cube() -> None:
    torch.testing.assert_close(views()(cubes(), seed()), cubes(), atol=1e-4, rtol=0)


def test_shape_type_and_standardisation() -> None:
    everything = {"crop_probability": 1.0, "affine_probability": 1.0, "wedge": 1.0, "noise": 1.0}
    for colour in ("white", "ctf"):
        for fill in ("mean", "noise"):
            found = views(noise_colour=colour, fill=fill, **everything)(cubes(), seed())
            assert found.shape == (3, 1, 12, 12, 12)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found.mean((1, 2, 3, 4)), torch.zeros(3), atol=1e-5, rtol=0)
            torch.testing.assert_close(
                found.std((1, 2, 3, 4), correction=0), torch.ones(3), atol=1e-4, rtol=0
            )


def test_the_same_seed_gives_the_same_view() -> None:
    draw = views(affine_probability=1.0, crop_probability=1.0, wedge=1.0, noise=1.0)
    torch.testing.assert_close(draw(cubes(), seed(1)), draw(cubes(), seed(1)), atol=0, rtol=0)
    assert (draw(cubes(), seed(1)) - draw(cubes(), seed(2))).abs().max() > 0.1


def test_quarter_turn_about_the_beam() -> None:
    volume = cubes(1, 11)
    turned = rotate(volume, beam_rotations(torch.tensor([torch.pi / 2])))
    # right-handed about +z: +x (last axis) goes to +y
    expected = torch.from_numpy(np.rot90(volume[0, 0].numpy(), -1, axes=(1, 2)).copy())
    torch.testing.assert_close(turned[0, 0], expected, atol=1e-5, rtol=0)


def test_turns_about_the_beam_keep_it_and_stay_within_the_angle() -> None:
    matrices, shifts = views(
        affine_probability=1.0, full_so3=False, angle=45.0, zoom=0, shift=0
    ).placements(50, seed())
    torch.testing.assert_close(matrices[:, 0], torch.tensor([[1.0, 0, 0]]).expand(50, 3))
    turns = torch.rad2deg(torch.atan2(matrices[:, 1, 2], matrices[:, 1, 1]))
    assert 30 < turns.abs().max() <= 45
    assert not shifts.any()


def test_weak_views_are_small_changes() -> None:
    full, weak = (views(affine_probability=1.0, crop_probability=1.0) for _ in range(2))
    weak.strength = 0.1
    (large, far), (small, near) = (draw.placements(200, seed(5)) for draw in (full, weak))
    factors = [m.det() ** (1 / 3) for m in (large, small)]
    angles = [
        torch.rad2deg(
            torch.acos(
                (((m / f[:, None, None]).diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)
            )
        )
        for m, f in zip((large, small), factors, strict=True)
    ]
    torch.testing.assert_close(angles[1], 0.1 * angles[0], atol=0.1, rtol=0)
    assert (factors[1] - 1).abs().max() < 0.04
    assert (factors[0] - 1).abs().max() > 0.15
    assert near.abs().max() < 0.2 * far.abs().max()
    rotations = small / factors[1][:, None, None]
    torch.testing.assert_close(
        rotations @ rotations.mT, torch.eye(3).expand(200, 3, 3), atol=1e-4, rtol=0
    )
    weak.strength = 0.0
    torch.testing.assert_close(weak(cubes(), seed()), cubes(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_a_part_of_a_turn_repeated_is_the_turn(share: float) -> None:
    matrices = random_rotations(50, seed())
    part = partial_rotations(matrices, share)
    if share == 0:
        torch.testing.assert_close(part, torch.eye(3).expand(50, 3, 3))
        return
    torch.testing.assert_close(
        torch.linalg.matrix_power(part, round(1 / share)), matrices, atol=1e-3, rtol=0
    )
    assert partial_rotations(matrices, 1.0) is matrices


def test_one_resampling_is_crop_then_turn_scale_and_shift() -> None:
    """A view's voxel p must come from o + (s / a) R^T (p - t): checked on a linear ramp, which
    interpolation keeps.
    """
    draw = views(
        box=24, affine_probability=1.0, crop_probability=1.0, crop=(0.7, 0.9), shift=0.05, zoom=0.1
    )
    grid = torch.stack(torch.meshgrid(*[torch.arange(24.0) - 12] * 3, indexing="ij"))
    matrices, shifts = draw.placements(1, seed(3))
    factor = matrices[0].det() ** (1 / 3)
    rotation = matrices[0] / factor
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-5, rtol=0)
    assert 0.7 / 1.1 - 1e-6 <= factor <= 0.9 / 0.9 + 1e-6
    for axis in range(3):
        seen = rotate(grid[axis][None, None], matrices, shifts)[0, 0]
        middle = slice(8, 17)
        point = torch.stack(
            torch.meshgrid(*[torch.arange(24.0)[middle] - 12] * 3, indexing="ij")
        ).flatten(1)
        source = factor * rotation.T @ (point - shifts[0][:, None])
        torch.testing.assert_close(
            seen[middle, middle, middle].flatten(), source[axis], atol=1e-3, rtol=0
        )


@pytest.mark.parametrize("box", [12, 11])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_the_wedge_is_that_of_the_core(box: int, axis: str) -> None:
    config = ViewConfig.from_layers("fast", {}, NOTHING | {"wedge": 1.0, "wedge_jitter": 0.0})
    draw = Views(config, box, 10.0, (-40.0, 60.0), axis, torch.device("cpu"))
    mask = draw._masks(torch.ones(2), seed())
    expected = wedge_mask(box, (-40.0, 60.0), axis)
    assert (
        mask[0, 0] - expected
    ).abs().mean() < 2e-3  # edges that fall on the border itself may round either way
    assert draw._masks(torch.zeros(1), seed()).all()


def test_the_wedge_removes_what_it_should_after_the_turn() -> None:
    draw = views(affine_probability=1.0, wedge=1.0, wedge_jitter=0.0)
    seen = draw(cubes(), seed())
    spectrum = torch.fft.rfftn(seen, dim=(-3, -2, -1)).abs()
    missing = draw._masks(torch.ones(1), seed())[0] == 0
    assert spectrum[:, missing].max() < 1e-3 * spectrum.max()


def test_noise_has_the_spectrum_that_is_asked_for() -> None:
    """On a cube without structure, coloured noise follows the transfer function: little at the
    lowest frequencies.
    """
    quiet = torch.zeros(64, 1, 16, 16, 16)
    power = {}
    for colour in ("white", "ctf"):
        draw = views(box=16, noise=1.0, noise_colour=colour)
        noisy = draw.filtered(quiet, seed(), seed(1))
        spectrum = torch.fft.rfftn(noisy, dim=(-3, -2, -1)).abs().square().mean((0, 1))
        power[colour] = spectrum[draw.frequencies < 0.008].mean()
        power[colour] = float(power[colour] / spectrum.mean())
    assert power["white"] == pytest.approx(1, abs=0.3)
    assert power["ctf"] < 0.3


@pytest.mark.parametrize("crop", ["0.9,0.8", "0,1", "0.5,1.2"])
def test_a_crop_that_makes_no_sense_is_refused(crop: str) -> None:
    with pytest.raises(UserError, match=r"`crop`: got .* expected two fractions in order"):
        ViewConfig.from_layers("fast", {}, {"crop": crop})

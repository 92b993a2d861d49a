"""The Fourier band of volumes in unknown poses: coefficients, sampling, resizing, what a wedge
measures.
"""

from __future__ import annotations

import pytest
import torch
from planted_bodies import TILTS, body, directly, generator

from cryoet_core.algorithms.fourier import wedge_mask
from cryoet_core.algorithms.pose_mixture.band import FrequencyBand, measured, resize
from cryoet_core.algorithms.transforms import random_rotations


@pytest.mark.parametrize(("box", "radius"), [(16, 4), (16, 7), (15, 5), (24, 6), (17, 40), (6, 2)])
def test_band_reads_the_same_coefficients_from_cropped_volumes(box: int, radius: int) -> None:
    band = FrequencyBand(box, radius, TILTS)
    volume = torch.randn(2, box, box, box, generator=generator(box))
    small = band.crop(volume)
    assert small.shape == (2, band.small, band.small, band.small)
    expected = torch.stack([directly(v, band.points) for v in volume])
    torch.testing.assert_close(
        band.coefficients(small).to(torch.complex128), expected, rtol=1e-4, atol=1e-3
    )


def test_band_holds_each_pair_of_mates_once() -> None:
    band = FrequencyBand(16, 5, None)
    points = {tuple(p) for p in band.index.tolist()}
    mates = {tuple(-c for c in p) for p in points}
    assert not points & mates
    line = range(-5, 6)
    inside = {
        (z, y, x) for z in line for y in line for x in line if 0 < z * z + y * y + x * x <= 25
    }
    assert points | mates == inside
    assert bool(band.seen.all())


def test_volumes_and_coefficients_are_inverse() -> None:
    band = FrequencyBand(20, 6, TILTS)
    values = torch.randn(3, len(band.points), 2, generator=generator(4))
    coefficients = torch.view_as_complex(values)
    torch.testing.assert_close(
        band.coefficients(band.volumes(coefficients)), coefficients, rtol=1e-4, atol=1e-4
    )
    volume = torch.randn(1, band.small, band.small, band.small, generator=generator(5))
    low = band.volumes(band.coefficients(volume))
    torch.testing.assert_close(band.volumes(band.coefficients(low)), low, rtol=1e-4, atol=1e-5)


def test_sampling_between_points_agrees_with_the_definition() -> None:
    band = FrequencyBand(16, 5, None)
    small = torch.stack([body(0, band.small), body(1, band.small)])
    spectrum = band.spectrum(small)
    whole = band.index.float()[None].expand(2, -1, -1)
    at_points = band.sample(spectrum, whole)
    found = torch.complex(at_points[:, 0, 0], at_points[:, 0, 1])
    torch.testing.assert_close(found, band.coefficients(small), rtol=1e-3, atol=1e-3)
    turned = whole @ random_rotations(2, generator(6))
    between = band.sample(spectrum, turned)[:, 0]
    for i in range(2):
        expected = directly(small[i], turned[i])
        error = (torch.complex(between[i, 0], between[i, 1]) - expected).abs()
        assert float(error.square().mean() / expected.abs().square().mean()) < 0.01


def test_resize_keeps_what_both_sizes_hold() -> None:
    small = FrequencyBand(24, 5, None).crop(torch.randn(2, 24, 24, 24, generator=generator(7)))
    band = FrequencyBand(24, 5, None)
    back = band.coefficients(resize(resize(small, 24), band.small))
    torch.testing.assert_close(back, band.coefficients(small), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(resize(small, band.small), small, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "tilts", [(-60.0, 60.0), (-45.0, 45.0), (-40.0, 60.0), (-90.0, 90.0), None]
)
def test_measured_is_the_wedge_mask(tilts: tuple[float, float] | None) -> None:
    box = 24
    band = FrequencyBand(box, box // 2 - 1, tilts)
    mask = torch.ones(box, box, box) if tilts is None else wedge_mask(box, tilts, full=True)
    z, y, x = (band.index % box).unbind(1)
    expected = mask[z, y, x]
    for points in (band.points, -band.points):
        assert torch.equal(measured(points, tilts), expected)
    torch.testing.assert_close(band.seen, expected > 0)


def test_shell_means() -> None:
    band = FrequencyBand(16, 4, TILTS)
    values = torch.randn(2, len(band.points), generator=generator(8))
    means = band.shell_mean(values)
    for shell in range(1, 5):
        torch.testing.assert_close(means[:, shell], values[:, band.shell == shell].mean(1))
    part = band.shell_mean(values[:, band.seen], band.seen)
    torch.testing.assert_close(part[:, 3], values[:, band.seen & (band.shell == 3)].mean(1))

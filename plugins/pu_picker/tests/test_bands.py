"""The bands of the input: Gaussians, of deviation 1, the same for a crop as for the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cryoet_pu_picker.bands import Bands, widths_of
from cryoet_pu_picker.scenes import Scene
from scipy.ndimage import gaussian_filter

from cryoet_core.tomograms import ArrayVolume, Tomogram


def test_they_are_gaussians_with_reflected_ends() -> None:
    volume = np.random.default_rng(0).normal(size=(12, 15, 19))
    bands = Bands((0.8, 1.7), clip=100.0)(torch.from_numpy(volume)[None, None])[0].numpy()
    assert len(bands) == 3
    np.testing.assert_array_equal(bands[0], volume)
    for band, width in zip(bands[1:], (0.8, 1.7), strict=True):
        radius = int(np.ceil(3 * width))
        expected = gaussian_filter(volume, width, mode="mirror", radius=radius)
        np.testing.assert_allclose(band, expected, atol=1e-6)


def test_blobs_are_differences_of_gaussians_that_answer_most_to_a_ball_of_their_size() -> None:
    volume = np.random.default_rng(3).normal(size=(17, 20, 24))
    bands = Bands((0.9,), 100.0, balls=(6.0, 9.0))(torch.from_numpy(volume)[None, None])[0].numpy()
    assert len(bands) == 4
    for band, ball in zip(bands[2:], (6.0, 9.0), strict=True):
        narrow, wide = (
            gaussian_filter(volume, width, mode="mirror", radius=int(np.ceil(3 * width)))
            for width in (0.275 * ball, 1.1 * 0.275 * ball)
        )
        np.testing.assert_allclose(band, narrow - wide, atol=1e-6)
    away = np.linalg.norm(
        np.stack(np.meshgrid(*[np.arange(-20, 21)] * 3, indexing="ij"), -1), axis=-1
    )
    solid = torch.from_numpy((away < 6).astype(float))[None, None]
    answers = Bands((), 4.0, balls=(6.0, 9.0, 12.0, 16.0, 22.0))(solid)[0, 1:, 20, 20, 20]
    assert int(answers.argmax()) == 2


def test_texture_is_the_log_power_of_two_octaves_about_its_usual_value() -> None:
    volume = np.random.default_rng(5).normal(size=(14, 18, 16))
    bands = Bands((0.9, 1.8), 100.0, balls=(6.0,), texture=1.5)
    given = torch.from_numpy(volume)[None, None]
    widths = [
        gaussian_filter(volume, w, mode="mirror", radius=int(np.ceil(3 * w))) for w in (0.9, 1.8)
    ]
    powers = [(volume - widths[0]) ** 2, (widths[0] - widths[1]) ** 2]
    expected = [np.log(gaussian_filter(power, 1.5, mode="mirror", radius=5)) for power in powers]
    assert bands.channels == 6
    np.testing.assert_allclose(bands(given)[0, 3:5], expected, atol=1e-6)
    bands.measure(given)
    measured = bands(given)[0, 3:5]
    np.testing.assert_allclose(measured.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(measured.std((1, 2, 3)), 1, rtol=1e-5)
    np.testing.assert_allclose(
        measured[0], (expected[0] - expected[0].mean()) / expected[0].std(ddof=1), atol=1e-5
    )


def test_noise_that_is_added_is_no_texture() -> None:
    values = np.random.default_rng(2).normal(size=(10, 24, 24)).astype(np.float32)
    scene = Scene(Tomogram("t", ArrayVolume(values), 10.0), np.zeros((0, 3)), np.zeros(0, int))
    bands = Bands((0.7, 1.4), 4.0, balls=(4.0,), texture=1.1)
    plain = scene.crop((2, 3, 4), (5, 12, 12), bands)
    noisy = scene.crop((2, 3, 4), (5, 12, 12), bands, lambda shape: 3 * torch.ones(shape))
    assert torch.equal(noisy[3:5], plain[3:5])
    assert not torch.allclose(noisy[:3], plain[:3])


@pytest.mark.parametrize("texture", [0.0, 1.1])
def test_a_part_of_the_bands_is_that_part(texture: float) -> None:
    volume = torch.randn(2, 1, 9, 14, 11, generator=torch.Generator().manual_seed(4))
    bands = Bands((0.7, 1.4), 4.0, balls=(4.0,), texture=texture)
    part = (slice(2, 7), slice(0, 5), slice(6, 11))
    torch.testing.assert_close(bands(volume, part), bands(volume)[(..., *part)])


def test_thin_volumes_are_reflected_again_and_again() -> None:
    volume = torch.arange(2.0).reshape(1, 1, 2, 1, 1).expand(1, 1, 2, 3, 1)
    band = Bands((4.0,), clip=10.0)(volume)[0, 1]
    expected = gaussian_filter(volume[0, 0].numpy(), 4.0, mode="mirror", radius=12)
    np.testing.assert_allclose(band.numpy(), expected, atol=1e-6)


def test_measured_bands_have_deviation_one_and_clip_first() -> None:
    volume = torch.randn(1, 1, 24, 32, 32, generator=torch.Generator().manual_seed(0))
    volume[0, 0, 3, 3, 3] = 1e4
    bands = Bands((1.0, 3.0), clip=4.0)
    bands.measure(volume)
    torch.testing.assert_close(bands(volume).std((0, 2, 3, 4)), torch.ones(3), rtol=1e-4, atol=0)
    assert float(bands(volume)[0, 0].max()) <= 4.1
    other = Bands((1.0, 3.0), clip=4.0)
    other.load_state_dict(bands.state_dict())
    assert torch.equal(other(volume), bands(volume))


@pytest.mark.parametrize("corner", [(0, 0, 0), (4, 9, 11), (7, 20, 18)])
def test_a_crops_bands_are_those_of_the_whole(corner: tuple[int, int, int]) -> None:
    values = np.random.default_rng(1).normal(size=(12, 32, 30)).astype(np.float32)
    scene = Scene(Tomogram("t", ArrayVolume(values), 10.0), np.zeros((0, 3)), np.zeros(0, int))
    bands = Bands((0.7, 1.5), clip=3.0, balls=(5.0,), texture=1.2)
    whole = scene.crop((0, 0, 0), values.shape, bands)
    part = scene.crop(corner, (5, 12, 12), bands)
    region = tuple(slice(a, a + n) for a, n in zip(corner, (5, 12, 12), strict=True))
    torch.testing.assert_close(part, whole[(slice(None), *region)])


def test_widths_follow_the_diameters() -> None:
    assert widths_of([280.0], 28.0) == pytest.approx([1, 2, 4])
    assert widths_of([100.0, 400.0], 10.0) == pytest.approx([1, 4, 16])

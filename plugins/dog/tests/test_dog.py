"""The filter against plain sums, and picks of balls: one each, in place, whatever scale, sign, gold
or tiles.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cryoet_dog import filter as dog_filter
from cryoet_dog.dog import DogConfig, DogPicker
from cryoet_dog.filter import BALL, RATIO, difference_of_gaussians, noise_gains, reach
from cryoet_dog.threshold import FALSE, automatic_threshold, noise_bound, noise_level
from scipy.ndimage import gaussian_filter

from cryoet_core.algorithms.peaks import find_peaks
from cryoet_core.picks.table import Picks
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import ArrayVolume, Tomogram

VOXEL = 10.0


class Bench(SimpleNamespace):
    """As much of a run as picking needs."""

    def progress(self, over: Any, description: str) -> Any:
        return over

    def say(self, text: str) -> None:
        self.said = text


def bench(folder: Path, max_memory: int = 1 << 30) -> Any:
    return Bench(scratch=folder, device=torch.device("cpu"), max_memory=max_memory)


def ball(
    shape: tuple[int, int, int], centre: tuple[float, float, float], radius: float
) -> np.ndarray:
    places = np.indices(shape) - np.array(centre)[:, None, None, None]
    return (1 / (1 + np.exp(4 * (np.sqrt((places**2).sum(0)) - radius)))).astype(np.float32)


def picked(
    volume: np.ndarray, folder: Path, *, sign: int = 1, memory: int = 1 << 30, **options: Any
) -> Picks:
    tomogram = Tomogram("t", ArrayVolume(volume), VOXEL, density_sign=sign)
    return DogPicker(DogConfig(**{"diameter": 100.0, **options})).pick(
        tomogram, bench(folder, memory)
    )


CENTRES = [(12.0, 14.0, 14.0), (12.0, 36.3, 17.8), (20.4, 15.0, 40.0), (11.0, 38.0, 39.0)]


@pytest.fixture(scope="module")
def balls() -> np.ndarray:
    clean = sum(ball((30, 52, 54), centre, 5.0) for centre in CENTRES)
    noise = np.random.default_rng(0).normal(0, 1.0, clean.shape)
    return (clean + noise).astype(np.float32)


def off(picks: Picks) -> np.ndarray:
    """Voxels from each of the centres to the nearest pick."""
    gaps = np.linalg.norm(np.array(CENTRES)[:, None] - picks.positions[None] / VOXEL, axis=-1)
    return gaps.min(axis=1)


def test_filter_is_two_gaussian_filters() -> None:
    volume = torch.randn(
        14, 17, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    found = difference_of_gaussians(volume, 2.3).numpy()
    blurs = [
        gaussian_filter(volume.numpy(), sigma, mode="mirror", radius=int(np.ceil(4 * sigma)))
        for sigma in (2.3, RATIO * 2.3)
    ]
    np.testing.assert_allclose(found, blurs[0] - blurs[1], atol=1e-12)


def test_constant_gives_nothing_and_an_impulse_sums_to_nothing() -> None:
    assert (
        float(
            difference_of_gaussians(torch.full((9, 12, 20), 7.0, dtype=torch.float64), 3.0)
            .abs()
            .max()
        )
        < 1e-12
    )
    impulse = torch.zeros(41, 41, 41, dtype=torch.float64)
    impulse[20, 20, 20] = 1
    response = difference_of_gaussians(impulse, 2.0)
    assert abs(float(response.sum())) < 1e-12
    assert float(response.argmax()) == 20 * 41 * 41 + 20 * 41 + 20
    outside = impulse.clone()
    outside[20, 20, 20] = 0
    outside[20, 20, 20 - reach(2.0) - 1] = 1
    assert float(difference_of_gaussians(outside, 2.0)[20, 20, 20]) == 0


def test_sigma_suits_a_ball() -> None:
    """The response in the middle of a ball of radius R is largest at sigma1 = 0.55 R (R = 8
    here).
    """
    volume = torch.from_numpy(ball((65, 65, 65), (32, 32, 32), 8.0))
    widths = np.arange(0.40, 0.75, 0.05)
    responses = [float(difference_of_gaussians(volume, 8 * width)[32, 32, 32]) for width in widths]
    assert abs(widths[int(np.argmax(responses))] - BALL) < 0.051


def test_finds_each_ball_once(balls: np.ndarray, tmp_path: Path) -> None:
    picks = picked(balls, tmp_path)
    assert off(picks).max() < 1.0
    assert len(picks) <= len(CENTRES) + FALSE
    assert (np.diff(picks.scores) <= 0).all()
    best = picks.select(np.arange(len(CENTRES)))
    assert off(best).max() < 1.0


def test_one_clear_ball_is_one_pick_in_its_middle(tmp_path: Path) -> None:
    centre = (16.3, 20.0, 22.6)
    volume = ball((32, 40, 44), centre, 5.0) + np.random.default_rng(0).normal(0, 0.1, (32, 40, 44))
    picks = picked(volume.astype(np.float32), tmp_path)
    assert len(picks) == 1
    assert np.abs(picks.positions / VOXEL - [centre]).max() < 0.1


def test_two_balls_nearer_than_the_spacing_are_one(tmp_path: Path) -> None:
    volume = ball((30, 40, 60), (15, 20, 24), 5.0) + 0.9 * ball((30, 40, 60), (15, 20, 36), 5.0)
    volume += np.random.default_rng(0).normal(0, 0.1, volume.shape).astype(np.float32)
    apart = picked(volume, tmp_path / "a", threshold=15.0, spacing=1.0)
    near = picked(volume, tmp_path / "b", threshold=15.0, spacing=1.4)
    assert (len(apart), len(near)) == (2, 1)


def test_scale_offset_and_sign_change_nothing(balls: np.ndarray, tmp_path: Path) -> None:
    first = picked(balls, tmp_path / "a")
    scaled = picked(balls * 37 - 120, tmp_path / "b")
    dark = picked(-balls * 0.01 + 5, tmp_path / "c", sign=-1)
    for other in (scaled, dark):
        np.testing.assert_allclose(other.positions, first.positions, atol=0.05)
        np.testing.assert_allclose(other.scores, first.scores, atol=0.01)


def test_tiles_change_nothing(balls: np.ndarray, tmp_path: Path) -> None:
    whole, tiled = picked(balls, tmp_path / "a"), picked(balls, tmp_path / "b", memory=32 * 45**3)
    np.testing.assert_allclose(tiled.positions, whole.positions, atol=0.01)
    np.testing.assert_allclose(tiled.scores, whole.scores, atol=1e-3)


def test_gold_does_not_move_the_threshold(balls: np.ndarray, tmp_path: Path) -> None:
    gold = balls + 100 * ball(balls.shape, (22, 38, 24), 2.5)
    picks = picked(gold, tmp_path)
    assert off(picks).max() < 1.2
    assert len(picks) <= len(CENTRES) + FALSE + 2


def test_noise_gives_about_as_few_picks_as_promised(tmp_path: Path) -> None:
    """At the faces too, where mirrored noise is stronger."""
    counts = []
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(size=(48, 64, 64)).astype(np.float32)
        scores = difference_of_gaussians(torch.from_numpy(noise), 2.75).numpy()
        scores /= np.stack(list(noise_gains((48, 64, 64), 2.75)))
        scores /= noise_level(scores)
        counts.append(
            len(find_peaks(scores, distance=0, threshold=noise_bound(noise.size / 2.75**3))[0])
        )
    assert FALSE / 2 < np.mean(counts) < 2 * FALSE


def test_noise_gains_are_those_of_noise() -> None:
    noise = torch.randn(3000, 7, 9, 20, generator=torch.Generator().manual_seed(0))
    measured = difference_of_gaussians(noise, 1.2).std(0)
    gains = np.stack(list(noise_gains((7, 9, 20), 1.2)))
    ratio = measured.numpy() / gains
    np.testing.assert_allclose(ratio / ratio.mean(), 1, atol=0.07)
    assert gains[3, 4, 10] == pytest.approx(1, abs=0.03)
    assert gains[0, 0, 0] > 1.5


def test_threshold_is_the_larger_of_two() -> None:
    random = np.random.default_rng(1)
    values = np.concatenate((random.normal(1.5, 0.4, 300), random.normal(9, 1, 60)))
    assert automatic_threshold(values, 1e4) > noise_bound(1e4)
    assert automatic_threshold(values / 10, 1e4) == noise_bound(1e4)
    assert automatic_threshold(values[:0], 1e4) == noise_bound(1e4)


def test_fine_voxels_are_binned_to_the_same_picks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, centre = (60, 66, 70), (31.0, 29.5, 38.2)
    volume = ball(shape, centre, 12.5) + np.random.default_rng(0).normal(0, 0.5, shape).astype(
        np.float32
    )
    sizes = []
    true = dog_filter.difference_of_gaussians

    def spied(region: torch.Tensor, sigma: float) -> torch.Tensor:
        sizes.append(sigma)
        return true(region, sigma)

    monkeypatch.setattr("cryoet_dog.dog.difference_of_gaussians", spied)
    picks = picked(volume, tmp_path, diameter=250.0, limit=1)
    assert sizes[0] == pytest.approx(3.0)
    assert np.abs(picks.positions / VOXEL - [centre]).max() < 0.5


@pytest.mark.parametrize(
    ("diameter", "message"),
    [
        (400.0, "40 voxels in t, which has 30 x 52 x 54"),
        (20.0, "2.0 voxels of 10 Å in t; expected at least 3.6"),
    ],
)
def test_a_diameter_that_does_not_fit_is_refused(
    balls: np.ndarray, tmp_path: Path, diameter: float, message: str
) -> None:
    with pytest.raises(UserError, match=message.replace(".", "\\.")):
        picked(balls, tmp_path, diameter=diameter)

"""From heat map to picks: positions without bias, one pick per peak, species apart from each
other.
"""

from __future__ import annotations

import numpy as np
import pytest
from cryoet_pu_picker.decoding import apart, centres


def blobs(
    shape: tuple[int, int, int], places: np.ndarray, heights: np.ndarray, width: float
) -> np.ndarray:
    """Gaussians at places in voxels, as seen by heat map cells of 1 x 2 x 2 voxels."""
    d, h, w = shape
    grid = np.stack(
        np.meshgrid(np.arange(d), 2 * np.arange(h) + 0.5, 2 * np.arange(w) + 0.5, indexing="ij"), -1
    )
    squares = ((grid[None] - places[:, None, None, None]) ** 2).sum(-1)
    return (
        (heights[:, None, None, None] * np.exp(-squares / (2 * width**2))).max(0).astype(np.float32)
    )


def test_positions_are_those_of_planted_blobs() -> None:
    random = np.random.default_rng(0)
    errors = []
    for _ in range(30):
        place = random.uniform((5, 10, 10), (14, 38, 38))
        heat = blobs((20, 25, 25), place[None], np.array([0.9]), width=2.5)
        position, score, kind = centres(heat[None], 12.0, [100.0], [0.25], 0.6)
        assert len(position) == 1
        assert score[0] == pytest.approx(0.9, abs=0.12)
        assert kind.tolist() == [0]
        errors.append(position[0] / 12.0 - place)
    assert np.abs(np.mean(errors, 0)).max() < 0.1  # voxels
    assert np.abs(errors).max() < 0.4


def test_of_peaks_too_close_the_higher_stays() -> None:
    places = np.array([[10.0, 20.5, 20.5], [10.0, 28.5, 20.5], [10.0, 40.5, 20.5]])
    heat = blobs((20, 25, 25), places, np.array([0.6, 0.9, 0.5]), width=1.5)[None]
    for spacing, kept in ((0.7, [0.9, 0.6, 0.5]), (0.9, [0.9, 0.5]), (1.3, [0.9])):
        position, score, _ = centres(heat, 10.0, [100.0], [0.25], spacing)
        assert score.tolist() == pytest.approx(kept, rel=1e-3)
        assert position[0] == pytest.approx([100, 285, 205], abs=3)
    assert len(centres(heat, 10.0, [100.0], [0.55], 0.1)[0]) == 2  # the threshold


def test_a_plateau_is_one_pick() -> None:
    heat = np.zeros((1, 9, 12, 12), dtype=np.float32)
    heat[0, 3:5, 4:6, 6:8] = 0.8
    position, _, _ = centres(heat, 10.0, [20.0], [0.25], 0.1)
    assert len(position) == 1


def test_species_suppress_each_other_by_the_mean_of_their_diameters() -> None:
    places = np.array([[10.0, 20.5, 20.5], [10.0, 34.5, 20.5]])
    first = blobs((20, 25, 25), places[:1], np.array([0.9]), width=1.5)
    second = blobs((20, 25, 25), places[1:], np.array([0.7]), width=1.5)
    for diameters, kinds in (([200.0, 60.0], [0, 1]), ([200.0, 100.0], [0])):
        _, _, kind = centres(np.stack((first, second)), 10.0, diameters, [0.25, 0.25], 1.0)
        assert kind.tolist() == kinds


def test_each_species_has_its_threshold() -> None:
    places = np.array([[10.0, 10.5, 10.5], [10.0, 34.5, 34.5]])
    heat = blobs((20, 25, 25), places, np.array([0.9, 0.5]), width=1.5)
    both = np.stack((heat, heat))
    for thresholds, expected in (([0.2, 0.95], [0, 0]), ([0.6, 0.4], [0, 1]), ([0.95, 0.6], [1])):
        assert centres(both, 10.0, [50.0, 50.0], thresholds, 1.0)[2].tolist() == expected


def test_thinning_is_greedy_and_exact() -> None:
    random = np.random.default_rng(1)
    points, distances = random.uniform(0, 10, (200, 3)), random.choice([0.5, 2.0, 3.0], 200)
    kept: list[int] = []
    for i in range(200):
        if all(
            np.linalg.norm(points[i] - points[j]) >= (distances[i] + distances[j]) / 2 for j in kept
        ):
            kept.append(i)
    assert apart(points, distances).tolist() == kept
    assert len(apart(points[:0], distances[:0])) == 0


def test_an_empty_heat_map_gives_no_picks() -> None:
    position, score, kind = centres(
        np.zeros((2, 4, 5, 6), np.float32), 10.0, [50.0, 60.0], [0.25, 0.25], 0.6
    )
    assert position.shape == (0, 3)
    assert len(score) == len(kind) == 0

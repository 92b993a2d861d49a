"""Peaks: planted positions, plateaus, spacing and order, against a plain restatement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from cryoet_core.algorithms import peaks
from cryoet_core.algorithms.peaks import far_apart, find_peaks, parting_value


def blob(
    shape: tuple[int, int, int], centre: tuple[float, float, float], width: float = 2.0
) -> np.ndarray:
    places = np.indices(shape) - np.array(centre)[:, None, None, None]
    return np.exp(-(places**2).sum(0) / (2 * width**2)).astype(np.float32)


def plain(scores: np.ndarray, distance: float, threshold: float) -> np.ndarray:
    """Regional maxima by flooding, thinned one by one: voxels, best first."""
    padded = np.pad(scores.astype(float), 1, constant_values=-np.inf)
    found = []
    seen = np.zeros(scores.shape, bool)
    for start in np.ndindex(scores.shape):
        if seen[start] or scores[start] < threshold:
            continue
        region = ndimage.label(scores == scores[start], np.ones((3, 3, 3)))[0]
        region = region == region[start]
        seen |= region
        ring = ndimage.binary_dilation(np.pad(region, 1), np.ones((3, 3, 3)))
        if padded[ring].max() > scores[start] or region.all():
            continue
        members = np.argwhere(region)
        away = ((members - members.mean(0)) ** 2).sum(1)
        found.append((float(scores[start]), tuple(members[np.argmin(away)])))
    found.sort(key=lambda peak: (-peak[0], peak[1]))
    kept: list[tuple[int, ...]] = []
    for _, place in found:
        if all(np.linalg.norm(np.subtract(place, other)) >= distance for other in kept):
            kept.append(place)
    return np.array(kept).reshape(-1, 3)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [3, 8, 10_000])
def test_equals_the_plain_search(seed: int, levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few levels make plateaus and terraces; small slabs and blocks make seams."""
    monkeypatch.setattr(peaks, "SLAB", 150)
    monkeypatch.setattr(peaks, "BLOCK", 8)
    monkeypatch.setattr(peaks, "PAIRS", 3)
    scores = np.random.default_rng(seed).integers(0, levels, (7, 8, 9)).astype(np.float32)
    for distance, threshold in ((0.0, -1), (2.3, levels / 3), (4.0, levels / 2)):
        found, values = find_peaks(scores, distance=distance, threshold=threshold, subvoxel=False)
        np.testing.assert_array_equal(found, plain(scores, distance, threshold))
        np.testing.assert_array_equal(values, scores[tuple(found.astype(int).T)])


def test_sub_voxel_position_of_a_blob() -> None:
    centre = (9.3, 11.6, 12.45)
    found, values = find_peaks(blob((20, 22, 24), centre), distance=3, threshold=0.5)
    assert np.abs(found - [centre]).max() < 0.03
    assert values.shape == (1,)
    assert values[0] > 0.9


def test_a_tilted_quadratic_is_met_exactly() -> None:
    bend = np.array([[2.0, 0.8, 0.3], [0.8, 1.5, -0.4], [0.3, -0.4, 1.0]])
    centre = np.array([4.2, 5.1, 5.8])
    away = np.moveaxis(np.indices((10, 10, 10)), 0, -1) - centre
    scores = -np.einsum("...i,ij,...j->...", away, bend, away)
    found, _ = find_peaks(scores, distance=2, threshold=-10)
    np.testing.assert_allclose(found[0], centre, atol=1e-9)


def test_offsets_stay_within_half_a_voxel_and_positions_apart() -> None:
    scores = torch.randn(24, 24, 24, generator=torch.Generator().manual_seed(0))
    whole, _ = find_peaks(scores, distance=0, threshold=0, subvoxel=False)
    moved, _ = find_peaks(scores, distance=0, threshold=0)
    assert np.abs(whole - moved).max() <= 0.5
    assert np.abs(whole - moved).max() > 0.2
    apart, values = find_peaks(scores, distance=4.5, threshold=0)
    gaps = np.linalg.norm(apart[:, None] - apart[None], axis=-1) + 100 * np.eye(len(apart))
    assert gaps.min() >= 4.5
    assert (np.diff(values) <= 0).all()


def test_a_plateau_gives_its_middle() -> None:
    scores = np.zeros((9, 9, 15), np.float32)
    scores[4, 4, 3:6] = 1
    scores[3:5, 6, 10] = 2
    found, values = find_peaks(scores, distance=2, threshold=0.5)
    np.testing.assert_allclose(found, [[3.5, 6, 10], [4, 4, 4]])
    np.testing.assert_array_equal(values, [2, 1])


def test_a_flat_map_has_none_and_masked_voxels_are_none() -> None:
    flat = np.full((6, 6, 6), 3.0, np.float32)
    assert len(find_peaks(flat, distance=1, threshold=0)[0]) == 0
    flat[:] = -np.inf
    assert len(find_peaks(flat, distance=1, threshold=-np.inf)[0]) == 0
    flat[2, 3, 4] = 1
    found, _ = find_peaks(flat, distance=1, threshold=-np.inf)
    np.testing.assert_array_equal(found, [[2, 3, 4]])


def test_border_and_limit() -> None:
    scores = (
        blob((12, 12, 30), (1, 6, 6), 1.0) * 3
        + blob((12, 12, 30), (6, 6, 15), 1.0) * 2
        + blob((12, 12, 30), (6, 6, 25))
    )
    found, _ = find_peaks(scores, distance=3, threshold=0.5, subvoxel=False)
    np.testing.assert_array_equal(found, [[1, 6, 6], [6, 6, 15], [6, 6, 25]])
    inner, _ = find_peaks(scores, distance=3, threshold=0.5, subvoxel=False, border=(2, 0, 0))
    np.testing.assert_array_equal(inner, found[1:])
    best, _ = find_peaks(scores, distance=3, threshold=0.5, subvoxel=False, limit=2)
    np.testing.assert_array_equal(best, found[:2])


def test_a_corner_is_a_peak() -> None:
    scores = blob((8, 8, 8), (0, 7, 0))
    found, _ = find_peaks(scores, distance=3, threshold=0.5)
    np.testing.assert_array_equal(found, [[0, 7, 0]])


def test_suppression_follows_a_chain() -> None:
    """The middle of three is removed by the best, so the third stays although it is near the middle
    one.
    """
    scores = sum(
        height * blob((9, 9, 30), (4, 4, x), 0.8) for height, x in ((3, 6), (2, 10), (1, 14))
    )
    found, _ = find_peaks(scores, distance=5, threshold=0.5, subvoxel=False)
    np.testing.assert_array_equal(found[:, 2], [6, 14])


def test_arrays_tensors_halves_and_maps_agree(tmp_path: Path) -> None:
    scores = np.random.default_rng(3).normal(size=(10, 12, 14)).astype(np.float16)
    expected = find_peaks(scores.astype(np.float32), distance=3, threshold=0.3)
    np.save(tmp_path / "map.npy", scores)
    for other in (
        torch.from_numpy(scores),
        np.load(tmp_path / "map.npy", mmap_mode="r"),
        torch.from_numpy(scores).double(),
    ):
        found = find_peaks(other, distance=3, threshold=0.3)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("shape", [(1, 6, 6), (2, 1, 5), (3, 3, 3)])
def test_thin_maps(shape: tuple[int, int, int]) -> None:
    scores = np.zeros(shape, np.float32)
    scores[tuple(n // 2 for n in shape)] = 1
    found, _ = find_peaks(scores, distance=1, threshold=0.5)
    np.testing.assert_allclose(found, [[n // 2 for n in shape]], atol=0.5)


def test_bad_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="expected \\(d, h, w\\)"):
        find_peaks(np.zeros((3, 3)), distance=1, threshold=0)
    with pytest.raises(ValueError, match="NaN"):
        find_peaks(np.full((3, 3, 3), np.nan), distance=1, threshold=0)


def test_far_apart_is_greedy() -> None:
    line = np.array([0.0, 1.0, 2.5, 3.4, 9.0])
    places = np.stack([line, 0 * line, 0 * line], axis=1)
    np.testing.assert_array_equal(far_apart(places, 2.0), [0, 2, 4])
    np.testing.assert_array_equal(far_apart(places, 0.0), range(5))


def test_strong_and_weak_peaks_are_parted_whatever_a_few_are() -> None:
    random = np.random.default_rng(1)
    values = np.concatenate((random.normal(1.5, 0.4, 300), random.normal(9, 1, 60)))
    plain = parting_value(values)
    assert 3 < plain < 7.5
    values[-5:] = 500
    assert abs(parting_value(values) - plain) < 0.5
    assert parting_value(values[:1]) == -np.inf
    assert parting_value(np.array([1.0, 3.0])) == 2.0

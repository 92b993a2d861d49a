"""A tomogram as methods see it: regions, other voxel sizes, numbers of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoet_core.picks.table import Picks
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import ArrayVolume, Tomogram, Tomograms
from cryoet_core.tomograms import statistics as numbers
from cryoet_core.tomograms.resample import ResampledVolume, keys_cubic
from cryoet_core.tomograms.statistics import bad_slices, ranges, sample_regions

EVERYTHING = (slice(None), slice(None), slice(None))


def noise(shape: tuple[int, int, int] = (12, 17, 23), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(2, 3, shape).astype(np.float32)


def blobs(
    shape: tuple[int, int, int], voxel_size: float, centres: np.ndarray, sigma: float
) -> np.ndarray:
    """Gaussian blobs at ``centres`` (n, 3) Å, of ``sigma`` Å."""
    grid = np.stack(np.meshgrid(*(np.arange(n) * voxel_size for n in shape), indexing="ij"))
    values = sum(
        np.exp(-((grid - c[:, None, None, None]) ** 2).sum(0) / (2 * sigma**2)) for c in centres
    )
    return np.asarray(values, np.float32)


def centre_of(volume: np.ndarray, near: np.ndarray, voxel_size: float, reach: float) -> np.ndarray:
    """Å of the centre of mass about a point."""
    grid = np.stack(np.meshgrid(*(np.arange(n) * voxel_size for n in volume.shape), indexing="ij"))
    close = ((grid - near[:, None, None, None]) ** 2).sum(0) < reach**2
    return np.asarray((grid[:, close] * volume[close]).sum(1) / volume[close].sum())


# ---- other voxel sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize("target", [5.0, 8.1, 13.3, 20.0, 31.0])
def test_resampled_blobs_stay_where_they_are_in_angstrom(target: float) -> None:
    centres = np.array([[100.0, 120.0, 140.0], [193.0, 211.7, 130.4], [105.0, 260.0, 266.6]])
    found = Tomogram("a", ArrayVolume(blobs((30, 36, 41), 10.0, centres, 25.0)), 10.0)
    view = found.at(target)
    assert view.voxel_size == target
    assert (view.extent <= found.extent + 1e-9).all()
    assert (view.extent > found.extent - target).all()
    values = view.read()
    assert values.shape == view.shape
    for centre in centres:
        moved = centre_of(values, centre, target, 80.0) - centre_of(
            found.read(), centre, 10.0, 80.0
        )
        assert np.abs(moved).max() < 0.04 * target, (target, centre, moved)
        top = values[tuple(np.round(centre / target).astype(int))]
        assert top > 0.55


@settings(max_examples=40, deadline=None)
@given(
    factor=st.floats(0.3, 4.0),
    shape=st.tuples(st.integers(2, 24), st.integers(2, 24), st.integers(70, 90)),
    corners=st.lists(st.floats(0, 1), min_size=6, max_size=6),
)
def test_a_region_of_a_view_equals_that_of_the_whole(
    factor: float, shape: tuple[int, int, int], corners: list[float]
) -> None:
    view = ResampledVolume(ArrayVolume(noise(shape)), factor)
    whole = view.read(EVERYTHING)
    assert whole.shape == view.shape
    region = tuple(
        slice(int(min(a, b) * (n - 1)), int(max(a, b) * (n - 1)) + 1)
        for a, b, n in zip(corners[:3], corners[3:], view.shape, strict=True)
    )
    np.testing.assert_allclose(view.read(region), whole[region], atol=1e-4)  # type: ignore[arg-type]


def test_a_view_equals_a_float64_restatement() -> None:
    values, factor = noise((9, 10, 11)), 1.7
    view = ResampledVolume(ArrayVolume(values), factor)
    expected = values.astype(np.float64)
    for axis in range(3):
        size = values.shape[axis]
        rows = []
        for i in range(view.shape[axis]):
            weights = np.array(
                [keys_cubic(np.array((j - i * factor) / factor)) for j in range(size)], np.float64
            )
            rows.append(weights / weights.sum())
        expected = np.moveaxis(np.tensordot(np.stack(rows), expected, (1, axis)), 0, axis)
    np.testing.assert_allclose(view.read(EVERYTHING), expected, atol=1e-5)


def test_a_coarser_view_holds_no_detail_that_folds_back() -> None:
    checkers = np.indices((32, 32, 32)).sum(0) % 2 * 2.0 - 1
    view = Tomogram("a", ArrayVolume(checkers), 5.0).at(15.0)
    assert np.abs(view.read()[3:-3, 3:-3, 3:-3]).max() < 0.02
    constant = ResampledVolume(ArrayVolume(np.full((9, 9, 9), 7.0)), 2.3)
    np.testing.assert_allclose(constant.read(EVERYTHING), 7.0, rtol=1e-6)


def test_nearly_the_same_voxel_size_is_the_tomogram_itself() -> None:
    picks = Picks.of(np.array([[10.0, 20, 30]]), "a")
    found = Tomogram("a", ArrayVolume(noise()), 10.0, picks=picks)
    assert found.at(10.15) is found
    assert found.at(12.0).picks is picks
    assert found.at(12.0).at(12.0).shape == found.at(12.0).shape


# ---- numbers -------------------------------------------------------------------------------------


def test_statistics_are_not_moved_by_gold() -> None:
    values = np.random.default_rng(1).normal(100, 7, (30, 60, 60)).astype(np.float32)
    values[10:14, 10:20, 10:20] = -5000.0
    mean, deviation = Tomogram("a", ArrayVolume(values), 10.0).statistics()
    assert abs(mean - 100) < 0.2
    assert abs(deviation / 7 - 1) < 0.01
    dark_mean, _ = Tomogram("a", ArrayVolume(values), 10.0, density_sign=-1).statistics()
    assert abs(dark_mean + 100) < 0.2


def test_a_few_particles_without_noise_are_no_outliers() -> None:
    values = np.zeros((30, 30, 30), np.float32)
    values[5:8, 5:8, 5:8] = 1.0
    mean, deviation = Tomogram("a", ArrayVolume(values), 10.0).statistics()
    assert deviation == pytest.approx(values.std(), rel=1e-6)
    assert mean == pytest.approx(values.mean(), rel=1e-6)


def test_statistics_of_a_large_tomogram_come_from_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "SAMPLED", 20_000)
    reads: list[int] = []

    class Counted(ArrayVolume):
        def read(self, region: tuple[slice, slice, slice]) -> np.ndarray:
            part = super().read(region)
            reads.append(part.size)
            return part

    found = Tomogram("a", Counted(noise((50, 60, 70))), 10.0)
    mean, deviation = found.statistics()
    assert sum(reads) <= 25_000
    assert abs(mean - 2) < 0.1
    assert abs(deviation - 3) < 0.1
    count = len(reads)
    assert found.statistics() == (mean, deviation)
    assert found.without_picks().statistics() == (mean, deviation)
    assert len(reads) == count, "the second time nothing is read"


@given(shape=st.tuples(*[st.integers(1, 3000)] * 3))
def test_sample_regions_lie_inside_and_stay_small(shape: tuple[int, int, int]) -> None:
    sizes = []
    for region in sample_regions(shape):
        for part, n in zip(region, shape, strict=True):
            assert 0 <= part.start < part.stop <= n
        sizes.append(np.prod([part.stop - part.start for part in region], dtype=float))
    assert sum(sizes) <= max(numbers.SAMPLED, 8.0 * shape[2])
    assert sum(sizes) >= min(np.prod(shape, dtype=float), numbers.SAMPLED / 4)


def test_a_constant_volume_is_refused() -> None:
    for value in (0.0, 3.0, -1e6):
        with pytest.raises(UserError, match=r"flat\.mrc: constant"):
            Tomogram(
                "a", ArrayVolume(np.full((5, 5, 5), value)), 10.0, where="flat.mrc"
            ).statistics()


def test_slices_with_nan_are_named() -> None:
    values = noise((40, 8, 8))
    values[[3, 7, 8, 9, 31]] = np.nan
    values[20, 2, 2] = np.inf
    found = Tomogram("a", ArrayVolume(values), 10.0, where="t.mrc")
    assert bad_slices(found.volume) == [3, 7, 8, 9, 20, 31]
    words = r"t.mrc: NaN or infinite voxels in z slices 3, 7-9, 20, 31 \(from 0, of 40\)"
    for broken in (found, found.at(20.0)):
        with pytest.raises(UserError, match=words):
            broken.read()
    assert np.isfinite(found.read((slice(10, 19), slice(None), slice(None)))).all()
    assert ranges(list(range(0, 40, 2))) == "0, 2, 4, 6, 8, 10 and 14 more stretches"


# ---- labels --------------------------------------------------------------------------------------


def test_hidden_labels_are_gone_everywhere() -> None:
    picks = Picks.of(np.array([[10.0, 20, 30]]), "a")
    mask = ArrayVolume(np.ones((12, 17, 23), np.int32))
    found = Tomogram(
        "a", ArrayVolume(noise()), 10.0, picks=picks, masks={"ids": mask}, attributes={"truth": [1]}
    )
    hidden = Tomograms((found,), ("a note",)).without_picks()
    assert hidden.picks is None
    assert dict(hidden.tomograms[0].masks) == {}
    assert dict(hidden.tomograms[0].attributes) == {}
    assert hidden.notes == ("a note",)
    assert found.picks is picks

"""Boxes about picks: exact on voxels, right between them, at the edges and at other voxel sizes;
what is refused.
"""

from __future__ import annotations

import numpy as np
import pytest

from cryoet_core.particles.cutting import boxes
from cryoet_core.particles.extraction import Cut, extract
from cryoet_core.picks.table import Picks, join
from cryoet_core.store import check_store, open_subtomograms
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import ArrayVolume, Tomogram, Tomograms

VOXEL = 10.0
RANDOM = np.random.default_rng(0)


def tomogram(array, name="t", voxel=VOXEL, **facts):
    return Tomogram(name, ArrayVolume(np.asarray(array, np.float32)), voxel, **facts)


def noise(*shape, name="t", **facts):
    return tomogram(np.random.default_rng(1).normal(5, 2, shape), name, **facts)


def cut_one(tomo, position, box, voxel=None):
    ((_, cubes),) = boxes(tomo, np.atleast_2d(position), box, voxel)
    return cubes[0]


class Waves:
    """A band-limited density: a sum of cosines, known at every point."""

    def __init__(self, finest: float, count: int = 12) -> None:
        random = np.random.default_rng(3)
        direction = random.normal(size=(count, 3))
        length = random.uniform(0.2, 1, count) * finest
        self.k = direction / np.linalg.norm(direction, axis=1, keepdims=True) * length[:, None]
        self.phase = random.uniform(0, 6.28, count)

    def at(self, points: np.ndarray) -> np.ndarray:
        return np.cos(2 * np.pi * points @ self.k.T + self.phase).sum(-1)


def grid(shape, voxel):
    return np.stack(np.meshgrid(*(np.arange(n) * voxel for n in shape), indexing="ij"), -1)


# ---- boxes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [8, 9])
def test_a_position_on_a_voxel_gives_the_voxels_as_they_are(box):
    tomo = noise(24, 26, 28)
    cube = cut_one(tomo, np.array([12, 13, 14]) * VOXEL, box)
    half = box // 2
    z, y, x = (slice(c - half, c - half + box) for c in (12, 13, 14))
    np.testing.assert_allclose(cube, tomo.read((z, y, x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shift", [(0.5, 0.5, 0.5), (0.2, -0.7, 0.35)])
def test_between_voxels_the_density_is_that_of_the_point(shift):
    waves = Waves(0.3 / VOXEL)
    tomo = tomogram(waves.at(grid((40, 40, 40), VOXEL)))
    centre = (np.array([20, 20, 20]) + shift) * VOXEL
    truth = waves.at(grid((12, 12, 12), VOXEL) + centre - 6 * VOXEL)
    assert np.abs(cut_one(tomo, centre, 12) - truth).max() < 0.02 * truth.std()


@pytest.mark.parametrize("voxel", [7.0, 13.0, 20.0])
def test_other_voxel_sizes_show_the_same_density_about_the_same_centre(voxel):
    waves = Waves(0.15 / VOXEL)
    tomo = tomogram(waves.at(grid((56, 56, 56), VOXEL)))
    centre = np.array([271.0, 283.0, 266.0])
    truth = waves.at(grid((10, 10, 10), voxel) + centre - 5 * voxel)
    assert np.abs(cut_one(tomo, centre, 10, voxel) - truth).max() < 0.02 * truth.std()


def test_finer_detail_does_not_fold_back_into_coarser_boxes():
    z = np.arange(64)[:, None, None] + np.zeros((64, 64, 64))
    tomo = tomogram(np.cos(2 * np.pi * 0.45 * z))
    assert np.abs(cut_one(tomo, np.full(3, 320.0), 10, 2 * VOXEL)).max() < 0.02


def test_a_box_does_not_depend_on_what_else_is_cut(monkeypatch):
    tomo = noise(40, 40, 40)
    positions = RANDOM.uniform(80, 300, (23, 3))
    together = np.concatenate([cubes for _, cubes in boxes(tomo, positions, 8)])
    monkeypatch.setattr("cryoet_core.particles.cutting._BATCH_BYTES", 4 * 8**3 * 5)
    parts = list(boxes(tomo, positions, 8))
    assert len(parts) == 5
    np.testing.assert_allclose(np.concatenate([cubes for _, cubes in parts]), together, atol=1e-5)
    alone = np.stack([cut_one(tomo, position, 8) for position in positions])
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_dark_protein_comes_out_bright():
    array = np.zeros((20, 20, 20))
    array[10, 10, 10] = -3.0
    cube = cut_one(tomogram(array, density_sign=-1), np.full(3, 100.0), 8)
    assert cube[4, 4, 4] == pytest.approx(3.0)


# ---- the store -----------------------------------------------------------------------------------


def blobs(shape, centres, sigma=2.0):
    points = grid(shape, VOXEL)
    total = np.zeros(shape)
    for centre in centres:
        total += np.exp(-(((points - centre) / (sigma * VOXEL)) ** 2).sum(-1) / 2)
    return total


def two_tomograms():
    first = RANDOM.uniform(120, 230, (5, 3))
    second = RANDOM.uniform(120, 230, (4, 3))
    data = Tomograms(
        (
            tomogram(blobs((36, 36, 36), first), "a", tilt_range=(-60.0, 60.0)),
            tomogram(blobs((36, 36, 36), second), "b", tilt_range=(-60.0, 60.0)),
        )
    )
    rotations = np.linalg.qr(RANDOM.normal(size=(9, 3, 3)))[0]
    rotations *= np.linalg.det(rotations)[:, None, None]
    names = ("ribosome", "tric")
    picks = join(
        [
            Picks.of(second, "b", scores=np.arange(4.0), classes=[0, 1, 1, -1], class_names=names),
            Picks.of(first, "a", scores=10 + np.arange(5.0), classes=[0] * 5, class_names=names),
        ]
    )
    return data, Picks(
        picks.positions,
        picks.scores,
        picks.classes,
        names,
        picks.tomograms,
        rotations,
        {"group": np.arange(9) * 7},
    )


def test_particles_lie_in_the_middle_and_everything_known_comes_along(tmp_path):
    data, picks = two_tomograms()
    facts = extract(data, picks, tmp_path / "p.h5", Cut(12, normalise="none"))
    found = open_subtomograms(tmp_path / "p.h5")
    assert check_store(tmp_path / "p.h5") == []
    assert (facts["n"], facts["notes"], facts["classes"]) == (9, [], {"ribosome": 6, "tric": 2})
    order = found.extras["pick"]
    assert order.tolist() == [4, 5, 6, 7, 8, 0, 1, 2, 3]
    np.testing.assert_array_equal(found.positions, picks.positions[order])
    np.testing.assert_allclose(found.rotations, picks.rotations[order], atol=1e-6)
    np.testing.assert_array_equal(found.labels, picks.classes[order])
    np.testing.assert_array_equal(found.extras["score"], picks.scores[order])
    np.testing.assert_array_equal(found.extras["group"], picks.extra["group"][order])
    assert found.class_names == ("ribosome", "tric")
    assert found.tomogram.tolist() == ["a"] * 5 + ["b"] * 4
    assert (found.tilt_range, found.voxel_size, found.density_sign) == ((-60.0, 60.0), VOXEL, 1)
    alone = [
        i for i in range(9)
        if np.sort(np.linalg.norm(found.positions - found.positions[i], axis=1)
                   + 1e9 * (found.tomogram != found.tomogram[i]))[1] > 90
    ]  # fmt: skip
    assert alone
    for i in alone:
        peak = found[i][4:9, 4:9, 4:9]
        weights = np.clip(peak, 0, None)
        index = np.indices(peak.shape) - 2
        centre = (index * weights).sum((1, 2, 3)) / weights.sum()
        assert np.abs(centre).max() < 0.1


def test_normalisation(tmp_path):
    tomo = tomogram(np.random.default_rng(1).normal(1000, 50, (40, 40, 40)))
    picks = Picks.of(RANDOM.uniform(100, 280, (30, 3)), "t")
    found = {}
    for how in ("none", "tomogram", "volume"):
        extract(Tomograms((tomo,)), picks, tmp_path / f"{how}.h5", Cut(10, normalise=how))
        found[how] = open_subtomograms(tmp_path / f"{how}.h5").read(slice(None))
    mean, deviation = tomo.statistics()
    np.testing.assert_allclose(found["tomogram"], (found["none"] - mean) / deviation, atol=5e-3)
    np.testing.assert_allclose(found["volume"].mean((1, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(found["volume"].std((1, 2, 3)), 1, atol=1e-3)


def near_the_edge():
    positions = np.array([[200.0, 200, 200], [20, 200, 200], [200, 200, 385]])
    return Tomograms((noise(40, 40, 40),)), Picks.of(positions, "t")


def test_boxes_at_the_edge_are_dropped_and_counted(tmp_path):
    data, picks = near_the_edge()
    facts = extract(data, picks, tmp_path / "p.h5", Cut(8))
    assert (facts["n"], facts["picks"], facts["left_out"]) == (1, 3, {"at the edge": 2})
    assert facts["notes"] == ["picks left out: 2 at the edge"]
    with pytest.raises(UserError, match="`edge` refuse: 2 of 3 boxes"):
        extract(data, picks, tmp_path / "q.h5", Cut(8, edge="refuse"))
    assert not (tmp_path / "q.h5").exists()


def test_padded_boxes_have_the_mean_beyond_the_tomogram(tmp_path):
    data, picks = near_the_edge()
    facts = extract(data, picks, tmp_path / "p.h5", Cut(8, edge="pad", normalise="none"))
    assert facts["n"] == 3
    assert "boxes that reach beyond their tomogram: 2" in facts["notes"][0]
    found = open_subtomograms(tmp_path / "p.h5")[1]
    inner = data.tomograms[0].read((slice(0, 6), slice(16, 24), slice(16, 24)))
    np.testing.assert_allclose(found[2:], inner, rtol=1e-4)
    np.testing.assert_allclose(found[:2], inner.mean(), rtol=1e-4)


def test_picks_are_chosen_by_score(tmp_path):
    data, picks = two_tomograms()
    facts = extract(data, picks, tmp_path / "p.h5", Cut(8, min_score=2.0, limit=3))
    assert (facts["n"], facts["not_chosen"]) == (3, 6)
    assert open_subtomograms(tmp_path / "p.h5").extras["score"].tolist() == [12.0, 13.0, 14.0]
    with pytest.raises(UserError, match="no pick scores as high; the best has 14"):
        extract(data, picks, tmp_path / "q.h5", Cut(8, min_score=20.0))
    unscored = Picks.of(picks.positions[:4], "b")
    with pytest.raises(UserError, match="the picks have no scores"):
        extract(data, unscored, tmp_path / "q.h5", Cut(8, min_score=0.0))
    assert extract(data, unscored, tmp_path / "q.h5", Cut(8, limit=2))["n"] == 2
    assert open_subtomograms(tmp_path / "q.h5").extras["pick"].tolist() == [0, 1]


def test_voxels_of_another_size_are_stored_as_such(tmp_path):
    data, picks = two_tomograms()
    extract(data, picks, tmp_path / "p.h5", Cut(8, voxel_size=15.0))
    assert open_subtomograms(tmp_path / "p.h5").voxel_size == 15.0
    mixed = Tomograms((data.tomograms[0], tomogram(np.zeros((36, 36, 36)), "b", 12.0)))
    with pytest.raises(UserError, match="voxels of 12 Å, but a has 10 Å"):
        extract(mixed, picks, tmp_path / "q.h5", Cut(8))


def test_constant_boxes_and_unknown_rotations_are_left_out_and_said(tmp_path):
    array = np.random.default_rng(1).normal(0, 1, (40, 40, 40))
    array[:, :, :20] = 0
    rotations = np.stack([np.eye(3), np.full((3, 3), np.nan)])
    picks = Picks.of(np.array([[200.0, 200, 80], [200, 200, 300]]), "t", rotations=rotations)
    facts = extract(Tomograms((tomogram(array),)), picks, tmp_path / "p.h5", Cut(8))
    assert facts["left_out"] == {"in constant density": 1}
    assert facts["notes"][1] == "picks without a rotation: 1 of 2; no rotations are stored"
    assert open_subtomograms(tmp_path / "p.h5").rotations is None


def test_different_tilt_ranges_are_said(tmp_path):
    data, picks = two_tomograms()
    other = Tomograms(
        (data.tomograms[0], tomogram(np.random.default_rng(0).normal(size=(36, 36, 36)), "b"))
    )
    facts = extract(other, picks, tmp_path / "p.h5", Cut(8))
    assert facts["notes"] == ["tilt ranges differ (-60 to 60, unknown): none is stored"]
    assert open_subtomograms(tmp_path / "p.h5").tilt_range is None


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda p: p[:, ::-1], "z and x swapped"),
        (lambda p: p / 2 - 400, None),
        (lambda p: p * 2, "coordinates / 2"),
        (lambda p: p - np.array([200, 400, 400]), "counted from the centre"),
        (lambda p: p + np.array([200, 400, 400]), "counted from the corner"),
        (lambda p: p * 10, "they are Å, not voxels"),
    ],
)
def test_picks_outside_are_refused_with_the_likeliest_cause(tmp_path, change, cause):
    random = np.random.default_rng(2)
    right = random.uniform(0.05, 0.95, (200, 3)) * np.array([400, 800, 800])
    data = Tomograms((tomogram(random.normal(size=(40, 80, 80))),))
    picks = Picks.of(change(right), "t")
    with pytest.raises(UserError, match=r"of 200 picks lie outside tomogram t \(") as caught:
        extract(data, picks, tmp_path / "p.h5", Cut(8))
    assert ("the likeliest cause" in str(caught.value)) == (cause is not None)
    assert cause is None or cause in str(caught.value)
    assert "\n" not in str(caught.value)


def test_centres_outside_are_left_out_on_request(tmp_path):
    picks = Picks.of(np.array([[200.0, 200, 200], [200, 200, 900]]), "t")
    facts = extract(
        Tomograms((noise(40, 40, 40),)), picks, tmp_path / "p.h5", Cut(8, drop_outside=True)
    )
    assert (facts["n"], facts["left_out"]) == (1, {"outside": 1})


def test_wrong_names_no_picks_and_large_boxes_are_refused(tmp_path):
    data, picks = two_tomograms()
    with pytest.raises(
        UserError, match=r"4 of 9 picks are in tomograms that `data` does not have \(4 in 'b'\)"
    ):
        extract(Tomograms(data.tomograms[:1]), picks, tmp_path / "p.h5", Cut(8))
    with pytest.raises(UserError, match="holds no picks"):
        extract(data, Picks.empty(), tmp_path / "p.h5", Cut(8))
    with pytest.raises(
        UserError, match=r"`box` 64: larger than tomogram a, 36 × 36 × 36 voxels .* at most 36"
    ):
        extract(data, picks, tmp_path / "p.h5", Cut(64))
    with pytest.raises(UserError, match="no box can be cut: 9 at the edge; give a smaller `box`"):
        extract(data, picks, tmp_path / "p.h5", Cut(36))
    assert extract(data, picks, tmp_path / "p.h5", Cut(48, edge="pad"))["n"] == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box": 3}, "`box` 3"),
        ({"box": 8, "normalise": "z"}, "`normalise` z: expected none, volume, tomogram"),
        ({"box": 8, "edge": "wrap"}, "`edge` wrap: expected drop, pad, refuse"),
        ({"box": 8, "voxel_size": -1.0}, "`voxel_size` -1"),
        ({"box": 8, "limit": 0}, "`limit` 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Cut(**options)

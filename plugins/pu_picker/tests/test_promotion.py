"""Labels from a linear filter: only where it can tell the particles from all else."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cryoet_pu_picker.bands import Bands, widths_of
from cryoet_pu_picker.config import PUPickerConfig
from cryoet_pu_picker.prior import Priors
from cryoet_pu_picker.promotion import BALL_LABELS, _at_labels, _discriminant, likely, promoted
from cryoet_pu_picker.scenes import Scene
from cryoet_pu_picker.species import Species
from scipy.spatial.distance import cdist

from cryoet_core.algorithms.peaks import parting_value
from cryoet_core.support.progress import Terminal
from cryoet_core.tomograms import ArrayVolume, Tomogram

SHAPE, VOXEL, DIAMETER = (32, 96, 96), 10.0, 80.0


def blobs(alike: int) -> tuple[Scene, np.ndarray]:
    """Thirty balls in noise, the first five labelled, and others that look alike; all centres of
    the thirty.
    """
    random = np.random.default_rng(0)
    places: list[np.ndarray] = []
    while len(places) < 30 + alike:
        place = random.uniform(5, np.array(SHAPE) - 6)
        if all(np.linalg.norm(place - other) > 9 for other in places):
            places.append(place)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    volume = random.normal(size=SHAPE)
    for place in places:
        volume += 2.0 * (np.linalg.norm(grid - place, axis=-1) < 4)
    scene = Scene(
        Tomogram("t", ArrayVolume(volume.astype(np.float32)), VOXEL),
        np.array(places[:5]),
        np.zeros(5, int),
    )
    return scene, np.array(places[:30])


def run_of(folder: Path, said: list[str]) -> Any:
    return SimpleNamespace(
        scratch=folder,
        device=torch.device("cpu"),
        max_memory=1 << 30,
        say=said.append,
        autocast=nullcontext,
        progress=Terminal(silent=True, to_stderr=False).progress,
    )


def more(
    scene: Scene, folder: Path, copies: float, *, share: float = 0.5, blob: bool = False
) -> tuple[Scene, str]:
    bands = Bands(widths_of([DIAMETER], VOXEL), 4.0, balls=[DIAMETER / VOXEL] if blob else [])
    bands.measure(scene.middle())
    priors: Any = SimpleNamespace(copies=[copies], labels=[5])
    said: list[str] = []
    species, run = [Species("ball", DIAMETER)], run_of(folder, said)
    (result,) = promoted(
        [scene], species, priors, likely([scene], species, bands, 0.6, run), share, run
    )
    return result, " ".join(said)


@pytest.mark.parametrize("blob", [False, True])
def test_it_finds_particles_and_keeps_the_labels(tmp_path: Path, blob: bool) -> None:
    scene, truth = blobs(alike=0)
    result, said = more(scene, tmp_path, copies=30, blob=blob)
    assert "5 labels, and 12" in said
    np.testing.assert_array_equal(result.positions[:5], scene.positions)
    assert result.species.tolist() == [0] * 17
    gaps = cdist(result.positions[5:], truth)
    assert (gaps.min(1) < 2).mean() > 0.9
    assert set(gaps.argmin(1)) & set(range(5)) == set()  # none of the labels again
    assert not tmp_path.exists()  # nothing is left in the run's folder


def test_a_filter_that_finds_far_more_than_there_are_is_not_believed(tmp_path: Path) -> None:
    scene, _ = blobs(alike=60)
    result, said = more(scene, tmp_path, copies=12)
    assert "others look alike" in said
    assert len(result.positions) == 5


@pytest.mark.parametrize(("copies", "options"), [(30, {"share": 0.0}), (5, {})])
def test_without_a_share_or_more_copies_labels_stay(
    tmp_path: Path, copies: float, options: dict[str, Any]
) -> None:
    result, _ = more(blobs(alike=0)[0], tmp_path, copies, **options)
    assert len(result.positions) == 5


@pytest.mark.parametrize("blob", [False, True])
def test_the_filter_is_fishers_drawn_to_a_ball_while_labels_are_few(blob: bool) -> None:
    scene, _ = blobs(alike=0)
    bands = Bands(widths_of([DIAMETER], VOXEL), 4.0, balls=[DIAMETER / VOXEL] if blob else [])
    bands.measure(scene.middle())
    values = bands(scene.middle())[0].flatten(1).double().numpy()
    covariance = np.cov(values[:4]) + 1e-3 * np.eye(4)
    own = _at_labels([scene], 0, bands).double().numpy()

    def filter_of(labels: np.ndarray) -> np.ndarray:
        gap = labels[:, :4].mean(0) - values[:4].mean(1)
        # what the bands have where the blob has what it has at the labels, and nothing else is
        # known
        if blob:
            ball = np.cov(values)[:4, 4] / values[4].var(ddof=1) * labels[:, 4].mean()
            gap = (len(labels) * gap + BALL_LABELS * ball) / (len(labels) + BALL_LABELS)
        weights = np.linalg.solve(covariance, gap)
        return np.asarray(weights / np.sqrt(weights @ covariance @ weights))

    found = _discriminant([scene], 0, bands)
    np.testing.assert_allclose(found.weights[:4], filter_of(own), rtol=1e-4)
    assert found.weights[4:].tolist() == [0.0] * blob
    answers = [
        filter_of(np.delete(own, i, 0)) @ own[i, :4] for i in range(5)
    ]  # each label by a filter of the others
    assert found.level == pytest.approx(float(np.mean(answers)), rel=1e-4)
    alone = replace(scene, positions=scene.positions[:1], species=scene.species[:1])
    one = _discriminant([alone], 0, bands)
    assert one.level == pytest.approx(
        float(one.weights[:4].double().numpy() @ own[0, :4]), rel=1e-4
    )


def test_the_ball_helps_one_label_to_find_the_others(tmp_path: Path) -> None:
    scene, truth = blobs(alike=0)
    hits = []
    for balls in ([], [DIAMETER / VOXEL]):
        bands = Bands(widths_of([DIAMETER], VOXEL), 4.0, balls)
        bands.measure(scene.middle())
        right = 0
        for i in range(5):
            one = replace(scene, positions=truth[i : i + 1], species=np.zeros(1, int))
            found = likely([one], [Species("ball", DIAMETER)], bands, 0.6, run_of(tmp_path, []))
            right += int((cdist(found.peaks[0][0][:29], truth).min(1) < 2).sum())
        hits.append(right)
    assert hits[1] >= max(hits[0], 0.9 * 5 * 29)


def test_twice_what_is_above_the_labels_level_is_about_what_there_is(tmp_path: Path) -> None:
    scene, truth = blobs(alike=0)
    bands = Bands(widths_of([DIAMETER], VOXEL), 4.0, balls=[DIAMETER / VOXEL])
    bands.measure(scene.middle())
    scene = replace(scene, positions=truth[:15], species=np.zeros(15, int))
    said: list[str] = []
    run = run_of(tmp_path, said)
    found = likely([scene], [Species("ball", DIAMETER)], bands, 0.6, run)
    assert 21 <= found.copies[0] <= 36  # 30
    priors = Priors(
        [Species("ball", DIAMETER)], [scene], torch.full((1, 3), 0.6), PUPickerConfig(diameter="80")
    )
    assert (priors.counted, priors.copies) == (True, [])
    priors.expect(found.copies, run)
    assert priors.counted
    assert priors.copies == priors.most == found.copies
    assert f"finds up to {found.copies[0]:.0f} in all" in said[0]
    given = Priors(
        [Species("ball", DIAMETER)], [scene], torch.full((1, 3), 0.6), PUPickerConfig(copies="500")
    )
    given.expect(found.copies, run)
    assert given.copies == [500]


def test_labels_are_added_where_copies_are_counted(tmp_path: Path) -> None:
    scene, truth = blobs(alike=0)
    bands = Bands(widths_of([DIAMETER], VOXEL), 4.0, balls=[DIAMETER / VOXEL])
    bands.measure(scene.middle())
    said: list[str] = []
    run, species = run_of(tmp_path, said), [Species("ball", DIAMETER)]
    priors = Priors(species, [scene], torch.full((1, 3), 0.6), PUPickerConfig(diameter="80"))
    found = likely([scene], species, bands, 0.6, run)
    priors.expect(found.copies, run)
    (result,) = promoted([scene], species, priors, found, 0.5, run)
    assert len(result.positions) >= 5 + 5  # of 25 more
    assert (cdist(result.positions[5:], truth).min(1) < 2).mean() > 0.9


def test_copies_are_no_more_than_what_stands_out(tmp_path: Path) -> None:
    scene, _ = blobs(alike=30)
    bands = Bands(widths_of([DIAMETER], VOXEL), 4.0, balls=[DIAMETER / VOXEL])
    bands.measure(scene.middle())
    found = likely([scene], [Species("ball", DIAMETER)], bands, 0.6, run_of(tmp_path, []))
    scores = found.peaks[0][2]
    above, standing = (
        (scores >= level).sum() for level in (found.filters[0].level, parting_value(scores[:500]))
    )
    assert 45 <= standing <= 60  # 55 balls without a label
    assert found.copies == [5 + min(2 * above, standing)]

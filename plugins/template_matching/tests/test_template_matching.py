"""Picks of planted particles: places and orientations, tiles, symmetry, threshold, resume, another
folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
from cryoet_template_matching.config import TemplateMatchingConfig
from cryoet_template_matching.matcher import Matcher
from cryoet_template_matching.rotations import angle_between
from cryoet_template_matching.template import of_density
from cryoet_template_matching.template_matching import (
    TemplateMatchingPicker,
    TemplateMatchingTrainer,
)
from torch import Tensor

from cryoet_core.algorithms.fourier import apply_filter, wedge_mask
from cryoet_core.algorithms.transforms import random_rotations, rotate
from cryoet_core.picks.table import Picks
from cryoet_core.runs.run import Run
from cryoet_core.simulate.shapes.pointgroups import point_group
from cryoet_core.support.errors import UserError
from cryoet_core.testing import data as kit_data
from cryoet_core.tomograms import ArrayVolume, Tomogram, open_tomograms, tilefile

Make = Callable[..., Tensor]
VOXEL, STEP = 10.0, 30.0
EDGE = 46
PLACES = [(12, 13, 14), (13, 33, 12), (32, 14, 31), (33, 32, 33)]
COARSE = {"angular_step": 60.0, "refine": False, "threshold": 0.2}
"""Options for what needs no orientation: a search of a second."""
TILES = 768 * 40**3
"""Memory for a volume in several tiles."""


class Bench(SimpleNamespace):
    """As much of a run as picking needs."""

    def __init__(self, folder: Path, memory: int = 1 << 32) -> None:
        super().__init__(scratch=folder, device=torch.device("cpu"), max_memory=memory, said=[])

    def progress(self, over: Any, description: str) -> Any:
        return over

    def say(self, text: str) -> None:
        self.said.append(text)

    def timer(self, name: str) -> Any:
        return contextlib.nullcontext()


@pytest.fixture(scope="module")
def rotations() -> Tensor:
    return random_rotations(len(PLACES), torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def tomogram(body: Make, planted: Make, rotations: Tensor) -> Tomogram:
    """Four bodies and noise behind a wedge, whose positions and rotations are known."""
    volume = torch.zeros((EDGE,) * 3)
    for place, rotation in zip(PLACES, rotations, strict=True):
        volume = planted(
            volume,
            rotate(body(22)[None, None], rotation[None], mode="fourier", fill=0.0)[0, 0],
            place,
        )
    noise = 0.25 * torch.randn((EDGE,) * 3, generator=torch.Generator().manual_seed(0))
    seen = apply_filter(volume + noise, wedge_mask(EDGE, (-60, 60)))
    return Tomogram("t", ArrayVolume(seen.numpy()), VOXEL, tilt_range=(-60.0, 60.0))


def pick(
    tomogram: Tomogram, density: Tensor, folder: Path, memory: int = 1 << 32, **options: Any
) -> tuple[Picks, Bench]:
    given = {
        "template": "/body.mrc",
        "angular_step": STEP,
        "search_voxel_size": "data",
        "diameter": 110.0,
        **options,
    }
    bench = Bench(folder, memory)
    picker = TemplateMatchingPicker(
        TemplateMatchingConfig(**given), of_density("body", density.numpy(), VOXEL)
    )
    picks: Picks = picker.pick(tomogram, bench)  # type: ignore[arg-type]
    return picks, bench


def errors(
    picks: Picks, rotations: Tensor, group: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Å and degrees of the nearest pick to each planted particle."""
    gaps = np.linalg.norm(np.array(PLACES)[:, None] * VOXEL - picks.positions[None], axis=-1)
    assert picks.rotations is not None
    found = torch.from_numpy(picks.rotations[gaps.argmin(axis=1)])
    alike = rotations[:, None].double() @ torch.from_numpy(
        np.eye(3)[None] if group is None else group
    )
    return gaps.min(axis=1), angle_between(found[:, None], alike).amin(dim=1).numpy()


@pytest.fixture(scope="module")
def found(
    tomogram: Tomogram, body: Make, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Picks, Bench]:
    return pick(tomogram, body(), tmp_path_factory.mktemp("found"))


def test_finds_places_and_orientations(found: tuple[Picks, Bench], rotations: Tensor) -> None:
    """With one false one at most, at the automatic threshold; within a voxel and a third of the
    angular step.
    """
    picks, bench = found
    assert len(PLACES) <= len(picks) <= len(PLACES) + 1
    assert picks.class_names == ("body",)
    away, angles = errors(picks, rotations)
    assert away.max() < VOXEL
    assert angles.max() < STEP / 3
    assert np.median(angles) < STEP / 6
    assert "threshold 0." in bench.said[0]
    assert picks.scores[len(PLACES) - 1] > 0.5


def test_refinement_improves_on_the_search(
    found: tuple[Picks, Bench], tomogram: Tomogram, body: Make, rotations: Tensor, tmp_path: Path
) -> None:
    coarse, _ = pick(tomogram, body(), tmp_path, refine=False)
    away, angles = errors(coarse, rotations)
    assert angles.max() < STEP
    assert away.max() < 2 * VOXEL
    assert np.median(errors(found[0], rotations)[1]) < np.median(angles) / 2
    assert found[0].scores.min() >= coarse.scores.min()


def test_tiles_change_nothing(tomogram: Tomogram, body: Make, tmp_path: Path) -> None:
    whole, _ = pick(tomogram, body(), tmp_path / "a", **COARSE)
    tiled, _ = pick(tomogram, body(), tmp_path / "b", memory=TILES, **COARSE)
    assert len(whole) >= len(PLACES)
    np.testing.assert_allclose(tiled.positions, whole.positions, atol=0.1)
    np.testing.assert_allclose(tiled.scores, whole.scores, atol=1e-4)
    np.testing.assert_allclose(tiled.rotations, whole.rotations, atol=1e-6)


def test_goes_on_after_a_crash(
    tomogram: Tomogram, body: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches, true = [], Matcher.search

    def stopped(self: Matcher, *given: Any) -> Any:
        searches.append(1)
        if len(searches) == 3:
            raise KeyboardInterrupt
        return true(self, *given)

    expected, _ = pick(tomogram, body(), tmp_path / "a", memory=TILES, **COARSE)
    monkeypatch.setattr(Matcher, "search", stopped)
    monkeypatch.setattr(tilefile, "SYNC_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        pick(tomogram, body(), tmp_path / "b", memory=TILES, **COARSE)
    again, _ = pick(tomogram, body(), tmp_path / "b", memory=TILES, **COARSE)
    np.testing.assert_array_equal(again.scores, expected.scores)
    total = len(searches)
    pick(tomogram, body(), tmp_path / "b", memory=TILES, **COARSE)
    assert len(searches) == total  # every tile was there


def test_coarser_voxels_give_the_same_places(
    tomogram: Tomogram, body: Make, rotations: Tensor, tmp_path: Path
) -> None:
    picks, _ = pick(tomogram, body(), tmp_path, search_voxel_size=12.5)
    away, angles = errors(picks, rotations)
    assert away.max() < VOXEL
    assert angles.max() < STEP


def test_a_symmetric_template_needs_fewer_rotations(
    planted: Make, body: Make, tmp_path: Path
) -> None:
    """A body made four-fold about z: the same picks, the orientation up to the symmetry."""
    group = point_group("C4")
    turned = rotate(
        body(22)[None, None].expand(4, -1, -1, -1, -1),
        torch.from_numpy(group).float(),
        mode="fourier",
    )
    density = turned[:, 0].mean(0)
    density -= density.min()
    rotation = random_rotations(1, torch.Generator().manual_seed(8))
    volume = planted(
        torch.zeros(36, 36, 40),
        rotate(density[None, None], rotation, mode="fourier")[0, 0],
        (17, 18, 20),
    )
    volume += 0.1 * torch.randn(36, 36, 40, generator=torch.Generator().manual_seed(1))
    tomogram = Tomogram("t", ArrayVolume(volume.numpy()), VOXEL)
    picks, bench = pick(tomogram, density, tmp_path, symmetry="C4", limit=1)
    assert any("no tilt range" in line for line in bench.said)
    assert np.linalg.norm(picks.positions[0] / VOXEL - (17, 18, 20)) < 1
    assert picks.rotations is not None
    alike = rotation[0].double() @ torch.from_numpy(group)
    assert float(angle_between(torch.from_numpy(picks.rotations), alike).min()) < STEP / 3


def test_noise_alone_gives_no_picks(body: Make, tmp_path: Path) -> None:
    noise = torch.randn(36, 36, 40, generator=torch.Generator().manual_seed(7)).numpy()
    picks, _ = pick(
        Tomogram("n", ArrayVolume(noise), VOXEL, tilt_range=(-60.0, 60.0)), body(), tmp_path
    )
    assert len(picks) <= 1


def test_picks_are_a_spacing_apart_and_as_few_as_asked(
    tomogram: Tomogram, body: Make, tmp_path: Path
) -> None:
    many, _ = pick(
        tomogram,
        body(),
        tmp_path / "a",
        **{**COARSE, "threshold": 0.15, "refine": True, "limit": 25},
    )
    gaps = np.linalg.norm(many.positions[:, None] - many.positions[None], axis=-1) + 1e6 * np.eye(
        len(many)
    )
    assert len(many) > 8
    assert gaps.min() >= 0.6 * 110
    few, _ = pick(tomogram, body(), tmp_path / "b", **COARSE, limit=3)
    assert len(few) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"diameter": 1000.0}, "100 voxels of t, which has 46 x 46 x 46"),
        ({"diameter": 40.0}, "4.0 voxels of 10 Å"),
    ],
)
def test_a_template_that_does_not_fit_is_refused(
    tomogram: Tomogram, body: Make, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message.replace(".", "\\.")):
        pick(tomogram, body(), tmp_path, **options)


def test_whitening_and_band_pass_keep_the_picks(
    tomogram: Tomogram, body: Make, rotations: Tensor, tmp_path: Path
) -> None:
    options = {
        **COARSE,
        "angular_step": 40.0,
        "whiten": True,
        "lowpass": 25.0,
        "highpass": 400.0,
        "limit": 6,
    }
    whole, _ = pick(tomogram, body(), tmp_path / "a", **options)
    tiled, _ = pick(tomogram, body(), tmp_path / "b", memory=768 * 52**3, **options)
    away, angles = errors(whole, rotations)
    assert away.max() < 2 * VOXEL
    assert np.median(angles) < 40
    np.testing.assert_allclose(tiled.scores, whole.scores, atol=1e-4)


def test_a_run_keeps_its_template(
    body: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``predict`` and ``resume`` need neither the file nor the folder that the run was
    started in.
    """
    store = kit_data.write_tomograms(tmp_path / "data.h5")
    with mrcfile.new(tmp_path / "body.mrc") as file:
        file.set_data(body().numpy())
        file.voxel_size = VOXEL
    monkeypatch.chdir(tmp_path)
    config = TemplateMatchingConfig(template="body.mrc")
    assert config.template == str(tmp_path / "body.mrc")
    run = Run.create(
        "template_matching", config, {"data": [store]}, tmp_path / "run", device="cpu", quiet=True
    )
    first = TemplateMatchingTrainer(config).fit({"data": open_tomograms([store])}, run)
    run.finish()
    (tmp_path / "body.mrc").unlink()
    opened = Run.open(tmp_path / "run", config=config, device="cpu", quiet=True)
    again = TemplateMatchingTrainer(config).load(opened)
    assert again.class_names == first.class_names == ("body",)
    assert again.radius == first.radius
    np.testing.assert_array_equal(again.template.density, first.template.density)


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "`template`: not given"), ({"template": "ball"}, "needs `diameter`")],
)
def test_a_missing_template_is_named(options: dict[str, Any], message: str) -> None:
    trainer = TemplateMatchingTrainer(TemplateMatchingConfig(**options))
    with pytest.raises(UserError, match=message):
        trainer.fit(
            {"data": SimpleNamespace(voxel_size=VOXEL)}, SimpleNamespace(load=lambda _: None)
        )  # type: ignore[arg-type]

"""Simulated tomograms: true truth, SNR as defined, an empty wedge, paired seeds, and what the files
hold.
"""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, binary_dilation

from cryoet_core.algorithms.fourier import wedge_mask
from cryoet_core.cli.main import main
from cryoet_core.simulate import volume_filter
from cryoet_core.simulate.imaging import Microscope
from cryoet_core.simulate.render import render, render_into, template
from cryoet_core.simulate.scene.crowding import Placed
from cryoet_core.simulate.scene.poses import from_quaternion
from cryoet_core.simulate.settings import SimulationSettings
from cryoet_core.simulate.shapes.phantoms import load_phantom
from cryoet_core.simulate.shapes.structures import Structure
from cryoet_core.simulate.specimen import SimulatedTomogram, noise_profile, simulate_tomogram
from cryoet_core.simulate.tomogram_files import write_tomograms
from cryoet_core.simulate.tomogram_settings import TomogramSettings
from cryoet_core.simulate.volume_filter import FilterRoute, wedge_plane
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms.store import open_store

VOXEL = 14.0
SHAPE = (32, 56, 48)
FULL = {"ctf": False, "tilt_range": (-90.0, 90.0)}


@pytest.fixture(scope="module")
def structures() -> list[Structure]:
    return [load_phantom(name, VOXEL / 2, 2 * VOXEL) for name in ("ring-c6", "two-jaws")]


def settings(**changes: object) -> TomogramSettings:
    values: dict[str, object] = {
        "shape": SHAPE,
        "voxel_size": VOXEL,
        "copies": (8,),
        "margin": 14.0,
    } | changes
    return TomogramSettings(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def crowded(structures: list[Structure]) -> SimulatedTomogram:
    """With distractors, noise and the volume without it."""
    return simulate_tomogram(structures, settings(membranes=1, filaments=1, beads=2), clean=True)


def cut(volume: np.ndarray, centre: np.ndarray, side: int) -> np.ndarray:
    """A cube whose voxel side // 2 is the one nearest to ``centre`` (voxels)."""
    start = np.round(centre).astype(int) - side // 2
    return volume[tuple(slice(s, s + side) for s in start)]


@pytest.mark.parametrize("route", ["filter", "tilts"])
def test_cubes_at_the_listed_places_show_the_turned_structure(
    structures: list[Structure], route: str
) -> None:
    """Against an independent rotation of the structure: active, from its frame to the tomogram's,
    at its centre.
    """
    done = simulate_tomogram(
        structures, settings(snr=np.inf, route=route, dose=0.0, tilt_step=2.0, **FULL)
    )
    assert len(done.picks) == 16
    for row, (position, label) in enumerate(
        zip(done.picks.positions, done.picks.classes, strict=True)
    ):
        density, centre = structures[label].density, position / VOXEL
        matrix = 2 * done.picks.rotations[row].T  # output voxels to the structure's half voxels
        offset = density.shape[0] // 2 - matrix @ (6 + centre - np.round(centre))
        turned = affine_transform(density, matrix, offset, output_shape=(12, 12, 12), order=1)
        numbers = cut(done.ids, centre, 12)
        alone = ~binary_dilation((numbers > 0) & (numbers != row + 1), iterations=2)
        assert np.count_nonzero(alone) > 300
        assert np.corrcoef(cut(done.volume, centre, 12)[alone], turned[alone])[0, 1] > 0.9


def test_ids_and_labels_agree_with_the_picks(crowded: SimulatedTomogram) -> None:
    assert crowded.label_names == ("ring-c6", "two-jaws", "membranes", "filaments", "beads")
    assert crowded.ids.max() == len(crowded.picks) == 16
    assert set(np.unique(crowded.labels)) == {0, 1, 2, 3, 4, 5}
    for row, (position, label) in enumerate(
        zip(crowded.picks.positions, crowded.picks.classes, strict=True)
    ):
        where = crowded.ids == row + 1
        assert (crowded.labels[where] == label + 1).all()
        assert np.abs(np.argwhere(where).mean(0) - position / VOXEL).max() < 0.5
    assert ((crowded.labels == 0) | (crowded.labels > 2))[crowded.ids == 0].all()
    assert np.count_nonzero(crowded.ids) / crowded.ids.size == pytest.approx(
        crowded.facts["volume_fraction"]
    )


@pytest.mark.parametrize("route", ["filter", "tilts"])
@pytest.mark.parametrize("snr", [0.05, 2.0])
def test_snr_is_that_of_a_particle_alone_in_its_cube(
    structures: list[Structure], snr: float, route: str
) -> None:
    """Measured here from tomograms of one particle each, against the noise of a crowded one."""
    ring = structures[:1]
    done = simulate_tomogram(
        ring, settings(snr=snr, route=route, copies=(12,), beads=2), clean=True
    )
    assert done.clean is not None
    noise = float((done.volume - done.clean).var(dtype=np.float64))
    side = int(np.ceil(ring[0].diameter / VOXEL))
    variances = []
    for seed in range(14):
        alone = simulate_tomogram(
            ring, settings(snr=np.inf, route=route, copies=(1,), shape=(32, 32, 32), seed=seed)
        )
        variances.append(
            cut(alone.volume, alone.picks.positions[0] / VOXEL, side).var(dtype=np.float64)
        )
    assert np.mean(variances) / noise == pytest.approx(snr, rel=0.05)
    assert done.facts["snr_by_class"]["ring-c6"] == pytest.approx(snr, rel=1e-4)
    assert done.facts["snr_in_volume"] == pytest.approx(
        done.clean.var(dtype=np.float64) / noise, rel=1e-3
    )


def test_the_mean_of_the_classes_is_the_snr(crowded: SimulatedTomogram) -> None:
    by_class, copies = crowded.facts["snr_by_class"], crowded.facts["copies"]
    mean = sum(by_class[name] * n for name, n in copies.items()) / sum(copies.values())
    assert mean == pytest.approx(crowded.facts["snr"], rel=1e-4)


@pytest.mark.parametrize("sides", [(16, 16), (15, 15), (16, 15)])
@pytest.mark.parametrize("tilt_range", [(-60.0, 60.0), (-40.0, 60.0), (-90.0, 50.0), (-90.0, 90.0)])
def test_the_wedge_is_that_of_cubes(
    sides: tuple[int, int], tilt_range: tuple[float, float]
) -> None:
    seen = wedge_plane(sides[0], sides[1], tilt_range)
    assert seen.shape == (sides[0], sides[1] // 2 + 1)
    if sides[0] == sides[1]:
        wanted = wedge_mask(sides[0], tilt_range)
        differs = wanted != seen[:, None].expand_as(wanted)
        if (
            sides[0] % 2 == 0
        ):  # the edge that is both Nyquist frequencies is its own opposite: either sign will do
            differs[sides[0] // 2, :, -1] = False
        assert not differs.any()


def test_the_wedge_is_empty_in_noise_and_in_the_tapered_volume(crowded: SimulatedTomogram) -> None:
    assert crowded.clean is not None
    seen = wedge_plane(SHAPE[0], SHAPE[2], (-60.0, 60.0))[:, None].expand(-1, SHAPE[1], -1)
    noise = torch.fft.rfftn(torch.from_numpy(crowded.volume - crowded.clean)).abs().square()
    assert float(noise[seen == 0].mean() / noise[seen == 1].mean()) < 1e-6
    window = torch.hann_window(SHAPE[0])[:, None, None] * torch.hann_window(SHAPE[2])
    power = torch.fft.rfftn(torch.from_numpy(crowded.clean) * window).abs().square()
    missing = wedge_plane(SHAPE[0], SHAPE[2], (-75.0, 75.0))[:, None].expand(-1, SHAPE[1], -1) == 0
    missing &= (torch.fft.fftfreq(SHAPE[0]).abs() > 0.1)[:, None, None]
    assert float(power[missing].mean() / power[seen == 1].mean()) < 0.02


def test_the_filter_is_that_of_subtomograms(
    structures: list[Structure], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One particle in a cube, imaged by both simulators; the padding of whole tomograms is all that
    differs.
    """
    monkeypatch.setattr(volume_filter, "PAD", 0)
    box = 48
    one = SimulationSettings(box=box, voxel_size=VOXEL, tilt_step=None)
    turn = from_quaternion(np.array([0.3, -1.0, 0.2, 0.7]))
    templates = [template(structures[0], VOXEL)]
    cube = render(
        [(0, Placed.of(0, structures[0], turn, np.zeros(3)))], 1, structures[:1], templates, one
    )
    wanted = Microscope(one).project(cube, [4.0])[0]
    found = FilterRoute(settings(), 4.0).image(cube[0])
    assert float((found - wanted).norm() / wanted.norm()) < 1e-3


def test_rendering_into_a_volume_is_rendering_into_a_cube(structures: list[Structure]) -> None:
    box = 32
    templates = [template(s, VOXEL) for s in structures]
    generator = np.random.default_rng(0)
    poses = [
        (label, from_quaternion(generator.normal(size=4)), generator.uniform(-60, 60, 3))
        for label in (0, 1, 0)
    ]
    cubes = [(0, Placed.of(label, structures[label], turn, shift)) for label, turn, shift in poses]
    middle = box // 2 * VOXEL
    volume = torch.zeros((box,) * 3)
    placed = [
        Placed.of(label, structures[label], turn, shift + middle) for label, turn, shift in poses
    ]
    render_into(volume, placed, structures, templates, VOXEL, batch_voxels=1)
    wanted = render(cubes, 1, structures, templates, SimulationSettings(box=box, voxel_size=VOXEL))[
        0
    ]
    assert torch.allclose(volume, wanted, atol=1e-4)


def test_pairs_share_scene_and_white_noise(structures: list[Structure]) -> None:
    values: dict[str, object] = {"copies": (3,), "membranes": 1, "filaments": 1, "beads": 2}
    first, again = (simulate_tomogram(structures, settings(**values), clean=True) for _ in range(2))
    assert np.array_equal(again.volume, first.volume)
    assert first.clean is not None
    for changes in (
        {"snr": 0.02},
        {"defocus": (6.0,), "voltage": 200.0},
        {"route": "tilts", "dose": 50.0},
    ):
        other = simulate_tomogram(structures, settings(**values | changes), clean=True)
        assert np.array_equal(other.picks.positions, first.picks.positions)
        assert np.array_equal(other.picks.rotations, first.picks.rotations)
        assert np.array_equal(other.ids, first.ids)
        assert np.array_equal(other.labels, first.labels)
        assert other.clean is not None
        noises = [(done.volume - done.clean).ravel() for done in (first, other)]
        assert (np.corrcoef(*noises)[0, 1] > 0.9999) == ("route" not in changes)
    for index, seed in ((1, 0), (0, 1)):
        other = simulate_tomogram(
            structures, settings(**values | {"seed": seed, "snr": np.inf}), index=index
        )
        assert not np.array_equal(other.picks.positions, first.picks.positions)


def test_a_range_of_defocus_gives_each_tomogram_its_own(structures: list[Structure]) -> None:
    values = settings(defocus=(2.0, 5.0), copies=(1,), snr=np.inf)
    found = [simulate_tomogram(structures, values, index=i).facts["defocus_um"] for i in range(3)]
    assert len(set(found)) == 3
    assert all(2 <= f <= 5 for f in found)


def test_the_ice_gradient_is_in_the_noise_alone(structures: list[Structure]) -> None:
    profile = noise_profile(SHAPE, 0.8, 0.0)
    assert np.mean(profile**2) == pytest.approx(1)
    assert profile[:, -1].mean() / profile[:, 0].mean() == pytest.approx(1.4 / 0.6)
    for route in ("filter", "tilts"):
        done = simulate_tomogram(
            structures, settings(ice_gradient=0.8, route=route, copies=(1,)), clean=True
        )
        assert done.clean is not None
        thick = (done.volume - done.clean).std(axis=0)
        flat = noise_profile(SHAPE, 0.8, 0.0)
        best = max(
            np.corrcoef(thick.ravel(), noise_profile(SHAPE, 0.8, a).ravel())[0, 1]
            for a in np.arange(0, 6.3, 0.1)
        )
        assert best > 0.6
        assert flat.shape == thick.shape


def test_a_volume_fraction_and_no_copies(structures: list[Structure]) -> None:
    done = simulate_tomogram(structures, settings(volume_fraction=0.08))
    assert done.facts["volume_fraction"] == pytest.approx(0.08, rel=0.08)
    empty = simulate_tomogram(structures, settings(copies=(0,), beads=1))
    assert len(empty.picks) == 0
    assert empty.picks.class_names == ("ring-c6", "two-jaws")
    assert np.isfinite(empty.volume).all()
    assert empty.facts["snr_in_boxes"] is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (16, 64, 64)}, "`shape`: 16 64 64 voxels of 14 Å cannot hold ring-c6"),
        ({"shape": (15, 64, 64)}, "`shape`: 15 64 64; expected three of 16"),
        ({"copies": (4000,)}, "`copies`: "),
        ({"copies": (3, 4, 5)}, "`copies`: 3 values for 2 structures"),
        ({"copies": (-1,)}, "`copies`: -1; expected 0 or more"),
        ({"volume_fraction": 1.5}, "`volume_fraction`: 1.5; expected"),
        ({"margin": -1.0}, "`margin`: -1.0; expected"),
        ({"route": "slices"}, "`route`: slices; expected filter or tilts"),
        ({"snr": 0.0}, "`snr`: 0.0; expected"),
        ({"tilt_step": 200.0}, "`tilt_step`: 200.0; expected"),
        ({"beads": -2}, "`beads`: -2; expected"),
        ({"voxel_size": float("nan")}, "`voxel_size`: nan; expected"),
    ],
)
def test_what_cannot_be_is_refused(structures: list[Structure], changes: dict, words: str) -> None:
    with pytest.raises(UserError) as error:
        simulate_tomogram(structures, settings(**changes))
    assert str(error.value).startswith(words)


# ---- files ---------------------------------------------------------------------------------------

FAST = "--shape 24 40 40 --voxel-size 14 --copies 3 --beads 1 --quiet --threads 1 --out".split()  # noqa: SIM905


def command(*words: object) -> int:
    return main(["simulate", "tomogram", *map(str, words)])


def test_the_command_writes_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set.h5"
    words = (
        "--phantoms ring-c6 two-jaws --shape 24 40 40 --voxel-size 14 --copies 3 2 --snr 0.2 "
        "--tilt-range -50 60"
    )
    more = (
        "--tilt-step 3 --defocus 4 --cs 2.0 --voltage 300 --beads 1 --count 2 --seed 5 "
        "--threads 1 --json"
    )
    assert command(*words.split(), *more.split(), "--out", out) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["tomograms"]["set_1"]["copies"] == {"ring-c6": 3, "two-jaws": 2}
    first, second = open_store(out)
    assert (first.name, second.name) == ("set_1", "set_2")
    assert (first.shape, first.voxel_size, first.density_sign) == ((24, 40, 40), 14.0, 1)
    assert tuple(first.tilt_range or ()) == (-50.0, 60.0)
    assert first.picks is not None
    assert second.picks is not None
    assert not np.array_equal(first.picks.positions, second.picks.positions)
    assert first.picks.class_names == ("ring-c6", "two-jaws")
    assert np.bincount(first.picks.classes).tolist() == [3, 2]
    whole = (slice(None),) * 3
    assert first.masks["ids"].read(whole).max() == 5
    assert set(np.unique(first.masks["classes"].read(whole))) == {0, 1, 2, 5}
    assert first.attributes["mask_classes"] == [
        "ring-c6",
        "two-jaws",
        "membranes",
        "filaments",
        "beads",
    ]
    assert first.attributes["optics"]["cs"] == 2.0
    assert first.attributes["snr"] == 0.2
    kinds = [load_phantom(name, 7.0, 28.0) for name in ("ring-c6", "two-jaws")]
    simulated = TomogramSettings(
        (24, 40, 40), 14.0, (3, 2), beads=1, snr=0.2, tilt_range=(-50.0, 60.0), cs=2.0, seed=5
    )
    wanted = simulate_tomogram(kinds, simulated, index=1)
    assert np.allclose(second.read(), wanted.volume, atol=2e-3 * np.abs(wanted.volume).max())


def test_the_command_writes_mrc_with_the_truth_beside_it(tmp_path: Path) -> None:
    from cryoet_core.formats.picks import read_picks

    store, out = tmp_path / "tomo.h5", tmp_path / "tomo.mrc"
    for path in (store, out):
        assert command("--phantoms", "ring-c6", "two-jaws", *FAST, path) == 0
    with mrcfile.open(out) as file:
        volume, spacing = np.array(file.data), float(file.voxel_size.x)
        assert file.is_volume()
    (stored,) = open_store(store)
    assert stored.picks is not None
    assert spacing == pytest.approx(14.0)
    assert (
        np.corrcoef(-volume.ravel(), stored.read().ravel())[0, 1] > 0.999
    )  # dark in MRC, as reconstructions are
    found = read_picks(tmp_path / "tomo.star").picks
    assert len(found) == len(stored.picks) == 6
    assert np.abs(found.positions - stored.picks.positions).max() < 1e-3
    assert found.rotations is not None
    assert stored.picks.rotations is not None
    assert np.abs(found.rotations - stored.picks.rotations).max() < 1e-4
    names = [found.class_names[label] for label in found.classes]
    assert names == [stored.picks.class_names[label] for label in stored.picks.classes]
    whole = (slice(None),) * 3
    for kind in ("ids", "classes"):
        with mrcfile.open(tmp_path / f"tomo_{kind}.mrc") as file:
            assert np.array_equal(file.data, stored.masks[kind].read(whole))
    facts = json.loads((tmp_path / "tomo.json").read_text())
    assert facts["density_sign"] == -1
    assert facts["tomograms"]["tomo"]["copies"] == {"ring-c6": 3, "two-jaws": 3}
    assert not list(tmp_path.glob("*.partial"))


def test_without_masks_and_with_the_other_sign(tmp_path: Path, structures: list[Structure]) -> None:
    small = settings(shape=(24, 40, 40), copies=(2,))
    write_tomograms(tmp_path / "a.h5", structures, small, contrast="dark", masks=False)
    (dark,) = open_store(tmp_path / "a.h5")
    assert (dark.density_sign, dict(dark.masks)) == (-1, {})
    bright = simulate_tomogram(structures, small)
    assert np.corrcoef(dark.read().ravel(), bright.volume.ravel())[0, 1] > 0.999
    written = write_tomograms(tmp_path / "b.mrc", structures, small, contrast="bright", masks=False)
    assert sorted(p.name for p in written.files) == ["b.json", "b.mrc", "b.star"]
    with mrcfile.open(tmp_path / "b.mrc") as file:
        assert np.array_equal(file.data, bright.volume)


def test_bad_command_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.h5").write_text("x")
    (tmp_path / "t_ids.mrc").write_text("x")
    cases = {
        ("--phantoms", "ring-c6", *FAST, tmp_path / "x.tif"): "unknown kind of file",
        ("--phantoms", "ring-c6", *FAST, tmp_path / "there.h5"): "exists",
        ("--phantoms", "ring-c6", *FAST, tmp_path / "t.mrc"): "t_ids.mrc: exists",
        ("--phantoms", "ring-c6", *FAST, tmp_path / "x.h5", "--count", 0): "--count: 0",
        (
            "--phantoms",
            "ring-c6",
            *FAST,
            tmp_path / "x.h5",
            "--contrast",
            "grey",
        ): "--contrast: grey",
        (
            "--phantoms",
            "ring-c6",
            *FAST,
            tmp_path / "x.h5",
            "--volume-fraction",
            0.1,
        ): "--copies and --volume-fraction",
        ("--phantoms", "no-such", *FAST, tmp_path / "x.h5"): "no phantom 'no-such'",
        ("--structures", tmp_path / "none.mrc", *FAST, tmp_path / "x.h5"): "no such file",
        (*FAST, tmp_path / "x.h5"): "no structures",
        (
            "--phantoms",
            "ring-c6",
            *FAST,
            tmp_path / "x.h5",
            "--shape",
            12,
            40,
            40,
        ): "--shape: 12 40 40",
    }
    for words, expected in cases.items():
        assert command(*words) == 2, words
        said = capsys.readouterr().err.strip()
        assert expected in said
        assert "\n" not in said
    assert not (tmp_path / "x.h5").exists()

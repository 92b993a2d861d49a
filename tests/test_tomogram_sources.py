"""Opening tomograms of every kind: what is understood is right, what is not is refused in one line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

from cryoet_core.errors import UserError
from cryoet_core.picks import Picks
from cryoet_core.tomograms import Reading, open_tomograms, placing
from cryoet_core.tomograms.contrast import sign_at_picks
from cryoet_core.tomograms.reading import Draft
from cryoet_core.tomograms.sources import stem
from cryoet_core.tomograms.store import TomogramWriter
from cryoet_core.tomograms.tomogram import ArrayVolume

zarr = pytest.importorskip("zarr")

SHAPE = (6, 8, 10)
BRIGHT = Reading(contrast="bright")


def noise(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 2, shape).astype(np.float32)


def write_mrc(path: Path, values: np.ndarray | None = None, voxel_size: float = 10.0) -> Path:
    with mrcfile.new(path, noise() if values is None else values, overwrite=True) as file:
        file.voxel_size = voxel_size
    return path


def one_line(error: Exception) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def refusal(paths: Any, reading: Reading = BRIGHT) -> str:
    with pytest.raises(UserError) as caught:
        open_tomograms(paths, reading)
    return one_line(caught.value)


# ---- MRC and EM ------------------------------------------------------------------------------------------------------


def test_an_mrc_file_is_mapped_not_read(tmp_path: Path) -> None:
    data = open_tomograms(write_mrc(tmp_path / "TS_01.rec"), Reading(contrast="dark", tilt_range=(-50, 60)))
    (found,) = data
    assert (data.kind, len(data), found.name, found.shape, found.voxel_size) == ("tomograms", 1, "TS_01", SHAPE, 10.0)
    assert (found.density_sign, found.tilt_range) == (-1, (-50, 60))
    np.testing.assert_array_equal(found.read(), -noise())
    assert isinstance(found.volume, ArrayVolume)
    assert isinstance(found.volume.array.base, (np.memmap, np.ndarray))
    assert isinstance(found.volume.array, np.memmap)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f2", "f4"])
def test_every_mode_and_byte_order(tmp_path: Path, order: str, dtype: str) -> None:
    values = (noise() * 20).astype(dtype) if dtype != "u2" else np.abs(noise() * 20).astype(dtype)
    with mrcfile.new(tmp_path / "a.mrc", values.astype(order + dtype)) as file:
        file.voxel_size = 7.5
    (found,) = open_tomograms(tmp_path / "a.mrc", BRIGHT)
    np.testing.assert_array_equal(found.read(), values.astype(np.float32))


def test_a_packed_file_and_the_axes_of_the_header(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc")
    with mrcfile.open(path, "r+") as file:
        file.header.mapc, file.header.mapr, file.header.maps = 2, 1, 3
        file.header.cella = (100.0, 80.0, 60.0)  # along x, y, z, which are rows, columns and sections here
        file.header.mx, file.header.my, file.header.mz = 8, 10, 6
        file.voxel_size = 10.0
    (tmp_path / "a.mrc.gz").write_bytes(gzip.compress(path.read_bytes()))
    for name in ("a.mrc", "a.mrc.gz"):
        (found,) = open_tomograms(tmp_path / name, BRIGHT)
        np.testing.assert_array_equal(found.read(), noise().transpose(0, 2, 1))
        assert found.name == "a"
        assert any("axes were permuted" in note for note in found.notes)


def test_axes_can_be_said(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc")
    (found,) = open_tomograms(path, Reading(contrast="bright", axes="yzx"))
    np.testing.assert_array_equal(found.read(), noise().transpose(1, 0, 2))
    region = (slice(2, 5), slice(1, 3), slice(4, 10))
    np.testing.assert_array_equal(found.read(region), noise().transpose(1, 0, 2)[region])
    assert "--axes zzx" in refusal(path, Reading(contrast="bright", axes="zzx"))


def test_a_tall_volume_is_one_tomogram_and_a_stack_is_none(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "tall.mrc", noise((16, 8, 8)))
    (found,) = open_tomograms(path, BRIGHT)
    np.testing.assert_array_equal(found.read(), noise((16, 8, 8)))
    with mrcfile.new(tmp_path / "stack.mrc", noise((2, 8, 8, 8))) as file:
        file.set_volume_stack() if not file.is_volume_stack() else None
        file.voxel_size = 10.0
    assert "a stack of 2 volumes" in refusal(tmp_path / "stack.mrc")


@pytest.mark.parametrize("said", [0.0, 1.0])
def test_a_voxel_size_that_nobody_says_is_refused(tmp_path: Path, said: float) -> None:
    path = write_mrc(tmp_path / "a.mrc", voxel_size=said)
    assert "give --voxel-size" in refusal(path)
    (found,) = open_tomograms(path, Reading(contrast="bright", voxel_size=8.0))
    assert found.voxel_size == 8.0
    other = write_mrc(tmp_path / "b.mrc", voxel_size=9.0)
    data = open_tomograms(other, Reading(contrast="bright", voxel_size=8.0))
    assert data.notes == ("b: voxel size 8 Å as given; the file says 9 Å",)


def test_an_em_file(tmp_path: Path) -> None:
    header = bytes([6, 0, 0, 5]) + np.array(SHAPE[::-1], "<i4").tobytes() + bytes(512 - 16)
    (tmp_path / "a.em").write_bytes(header + noise().tobytes())
    assert "give --voxel-size" in refusal(tmp_path / "a.em")
    (found,) = open_tomograms(tmp_path / "a.em", Reading(contrast="bright", voxel_size=9.0))
    np.testing.assert_array_equal(found.read(), noise())


def test_files_that_are_no_tomograms(tmp_path: Path) -> None:
    truncated = write_mrc(tmp_path / "cut.mrc")
    truncated.write_bytes(truncated.read_bytes()[:1500])
    (tmp_path / "notes.txt").write_text("some words that are no table of numbers at all\n")
    (tmp_path / "empty.mrc").touch()
    (tmp_path / "p.coords").write_text("1 2 3\n4 5 6\n")
    np.save(tmp_path / "a.npy", noise())
    (tmp_path / "folder").mkdir()
    cases = {
        "cut.mrc": "truncated",
        "notes.txt": "text file",
        "empty.mrc": "empty",
        "p.coords": "--picks",
        "a.npy": "expected an MRC file",
        "folder": "give the files in it",
        "none.mrc": "no such file",
    }
    for name, words in cases.items():
        assert words in refusal(tmp_path / name), name
    assert "no tomogram is given" in refusal([])
    image = write_mrc(tmp_path / "image.mrc", noise((1, 8, 10)))
    assert "a 2-D image" in refusal(image)


def test_two_tomograms_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    paths = [write_mrc(tmp_path / "TS.mrc"), write_mrc(tmp_path / "b" / "TS.rec")]
    assert "two tomograms are named 'TS'" in refusal(paths)


def test_stems() -> None:
    for name in (
        "TS_01.mrc",
        "a/b/TS_01.mrc.gz",
        "TS_01.ome.zarr",
        "TS_01.tomostar",
        r"C:\x\TS_01.rec",
        "TS_01",
        "x/TS_01/",
    ):
        assert stem(name) == "TS_01"
    assert stem("TS_01_10.00Apx.mrc") == "TS_01_10.00Apx"
    assert stem(".mrc") == ".mrc"


# ---- OME-Zarr --------------------------------------------------------------------------------------------------------


def write_zarr(
    path: Path,
    values: np.ndarray | None = None,
    axes: str = "zyx",
    scales: tuple[float, ...] = (10.0,),
    unit: str | None = "angstrom",
    version: int = 2,
    chunk: int = 4,
) -> Path:
    """An image with one level for each scale, written with every chunk."""
    values = noise() if values is None else values
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    levels = []
    for index, scale in enumerate(scales):
        step = round(scale / scales[0])
        part = values[(..., *[slice(None, None, step)] * 3)]
        chunks = tuple(min(chunk, n) for n in part.shape)
        group.create_array(str(index), data=part, chunks=chunks, config={"write_empty_chunks": True})
        factors = [scale if axis in "zyx" else 1.0 for axis in axes]
        levels.append({"path": str(index), "coordinateTransformations": [{"type": "scale", "scale": factors}]})
    described = [{"name": axis, "type": "space", **({"unit": unit} if unit else {})} for axis in axes]
    image = [{"version": "0.4", "axes": described, "datasets": levels}]
    group.attrs.update({"multiscales": image} if version == 2 else {"ome": {"version": "0.5", "multiscales": image}})
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_an_ome_zarr(tmp_path: Path, version: int) -> None:
    (found,) = open_tomograms(write_zarr(tmp_path / "TS_01.ome.zarr", version=version), BRIGHT)
    assert (found.name, found.shape, found.voxel_size, found.notes) == ("TS_01", SHAPE, 10.0, ())
    np.testing.assert_array_equal(found.read(), noise())
    region = (slice(1, 3), slice(0, 8), slice(5, 7))
    np.testing.assert_array_equal(found.read(region), noise()[region])


def test_axes_units_and_levels_of_an_ome_zarr(tmp_path: Path) -> None:
    turned = write_zarr(tmp_path / "xyz.zarr", noise().transpose(2, 1, 0), axes="xyz")
    (found,) = open_tomograms(turned, BRIGHT)
    np.testing.assert_array_equal(found.read((slice(1, 5), slice(2, 8), slice(3, 4))), noise()[1:5, 2:8, 3:4])
    assert "permuted" in found.notes[0]
    (found,) = open_tomograms(write_zarr(tmp_path / "czyx.zarr", noise()[None], axes="czyx"), BRIGHT)
    np.testing.assert_array_equal(found.read(), noise())
    assert "2 along c" in refusal(write_zarr(tmp_path / "two.zarr", noise((2, *SHAPE)), axes="czyx"))
    (found,) = open_tomograms(write_zarr(tmp_path / "nm.zarr", scales=(1.3,), unit="nanometer"), BRIGHT)
    assert found.voxel_size == 13.0
    for unit in (None, "pixel"):
        assert "give --voxel-size" in refusal(write_zarr(tmp_path / "u.zarr", unit=unit))
    levels = write_zarr(tmp_path / "levels.zarr", scales=(5.0, 10.0))
    for size, shape in ((None, SHAPE), (5.05, SHAPE), (10.0, (3, 4, 5))):
        (found,) = open_tomograms(levels, Reading(contrast="bright", voxel_size=size))
        assert found.shape == shape
    (found,) = open_tomograms(levels, Reading(contrast="bright", voxel_size=12.0))
    assert (found.shape, found.voxel_size) == (SHAPE, 12.0)
    assert "as given" in found.notes[0]


@pytest.mark.parametrize("version", [2, 3])
def test_a_missing_or_damaged_chunk_is_said(tmp_path: Path, version: int) -> None:
    path = write_zarr(tmp_path / "a.zarr", version=version)
    chunks = sorted(
        file for file in (path / "0").rglob("*") if file.is_file() and ".z" not in file.name and "zarr" not in file.name
    )
    assert len(chunks) == 12
    chunks[5].unlink()
    line = refusal(path)
    assert "1 of 12 chunks are missing (the first: 0/" in line
    chunks[5].write_bytes(b"nonsense")
    (found,) = open_tomograms(path, BRIGHT)
    with pytest.raises(UserError, match="cannot be read"):
        found.read()


def test_zarr_folders_that_are_no_images(tmp_path: Path) -> None:
    zarr.open_group(str(tmp_path / "plain.zarr"), mode="w", zarr_format=2)
    assert "without multiscales" in refusal(tmp_path / "plain.zarr")
    gone = write_zarr(tmp_path / "gone.zarr")
    (gone / "0" / ".zarray").unlink()
    assert "level '0' is missing" in refusal(gone)
    torn = write_zarr(tmp_path / "torn.zarr")
    (torn / ".zattrs").write_text("{")
    refusal(torn)
    bare = zarr.create_array(str(tmp_path / "bare.zarr"), data=noise(), zarr_format=2)
    assert bare.shape == SHAPE
    assert "give --voxel-size" in refusal(tmp_path / "bare.zarr")
    (found,) = open_tomograms(tmp_path / "bare.zarr", Reading(contrast="bright", voxel_size=5.0))
    np.testing.assert_array_equal(found.read(), noise())


# ---- our store -------------------------------------------------------------------------------------------------------


def a_store(path: Path, **facts: Any) -> Path:
    with TomogramWriter(path) as writer:
        writer.add("A", noise(), voxel_size=10.0, **facts)
        writer.add("B", noise(), voxel_size=10.0, density_sign=-1)
    return path


def test_a_store_says_everything_itself(tmp_path: Path) -> None:
    picks = Picks.of(np.array([[10.0, 20, 30]]), "A")
    data = open_tomograms(a_store(tmp_path / "s.h5", picks=picks, tilt_range=(-60, 60)))
    assert [found.name for found in data] == ["A", "B"]
    assert [found.density_sign for found in data] == [1, -1]
    assert data.tomograms[0].tilt_range == (-60, 60)
    assert data.picks is not None
    assert "says that protein is dark, but --contrast bright" in refusal(tmp_path / "s.h5")
    assert "but --voxel-size says 12" in refusal(tmp_path / "s.h5", Reading(voxel_size=12.0))
    assert "leave --axes out" in refusal(tmp_path / "s.h5", Reading(axes="yzx"))


# ---- contrast --------------------------------------------------------------------------------------------------------


def particles(count: int = 30, sign: int = 1, noise_level: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A volume of 10 Å voxels with balls of radius 60 Å, and their centres in Å."""
    random = np.random.default_rng(seed)
    values = random.normal(0, noise_level, (40, 80, 80))
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij"))
    centres = random.uniform(8, [32, 72, 72], (count, 3))
    for centre in centres:
        values += sign * 0.3 * (((grid - centre[:, None, None, None]) ** 2).sum(0) < 36)
    return values.astype(np.float32), centres * 10


@pytest.mark.parametrize("sign", [1, -1])
def test_the_density_at_the_picks_tells_the_contrast(sign: int) -> None:
    values, centres = particles(sign=sign)
    verdict = sign_at_picks(ArrayVolume(values), 10.0, centres)
    assert verdict.sign == sign
    assert ("bright" if sign > 0 else "dark") in str(verdict)
    random = np.random.default_rng(5).uniform(0, [390, 790, 790], (60, 3))
    assert sign_at_picks(ArrayVolume(values), 10.0, random).sign == 0
    assert sign_at_picks(ArrayVolume(values), 10.0, centres[:4]).sign == 0
    assert sign_at_picks(ArrayVolume(noise((40, 80, 80))), 10.0, centres).sign == 0
    values[:20] = np.nan
    assert sign_at_picks(ArrayVolume(values), 10.0, centres).sign == sign


def test_hollow_particles_do_not_confuse() -> None:
    values, centres = particles(sign=-1)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij"))
    for centre in centres / 10:
        values[((grid - centre[:, None, None, None]) ** 2).sum(0) < 9] += 0.3
    assert sign_at_picks(ArrayVolume(values), 10.0, centres).sign == -1


@pytest.fixture
def given_picks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Picks], None]:
    """Have any pick file say these."""
    return lambda picks: monkeypatch.setattr(placing, "read", lambda file, drafts, notes: picks)


def test_contrast_is_said_or_seen_never_guessed(tmp_path: Path, given_picks: Callable[[Picks], None]) -> None:
    values, centres = particles(sign=-1)
    path = write_mrc(tmp_path / "T.mrc", values)
    assert "give --contrast dark or --contrast bright" in refusal(path, Reading())
    (found,) = open_tomograms(path, Reading(default_contrast="dark"))
    assert (found.density_sign, found.notes) == (-1, ("T: contrast taken as dark",))
    given_picks(Picks.of(centres, "T"))
    picks = (tmp_path / "labels.star",)
    for reading in (Reading(picks=picks), Reading(picks=picks, default_contrast="bright")):
        data = open_tomograms(path, reading)
        assert data.tomograms[0].density_sign == -1
        assert "contrast from the density at the picks: dark" in data.notes[0]
    assert open_tomograms(path, Reading(picks=picks, contrast="dark")).notes == ()
    line = refusal(path, Reading(picks=picks, contrast="bright"))
    assert "--contrast bright, but the density at the picks is dark" in line
    given_picks(Picks.of(np.random.default_rng(5).uniform(0, [390, 790, 790], (60, 3)), "T"))
    assert "at the picks it is not clear" in refusal(path, Reading(picks=picks))
    assert open_tomograms(path, Reading(picks=picks, contrast="bright")).tomograms[0].density_sign == 1


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "T.mrc")
    wrong: Any = "white"
    assert "--contrast white" in refusal(path, Reading(contrast=wrong))
    assert "--voxel-size -3" in refusal(path, Reading(contrast="dark", voxel_size=-3))
    assert "--tilt-range 60 -60" in refusal(path, Reading(contrast="dark", tilt_range=(60, -60)))


# ---- picks to tomograms ----------------------------------------------------------------------------------------------


def drafts(*names: str) -> list[Draft]:
    return [Draft(name, ArrayVolume(noise()), f"{name}.mrc", 10.0) for name in names]


def picks_in(*names: str) -> Picks:
    picks = Picks.of(np.full((len(names), 3), 20.0), "")
    picks.tomograms[:] = names
    return picks


def assigned(picks: Picks, *names: str, file: str = "labels.star") -> tuple[dict[str, int], list[str]]:
    notes: list[str] = []
    found = placing.assigned(picks, Path(file), drafts(*names), notes)
    for name, part in found.items():
        assert set(part.tomograms) == {name}
    return {name: len(part) for name, part in found.items()}, notes


def test_picks_find_their_tomogram_by_name() -> None:
    assert assigned(picks_in("A", "B", "A"), "B", "A") == ({"A": 2, "B": 1}, [])
    assert assigned(picks_in("x/TS_1.mrc", "TS_10.rec"), "TS_1", "TS_10") == ({"TS_1": 1, "TS_10": 1}, [])
    assert assigned(picks_in("", ""), "only") == ({"only": 2}, [])
    assert assigned(picks_in(""), "TS_1", "TS_2", file="x/TS_2.coords") == ({"TS_2": 1}, [])
    found, notes = assigned(picks_in("TS_1"), "rec_TS_1_10.00Apx")
    assert found == {"rec_TS_1_10.00Apx": 1}
    assert notes == ["labels.star: picks in TS_1 are taken for tomogram rec_TS_1_10.00Apx"]
    found, notes = assigned(picks_in("A", "Z", "Z"), "A")
    assert found == {"A": 1}
    assert notes == ["labels.star: 2 picks in Z are left out: not among the tomograms given"]


@pytest.mark.parametrize(
    ("picks", "names", "words"),
    [
        (("Z",), ("A", "B"), "picks in Z, which matches no tomogram; expected A, B"),
        (("A", "TS_3"), ("A", "TS_03"), "picks in TS_3, which matches no tomogram; expected TS_03"),
        (("",), ("A", "B"), "1 picks do not say in which tomogram they are; expected one of A, B"),
        (("TS_1",), ("TS_1_a", "TS_1_b"), "matches no tomogram"),
        (("a_TS", "b_TS"), ("TS",), "could each be tomogram TS"),
        (("TS_1",), ("TS_10",), "matches no tomogram"),
    ],
)
def test_names_that_match_nothing_are_said(picks: tuple[str, ...], names: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError) as caught:
        assigned(picks_in(*picks), *names)
    assert words in one_line(caught.value)


@pytest.mark.parametrize(
    ("positions", "words"),
    [
        ([[90.0, 30, 40]], r"they fit with their axes read as"),
        ([[100.0, 140, 180]], "they fit divided by 2"),
        (
            [[9000.0, 10, 10], [0, 0, 0]],
            r"1 of 2 picks lie outside of it \(z, y, x 9000, 10, 10 Å; expected 0 to 50",
        ),
        ([[-30.0, 10, 10]], "lie outside"),
    ],
)
def test_picks_outside_are_refused_with_what_would_explain_them(positions: list[list[float]], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        placing.refuse_outside(drafts("A")[0], Picks.of(np.array(positions), "A"))
    assert "--voxel-size" in one_line(caught.value)
    placing.refuse_outside(drafts("A")[0], Picks.of(np.array([[-9.0, 0, 0], [59, 79, 99]]), "A"))


def test_given_picks_replace_those_in_a_store(tmp_path: Path, given_picks: Callable[[Picks], None]) -> None:
    path = a_store(tmp_path / "s.h5", picks=Picks.of(np.full((5, 3), 20.0), "A"))
    given_picks(picks_in("B"))
    data = open_tomograms(path, Reading(picks=(tmp_path / "labels.star",)))
    assert data.tomograms[0].picks is None, "they may be the whole truth, of which the user gives a part"
    assert data.tomograms[1].picks is not None
    assert data.notes == ("picks in the files of A are set aside for those of --picks",)


# ---- copick ----------------------------------------------------------------------------------------------------------


def a_project(folder: Path, runs: tuple[str, ...] = ("TS_1", "TS_2")) -> Path:
    for run in runs:
        spacing = folder / "project" / "ExperimentRuns" / run / "VoxelSpacing10.000"
        spacing.mkdir(parents=True)
        write_zarr(spacing / "wbp.zarr", noise(seed=len(run)))
    config = {"pickable_objects": [], "overlay_root": f"local://{folder / 'project'}/"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


def test_a_copick_project(tmp_path: Path) -> None:
    config = a_project(tmp_path)
    for path in (config, tmp_path / "project"):
        data = open_tomograms(path, BRIGHT)
        assert [(found.name, found.voxel_size, found.shape) for found in data] == [
            ("TS_1", 10.0, SHAPE),
            ("TS_2", 10.0, SHAPE),
        ]
    image = tmp_path / "project" / "ExperimentRuns" / "TS_2" / "VoxelSpacing10.000" / "wbp.zarr"
    assert open_tomograms(image, BRIGHT).tomograms[0].name == "TS_2", "an image in a project has its run's name"
    relative = {"pickable_objects": [], "overlay_root": "local://project"}
    (tmp_path / "relative.json").write_text(json.dumps(relative))
    assert len(open_tomograms(tmp_path / "relative.json", BRIGHT)) == 2


def test_a_copick_project_with_a_choice(tmp_path: Path) -> None:
    config = a_project(tmp_path, ("TS_1",))
    run = tmp_path / "project" / "ExperimentRuns" / "TS_1"
    (run / "VoxelSpacing20.000").mkdir()
    write_zarr(run / "VoxelSpacing20.000" / "wbp.zarr", noise((5, 6, 7)), scales=(20.0,))
    assert "10, 20 Å; expected one size; choose by --voxel-size" in refusal(config)
    (found,) = open_tomograms(config, Reading(contrast="bright", voxel_size=20.0))
    assert found.shape == (5, 6, 7)
    write_zarr(run / "VoxelSpacing20.000" / "denoised.zarr", noise((5, 6, 7)), scales=(20.0,))
    line = refusal(config, Reading(contrast="bright", voxel_size=20.0))
    assert "2 tomograms of 20 Å (denoised, wbp)" in line
    (found,) = open_tomograms(run / "VoxelSpacing20.000" / "denoised.zarr", BRIGHT)
    assert found.name == "TS_1"


def test_copick_configurations_without_data_here(tmp_path: Path) -> None:
    for root in ("local:///nowhere/at/all", "s3://bucket/x", None):
        config = {"pickable_objects": [], "overlay_root": root}
        (tmp_path / "c.json").write_text(json.dumps(config))
        assert "data is not here" in refusal(tmp_path / "c.json")
    (tmp_path / "other.json").write_text("[1, 2]")
    assert "a JSON file" in refusal(tmp_path / "other.json")
    (tmp_path / "p" / "ExperimentRuns" / "TS_1").mkdir(parents=True)
    assert "without tomograms" in refusal(tmp_path / "p")


# ---- real files ------------------------------------------------------------------------------------------------------


def test_every_real_file_opens_or_is_refused_with_a_reason(shared_data: Path) -> None:
    opened: dict[str, Any] = {}
    refused: list[str] = []
    for path in sorted([*(shared_data / "real").iterdir(), *(shared_data / "headers").iterdir()]):
        for reading in (Reading(contrast="dark"), Reading(contrast="dark", voxel_size=10.0)):
            try:
                (found,) = open_tomograms(path, reading)
                found.statistics()
                opened[path.name] = found
                break
            except UserError as error:
                refused.append(one_line(error).removeprefix(str(path)))
    assert len(opened) >= 40
    assert all(line.startswith(": ") for line in refused)
    virions = opened["EMD-1155_HIV1_virions_16.4A.ccp4"]
    assert (virions.shape, virions.voxel_size) == ((281, 91, 141), 16.4)
    assert opened["cylindra_13pf_MT.mrc.gz"].voxel_size == pytest.approx(10.52)
    assert opened["omezarr_4x4x4.zarr"].shape == (4, 4, 4)
    for name in ("header_only.mrc", "SYN_nan_inf.mrc", "SYN_mode4_complex64.mrc", "invalid_axes_10_11_12.mrc"):
        assert name not in opened


def test_the_contrast_of_a_real_tomogram_is_seen_at_its_densest_places(shared_data: Path) -> None:
    path = shared_data / "real" / "cylindra_13pf_MT.mrc.gz"
    (found,) = open_tomograms(path, BRIGHT)
    values = found.read()
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(values, 4)
    peaks = np.argsort(smooth.ravel())[::-1][::200][:40]
    positions = np.stack(np.unravel_index(peaks, values.shape), axis=1) * found.voxel_size
    assert sign_at_picks(found.volume, found.voxel_size, positions).sign == 1


def test_picks_of_a_copick_project_come_with_it(tmp_path: Path) -> None:
    config = a_project(tmp_path)
    for user, session, name, count in (("me", "1", "ribosome", 3), ("me", "1", "atpase", 2), ("you", "2", "atpase", 1)):
        folder = tmp_path / "project" / "ExperimentRuns" / "TS_2" / "Picks"
        folder.mkdir(exist_ok=True)
        points = [{"location": {"x": 40.0 + i, "y": 30.0, "z": 20.0}, "score": 0.5} for i in range(count)]
        facts = {"pickable_object_name": name, "user_id": user, "session_id": session, "run_name": "TS_2"}
        text = json.dumps(facts | {"voxel_spacing": 10.0, "unit": "angstrom", "points": points})
        (folder / f"{user}_{session}_{name}.json").write_text(text)
    data = open_tomograms(config, BRIGHT)
    assert data.tomograms[0].picks is None
    picks = data.tomograms[1].picks
    assert picks is not None
    assert picks.class_names == ("ribosome",)
    np.testing.assert_allclose(picks.positions, [[20, 30, 40], [20, 30, 41], [20, 30, 42]])
    assert any("picks of atpase by several users (me_1_atpase.json, you_2_atpase.json)" in note for note in data.notes)
    chosen = tmp_path / "project" / "ExperimentRuns" / "TS_2" / "Picks" / "you_2_atpase.json"
    data = open_tomograms(config, Reading(contrast="bright", picks=(chosen,)))
    assert [None if found.picks is None else len(found.picks) for found in data] == [None, 1]


def test_coordinates_in_voxels_and_from_the_middle_use_the_tomogram(tmp_path: Path) -> None:
    write_mrc(tmp_path / "TS_1.mrc", voxel_size=8.0)
    (tmp_path / "TS_1.coords").write_text("3 4 5\n6 7 4\n")
    (found,) = open_tomograms(tmp_path / "TS_1.mrc", Reading(contrast="bright", picks=(tmp_path / "TS_1.coords",)))
    assert found.picks is not None
    np.testing.assert_allclose(found.picks.positions, [[40, 32, 24], [32, 56, 48]])
    names = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    (tmp_path / "c.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n1 2.0\n\ndata_particles\n\nloop_\n"
        "_rlnTomoName\n_rlnOpticsGroup\n" + "".join(f"_{name}\n" for name in names) + "TS_1 1 8.0 -16.0 0.0\n"
    )
    (found,) = open_tomograms(tmp_path / "TS_1.mrc", Reading(contrast="bright", picks=(tmp_path / "c.star",)))
    assert found.picks is not None
    np.testing.assert_allclose(found.picks.positions, [[24.0, 16.0, 48.0]])

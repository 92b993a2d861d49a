"""Every pick format against every other, and the conventions of each."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryoet_core.algorithms.orientation import euler_to_matrix
from cryoet_core.formats.picks import Geometry, PickReading, picks_files, read_picks, write_picks
from cryoet_core.formats.picks.formats import BY_DIALECT, FORMATS, WRITTEN
from cryoet_core.picks.table import Picks, join
from cryoet_core.support.errors import UserError

GEOMETRY = {"TS_01": Geometry((201, 928, 960), 13.48), "007": Geometry((64, 100, 131), 10.0)}
ENDING = {form.dialect: form.endings[0] for form in FORMATS}


@pytest.fixture
def picks() -> Picks:
    """40 picks in two tomograms, two classes and none, with rotations in which tilt 0 and 180
    occur.
    """
    random = np.random.default_rng(3)
    names = np.array(["TS_01"] * 25 + ["007"] * 15, dtype=object)
    edge = np.array(
        [(np.array(GEOMETRY[name].shape) - 1) * GEOMETRY[name].voxel_size for name in names]
    )
    rotations = Rotation.random(40, random_state=4).as_matrix()
    rotations[:3] = euler_to_matrix([[0, 0, 0], [30, 0, 20], [10, 180, 50]])
    return Picks(
        random.uniform(0, 1, (40, 3)) * edge,
        random.normal(size=40).astype(np.float32),
        np.append(random.integers(0, 2, 39), -1),
        ("apo-ferritin", "ribosome"),
        names,
        rotations,
    )


def rewritten(folder: Path, picks: Picks, dialect: str) -> tuple[Picks, list[str]]:
    """What is read of picks that were written, in the order in which they were, and what was said
    to be lost.
    """
    folder.mkdir()
    path = folder / ("project" if dialect == "copick" else f"set{ENDING[dialect]}")
    lost = write_picks(path, picks, dialect, GEOMETRY, box=32)
    reading = PickReading(geometry=GEOMETRY, slice=7, dialect=dialect)
    files = [path] if dialect == "copick" else picks_files(path, picks, dialect)
    files = [file for file in files if file.suffix != ".doc"]
    if not any(folder.rglob("*TS_01*")):
        assert files == [path]
    parts = [
        read_picks(file, reading if len(files) == 1 else without_names(reading)).picks
        for file in files
    ]
    return in_order(join(parts), picks), lost


def without_names(reading: PickReading) -> PickReading:
    return PickReading(geometry=reading.geometry, slice=reading.slice, dialect=reading.dialect)


def in_order(found: Picks, picks: Picks) -> Picks:
    """Formats of several files group their picks: back by the nearest position in x and y."""
    assert len(found) == len(picks)
    flat = np.abs(found.positions[None, :, 1:] - picks.positions[:, None, 1:]).max(axis=2)
    flat[picks.tomograms[:, None].astype(str) != found.tomograms[None].astype(str)] = np.inf
    rows = flat.argmin(axis=1)
    assert sorted(rows) == list(range(len(picks)))
    return found.select(rows)


def names(picks: Picks) -> list[str]:
    return [[*picks.class_names, ""][number] for number in picks.classes]


def agree(found: Picks, picks: Picks, holds: frozenset[str]) -> None:
    axes = slice(None) if "depth" in holds else slice(1, None)
    np.testing.assert_allclose(
        found.positions[:, axes], picks.positions[:, axes], rtol=0, atol=1e-3
    )
    assert list(found.tomograms) == list(picks.tomograms)
    if "rotations" in holds:
        assert found.rotations is not None
        np.testing.assert_allclose(found.rotations, picks.rotations, rtol=0, atol=1e-4)
    if "scores" in holds:
        np.testing.assert_allclose(found.scores, picks.scores, rtol=1e-6)
    if "class names" in holds:
        assert names(found) == names(picks)
    elif "classes" in holds:
        assert names(found) == [
            f"class{number + 1}" if number >= 0 else "" for number in picks.classes
        ]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoet_core.support.files.sync", lambda path: None)


@pytest.mark.parametrize(
    "first", [dialect for dialect in WRITTEN if "depth" in BY_DIALECT[dialect].holds]
)
def test_what_two_formats_hold_survives_both(tmp_path: Path, picks: Picks, first: str) -> None:
    once, lost = rewritten(tmp_path / "once", picks, first)
    holds = BY_DIALECT[first].holds
    agree(once, picks, holds)
    if "class names" not in holds:
        holds = holds - {"classes"}
    for second in WRITTEN:
        twice, _ = rewritten(tmp_path / second, once, second)
        agree(twice, picks, holds & BY_DIALECT[second].holds)
    for what in ("scores", "rotations", "classes"):
        word = f"holds no place for {what}"
        assert any(word in line for line in lost) == (what not in BY_DIALECT[first].holds), lost


def test_what_is_lost_is_said(tmp_path: Path, picks: Picks) -> None:
    lost = write_picks(tmp_path / "a.box", picks, "box", GEOMETRY, box=20)
    assert lost == [
        "box holds no place for scores",
        "box holds no place for classes",
        "box holds no place for rotations",
        "box: no z",
    ]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["007.box", "TS_01.box"]
    assert (
        "the names of the classes" in write_picks(tmp_path / "a.tbl", picks, "dynamo", GEOMETRY)[0]
    )
    single = picks.within("007")
    assert write_picks(tmp_path / "b.coords", single, geometry=GEOMETRY)[-1] == (
        "tomogram '007' will be read as 'b', by the file's name"
    )
    assert len(read_picks(tmp_path / "b.coords", PickReading(voxel_size=10)).picks) == 15
    assert (
        read_picks(tmp_path / "b.coords", PickReading(voxel_size=10, tomogram="x")).picks.tomograms[
            0
        ]
        == "x"
    )


def test_unknown_rotations_are_said_or_kept(tmp_path: Path, picks: Picks) -> None:
    assert picks.rotations is not None
    rotations = picks.rotations.copy()
    rotations[5] = np.nan
    some = Picks(
        picks.positions, picks.scores, picks.classes, picks.class_names, picks.tomograms, rotations
    )
    assert write_picks(tmp_path / "a.csv", some) == []
    again = read_picks(tmp_path / "a.csv").picks.rotations
    assert again is not None
    assert np.isnan(again[5]).all()
    assert np.isfinite(np.delete(again, 5, 0)).all()
    assert (
        "1 rotation is unknown" in write_picks(tmp_path / "a.star", some, "relion31", GEOMETRY)[0]
    )


@pytest.mark.parametrize(
    ("dialect", "path", "options", "message"),
    [
        (
            "coords",
            "a.coords",
            {},
            "counts in voxels, and the voxel size of tomogram 'T' is unknown",
        ),
        ("relion5", "a.star", {"voxel_size": 5.0}, "counts from the middle of the tomogram"),
        ("eman", "a_info.json", {"voxel_size": 5.0}, "counts from the middle of the tomogram"),
        ("cbox", "a.cbox", {"voxel_size": 5.0}, "give `box`"),
        ("stopgap", "a.star", {"voxel_size": 5.0}, "`dialect` stopgap: is read only"),
        ("other", "a.star", {}, "`dialect` other: unknown; expected one of csv"),
        (None, "a.xyz", {}, "its name says no format"),
        ("copick", "a.json", {}, "holds one class in one tomogram, and there are 2"),
    ],
)
def test_writing_asks_for_what_it_needs(
    tmp_path: Path, dialect: str | None, path: str, options: dict[str, float], message: str
) -> None:
    picks = Picks.of(np.ones((2, 3)), "T", classes=np.array([0, 1]), class_names=("a", "b"))
    with pytest.raises(UserError, match=message):
        write_picks(tmp_path / path, picks, dialect, **options)
    assert list(tmp_path.iterdir()) == []


def test_no_picks_are_written_and_read(tmp_path: Path) -> None:
    for dialect in WRITTEN:
        if dialect == "copick":
            continue
        path = tmp_path / f"{dialect}{ENDING[dialect]}"
        write_picks(path, Picks.empty(), dialect, GEOMETRY, box=10)
        found = read_picks(path, PickReading(slice=0, dialect=dialect, unit="angstrom"))
        assert len(found.picks) == 0, dialect


# ---- conventions ---------------------------------------------------------------------------------


def test_where_the_first_voxel_is(tmp_path: Path) -> None:
    """A pick in the middle of voxel (z, y, x) = (3, 2, 1), in the numbers of each format."""
    picks = Picks.of(np.array([[30.0, 20, 10]]), "T")
    geometry = {"T": Geometry((9, 9, 9), 10.0)}
    for name in ("a.coords", "a.tbl", "a.mod", "a.cbox", "a_info.json", "a.ndjson"):
        write_picks(tmp_path / name, picks, geometry=geometry, box=4)
    assert (tmp_path / "a.coords").read_text().split() == ["1.000000", "2.000000", "3.000000"]
    assert (tmp_path / "a.tbl").read_text().split()[23:26] == ["1.500000", "2.500000", "3.500000"]
    raw = (tmp_path / "a.mod").read_bytes()
    start = raw.index(b"CONT") + 20
    np.testing.assert_array_equal(np.frombuffer(raw, ">f4", 3, start), [1.5, 2.5, 3])
    row = next(
        line for line in (tmp_path / "a.cbox").read_text().splitlines() if line.startswith("-1.0")
    )
    assert row.split()[:6] == ["-1.000000", "0.000000", "3.000000", "4.0", "4.0", "4.0"]
    assert json.loads((tmp_path / "a_info.json").read_text())["boxes_3d"][0][:3] == [-3, -2, -1]
    assert json.loads((tmp_path / "a.ndjson").read_text())["location"] == {"x": 1, "y": 2, "z": 3}


def test_dynamo_rotates_the_reference_along_the_filament(shared_data: Path) -> None:
    """Particles that were cropped along filaments: their z axes lie along the way to the next."""
    found = read_picks(
        shared_data / "coords" / "dynamo_crop.tbl.gz", PickReading(voxel_size=1)
    ).picks
    assert found.rotations is not None
    axes = found.rotations[:, :, 0][:60]
    way = found.positions[8:68] - found.positions[:60]
    along = np.einsum("ni,ni->n", axes, way / np.linalg.norm(way, axis=1)[:, None])
    assert np.median(along) > 0.97


def test_the_same_particles_in_four_formats(shared_data: Path) -> None:
    """The Data Portal's test particles; their orientations are given once more as matrices
    (copick).
    """
    folder = shared_data / "coords"
    relion3, relion4 = (read_picks(folder / f"portal_relion{n}.star").picks for n in (3, 4))
    stopgap = read_picks(folder / "portal_stopgap.star", PickReading(voxel_size=1)).picks
    matrices = read_picks(folder / "portal_copick.json").picks.rotations
    np.testing.assert_allclose(relion3.rotations, relion4.rotations, atol=1e-12)
    np.testing.assert_allclose(relion4.rotations[[0, 1, 3]], matrices[[0, 1, 2]], atol=1e-9)
    np.testing.assert_allclose(stopgap.positions, [[7.8, 4.6, 1.8], [4.2, 5.4, 6.2], [-2, 1, 4], [0, 7, 2], [1, 6, 7],
                                                   [2, 3, 4]], atol=1e-9)  # fmt: skip


def test_picks_in_real_and_stored_frames_agree(shared_data: Path) -> None:
    """WarpTools' star of the ribosomes whose positions are known in 12 Å voxels besides."""
    folder = shared_data / "real" / "EMPIAR-10499"
    found = read_picks(folder / "warptools_test_4-tomos_10-ptcls_box-32_angpix-12.star").picks
    with np.load(shared_data / "real" / "EMPIAR-10499_subtomograms_20x32_12A.npz") as known:
        rows = np.isin(found.tomograms.astype(str), ["Unt_050", "Unt_076"])
        np.testing.assert_allclose(
            found.positions[rows], known["coords_xyz_12A_voxels"][:, ::-1] * 12, atol=1e-3
        )
        np.testing.assert_allclose(
            found.rotations[rows], euler_to_matrix(known["angles_rot_tilt_psi"]), atol=1e-6
        )


def test_portal_folders_say_run_size_and_object(tmp_path: Path) -> None:
    folder = tmp_path / "TS_26" / "Reconstructions" / "VoxelSpacing13.480" / "Annotations" / "101"
    folder.mkdir(parents=True)
    path = folder / "ribosome-1.0_orientedpoint.ndjson"
    turned = euler_to_matrix([[10, 20, 30]])[0]
    path.write_text(
        '{"type": "point", "location": {"x": 1, "y": 2, "z": 3}}\n'
        + json.dumps(
            {
                "location": {"x": 4, "y": 5, "z": 6},
                "xyz_rotation_matrix": turned[::-1, ::-1].tolist(),
            }
        )
    )
    found = read_picks(path)
    np.testing.assert_allclose(found.picks.positions, np.array([[3, 2, 1], [6, 5, 4]]) * 13.48)
    assert (found.picks.tomograms[0], found.picks.class_names, found.dialect) == (
        "TS_26",
        ("ribosome",),
        "portal",
    )
    assert np.isnan(found.picks.rotations[0]).all()
    np.testing.assert_allclose(found.picks.rotations[1], turned)


def test_a_copick_project_by_its_folder_and_its_configuration(tmp_path: Path, picks: Picks) -> None:
    project = tmp_path / "project"
    write_picks(project, picks, "copick")
    names = sorted(str(path.relative_to(project)) for path in project.rglob("*.json"))
    assert names[0] == "ExperimentRuns/007/Picks/cryoet_0_apo-ferritin.json"
    assert names[-1] == "copick_config.json"
    by_folder, by_config = read_picks(project), read_picks(project / "copick_config.json")
    np.testing.assert_array_equal(by_folder.picks.positions, by_config.picks.positions)
    single = read_picks(project / names[0])
    assert set(single.picks.tomograms) == {"007"}
    static = json.loads((project / names[0]).read_text())
    static["points"][0]["transformation_"][0][3] = 5.0
    (project / names[0]).write_text(json.dumps(static))
    np.testing.assert_allclose(
        read_picks(project / names[0]).picks.positions[0] - single.picks.positions[0], [0, 0, 5]
    )


def test_tomogram_numbers_are_named_by_a_file(tmp_path: Path, picks: Picks) -> None:
    write_picks(tmp_path / "a.tbl", picks, "dynamo", GEOMETRY)
    assert (tmp_path / "a.doc").read_text() == "1 007\n2 TS_01\n"
    (tmp_path / "a.doc").rename(tmp_path / "names.txt")
    found = read_picks(tmp_path / "a.tbl", PickReading(voxel_size=1))
    assert set(found.picks.tomograms) == {"1", "2"}
    assert "`names`" in found.notes[0]
    named = read_picks(tmp_path / "a.tbl", PickReading(voxel_size=1, names=tmp_path / "names.txt"))
    assert set(named.picks.tomograms) == {"007", "TS_01"}
    (tmp_path / "names.txt").write_text("2 /data/TS_01.rec\n")
    with pytest.raises(UserError, match=r"tomogram 1 is not in .*names.txt"):
        read_picks(tmp_path / "a.tbl", PickReading(voxel_size=1, names=tmp_path / "names.txt"))


def test_stars_are_read_by_starfile(tmp_path: Path, picks: Picks) -> None:
    starfile = pytest.importorskip("starfile")
    for dialect in ("relion30", "relion31", "relion4", "relion5", "warp"):
        path = tmp_path / f"{dialect}.star"
        write_picks(path, picks, dialect, GEOMETRY)
        tables = starfile.read(path, always_dict=True)
        table = tables.get("particles", next(iter(tables.values())))
        name = "rlnTomoName" if dialect in ("relion4", "relion5") else "rlnMicrographName"
        assert str(table[name][0]).removesuffix(".tomostar") == "TS_01"
        assert "'" not in path.read_text()
        assert len(table) == 40
        size = np.array([GEOMETRY[name].voxel_size for name in picks.tomograms])
        if dialect == "relion5":
            middle = (
                np.array([np.array(GEOMETRY[name].shape)[::-1] / 2 for name in picks.tomograms])
                * size[:, None]
            )
            xyz = table[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy() + middle
        else:
            xyz = table[[f"rlnCoordinate{axis}" for axis in "XYZ"]].to_numpy() * size[:, None]
        np.testing.assert_allclose(xyz[:, ::-1], picks.positions, atol=1e-3)
        angles = table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
        np.testing.assert_allclose(euler_to_matrix(angles), picks.rotations, atol=1e-4)


@pytest.mark.skipif(shutil.which("relion_star_handler") is None, reason="RELION is not installed")
def test_stars_go_through_relion(tmp_path: Path, picks: Picks) -> None:
    for dialect in ("relion30", "relion31", "relion4", "relion5"):
        path, back = tmp_path / f"{dialect}.star", tmp_path / "back" / f"{dialect}.star"
        back.parent.mkdir(exist_ok=True)
        write_picks(
            path,
            picks,
            dialect,
            GEOMETRY,
            optics={"voltage": 300, "cs": 2.7, "amplitude_contrast": 0.07},
        )
        command = [
            "relion_star_handler",
            "--i",
            str(path),
            "--o",
            str(back),
            "--sort_by",
            "rlnClassNumber",
        ]
        subprocess.run(command, check=True, capture_output=True)
        found = in_order(read_picks(back, PickReading(geometry=GEOMETRY)).picks, picks)
        np.testing.assert_allclose(found.positions, picks.positions, rtol=0, atol=1e-3)
        np.testing.assert_allclose(found.rotations, picks.rotations, rtol=0, atol=1e-4)

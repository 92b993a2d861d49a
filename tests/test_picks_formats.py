"""Every pick format against every other, real files of many programs, and files that are none."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryoet_core.errors import UserError
from cryoet_core.io.picks import Geometry, PickFile, PickReading, picks_files, read_picks, write_picks
from cryoet_core.io.picks.formats import BY_DIALECT, FORMATS, WRITTEN
from cryoet_core.orientation import euler_to_matrix
from cryoet_core.picks import Picks, join

GEOMETRY = {"TS_01": Geometry((201, 928, 960), 13.48), "007": Geometry((64, 100, 131), 10.0)}
ENDING = {form.dialect: form.endings[0] for form in FORMATS}


@pytest.fixture
def picks() -> Picks:
    """40 picks in two tomograms, two classes and none, with rotations in which tilt 0 and 180 occur."""
    random = np.random.default_rng(3)
    names = np.array(["TS_01"] * 25 + ["007"] * 15, dtype=object)
    edge = np.array([(np.array(GEOMETRY[name].shape) - 1) * GEOMETRY[name].voxel_size for name in names])
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
    """What is read of picks that were written, in the order in which they were, and what was said to be lost."""
    folder.mkdir()
    path = folder / ("project" if dialect == "copick" else f"set{ENDING[dialect]}")
    lost = write_picks(path, picks, dialect, GEOMETRY, box=32)
    reading = PickReading(geometry=GEOMETRY, slice=7, dialect=dialect)
    files = [path] if dialect == "copick" else picks_files(path, picks, dialect)
    files = [file for file in files if file.suffix != ".doc"]
    if not any(folder.rglob("*TS_01*")):
        assert files == [path]
    parts = [read_picks(file, reading if len(files) == 1 else without_names(reading)).picks for file in files]
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
    np.testing.assert_allclose(found.positions[:, axes], picks.positions[:, axes], rtol=0, atol=1e-3)
    assert list(found.tomograms) == list(picks.tomograms)
    if "rotations" in holds:
        assert found.rotations is not None
        np.testing.assert_allclose(found.rotations, picks.rotations, rtol=0, atol=1e-4)
    if "scores" in holds:
        np.testing.assert_allclose(found.scores, picks.scores, rtol=1e-6)
    if "class names" in holds:
        assert names(found) == names(picks)
    elif "classes" in holds:
        assert names(found) == [f"class{number + 1}" if number >= 0 else "" for number in picks.classes]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoet_core.files.sync", lambda path: None)


@pytest.mark.parametrize("first", [dialect for dialect in WRITTEN if "depth" in BY_DIALECT[dialect].holds])
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
    assert "the names of the classes" in write_picks(tmp_path / "a.tbl", picks, "dynamo", GEOMETRY)[0]
    single = picks.within("007")
    assert write_picks(tmp_path / "b.coords", single, geometry=GEOMETRY)[-1] == (
        "tomogram '007' will be read as 'b', by the file's name"
    )
    assert len(read_picks(tmp_path / "b.coords", PickReading(voxel_size=10)).picks) == 15
    assert read_picks(tmp_path / "b.coords", PickReading(voxel_size=10, tomogram="x")).picks.tomograms[0] == "x"


def test_unknown_rotations_are_said_or_kept(tmp_path: Path, picks: Picks) -> None:
    assert picks.rotations is not None
    rotations = picks.rotations.copy()
    rotations[5] = np.nan
    some = Picks(picks.positions, picks.scores, picks.classes, picks.class_names, picks.tomograms, rotations)
    assert write_picks(tmp_path / "a.csv", some) == []
    again = read_picks(tmp_path / "a.csv").picks.rotations
    assert again is not None
    assert np.isnan(again[5]).all()
    assert np.isfinite(np.delete(again, 5, 0)).all()
    assert "1 rotations are unknown" in write_picks(tmp_path / "a.star", some, "relion31", GEOMETRY)[0]


@pytest.mark.parametrize(
    ("dialect", "path", "options", "message"),
    [
        ("coords", "a.coords", {}, "counts in voxels, and the voxel size of tomogram 'T' is unknown"),
        ("relion5", "a.star", {"voxel_size": 5.0}, "counts from the middle of the tomogram"),
        ("eman", "a_info.json", {"voxel_size": 5.0}, "counts from the middle of the tomogram"),
        ("cbox", "a.cbox", {"voxel_size": 5.0}, "give --box"),
        ("stopgap", "a.star", {"voxel_size": 5.0}, "--dialect stopgap: is read only"),
        ("other", "a.star", {}, "--dialect other: unknown; expected one of csv"),
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


# ---- conventions ----------------------------------------------------------------------------------------------------


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
    row = next(line for line in (tmp_path / "a.cbox").read_text().splitlines() if line.startswith("-1.0"))
    assert row.split()[:6] == ["-1.000000", "0.000000", "3.000000", "4.0", "4.0", "4.0"]
    assert json.loads((tmp_path / "a_info.json").read_text())["boxes_3d"][0][:3] == [-3, -2, -1]
    assert json.loads((tmp_path / "a.ndjson").read_text())["location"] == {"x": 1, "y": 2, "z": 3}


def test_dynamo_turns_the_reference_along_the_filament(shared_data: Path) -> None:
    """Particles that were cropped along filaments: their z axes lie along the way to the next."""
    found = read_picks(shared_data / "coords" / "dynamo_crop.tbl.gz", PickReading(voxel_size=1)).picks
    assert found.rotations is not None
    axes = found.rotations[:, :, 0][:60]
    way = found.positions[8:68] - found.positions[:60]
    along = np.einsum("ni,ni->n", axes, way / np.linalg.norm(way, axis=1)[:, None])
    assert np.median(along) > 0.97


def test_the_same_particles_in_four_formats(shared_data: Path) -> None:
    """The Data Portal's test particles; their orientations are given once more as matrices (copick)."""
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
        np.testing.assert_allclose(found.positions[rows], known["coords_xyz_12A_voxels"][:, ::-1] * 12, atol=1e-3)
        np.testing.assert_allclose(found.rotations[rows], euler_to_matrix(known["angles_rot_tilt_psi"]), atol=1e-6)


def test_portal_folders_say_run_size_and_object(tmp_path: Path) -> None:
    folder = tmp_path / "TS_26" / "Reconstructions" / "VoxelSpacing13.480" / "Annotations" / "101"
    folder.mkdir(parents=True)
    path = folder / "ribosome-1.0_orientedpoint.ndjson"
    turned = euler_to_matrix([[10, 20, 30]])[0]
    path.write_text(
        '{"type": "point", "location": {"x": 1, "y": 2, "z": 3}}\n'
        + json.dumps({"location": {"x": 4, "y": 5, "z": 6}, "xyz_rotation_matrix": turned[::-1, ::-1].tolist()})
    )
    found = read_picks(path)
    np.testing.assert_allclose(found.picks.positions, np.array([[3, 2, 1], [6, 5, 4]]) * 13.48)
    assert (found.picks.tomograms[0], found.picks.class_names, found.dialect) == ("TS_26", ("ribosome",), "portal")
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
    np.testing.assert_allclose(read_picks(project / names[0]).picks.positions[0] - single.picks.positions[0], [0, 0, 5])


def test_tomogram_numbers_are_named_by_a_file(tmp_path: Path, picks: Picks) -> None:
    write_picks(tmp_path / "a.tbl", picks, "dynamo", GEOMETRY)
    assert (tmp_path / "a.doc").read_text() == "1 007\n2 TS_01\n"
    (tmp_path / "a.doc").rename(tmp_path / "names.txt")
    found = read_picks(tmp_path / "a.tbl", PickReading(voxel_size=1))
    assert set(found.picks.tomograms) == {"1", "2"}
    assert "--names" in found.notes[0]
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
            middle = np.array([np.array(GEOMETRY[name].shape)[::-1] / 2 for name in picks.tomograms]) * size[:, None]
            xyz = table[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy() + middle
        else:
            xyz = table[[f"rlnCoordinate{axis}" for axis in "XYZ"]].to_numpy() * size[:, None]
        np.testing.assert_allclose(xyz[:, ::-1], picks.positions, atol=1e-3)
        angles = table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
        np.testing.assert_allclose(euler_to_matrix(angles), picks.rotations, atol=1e-4)


# ---- real files of other programs -----------------------------------------------------------------------------------

LIKE_TS_01 = {"TS_01": Geometry((2000, 4000, 4000), 1.35)}
VOXELS = PickReading(voxel_size=10.0)
READ = {
    "MT_doublet_relion_14A.star.gz": (PickReading(), 2500, "CCDC147C_026_14.00Apx", [2156, 6076, 5124]),
    "av3_motl_HIV_VLP.em.gz": (VOXELS, 15395, "31", [2245.43, 10977.81, 12488.26]),
    "av3_motl_au_1.em": (VOXELS, 64, "160", [1773.7, 1998.93, 2288.3]),
    "boxmanager_3d_particle.cbox": (VOXELS, 3, "boxmanager_3d_particle", [500, 402.2141, 247.5708]),
    "boxmanager_particles3d.cbox.gz": (VOXELS, 34414, "boxmanager_particles3d", [1145.625, 6835, 7330]),
    "clathrin_relion31.star.gz": (VOXELS, 5999, "tomo_0404", [14000.01, 33360, 14919.99]),
    "cryolo_TcdA1-0018.cbox": (
        PickReading(voxel_size=10, slice=3), 120, "cryolo_TcdA1-0018", [30, 39844.5555, 38103.6719]
    ),
    "cylindra_relion5_class3d.star": (
        PickReading(geometry=LIKE_TS_01), 10, "TS_01", [1483.922, 1814.994, 3454.13]
    ),
    "cylindra_relion5_refine.star": (
        PickReading(geometry=LIKE_TS_01), 5, "TS_01", [1350 + 11.16 + 6.78404, 2700 + 765.48005 - 2.498456,
                                                       2700 - 176.94 + 2.41904]
    ),
    "dynamo_b4.tbl": (VOXELS, 1343, "2", [1671.847, 5486.602, 5075.651]),
    "dynamo_crop.tbl.gz": (VOXELS, 4485, "1", [2185, 2537.4, 7812.1]),
    "dynamotable_complex.tbl.gz": (VOXELS, 8742, "1", [6426.685, 7594.3826, 10169.803]),
    "dynamotable_double.tbl": (VOXELS, 300, "1", [1646.843, 1106.87, 1432.978]),
    "eman_2d_left.box": (PickReading(voxel_size=10, slice=3), 3, "eman_2d_left", [30, 400, 240]),
    "imod_correct111.mod": (VOXELS, 161, "imod_correct111", [-760, 6985, 1280]),
    "imod_empty111.mod": (VOXELS, 162, "imod_empty111", [1240, 6940, 1175]),
    "imodmodel_multi.mod": (PickReading(), 6, "imodmodel_multi", [2644.2667, 13050.3136, 7232.2679]),
    "imodmodel_slicer.mod": (PickReading(), 4, "imodmodel_slicer", [4875.1951, 11017.8589, 3792.9160]),
    "imodmodel_two_contour.mod": (PickReading(), 25, "imodmodel_two_contour", [358.4, 287.4667, 285.9733]),
    "portal_copick.json": (PickReading(), 4, "portal_copick", [30, 20, 40]),
    "portal_copick_instance.json": (PickReading(), 6, "Position_94_Vol", [30, 20, 10]),
    "portal_oriented_points.mod": (PickReading(), 4, "portal_oriented_points", [4875.1951, 11017.8589, 3792.9160]),
    "portal_points.csv": (PickReading(unit="voxel", voxel_size=10), 3, "portal_points", [30, 20, 10]),
    "portal_points.mod": (VOXELS, 3, "portal_points", [30, 15, 5]),
    "portal_points_tab_delim.csv": (PickReading(unit="nm"), 3, "portal_points_tab_delim", [30, 20, 10]),
    "portal_points_with_header.csv": (VOXELS, 3, "portal_points_with_header", [30, 20, 10]),
    "portal_points_with_header_pipe_delim.csv": (VOXELS, 3, "portal_points_with_header_pipe_delim", [30, 20, 10]),
    "portal_relion3.star": (PickReading(), 6, "tomo_1", [15.2 * 1.7005, 10.4 * 1.7005, 5.2 * 1.7005]),
    "portal_relion4.star": (PickReading(), 6, "TS_001", [15.2, 10.4, 5.2]),
    "portal_stopgap.star": (VOXELS, 6, "1", [78, 46, 18]),
    "portal_tardis.csv": (PickReading(), 6, "portal_tardis", [12, 8, 4]),
    "portal_tomoman_relion.star": (PickReading(), 6, "grid_1_lamella1_pos1", [15.2 * 1.96, 10.4 * 1.96, 5.2 * 1.96]),
    "pyseg_particles.star": (VOXELS, 60, "tomo13_z190_ves_1", [2033.6216, 11320.9616, 6130.3516]),
    "pytom_coords.txt": (VOXELS, 2, "tomogram_000_WBP", [2320, 600, 680]),
    "relion30.star": (PickReading(), 3, "01006_10.73Apx", [422.955 * 5.364, 733.955 * 5.364, 1028.455 * 5.364]),
    "relion31_optics2.star": (PickReading(), 3, "0002_12.23Apx", [2287.1205, 3624.3199, 2239.6857]),
    "relion3_pytom_example.star": (
        PickReading(coordinate_pixel_size=2.74), 74, "20211007_tomo10", [2264.3544, 1259.5799, 3613.4016]
    ),
    "relion40.star.gz": (PickReading(), 1746, "TS_017", [1856.8407, 841.2238, 3349.4396]),
    "relion5_tutorial_particles.star.gz": (
        PickReading(tomograms_star=Path("relion5_tutorial_tomograms.star")), 9053, "TS_01",
        [2477.275, 1747.588, 4474.199]
    ),
    "relion_optics_pytom.star": (
        PickReading(slice=3), 60, "FoilHole_11405297_Data_11407911_11407912_20191212_0044-30061_mrc",
        [7.164, 8508.444, 5202.258]
    ),
    "sfftk_motivelist.star": (VOXELS, 46, "649", [7760, 3040, 28560]),
    "singlet_MT_relion_8.48A.star.gz": (PickReading(), 2500, "SPEF1MT2_038_8.48Apx", [1034.56, 3442.88, 4723.36]),
    "stopgap.star.gz": (VOXELS, 14561, "24", [6774.676, 7536.012, 8232.121]),
    "susan_10064_picked_b8.tbl.gz": (VOXELS, 4427, "1", [805, 165.87, 672.5]),
    "warp2_matching.star.gz": (PickReading(), 1218, "TS_17", [303.312, 1588.528, 1416.968]),
    "warp_subtomo_format.star": (PickReading(), 1037, "tomo200528_100", [1434.368, 2744.608, 5558.176]),
}  # fmt: skip
REFUSED = {
    "cistem.star.gz": "a STAR file of cisTEMAnglePsi",
    "copick_config_local.json": "a copick project whose picks are not here",
    "copick_config_portal.json": "a copick project whose picks are not here",
    "eman_2d_corrupt_columns.box": "line 3 has 3 columns; expected 4",
    "eman_2d_corrupt_string.box": "line 2: 'sixty_three'; expected a number",
    "pytom_pickpos.xml": "a particle list of PyTom, which is not read",
    "relion5_tilt.star": "a STAR file of rlnMicrographMovieName",
    "relion5_tutorial_tomograms.star": "a STAR file of rlnTomoName",
    "serialem_tilt_series.mdoc": "SerialEM metadata",
    "tomoslice_dipoles.star": "a STAR file of x, y, z, direction_x",
    "tomotwin_valid.tloc": "a Python pickle, which can run code and is never opened",
    "warptools_gs04_ts_003.xml.gz": "a tilt series of Warp, without picks",
}


def test_every_real_file_is_listed(shared_data: Path) -> None:
    assert sorted(path.name for path in (shared_data / "coords").iterdir()) == sorted([*READ, *REFUSED])


@pytest.mark.parametrize("name", READ)
def test_real_files_are_read(shared_data: Path, name: str) -> None:
    reading, count, tomogram, first = READ[name]
    path = shared_data / "coords" / name
    if reading.tomograms_star:
        reading = PickReading(tomograms_star=shared_data / "coords" / reading.tomograms_star)
    found = read_picks(path, reading)
    assert (len(found.picks), found.picks.tomograms[0]) == (count, tomogram)
    np.testing.assert_allclose(found.picks.positions[0], first, atol=6e-3)
    if found.picks.rotations is not None:
        np.testing.assert_allclose(np.linalg.det(found.picks.rotations), 1, atol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_other_real_files_are_refused_with_the_reason(shared_data: Path, name: str) -> None:
    with pytest.raises(UserError) as refused:
        read_picks(shared_data / "coords" / name, PickReading(voxel_size=10, slice=1, unit="voxel"))
    assert REFUSED[name] in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("fraction", [0.1, 0.6, 0.99])
def test_truncated_real_files_are_shorter_or_refused(shared_data: Path, tmp_path: Path, fraction: float) -> None:
    for name, (reading, count, *_) in READ.items():
        raw = (shared_data / "coords" / name).read_bytes()
        raw = gzip.decompress(raw) if name.endswith(".gz") else raw
        if len(raw) > 300_000:
            continue
        path = tmp_path / name.removesuffix(".gz")
        path.write_bytes(raw[: int(len(raw) * fraction)])
        with contextlib.suppress(UserError):
            assert len(read_picks(path, reading).picks) <= count


# ---- what is no pick file -------------------------------------------------------------------------------------------

READING = PickReading(voxel_size=10, slice=1, unit="voxel", geometry={"a": Geometry((10, 10, 10), 10.0)})
ENDINGS = sorted({ending for form in FORMATS for ending in form.endings} | {".txt", ""})
SCRAPS = st.sampled_from(
    ["data_\nloop_\n", "_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n", "_motl_idx\n_orig_x\n_orig_y\n_orig_z\n",
     "_CoordinateX\n_CoordinateY\n_Width\n_Height\n", "x,y,z\n", '{"points": [', '{"location": {"x": ', '"boxes_3d": ',
     "1 2 3\n", "1 2 3 4\n", "1e999", "nan ", "\t", "0 " * 26 + "\n", "[[]]}", "}", "null", "IMODV1.2", "\\", "'", '"']
) | st.text(max_size=12)  # fmt: skip


def must_be_picks_or_refused(path: Path) -> None:
    try:
        found = read_picks(path, READING)
    except UserError as error:
        refused = str(error)
        assert "\n" not in refused
        return
    assert isinstance(found, PickFile)
    assert np.isfinite(found.picks.positions).all()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(SCRAPS, max_size=8).map("".join), ending=st.sampled_from(ENDINGS))
def test_any_text_is_picks_or_refused(tmp_path: Path, text: str, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_text(text)
    must_be_picks_or_refused(path)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400), start=st.sampled_from([b"", b"IMODV1.2" + bytes(232), b"\x1f\x8b"]))
def test_any_bytes_are_picks_or_refused(tmp_path: Path, data: bytes, start: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(start + data)
    must_be_picks_or_refused(path)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 10_000), value=st.binary(min_size=1, max_size=6), name=st.sampled_from(WRITTEN))
def test_damaged_files_are_picks_or_refused(tmp_path: Path, where: int, value: bytes, name: str) -> None:
    if name in ("copick", "cryoet"):
        return
    picks = Picks.of(np.array([[10.0, 20, 30], [1, 2, 3]]), "a", rotations=euler_to_matrix([[1, 2, 3], [4, 5, 6]]))
    path = tmp_path / f"a{ENDING[name]}"
    write_picks(path, picks, name, {"a": Geometry((10, 10, 10), 10.0)}, box=4)
    raw = bytearray(path.read_bytes())
    where %= len(raw)
    raw[where : where + len(value)] = value
    path.write_bytes(raw)
    must_be_picks_or_refused(path)

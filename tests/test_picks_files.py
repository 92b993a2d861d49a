"""Pick files of many real programs, and files that are none."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryoet_core.algorithms.orientation import euler_to_matrix
from cryoet_core.formats.picks import Geometry, PickFile, PickReading, read_picks, write_picks
from cryoet_core.formats.picks.formats import BY_DIALECT, FORMATS, WRITTEN
from cryoet_core.picks.table import Picks
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import file_name

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
    assert sorted(path.name for path in (shared_data / "coords").iterdir()) == sorted(
        [*READ, *REFUSED]
    )


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
def test_truncated_real_files_are_shorter_or_refused(
    shared_data: Path, tmp_path: Path, fraction: float
) -> None:
    for name, (reading, count, *_) in READ.items():
        raw = (shared_data / "coords" / name).read_bytes()
        raw = gzip.decompress(raw) if name.endswith(".gz") else raw
        if len(raw) > 300_000:
            continue
        path = tmp_path / name.removesuffix(".gz")
        path.write_bytes(raw[: int(len(raw) * fraction)])
        with contextlib.suppress(UserError):
            assert len(read_picks(path, reading).picks) <= count


# ---- what is no pick file ------------------------------------------------------------------------

READING = PickReading(
    voxel_size=10, slice=1, unit="voxel", geometry={"a": Geometry((10, 10, 10), 10.0)}
)
ENDINGS = sorted({ending for form in FORMATS for ending in form.endings} | {".txt", ""})
SCRAPS = st.sampled_from(
    ["data_\nloop_\n", "_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n", "_motl_idx\n_orig_x\n_orig_y\n_orig_z\n",
     "_CoordinateX\n_CoordinateY\n_Width\n_Height\n", "x,y,z\n", '{"points": [', '{"location": '
         '{"x": ', '"boxes_3d": ',
     "1 2 3\n", "1 2 3 4\n", "1e999", "nan ", "\t", "0 " * 26 + "\n", "[[]]}", "}", "null", "IMODV1.2", "\\", "'", '"']
) | st.text(max_size=12)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoet_core.support.files.sync", lambda path: None)


def must_be_picks_or_refused(path: Path) -> None:
    try:
        found = read_picks(path, READING)
    except UserError as error:
        refused = str(error)
        assert "\n" not in refused
        return
    assert isinstance(found, PickFile)
    assert np.isfinite(found.picks.positions).all()


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.lists(SCRAPS, max_size=8).map("".join), ending=st.sampled_from(ENDINGS))
def test_any_text_is_picks_or_refused(tmp_path: Path, text: str, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_text(text)
    must_be_picks_or_refused(path)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.binary(max_size=400),
    start=st.sampled_from([b"", b"IMODV1.2" + bytes(232), b"\x1f\x8b"]),
)
def test_any_bytes_are_picks_or_refused(tmp_path: Path, data: bytes, start: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(start + data)
    must_be_picks_or_refused(path)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    where=st.integers(0, 10_000),
    value=st.binary(min_size=1, max_size=6),
    name=st.sampled_from(WRITTEN),
)
def test_damaged_files_are_picks_or_refused(
    tmp_path: Path, where: int, value: bytes, name: str
) -> None:
    if name in ("copick", "cryoet"):
        return
    picks = Picks.of(
        np.array([[10.0, 20, 30], [1, 2, 3]]),
        "a",
        rotations=euler_to_matrix([[1, 2, 3], [4, 5, 6]]),
    )
    path = tmp_path / f"a{BY_DIALECT[name].endings[0]}"
    write_picks(path, picks, name, {"a": Geometry((10, 10, 10), 10.0)}, box=4)
    raw = bytearray(path.read_bytes())
    where %= len(raw)
    raw[where : where + len(value)] = value
    path.write_bytes(raw)
    must_be_picks_or_refused(path)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("session 1/TS_01.5", {}, "session_1_TS_01.5"),
        ("..", {}, "tomogram"),
        ("", {}, "tomogram"),
        (" class 2? ", {"blanks": True, "empty": "class"}, "class 2_"),
        (". .", {"blanks": True, "empty": "class"}, "class"),
    ],
)
def test_a_name_of_a_file_has_no_folder(name, options, expected):
    assert file_name(name, **options) == expected

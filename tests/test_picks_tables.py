"""Stars and tables of picks: what each dialect's numbers mean, both ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryoet_core.algorithms.orientation import euler_to_matrix
from cryoet_core.formats.picks import Geometry, PickReading, detect_dialect, read_picks, write_picks
from cryoet_core.picks.table import Picks
from cryoet_core.support.errors import UserError

XYZ = "_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n"
ANGLES = "_rlnAngleRot\n_rlnAngleTilt\n_rlnAnglePsi\n"


def file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_relion30_counts_in_pixels_and_subtracts_the_origin(tmp_path: Path) -> None:
    text = (
        "data_\nloop_\n_rlnMicrographName\n"
        + XYZ
        + ANGLES
        + "_rlnOriginX\n_rlnOriginY\n_rlnOriginZ\n"
        "_rlnMagnification\n_rlnDetectorPixelSize\nrec/TS_01.mrc 10 20 30 15 30 45 1 2 3 10000 5\n"
    )
    found = read_picks(file(tmp_path / "a.star", text))
    assert (found.dialect, found.voxel_size, found.named) == ("relion30", 5, True)
    np.testing.assert_allclose(found.picks.positions, [[27 * 5, 18 * 5, 9 * 5]])
    np.testing.assert_allclose(found.picks.rotations, euler_to_matrix([[15, 30, 45]]))
    assert list(found.picks.tomograms) == ["TS_01"]
    other = read_picks(tmp_path / "a.star", PickReading(coordinate_pixel_size=2))
    np.testing.assert_allclose(other.picks.positions, [[30 * 2 - 15, 20 * 2 - 10, 10 * 2 - 5]])


def test_optics_groups_have_their_own_pixel_sizes(tmp_path: Path) -> None:
    text = (
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n_rlnImagePixelSize\n1 2 "
        "4\n2 3 6\n"
        "data_particles\nloop_\n_rlnTomoName\n_rlnOpticsGroup\n"
        + XYZ
        + "_rlnOriginXAngst\n_rlnOriginYAngst\n"
        "_rlnOriginZAngst\n007 2 1 2 3 1 0 0\n8 1 1 2 3 0 0 -1\n"
    )
    found = read_picks(file(tmp_path / "a.star", text))
    np.testing.assert_allclose(found.picks.positions, [[9, 6, 2], [7, 4, 2]])
    assert (found.dialect, found.voxel_size, list(found.picks.tomograms)) == (
        "relion4",
        None,
        ["007", "8"],
    )


def test_warptools_counts_in_pixels_of_the_images(tmp_path: Path) -> None:
    text = (
        "data_general\n_rlnTomoSubTomosAre2DStacks 1\ndata_optics\nloop_\n_rlnOpticsGroup\n"
        "_rlnTomoTiltSeriesPixelSize\n_rlnImagePixelSize\n1 1.5 12\n"
        "data_particles\nloop_\n_rlnTomoName\n_rlnOpticsGroup\n" + XYZ + "TS_17.tomostar 1 1 2 3\n"
    )
    found = read_picks(file(tmp_path / "a.star", text))
    np.testing.assert_allclose(found.picks.positions, [[36, 24, 12]])
    assert found.dialect == "warp"
    assert "pixels of the images" in found.notes[0]


def test_relion5_counts_from_the_middle_and_rotates_origins_with_the_subtomogram(
    tmp_path: Path,
) -> None:
    text = (
        "data_particles\nloop_\n_rlnTomoName\n"
        + "".join(f"_rlnCenteredCoordinate{a}Angst\n" for a in "XYZ")
        + "".join(f"_rlnTomoSubtomogram{a}\n" for a in ("Rot", "Tilt", "Psi"))
        + ANGLES
        + "".join(f"_rlnOrigin{a}Angst\n" for a in "XYZ")
        + "TS_01 10 -20 30 90 0 0 10 20 30 1 0 0\n"
    )
    path = file(tmp_path / "a.star", text)
    with pytest.raises(UserError, match=r"middle of tomogram 'TS_01', whose size is unknown"):
        read_picks(path)
    found = read_picks(path, PickReading(geometry={"TS_01": Geometry((100, 200, 300), 2.0)}))
    box = euler_to_matrix([[90, 0, 0]])[0]
    np.testing.assert_allclose(
        found.picks.positions, [np.array([130, 180, 310]) - box @ [0, 0, 1]], atol=1e-9
    )
    np.testing.assert_allclose(
        found.picks.rotations, [box @ euler_to_matrix([[10, 20, 30]])[0]], atol=1e-9
    )
    tomograms = file(
        tmp_path / "tomograms.star",
        "data_global\nloop_\n_rlnTomoName\n_rlnTomoSizeX\n_rlnTomoSizeY\n_rlnTomoSizeZ\n_rlnTomoTiltSeriesPixelSize\n"
        "TS_01 600 400 200 1\n",
    )
    again = read_picks(path, PickReading(tomograms_star=tomograms))
    np.testing.assert_allclose(again.picks.positions, found.picks.positions)


def test_a_star_without_pixel_size_asks_for_it(tmp_path: Path) -> None:
    path = file(tmp_path / "a.star", "data_\nloop_\n_rlnTomoName\n" + XYZ + "T 1 2 3\n")
    with pytest.raises(UserError, match="give `voxel_size`"):
        read_picks(path)
    assert read_picks(path, PickReading(voxel_size=3)).picks.positions.tolist() == [[9, 6, 3]]
    assert read_picks(path, PickReading(geometry={"x": Geometry((9, 9, 9), 4)})).voxel_size == 4


@pytest.mark.parametrize("dialect", ["relion30", "relion31", "relion4", "relion5"])
def test_optics_are_handed_on(tmp_path: Path, dialect: str) -> None:
    optics = {"voltage": 300.0, "cs": 2.7, "amplitude_contrast": 0.07}
    geometry = {"T": Geometry((9, 9, 9), 4.0)}
    write_picks(
        tmp_path / "a.star", Picks.of(np.ones((2, 3)), "T"), dialect, geometry, optics=optics
    )
    assert read_picks(tmp_path / "a.star").optics == optics
    write_picks(tmp_path / "b.star", Picks.of(np.ones((2, 3)), "T"), dialect, geometry)
    assert read_picks(tmp_path / "b.star").optics == {}


def test_our_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    picks = Picks(
        np.array([[1.25, 2, 3], [4, 5, 6]]),
        np.array([0.1, np.nan], np.float32),
        np.array([1, -1]),
        ("apo ferritin", "ribosome"),
        np.array(["007", "a,b"], dtype=object),
        np.stack([euler_to_matrix([[10, 20, 30]])[0], np.full((3, 3), np.nan)]),
        {"diameter": np.array([120.5, 80.0]), "halfset": np.array(["A", "B"], dtype=object)},
    )
    assert write_picks(tmp_path / "p.csv", picks) == []
    assert (
        (tmp_path / "p.csv")
        .read_text()
        .startswith("tomogram,class,x,y,z,score,rot,tilt,psi,diameter,halfset\n007,")
    )
    found = read_picks(tmp_path / "p.csv").picks
    np.testing.assert_allclose(found.positions, picks.positions)
    np.testing.assert_array_equal(found.scores, picks.scores)
    np.testing.assert_allclose(found.rotations, picks.rotations, atol=1e-6)
    assert list(found.tomograms) == ["007", "a,b"]
    assert [found.class_names[found.classes[0]], found.classes[1]] == ["ribosome", -1]
    np.testing.assert_array_equal(found.extra["diameter"], [120.5, 80])
    assert list(found.extra["halfset"]) == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "reading", "expected"),
    [
        ("x_nm,y_nm,z_nm\n1,2,3\n", PickReading(), [30, 20, 10]),
        ("Z [A]\tY [A]\tX [A]\n1\t2\t3\n", PickReading(), [1, 2, 3]),
        ("x|y|z\n1|2|3\n", PickReading(unit="voxel", voxel_size=5), [15, 10, 5]),
        ("1,2,3\n", PickReading(voxel_size=5), [15, 10, 5]),
        ("x y z\n1 2 3\n", PickReading(unit="angstrom", dialect="csv"), [3, 2, 1]),
        ("id,experiment,particle_type,x,y,z\n0,TS_1,ribo,1,2,3\n", PickReading(), [3, 2, 1]),
    ],
)
def test_units_of_tables(
    tmp_path: Path, text: str, reading: PickReading, expected: list[float]
) -> None:
    np.testing.assert_allclose(
        read_picks(file(tmp_path / "a.csv", text), reading).picks.positions, [expected]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,z\n1,2,3\n", "without a unit"),
        ("x_nm,y_nm,z_A\n1,2,3\n", "different units"),
        ("x_nm,y_nm,z_nm\n1,2,3\n1,2\n", "line 3 has 2 columns; expected 3"),
        ("x_nm,y_nm,z_nm\n1,2,three\n", "line 2: 'three'; expected a number"),
        ("1,2,3,4\n", "4 columns without a header"),
        ("x_nm,y_nm\n1,2\n", "no column z"),
        ("x_nm,y_nm,z_nm\n1,2,inf\n", "line 2: 'inf'"),
    ],
)
def test_tables_that_cannot_be_meant(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_picks(file(tmp_path / "a.csv", text))


@pytest.mark.parametrize("dialect", ["relion30", "relion31", "relion4", "relion5", "warp"])
def test_stars_without_picks_and_with_several_voxel_sizes(tmp_path: Path, dialect: str) -> None:
    geometry = {"a": Geometry((10, 20, 30), 10.0), "b": Geometry((11, 21, 31), 13.48)}
    picks = Picks.of(np.array([[1.0, 2, 3], [100, 200, 30]]), "a", scores=np.array([1, -2e-5]))
    picks.tomograms[1] = "b"
    assert write_picks(tmp_path / "a.star", picks, dialect, geometry) == []
    found = read_picks(tmp_path / "a.star")
    np.testing.assert_allclose(found.picks.positions, picks.positions, atol=1e-4)
    np.testing.assert_array_equal(found.picks.scores, picks.scores)
    assert list(found.picks.tomograms) == ["a", "b"]
    assert found.dialect == dialect
    assert write_picks(tmp_path / "b.star", Picks.empty(), dialect) == []
    assert len(read_picks(tmp_path / "b.star").picks) == 0


def test_dialects_by_content(tmp_path: Path) -> None:
    assert detect_dialect(file(tmp_path / "a.txt", "x_nm,y_nm,z_nm\n1,2,3\n")) == "csv"
    (tmp_path / "a.tloc").write_bytes(b"\x80\x05\x95\x00")
    with pytest.raises(UserError, match="a Python pickle, which can run code and is never opened"):
        detect_dialect(tmp_path / "a.tloc")

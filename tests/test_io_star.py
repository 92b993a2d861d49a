"""STAR files and what RELION's columns mean, in each dialect, both ways."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryoet_core.algorithms.orientation import euler_to_matrix
from cryoet_core.formats.relion import read_particles
from cryoet_core.formats.star import StarTable, read_star, write_star
from cryoet_core.support.errors import UserError

ANGLES = "_rlnAngleRot\n_rlnAngleTilt\n_rlnAnglePsi\n"


def star(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_values_stay_text(tmp_path: Path) -> None:
    path = star(
        tmp_path / "a.star",
        "# version 30001\n\ndata_\n\nloop_\n_rlnTomoName #1\n_rlnX #2\n007 1.50\n'a b' .\n",
    )
    (table,) = read_star(path)
    assert table.columns == {"rlnTomoName": ["007", "a b"], "rlnX": ["1.50", "."]}


TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=st.lists(
        TEXT.filter(lambda text: not ("'" in text and '"' in text)), min_size=1, max_size=5
    )
)
def test_what_is_written_is_read(tmp_path: Path, values: list[str]) -> None:
    table = StarTable(
        "particles", {"rlnGroupName": values, "rlnN": [str(i) for i in range(len(values))]}
    )
    (again,) = read_star(star(tmp_path / "a.star", write_star([table])))
    assert again.columns == table.columns


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=300) | st.text("data_lop\n #_rnXY'\"; 019.", max_size=300))
def test_any_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    path = star(tmp_path / "a.star", "data_\n" + text)
    with contextlib.suppress(UserError):
        assert read_star(path)
    with contextlib.suppress(UserError):
        assert len(read_particles(path)) >= 0


def test_relion30(tmp_path: Path) -> None:
    """Pixels everywhere; the pixel size is detector pixel (um) over magnification."""
    text = (
        "data_\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n"
        + ANGLES
        + "_rlnOriginX\n"
        "_rlnOriginY\n_rlnOriginZ\n_rlnMagnification\n_rlnDetectorPixelSize\n_rlnVoltage\n"
        "tomo 10 20 30 15 30 45 1 2 3 10000 5 300\n"
    )
    particles = read_particles(star(tmp_path / "a.star", text))
    assert (particles.dialect, particles.pixel_size) == ("relion30", 5)
    np.testing.assert_allclose(particles.origin, [[15, 10, 5]])
    np.testing.assert_allclose(particles.positions, [[30 * 5 - 15, 20 * 5 - 10, 10 * 5 - 5]])
    np.testing.assert_allclose(particles.rotations, euler_to_matrix([[15, 30, 45]]))
    assert list(particles.tomogram) == ["tomo"]
    assert particles.optics == {"voltage": 300}
    scaled = read_particles(tmp_path / "a.star", coordinate_pixel_size=2)
    np.testing.assert_allclose(scaled.positions, [[60 - 15, 40 - 10, 20 - 5]])


def test_relion31(tmp_path: Path) -> None:
    """Optics groups carry the pixel size; origins are in Å."""
    text = (
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnOpticsGroupName\n_rlnImagePixelSize\n_rlnImageDimensionality\n"
        "_rlnSphericalAberration\n2 second 4 3 2.7\n\n"
        "data_particles\nloop_\n_rlnImageName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnOriginXAngst\n"
        "_rlnOriginYAngst\n_rlnOriginZAngst\n_rlnOpticsGroup\n_rlnDefocusU\n_rlnDefocusV\n"
        "000001@a.mrcs 1 2 3 0.5 0.25 0.125 2 30000 40000\n"
    )
    particles = read_particles(star(tmp_path / "a.star", text))
    assert (particles.dialect, particles.pixel_size, particles.dimensions) == ("relion31", 4, 3)
    np.testing.assert_allclose(particles.positions, [[12 - 0.125, 8 - 0.25, 4 - 0.5]])
    np.testing.assert_allclose(particles.extras["defocus"], [3.5])
    assert particles.optics == {"cs": 2.7}
    assert particles.rotations is None
    text = text.replace("0.125 2 30000", "0.125 7 30000")
    with pytest.raises(UserError, match="optics group 7"):
        read_particles(star(tmp_path / "b.star", text))


def test_relion4(tmp_path: Path) -> None:
    """Coordinates count in pixels of the tilt series, not of the images; the note says so."""
    text = (
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n_rlnTomoTiltSeriesPixelSize\n1 8 "
        "2\n\n"
        "data_particles\nloop_\n_rlnTomoName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnOpticsGroup\n"
        "TS_01 100 200 300 1\n"
    )
    particles = read_particles(star(tmp_path / "a.star", text))
    assert (particles.dialect, particles.pixel_size) == ("relion4", 8)
    np.testing.assert_allclose(particles.positions, [[600, 400, 200]])
    assert any("2 Å (rlnTomoTiltSeriesPixelSize" in note for note in particles.notes)


RELION5 = (
    "data_general\n_rlnTomoSubTomosAre2DStacks 0\n\n"
    "data_optics\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n1 8\n\n"
    "data_particles\nloop_\n_rlnTomoName\n_rlnCenteredCoordinateXAngst\n_rlnCenteredCoordinateYAngst\n"
    "_rlnCenteredCoordinateZAngst\n_rlnOpticsGroup\nTS_01 -100 200 0 1\n"
)
TOMOGRAMS = (
    "data_global\nloop_\n_rlnTomoName\n_rlnTomoSizeX\n_rlnTomoSizeY\n_rlnTomoSizeZ\n_rlnTomoTiltSeriesPixelSize\n"
    "TS_01 4000 3000 1000 2\n"
)


def test_relion5_needs_the_size_of_the_tomogram(tmp_path: Path) -> None:
    path = star(tmp_path / "a.star", RELION5)
    particles = read_particles(path)
    assert particles.dialect == "relion5"
    assert particles.positions is None
    np.testing.assert_allclose(particles.extras["centered_positions"], [[0, 200, -100]])
    assert any("`tomograms`" in note for note in particles.notes)
    placed = read_particles(path, tomograms=star(tmp_path / "t.star", TOMOGRAMS))
    np.testing.assert_allclose(placed.positions, [[1000, 3200, 3900]])
    with pytest.raises(UserError, match="TS_01 is not in it"):
        read_particles(
            path, tomograms=star(tmp_path / "u.star", TOMOGRAMS.replace("TS_01", "TS_02"))
        )


def test_2d_stacks_are_known(tmp_path: Path) -> None:
    text = RELION5.replace("2DStacks 0", "2DStacks 1")
    assert read_particles(star(tmp_path / "a.star", text)).dimensions == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnDetectorPixelSize\n1 2 x 5\n",
            "row 0 is 'x'",
        ),
        (
            "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnPixelSize\n1 2 "
            "nan 5\n",
            "expected a number",
        ),
        ("data_stopgap_motivelist\nloop_\n_motl_idx\n_tomo_num\n1 2\n", "STOPGAP"),
        ("data_\nloop_\n_a\n_b\n1 2\n", "expected particles of RELION"),
        (
            "data_\nloop_\n_rlnImageName\n_rlnOriginX\n_rlnOriginY\n_rlnOriginZ\na 1 2 3\n",
            "unknown size",
        ),
        ("data_\nloop_\n_rlnImageName\n_rlnTomoSubtomogramRot\na 12\n", "cut out rotated"),
        ("data_\nloop_\n_rlnImageName\n_rlnPixelSize\na 1\nb 2\n", "pixel sizes of 1, 2"),
        ("data_\nloop_\n_a\n_b\n1\n", "no STAR file"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_particles(star(tmp_path / "a.star", text))


def test_an_unknown_label_column_names_the_close_ones(tmp_path: Path) -> None:
    path = star(tmp_path / "a.star", "data_\nloop_\n_rlnImageName\n_rlnGroupName\na ribo\n")
    assert list(read_particles(path).labels("_rlnGroupName")) == ["ribo"]
    with pytest.raises(UserError, match="it has rlnGroupName"):
        read_particles(path).labels("rlnGropName")

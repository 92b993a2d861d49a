"""Manifests: what a row says holds for its tomogram, and what makes no sense is named with its
line.
"""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import TomogramOptions, open_tomograms
from cryoet_core.tomograms.manifest import rows_of

BRIGHT = TomogramOptions(contrast="bright")


def write_mrc(path: Path, voxel_size: float = 10.0, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(
        path, np.random.default_rng(seed).normal(size=(6, 8, 10)).astype(np.float32)
    ) as file:
        file.voxel_size = voxel_size
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_mrc(tmp_path / "rec" / "a.mrc")
    write_mrc(tmp_path / "rec" / "b.mrc", voxel_size=0)
    return tmp_path


def write(folder: Path, text: str, name: str = "set.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def refusal(path: Path, reading: TomogramOptions = BRIGHT) -> str:
    with pytest.raises(UserError) as caught:
        open_tomograms(path, reading)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_csv(folder: Path, delimiter: str) -> None:
    text = (
        "# two of them\n"
        "path,name,Voxel Size,contrast,tilt_low,tilt_high,sample\n"
        "rec/a.mrc,first,,dark,-60,50,yeast\n"
        "\n"
        "rec/b.mrc,,8.5,Bright,,,\n"
    )
    path = write(folder, text.replace(",", delimiter))
    first, second = open_tomograms(path, TomogramOptions(tilt_range=(-40, 40)))
    assert (first.name, first.voxel_size, first.density_sign, first.tilt_range) == (
        "first",
        10.0,
        -1,
        (-60.0, 50.0),
    )
    assert (second.name, second.voxel_size, second.density_sign, second.tilt_range) == (
        "b",
        8.5,
        1,
        (-40, 40),
    )


def test_a_star(folder: Path) -> None:
    path = write(folder, "data_\n\nloop_\n_path #1\n_contrast #2\n_voxel_size\nrec/a.mrc dark "
        ".\nrec/b.mrc bright 9\n",
                 "set.star")  # fmt: skip
    first, second = open_tomograms(path, TomogramOptions())
    assert (first.density_sign, first.voxel_size) == (-1, 10.0)
    assert (second.density_sign, second.voxel_size) == (1, 9.0)


def test_a_tomogram_set_of_relion(folder: Path) -> None:
    project = folder / "project"
    for name, size in (("TS_1", 10.0), ("TS_2", 0.0)):
        write_mrc(project / "Tomograms" / "job006" / f"rec_{name}.mrc", size)
        tilts = "data_x\n\nloop_\n_rlnTomoNominalStageTiltAngle\n-51.3\n0\n48\n"
        write(project, tilts, f"{name}.star")
    rows = "".join(
        f"TS_{i} 1.35 7.407407 TS_{i}.star Tomograms/job006/rec_TS_{i}.mrc {'x' * i}\n"
        for i in (1, 2)
    )
    labels = [
        "Name",
        "TiltSeriesPixelSize",
        "TomogramBinning",
        "TiltSeriesStarFile",
        "ReconstructedTomogram",
    ]
    head = "".join(f"_rlnTomo{label}\n" for label in labels) + "_rlnOther\n"
    path = write(
        project / "Tomograms" / "job006", f"data_global\n\nloop_\n{head}{rows}", "tomograms.star"
    )
    first, second = open_tomograms(path, BRIGHT)
    assert (first.name, first.voxel_size, first.tilt_range) == ("TS_1", 10.0, (-51.3, 48.0))
    assert (second.name, second.voxel_size) == ("TS_2", pytest.approx(10.0, rel=1e-4))
    half = path.read_text().replace(
        "_rlnTomoReconstructedTomogram", "_rlnTomoReconstructedTomogramHalf1"
    )
    assert "half tomograms only" in refusal(write(folder, half, "half.star"))


HEAD = "path,name,voxel_size,contrast,tilt_low,tilt_high,picks\n"
WRONG: dict[str, tuple[str, str]] = {
    "no such file": (HEAD + "rec/a.mrc,,,,,,\nrec/c.mrc,,,,,,\n", "line 3: rec/c.mrc is not there"),
    "no path": (HEAD + ",x,,,,,\n", "line 2: no path"),
    "no number": (HEAD + "rec/a.mrc,,ten,,,,\n", "line 2: voxel_size 'ten'; expected a number"),
    "NaN": (HEAD + "rec/a.mrc,,nan,,,,\n", "line 2: voxel_size 'nan'"),
    "negative": (HEAD + "rec/a.mrc,,-4,,,,\n", "line 2: voxel_size -4.0: expected a number"),
    "contrast": (
        HEAD + "rec/a.mrc,,,white,,,\n",
        "line 2: contrast 'white'; expected dark or bright",
    ),
    "half a range": (
        HEAD + "rec/a.mrc,,,,-60,,\n",
        "line 2: one of tilt_low and tilt_high is empty",
    ),
    "a falling range": (
        HEAD + "rec/a.mrc,,,,60,-60,\n",
        "line 2: tilt_range 60 -60: expected rising",
    ),
    "no picks": (HEAD + "rec/a.mrc,,,,,,no.star\n", "line 2: picks no.star are not there"),
    "a cell too few": (HEAD + "rec/a.mrc,,\n", "line 2 has 3 cells; expected 7"),
    "twice": (HEAD + "rec/a.mrc,,,,,,\nrec/a.mrc,,,,,,\n", "two tomograms are named 'a'"),
    "no rows": (HEAD, "without rows"),
    "misspelt": ("path,voxelsize\nrec/a.mrc,10\n", "column 'voxelsize'; did you mean voxel_size"),
    "two columns": ("path,name,path\nrec/a.mrc,x,y\n", "two columns named path"),
    "an open quote": (HEAD + '"rec/a.mrc,,,,,,\n', "no csv that can be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_sense_is_named_with_its_line(folder: Path, name: str) -> None:
    text, words = WRONG[name]
    line = refusal(write(folder, text))
    assert words in line
    assert "set.csv" in line or "a.mrc" in line


def test_a_manifest_may_name_one_tomogram_of_a_store(folder: Path) -> None:
    from cryoet_core.tomograms.writer import TomogramWriter

    with TomogramWriter(folder / "s.h5") as writer:
        for name in ("A", "B"):
            writer.add(name, np.random.default_rng(0).normal(size=(4, 5, 6)), voxel_size=10)
    (found,) = open_tomograms(write(folder, "path,name\ns.h5,B\n"))
    assert found.name == "B"
    assert "holds 2 tomograms; expected one; name it" in refusal(
        write(folder, "path,name\ns.h5,\n"), TomogramOptions()
    )
    assert "holds no such tomograms" in refusal(
        write(folder, "path,name\ns.h5,C\n"), TomogramOptions()
    )


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t"),
)
def test_any_text_in_cells_is_read_as_it_is(
    tmp_path: Path, rows: list[tuple[str, str, str]], delimiter: str
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(["path", "name", "picks"])
    writer.writerows(rows)
    (tmp_path / "m.csv").write_bytes(text.getvalue().encode())
    expected = [tuple(cell.strip() for cell in row) for row in rows]
    expected = [row for row in expected if any(row) and not row[0].startswith("#")]
    if not expected:
        with pytest.raises(UserError, match="without rows"):
            rows_of(tmp_path / "m.csv")
        return
    found = rows_of(tmp_path / "m.csv")
    assert [
        tuple(row.values[name] for name in ("path", "name", "picks")) for row in found
    ] == expected


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.text("path,name;\t\"'\n#.0123x-_ \r", max_size=120).map(str.encode),
    )
)
def test_no_bytes_give_a_traceback(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(data)
    with contextlib.suppress(UserError):
        rows = rows_of(path)
        assert rows
        assert all("path" in row.values for row in rows)

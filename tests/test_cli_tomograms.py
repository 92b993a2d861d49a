"""``cryoet data import | export | info | check`` with tomograms, in one process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryoet_core.cli.main import main
from cryoet_core.tomograms import TomogramOptions, open_tomograms
from cryoet_core.tomograms.check import check_tomograms
from cryoet_core.tomograms.store import open_store

SHAPE = (12, 30, 40)
Data = Callable[..., "tuple[str, str]"]


@pytest.fixture
def data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Data:
    """Run ``cryoet data ...`` in ``tmp_path``: what it printed on standard output and error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, code: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        found = main(["data", *map(str, arguments)])
        out, error = capsys.readouterr()
        assert found == code, f"exit code {found}, expected {code}:\n{out}\n{error}"
        return out, error

    return call


def write_mrc(
    path: str, voxel_size: float = 10.0, seed: int = 0, shape: tuple[int, int, int] = SHAPE
) -> np.ndarray:
    values = np.random.default_rng(seed).normal(3, 2, shape).astype(np.float32)
    with mrcfile.new(path, values, overwrite=True) as file:
        file.voxel_size = voxel_size
    return values


def write_star(path: str, count: int = 20, name: str = "TS_1") -> np.ndarray:
    """Picks in pixels of 10 Å, RELION 3.1; their positions in Å (z, y, x)."""
    pixels = np.random.default_rng(1).uniform(1, 10, (count, 3))
    rows = "".join(f"{name} {x:.6f} {y:.6f} {z:.6f} 1\n" for z, y, x in pixels)
    columns = ["rlnMicrographName", *(f"rlnCoordinate{axis}" for axis in "XYZ"), "rlnOpticsGroup"]
    Path(path).write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n1 10.0\n\n"
        "data_particles\n\nloop_\n" + "".join(f"_{column}\n" for column in columns) + rows
    )
    return pixels * 10


def test_in_with_picks_and_out_again(data: Data) -> None:
    first, second = write_mrc("TS_1.mrc"), write_mrc("TS_2.rec", seed=2)
    positions = write_star("labels.star")
    out, _ = data(
        *(
            "import",
            "TS_1.mrc",
            "TS_2.rec",
            "--picks",
            "labels.star",
            "--contrast",
            "dark",
            "--out",
            "set.h5",
        ),
        *("--tilt-range", -60, 60, "--dtype", "float32"),
    )
    assert "2 tomograms imported" in out
    assert "TS_1 12 x 30 x 40 (z, y, x) voxels of 10 Å, protein dark, 20 picks" in out
    assert check_tomograms("set.h5") == []
    one, two = open_store("set.h5")
    assert (one.density_sign, one.tilt_range) == (-1, (-60, 60))
    np.testing.assert_array_equal(one.read(), -first)
    assert one.picks is not None
    np.testing.assert_allclose(one.picks.positions, positions, atol=1e-3)
    assert two.picks is None
    out, _ = data("export", "set.h5", "--out", "back")
    assert sorted(os.listdir("back")) == ["TS_1.mrc", "TS_1.star", "TS_2.mrc"]
    again = open_tomograms(
        [Path("back/TS_1.mrc"), Path("back/TS_2.mrc")],
        TomogramOptions(contrast="dark", picks=(Path("back/TS_1.star"),)),
    )
    np.testing.assert_array_equal(again[1].read(), -second)
    assert again.tomograms[0].voxel_size == pytest.approx(10.0)
    assert again.picks is not None
    np.testing.assert_allclose(again.picks.positions, positions, atol=1e-3)
    with mrcfile.open("back/TS_1.mrc") as file:
        assert file.is_volume()
        np.testing.assert_array_equal(file.data, first)
        assert float(file.header.rms) == pytest.approx(first.std(), rel=1e-4)
    assert mrcfile.validate("back/TS_1.mrc")


def test_one_tomogram_to_one_file(data: Data) -> None:
    values = write_mrc("TS_1.mrc")
    data("import", "TS_1.mrc", "--contrast", "bright", "--out", "set.h5")
    assert open_store("set.h5")[0].where == "set.h5"
    data("export", "set.h5", "--out", "a.mrc", "--float16")
    with mrcfile.open("a.mrc") as file:
        assert file.header.mode == 12
        np.testing.assert_array_equal(file.data, values.astype(np.float16))
    assert "exists already" in data("export", "set.h5", "--out", "a.mrc", code=2)[1]
    data("export", "set.h5", "--out", "a.mrc", "--overwrite", "--quiet")
    assert (
        "expected a name that ends in .mrc"
        in data("export", "set.h5", "--out", "a.star", code=2)[1]
    )
    assert (
        "--tomograms"
        in data("export", "set.h5", "--out", "b.mrc", "--tomograms", "t.star", code=2)[1]
    )


def test_cubes_need_to_be_told(data: Data) -> None:
    write_mrc("cube.mrc", shape=(9, 9, 9))
    assert (
        "1 subtomogram imported"
        in data("import", "cube.mrc", "--contrast", "dark", "--out", "a.h5")[0]
    )
    arguments = ("import", "cube.mrc", "--contrast", "dark", "--kind", "tomograms")
    assert "1 tomogram imported" in data(*arguments, "--out", "b.h5")[0]
    assert "exists already" in data(*arguments, "--out", "b.h5", code=2)[1]


def test_axes_said_at_the_import_are_right_afterwards(data: Data) -> None:
    values = write_mrc("t.mrc")
    data(
        "import",
        "t.mrc",
        "--contrast",
        "bright",
        "--axes",
        "yzx",
        "--dtype",
        "float32",
        "--out",
        "a.h5",
    )
    np.testing.assert_array_equal(open_store("a.h5")[0].read(), values.transpose(1, 0, 2))


def test_float32_where_float16_loses_too_much(data: Data) -> None:
    values = np.random.default_rng(0).normal(1e6, 3e5, SHAPE).astype(np.float32)
    with mrcfile.new("t.mrc", values) as file:
        file.voxel_size = 10
    out, _ = data("import", "t.mrc", "--contrast", "bright", "--out", "a.h5")
    assert "stored as float32" in out
    np.testing.assert_array_equal(open_store("a.h5")[0].read(), values)
    arguments = ("import", "t.mrc", "--contrast", "bright", "--dtype", "float16", "--out", "b.h5")
    assert "float16 cannot hold it" in data(*arguments, code=2)[1]
    assert not Path("b.h5").exists()


def test_info_and_check_know_tomograms(data: Data) -> None:
    write_mrc("TS_1.mrc")
    write_star("labels.star")
    Path("set.csv").write_text("path,contrast,picks\nTS_1.mrc,dark,labels.star\n")
    data("import", "set.csv", "--out", "set.h5")
    assert len(open_store("set.h5")[0].picks or ()) == 20
    facts = json.loads(data("info", "set.h5", "--json")[0])
    assert (facts["kind"], facts["n"]) == ("tomograms", 1)
    assert facts["tomograms"]["TS_1"]["shape_zyx"] == [12, 30, 40]
    shown = data("info", "set.h5")[0]
    assert "TS_1: shape zyx 12 30 40, voxel size 10.0, contrast dark" in shown
    facts = json.loads(data("info", "set.csv", "--json")[0])
    assert (facts["kind"], facts["importable"]) == ("manifest", "yes, as tomograms")
    assert json.loads(data("info", "TS_1.mrc", "--json")[0])["importable"] == "yes, as a tomogram"
    assert "no problems found" in data("check", "set.h5", "set.csv", "TS_1.mrc")[0]
    with mrcfile.open("TS_1.mrc", "r+") as file:
        file.data[7] = np.nan
    for name in ("TS_1.mrc", "set.csv"):
        assert (
            "TS_1: NaN or infinite voxels in z slice 7 (from 0, of 12)"
            in data("check", name, code=2)[0]
        )
    Path("set.csv").write_text("path,contrast\nTS_2.mrc,dark\n")
    assert "TS_2.mrc is not there" in data("check", "set.csv", code=2)[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["TS_1.mrc"], "give --contrast dark or --contrast bright"),
        (["zero.mrc", "--contrast", "dark"], "give --voxel-size"),
        (
            ["nan.mrc", "--contrast", "dark"],
            "nan.mrc: NaN or infinite voxels in z slices 3-4 (from 0, of 12)",
        ),
        (
            ["TS_1.mrc", "--contrast", "dark", "--picks", "other.star"],
            "picks in TS_9, which matches no tomogram",
        ),
        (["TS_1.mrc", "--contrast", "dark", "--picks", "TS_1.mrc"], "TS_1.mrc"),
        (["TS_1.mrc", "--contrast", "dark", "--picks", "none.star"], "none.star"),
        (["TS_1.mrc", "--contrast", "dark", "--picks", "far.star"], "20 of 20 picks lie outside"),
        (["TS_1.mrc", "--contrast", "dark", "--axes", "xyy"], "--axes xyy"),
        (["TS_1.mrc", "TS_1.mrc", "--contrast", "dark"], "two tomograms are named 'TS_1'"),
        (["TS_1.mrc", "--contrast", "grey"], "--contrast grey"),
        (
            ["TS_1.mrc", "--contrast", "dark", "--split", "1", "0", "0"],
            "--split: an option for subtomograms",
        ),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    data: Data, arguments: list[str], words: str
) -> None:
    write_mrc("TS_1.mrc")
    write_mrc("zero.mrc", 0.0)
    values = write_mrc("nan.mrc")
    values[3:5, 2, 2] = np.nan
    with mrcfile.open("nan.mrc", "r+") as file:
        file.data[:] = values
    write_star("other.star", name="TS_9")
    write_star("far.star")
    Path("far.star").write_text(Path("far.star").read_text().replace("1 10.0\n", "1 9000.0\n"))
    before = sorted(os.listdir())
    _, error = data("import", *arguments, "--out", "set.h5", code=2)
    assert words in error
    assert error.strip().count("\n") == 0
    assert sorted(os.listdir()) == before


def test_the_real_virions_come_in_with_their_axes(data: Data, shared_data: Path) -> None:
    path = shared_data / "real" / "EMD-1155_HIV1_virions_16.4A.ccp4"
    data("import", path, "--contrast", "dark", "--axes", "yzx", "--out", "v.h5")
    (found,) = open_store("v.h5")
    assert (found.shape, found.voxel_size) == ((91, 281, 141), 16.4)
    assert check_tomograms("v.h5") == []

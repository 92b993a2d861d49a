"""``cryoet data convert``: what goes in comes out, and what is missing or lost is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cryoet_core.cli.main import main
from cryoet_core.formats.picks import Geometry, PickReading, read_picks, write_picks
from cryoet_core.picks.table import Picks

Convert = Callable[..., str]


@pytest.fixture
def convert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Convert:
    """Run the command in ``tmp_path`` and return what it says; ``code`` is the expected exit
    code.
    """
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, code: int = 0) -> str:
        capsys.readouterr()
        assert main(["data", "convert", *map(str, arguments)]) == code
        said = capsys.readouterr()
        return said.err if code else said.out

    return call


@pytest.fixture
def star(tmp_path: Path) -> Path:
    picks = Picks.of(
        np.array([[10.0, 20, 30], [40, 50, 60], [70, 80, 90]]), "TS_01", scores=np.array([3, 2, 1])
    )
    picks.tomograms[2] = "TS_02"
    geometry = {name: Geometry((100, 100, 100), 5.0) for name in ("TS_01", "TS_02")}
    write_picks(
        tmp_path / "a.star", picks, "relion31", geometry, optics={"voltage": 300, "cs": 2.7}
    )
    return tmp_path / "a.star"


def test_a_star_becomes_a_table_for_dynamo_and_back(
    convert: Convert, star: Path, tmp_path: Path
) -> None:
    said = convert("a.star", "--out", "b.tbl")
    assert "b.tbl: 3 picks in 2 tomograms, from relion31" in said
    assert "voxels are written as in the input: 5 Å" in said
    assert (tmp_path / "b.doc").read_text() == "1 TS_01\n2 TS_02\n"
    assert "give --voxel-size" in convert("b.tbl", "--out", "c.star", code=2)
    convert("b.tbl", "--voxel-size", "5", "--out", "c.star")
    assert (
        read_picks("c.star").picks.positions.tolist() == read_picks(star).picks.positions.tolist()
    )
    convert("a.star", "--out", "d.tbl", "--out-voxel-size", "10")
    assert (tmp_path / "d.tbl").read_text().split()[23:26] == ["3.500000", "2.500000", "1.500000"]


def test_optics_are_handed_on_or_given(convert: Convert, star: Path) -> None:
    convert("a.star", "--out", "b.star", "--dialect", "relion4")
    assert read_picks("b.star").optics == {"voltage": 300, "cs": 2.7}
    convert("a.star", "--out", "c.star", "--optics", 200, 1.4, 0.1)
    assert read_picks("c.star").optics == {"voltage": 200, "cs": 1.4, "amplitude_contrast": 0.1}


def test_several_files_and_json(convert: Convert, star: Path) -> None:
    lost = convert("a.star", "--out", "one.coords")
    assert "files: 2, such as one/TS_01.coords" in lost
    assert "lost: coords holds no place for scores" in lost
    facts = json.loads(
        convert(
            "one/TS_01.coords", "one/TS_02.coords", "--voxel-size", 5, "--out", "all.csv", "--json"
        )
    )
    assert (facts["n"], facts["tomograms"], facts["from"], facts["lost"]) == (
        3,
        ["TS_01", "TS_02"],
        ["coords"],
        [],
    )
    np.testing.assert_allclose(
        read_picks("all.csv").picks.positions, read_picks(star).picks.positions
    )


def test_the_tomograms_or_a_tomogram_set_place_centred_coordinates(
    convert: Convert, star: Path
) -> None:
    import mrcfile

    for name in ("TS_01", "TS_02"):
        with mrcfile.new(f"{name}.mrc") as file:
            file.set_data(np.zeros((20, 30, 40), np.float32))
            file.voxel_size = 5.0
    assert "counts from the middle" in convert(
        "a.star", "--out", "b.star", "--dialect", "relion5", code=2
    )
    convert(
        "a.star",
        "--data",
        "TS_01.mrc",
        "--data",
        "TS_02.mrc",
        "--out",
        "b.star",
        "--dialect",
        "relion5",
    )
    text = Path("b.star").read_text()
    assert "TS_01 TS_01/1 -70.000000 -55.000000 -40.000000 40 30 20" in text
    Path("set.star").write_text(
        "data_global\nloop_\n_rlnTomoName\n_rlnTomoSizeX\n_rlnTomoSizeY\n_rlnTomoSizeZ\n_rlnTomoTiltSeriesPixelSize\n"
        "TS_01 400 300 200 2.5\nTS_02 400 300 200 2.5\n"
    )
    convert("a.star", "--tomograms", "set.star", "--out", "c.star", "--dialect", "relion4")
    assert read_picks("c.star").voxel_size == 2.5
    np.testing.assert_allclose(
        read_picks("c.star").picks.positions, read_picks(star).picks.positions
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.star", "--out", "b.csv"], "none.star: no such file"),
        (["a.star", "--out", "a.star"], "a.star is an input too"),
        (["a.star", "--out", "b.xyz"], "its name says no format"),
        (["a.star", "--out", "b.cbox", "--box", "0"], "--box 0: expected a whole number"),
        (
            ["a.star", "--out", "b.csv", "--out-voxel-size", "-1"],
            "--out-voxel-size -1.0: expected a number of Å",
        ),
        (
            ["a.star", "--out", "b.csv", "--unit", "inch"],
            "--unit inch: expected one of angstrom, nm, voxel",
        ),
        (["a.star", "--out", "b.csv", "--class-column", "x"], "--class-column x"),
        (["a.star", "--out", "b.star", "--dialect", "stopgap"], "--dialect stopgap: is read only"),
    ],
)
def test_what_cannot_be_is_refused(
    convert: Convert, star: Path, arguments: list[str], message: str
) -> None:
    assert message in convert(*arguments, code=2)
    assert not list(star.parent.glob("b*"))


def test_an_existing_file_is_kept_unless_told(convert: Convert, star: Path) -> None:
    Path("b.doc").write_text("mine")
    assert "b.doc exists already" in convert("a.star", "--out", "b.tbl", code=2)
    convert("a.star", "--out", "b.tbl", "--overwrite")
    assert read_picks("b.tbl", PickReading(voxel_size=5)).picks.tomograms[2] == "TS_02"


def test_info_says_what_a_pick_file_is(
    convert: Convert, star: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b.tbl", "b.mod", "b.ndjson", "b_info.json", "b.csv", "b.coords"):
        convert("a.star", "--out", name) if name != "b_info.json" else write_picks(
            name,
            read_picks(star).picks.within("TS_01"),
            geometry={"TS_01": Geometry((9, 9, 9), 5.0)},
        )
    paths = ["b.tbl", "b/TS_01.mod", "b/TS_01.ndjson", "b_info.json", "b.csv", "b/TS_01.coords"]
    main(["data", "info", *paths, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [facts["dialect"] for facts in found] == [
        "dynamo",
        "imod",
        "portal",
        "eman",
        "csv",
        "coords",
    ]
    assert [facts.get("picks") for facts in found] == [3, 2, 2, 2, 3, 2]
    assert "give --voxel-size" in found[0]["needs"]
    assert found[1]["voxel_size"] == 5
    assert "middle of tomogram 'b'" in found[3]["needs"]
    assert found[4]["to_zyx"] == [70, 80, 90]

"""``cryoet simulate subtomograms``, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryoet_core.cli.main import main
from cryoet_core.cli.simulate_commands.simulate_options import spread
from cryoet_core.simulate.shapes.phantoms import draw_phantom
from cryoet_core.store import check_store, open_subtomograms
from cryoet_core.support.errors import UserError

FAST = ["--per-class", "4", "--box", "16", "--voxel-size", "20", "--quiet"]


def simulate(*words: object) -> int:
    return main(["simulate", "subtomograms", *map(str, words)])


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    folder = tmp_path / "maps"
    folder.mkdir()
    for name in ("ring-c6", "two-jaws"):
        with mrcfile.new(folder / f"{name}.mrc") as file:
            file.set_data(draw_phantom(name, 10.0).astype(np.float32))
            file.voxel_size = 10.0
    return folder


def test_words_of_one_option_spread() -> None:
    assert spread(["--structures", "a", "b", "--box", "3"]) == [
        "--structures",
        "a",
        "--structures",
        "b",
        "--box",
        "3",
    ]
    assert spread(["--phantoms", "--out", "x"]) == ["--phantoms", "8", "--out", "x"]
    assert spread(["--out", "x", "--phantoms"]) == ["--out", "x", "--phantoms", "8"]
    assert spread(["--defocus", "3", "6"]) == ["--defocus", "3", "--defocus", "6"]
    assert spread(["--tilt-range", "-60", "60"]) == ["--tilt-range", "-60", "60"]
    with pytest.raises(UserError, match="--structures"):
        spread(["--structures", "--out", "x"])


def test_the_whole_command_of_the_documentation(
    maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sim.h5"
    words = (
        "--per-class 5 --box 16 --voxel-size 20 --snr 0.1 --tilt-range -60 60 --tilt-step 3 "
        "--defocus 4 --cs 2.0"
    )
    options = [*words.split(), "--voltage", 300, "--seed", 0]
    code = simulate(
        "--structures",
        maps / "ring-c6.mrc",
        maps / "two-jaws.mrc",
        *options,
        "--out",
        out,
        "--json",
    )
    assert code == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["n"] == 10
    assert facts["classes"] == ["ring-c6", "two-jaws"]
    data = open_subtomograms([out])
    assert check_store(out) == []
    assert (len(data), data.box, data.voxel_size, data.density_sign) == (10, 16, 20.0, 1)
    assert tuple(data.class_names) == ("ring-c6", "two-jaws")
    assert np.bincount(data.labels).tolist() == [5, 5]
    assert tuple(data.tilt_range or ()) == (-60.0, 60.0)
    assert data.snr == pytest.approx(0.1)
    assert data.optics["defocus_um"] == [4.0]
    assert data.optics["cs"] == 2.0
    assert data.rotations is not None
    assert np.allclose(np.linalg.det(data.rotations), 1, atol=1e-4)
    assert np.allclose(data.extras["snr"], 0.1, rtol=1e-3)


def test_a_folder_and_phantoms_together_with_everything_on(maps: Path, tmp_path: Path) -> None:
    out = tmp_path / "sim.h5"
    more = [
        "--defocus",
        3,
        6,
        "--crowding",
        2,
        "--max-shift",
        3,
        "--empty-fraction",
        0.3,
        "--clean",
    ]
    assert simulate("--structures", maps, "--phantoms", "filament", *FAST, *more, "--out", out) == 0
    data = open_subtomograms([out])
    assert tuple(data.class_names) == ("ring-c6", "two-jaws", "filament", "empty")
    assert np.bincount(data.labels).tolist() == [4, 4, 4, 5]
    assert 3 <= data.extras["defocus"].min() < data.extras["defocus"].max() <= 6
    assert 1 < np.abs(data.extras["shifts"]).max() <= 3
    rows = np.arange(len(data))
    volumes, clean = data.read(rows), data.read_extra("clean", rows).astype(np.float32)
    assert clean.shape == volumes.shape
    correlations = [
        np.corrcoef(v.ravel(), c.ravel())[0, 1]
        for v, c in zip(volumes, clean, strict=True)
        if c.std() > 0
    ]
    assert np.mean(correlations) > 0.2


def test_dark_contrast_is_stored_and_read_back_bright(tmp_path: Path) -> None:
    for contrast in ("bright", "dark"):
        out = tmp_path / f"{contrast}.h5"
        assert simulate("--phantoms", "ring-c6", *FAST, "--contrast", contrast, "--out", out) == 0
    bright, dark = (open_subtomograms([tmp_path / f"{c}.h5"]) for c in ("bright", "dark"))
    assert (bright.density_sign, dark.density_sign) == (1, -1)
    rows = np.arange(4)
    assert np.array_equal(bright.read(rows), dark.read(rows))


def test_paired_files_and_repeatable_ones(tmp_path: Path) -> None:
    for name, more in (("a", []), ("b", []), ("c", ["--snr", "0.01", "--defocus", "8"])):
        assert simulate("--phantoms", "2", *FAST, *more, "--out", tmp_path / f"{name}.h5") == 0
    a, b, c = (open_subtomograms([tmp_path / f"{name}.h5"]) for name in "abc")
    rows = np.arange(len(a))
    assert np.array_equal(a.read(rows), b.read(rows))
    assert np.array_equal(a.labels, c.labels)
    assert np.array_equal(a.rotations, c.rotations)
    assert not np.array_equal(a.read(rows), c.read(rows))


def test_no_noise(tmp_path: Path) -> None:
    out = tmp_path / "clean.h5"
    assert simulate("--phantoms", "2", *FAST, "--snr", "inf", "--out", out) == 0
    assert open_subtomograms([out]).snr is None


def test_what_exists_stays_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sim.h5"
    out.write_text("precious")
    assert simulate("--phantoms", "1", *FAST, "--out", out) == 2
    assert out.read_text() == "precious"
    assert "--overwrite" in capsys.readouterr().err
    assert simulate("--phantoms", "1", *FAST, "--out", out, "--overwrite") == 0
    assert check_store(out) == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "expected at least one"),
        (["--structures", "nowhere.mrc"], "nowhere.mrc: no such file"),
        (["--phantoms", "nix"], "no phantom 'nix'"),
        (["--phantoms", "1", "--snr", "0"], "--snr"),
        (["--phantoms", "1", "--snr", "many"], "--snr"),
        (["--phantoms", "1", "--voxel-size", "0"], "--voxel-size"),
        (["--phantoms", "1", "--resolution", "-1"], "--resolution"),
        (["--phantoms", "1", "--threads", "0"], "--threads"),
        (["--phantoms", "1", "--device", "cuda:99"], "--device"),
        (["--phantoms", "1", "--no-such-option"], "no-such-option"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    out = tmp_path / "sim.h5"
    assert simulate(*words, "--out", out) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error
    assert len(error.splitlines()) == 1
    assert "Traceback" not in error
    assert not out.exists()


def test_a_structure_larger_than_the_cube_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--phantoms", "icosahedral-shell", "--per-class", 2, "--box", 16, "--voxel-size", 12]
    assert simulate(*words, "--out", tmp_path / "sim.h5") == 0
    assert "larger than the box" in capsys.readouterr().err

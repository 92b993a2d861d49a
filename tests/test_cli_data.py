"""``cryoet data``: import, export, info and check, on made files and on real ones of many
programs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np
import pytest

from cryoet_core.algorithms.orientation import euler_to_matrix
from cryoet_core.cli.main import main
from cryoet_core.store import check_store, open_subtomograms, write_store

Data = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture
def data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Data:
    """``data("import", ...)`` in the folder ``tmp_path``; ``code`` is the expected exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        found = main(["data", *map(str, arguments)])
        captured = capsys.readouterr()
        assert found == code, f"exit code {found}, expected {code}:\n{captured.out}\n{captured.err}"
        assert "Traceback" not in captured.err
        if code == 2 and arguments[0] != "check":
            assert len(captured.err.strip().splitlines()) == 1, captured.err
        return subprocess.CompletedProcess(arguments, found, captured.out, captured.err)

    return call


def cubes(count: int, box: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, box, box, box)).astype(np.float32)


def write_mrc(path: Path, volumes: np.ndarray, voxel_size: float = 10.0) -> Path:
    path.parent.mkdir(exist_ok=True)
    with mrcfile.new(path, volumes, overwrite=True) as mrc:
        mrc.voxel_size = voxel_size
    return path


STAR = (
    "data_optics\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n_rlnImageDimensionality\n1 10 3\n\n"
    "data_particles\nloop_\n_rlnImageName\n_rlnGroupName\n_rlnTomoName\n_rlnAngleRot\n_rlnAngleTilt\n_rlnAnglePsi\n"
    "_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnOriginXAngst\n_rlnOriginYAngst\n_rlnOriginZAngst\n_rlnOpticsGroup\n"
)
ROW = "{image} {group} 00{tomo} 10 20 30 1 2 3 5 0 -5 1\n"


def write_star(path: Path, images: list[str], groups: list[str]) -> Path:
    rows = [
        ROW.format(image=i, group=g, tomo=n % 2)
        for n, (i, g) in enumerate(zip(images, groups, strict=True))
    ]
    path.write_text(STAR + "".join(rows))
    return path


def test_a_stack_with_a_star(data: Data, tmp_path: Path) -> None:
    """The command of the manual."""
    volumes = cubes(4)
    write_mrc(tmp_path / "particles.mrcs", volumes)
    write_star(
        tmp_path / "particles.star",
        [f"{i}@particles.mrcs" for i in (3, 1, 4, 2)],
        ["ribo", "atp", "ribo", "ribo"],
    )
    done = data(
        *("import", "particles.mrcs", "--star", "particles.star", "--label-column", "rlnGroupName"),
        *("--voxel-size", 12, "--contrast", "dark", "--tilt-range", -60, 60, "--out", "set.h5"),
    )
    assert "4 subtomograms imported" in done.stdout
    assert (
        "12 Å as given; particles.mrcs says 10 Å" in done.stdout or "voxel size 12" in done.stdout
    )
    found = open_subtomograms("set.h5")
    np.testing.assert_allclose(found.read(slice(None)), -volumes[[2, 0, 3, 1]], atol=2e-3)
    assert (found.density_sign, found.voxel_size, found.tilt_range) == (-1, 12, (-60, 60))
    assert found.class_names == ("atp", "ribo")
    assert list(found.labels) == [1, 0, 1, 1]
    assert list(found.tomogram) == ["000", "001", "000", "001"]
    np.testing.assert_allclose(found.rotations[0], euler_to_matrix([[10, 20, 30]])[0], atol=1e-6)
    np.testing.assert_allclose(found.positions[0], [30 + 5, 20, 10 - 5])
    np.testing.assert_allclose(found.extras["shifts"][0], [5 / 12, 0, -5 / 12], atol=1e-6)


def test_a_star_of_single_volumes_in_its_project(data: Data, tmp_path: Path) -> None:
    volumes = cubes(3)
    for i, values in enumerate(volumes):
        write_mrc(tmp_path / "Extract" / f"{i}.mrc", values)
    (tmp_path / "Refine").mkdir()
    write_star(tmp_path / "Refine" / "run.star", [f"Extract/{i}.mrc" for i in range(3)], ["a"] * 3)
    data("import", "Refine/run.star", "--contrast", "bright", "--out", "set.h5", "--quiet")
    np.testing.assert_allclose(open_subtomograms("set.h5").read(slice(None)), volumes, atol=2e-3)
    os.remove(tmp_path / "Extract" / "1.mrc")
    assert (
        "row 1 are not there (Extract/1.mrc)"
        in data(
            *("import", "Refine/run.star", "--contrast", "bright", "--out", "b.h5"), code=2
        ).stderr
    )


def test_a_folder_of_classes(data: Data, tmp_path: Path) -> None:
    for name, count in (("ribosome", 2), ("proteasome", 3)):
        for i in range(count):
            write_mrc(tmp_path / "sets" / name / f"{i}.mrc", cubes(1, seed=i)[0]) if (
                tmp_path / "sets"
            ).exists() else (
                (tmp_path / "sets").mkdir(),
                write_mrc(tmp_path / "sets" / name / f"{i}.mrc", cubes(1, seed=i)[0]),
            )
    (tmp_path / "sets" / "notes.txt").write_text("hello")
    facts = json.loads(
        data("import", "sets", "--contrast", "dark", "--out", "set.h5", "--json").stdout
    )
    assert facts["classes"] == {"proteasome": 3, "ribosome": 2}
    assert facts["n"] == 5
    write_mrc(tmp_path / "sets" / "loose.mrc", cubes(1)[0])
    assert (
        "beside folders"
        in data("import", "sets", "--contrast", "dark", "--out", "b.h5", code=2).stderr
    )


@pytest.mark.parametrize("dialect", ["relion30", "relion31", "relion4", "relion5"])
def test_every_dialect_comes_back(data: Data, tmp_path: Path, dialect: str) -> None:
    generator = np.random.default_rng(0)
    names = ["tomo_1", "007"] * 5
    angles = generator.uniform([-180, 5, -180], [180, 175, 180], (10, 3))
    write_store(
        *("set.h5", cubes(10).astype("f2"), 10.0, np.arange(10) % 3 - 1),
        class_names=("a", "b c"),
        density_sign=-1,
        positions=generator.uniform(0, 5000, (10, 3)),
        rotations=euler_to_matrix(angles),
        tomogram=names,
        optics={"voltage": 300, "cs": 2.7, "amplitude_contrast": 0.07},
        extras={"shifts": generator.normal(size=(10, 3)), "defocus": generator.uniform(2, 5, 10)},
    )
    data("export", "set.h5", "--dialect", dialect, "--out", "out.star")
    data(
        "import",
        "out.star",
        "--label-column",
        "rlnGroupName",
        "--contrast",
        "dark",
        "--out",
        "back.h5",
    )
    first, second = open_subtomograms("set.h5"), open_subtomograms("back.h5")
    assert (second.voxel_size, second.class_names, second.optics) == (
        10.0,
        first.class_names,
        first.optics,
    )
    np.testing.assert_array_equal(first.read(slice(None)), second.read(slice(None)))
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_allclose(first.positions, second.positions, atol=1e-3)
    np.testing.assert_allclose(first.rotations, second.rotations, atol=1e-6)
    np.testing.assert_allclose(first.extras["shifts"], second.extras["shifts"], atol=1e-4)
    np.testing.assert_allclose(first.extras["defocus"], second.extras["defocus"], atol=1e-4)
    assert list(second.tomogram) == names
    mrcfile.validate("out.mrcs")
    with mrcfile.open("out.mrcs") as mrc:
        assert mrc.is_volume_stack()
        np.testing.assert_array_equal(mrc.data, first.read_stored(np.arange(10)))
        assert float(mrc.header.dmean) == pytest.approx(float(mrc.data.mean()), abs=1e-5)


def test_relion5_coordinates_from_the_centre_come_back(data: Data, tmp_path: Path) -> None:
    (tmp_path / "t.star").write_text(
        "data_global\nloop_\n_rlnTomoName\n_rlnTomoSizeX\n_rlnTomoSizeY\n_rlnTomoSizeZ\n_rlnTomoTiltSeriesPixelSize\n"
        "t 4000 3000 1000 2\n"
    )
    write_store(
        "set.h5", cubes(3), 10.0, positions=np.arange(9).reshape(3, 3) * 100, tomogram=["t"] * 3
    )
    data("export", "set.h5", "--dialect", "relion5", "--tomograms", "t.star", "--out", "out.star")
    assert "rlnCenteredCoordinateXAngst" in (tmp_path / "out.star").read_text()
    data("import", "out.star", "--tomograms", "t.star", "--contrast", "bright", "--out", "back.h5")
    np.testing.assert_allclose(
        open_subtomograms("back.h5").positions, np.arange(9).reshape(3, 3) * 100, atol=1e-4
    )


def test_stores_are_merged_split_and_cleaned(data: Data, tmp_path: Path) -> None:
    volumes = cubes(10)
    volumes[4] = 1
    volumes[7, 0, 0, 0] = np.nan
    write_store(
        "a.h5", volumes, 10.0, np.arange(10) % 2, class_names=("x", "y"), extras={"clean": volumes}
    )
    write_store("b.h5", cubes(10, seed=1), 10.0, np.zeros(10), class_names=("y",))
    wrong = data("import", "a.h5", "--out", "c.h5", code=2).stderr
    assert "NaN or infinite values: row 7" in wrong
    assert "constant: row 4" in wrong
    assert "--drop-bad" in wrong
    data("import", "a.h5", "--drop-bad", "--out", "c.h5")
    clean = open_subtomograms("c.h5")
    assert len(clean) == 8
    np.testing.assert_allclose(clean.read_extra("clean", np.array([4])), volumes[[5]], atol=2e-3)
    facts = json.loads(
        data("import", "c.h5", "b.h5", "--split", 0.5, 0.5, 0, "--out", "d.h5", "--json").stdout
    )
    assert facts["classes"] == {"x": 4, "y": 14}
    info = json.loads(data("info", "d.h5", "--json").stdout)
    assert (info["kind"], info["n"], info["split"]["test"]) == ("store", 18, 0)
    assert "no problems found" in data("check", "d.h5").stdout


def test_volumes_that_float16_cannot_hold_become_float32(data: Data, tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrcs", cubes(3) * np.float32(1e12))
    facts = json.loads(
        data("import", "a.mrcs", "--contrast", "dark", "--out", "set.h5", "--json").stdout
    )
    assert facts["dtype"] == "float32"
    assert any("float32" in note for note in facts["notes"])
    assert check_store("set.h5") == []
    assert (
        "float16 cannot hold"
        in data(
            *("import", "a.mrcs", "--contrast", "dark", "--dtype", "float16", "--out", "b.h5"),
            code=2,
        ).stderr
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.mrc"], "no such file"),
        (["empty.mrc"], "empty"),
        (["short.mrc"], "truncated"),
        (["good.mrc"], "--contrast"),
        (["good.mrc", "--contrast", "black"], "expected dark or bright"),
        (["zero.mrc", "--contrast", "dark"], "--voxel-size"),
        (["one.mrc", "--contrast", "dark"], "says 1 Å"),
        (["good.mrc", "--contrast", "dark", "--voxel-size", "-3"], "--voxel-size"),
        (["good.mrc", "--contrast", "dark", "--tilt-range", "60", "-60"], "tilt range"),
        (["good.mrc", "--contrast", "dark", "--dtype", "int8"], "--dtype"),
        (["good.mrc", "--contrast", "dark", "--label-column", "rlnX"], "--star"),
        (["good.mrc", "other.mrc", "--contrast", "dark"], "equal boxes"),
        (["tilts.mrcs", "--contrast", "dark"], "tilt images"),
        (["tomogram.mrc", "--contrast", "dark"], "constant"),
        (["tomogram.mrc", "--contrast", "dark", "--kind", "subtomograms"], "not a cube"),
        (
            ["tomogram.mrc", "--contrast", "dark", "--drop-bad"],
            "--drop-bad: an option for subtomograms",
        ),
        (
            ["good.mrc", "--contrast", "dark", "--picks", "x.star"],
            "--picks: an option for tomograms",
        ),
        (["good.mrc", "--contrast", "dark", "--kind", "volumes"], "--kind volumes"),
        (["good.mrc", "--star", "long.star", "--contrast", "dark"], "beyond the 2 volumes"),
        (["good.mrc", "--star", "rows.star", "--contrast", "dark"], "3 rows, but good.mrc has 2"),
        (["folder", "--contrast", "dark"], "no MRC or EM volumes"),
        (["notes.txt", "--contrast", "dark"], "text"),
        (["danger.pkl", "--contrast", "dark"], "pickle"),
        (["good.mrc", "--contrast", "dark", "--out", "there.h5"], "exists already"),
        (["good.mrc", "--contrast", "dark", "--out", "no/folder.h5"], "no folder"),
        (["nan.mrc", "--contrast", "dark"], "NaN"),
        (["flat.mrc", "--contrast", "dark"], "constant"),
        (["good.mrc", "--contrast", "dark", "--wrong"], "No such option"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    data: Data, tmp_path: Path, arguments: list[str], words: str
) -> None:
    good = write_mrc(tmp_path / "good.mrc", cubes(2))
    write_mrc(tmp_path / "zero.mrc", cubes(2), 0.0)
    write_mrc(tmp_path / "one.mrc", cubes(2), 1.0)
    write_mrc(tmp_path / "other.mrc", cubes(1, box=8))
    write_mrc(tmp_path / "tilts.mrcs", cubes(1)[0][:4])
    write_mrc(tmp_path / "tomogram.mrc", np.zeros((4, 5, 6), "f4"))
    write_mrc(
        tmp_path / "nan.mrc",
        np.where(np.arange(216).reshape(6, 6, 6) == 3, np.nan, cubes(1)[0]).astype("f4"),
    )
    write_mrc(tmp_path / "flat.mrc", np.ones((2, 6, 6, 6), "f4"))
    (tmp_path / "short.mrc").write_bytes(good.read_bytes()[:-50])
    for name, content in (
        ("empty.mrc", b""),
        ("notes.txt", b"some words of text, no table"),
        ("danger.pkl", b"\x80\x04K."),
    ):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    write_star(tmp_path / "long.star", ["1@good.mrc", "9@good.mrc"], ["a", "b"])
    write_star(tmp_path / "rows.star", ["a.mrc", "b.mrc", "c.mrc"], ["a", "b", "c"])
    write_store("there.h5", cubes(1), 10.0)
    before = sorted(os.listdir(tmp_path))
    out = [] if "--out" in arguments else ["--out", "set.h5"]
    assert words in data("import", *arguments, *out, code=2).stderr
    assert sorted(os.listdir(tmp_path)) == before


def test_an_input_is_never_overwritten(data: Data, tmp_path: Path) -> None:
    write_store("a.h5", cubes(2), 10.0)
    before = Path("a.h5").read_bytes()
    assert (
        "is an input too" in data("import", "a.h5", "--out", "a.h5", "--overwrite", code=2).stderr
    )
    assert Path("a.h5").read_bytes() == before
    data("import", "a.h5", "--out", "b.h5")
    data("import", "a.h5", "--out", "b.h5", "--overwrite", "--quiet")
    assert (
        "expected one of"
        in data("export", "a.h5", "--dialect", "relion9", "--out", "a.star", code=2).stderr
    )
    assert "ends in .star" in data("export", "a.h5", "--out", "a.txt", code=2).stderr


def test_check_fails_for_what_is_wrong(data: Data, tmp_path: Path) -> None:
    write_store("a.h5", cubes(4), 10.0)
    with h5py.File("a.h5", "r+") as file:
        file["volumes"][2] = np.nan
    assert "NaN or infinity in row 2" in data("check", "a.h5", code=2).stdout
    write_mrc(tmp_path / "tomogram.mrc", np.zeros((4, 5, 6), "f4"))
    (tmp_path / "empty.h5").touch()
    result = json.loads(
        data("check", "a.h5", "empty.h5", "none.h5", "tomogram.mrc", "--json", code=2).stdout
    )
    assert [entry["ok"] for entry in result] == [False] * 3 + [True]
    data("info", "none.h5", code=2)


# ---- real files of many programs -----------------------------------------------------------------


def shared_files(*folders: str) -> list[str]:
    found = [path for folder in folders for path in sorted((SHARED / folder).glob("*"))]
    return [str(path.relative_to(SHARED)) for path in found]


@pytest.mark.parametrize(
    "name", shared_files("headers", "real", "coords", "structures/10A", "structures/5A", "models")
)
def test_every_shared_file_is_described_and_imported_or_refused(
    data: Data, shared_data: Path, name: str
) -> None:
    facts = json.loads(data("info", shared_data / name, "--json").stdout)
    assert facts["what"]
    arguments = ["import", str(shared_data / name), "--contrast", "bright", "--out", "set.h5"]
    silent = facts["kind"] == "volumes" and not facts.get("voxel_size")
    silent |= "unknown" in str(facts.get("tomograms", ""))
    if silent and facts.get("importable", "").startswith("yes"):
        assert "--voxel-size" in data(*arguments, code=2).stderr
        arguments += ["--voxel-size", "10"]
    if name == "headers/SYN_nan_inf.mrc":
        assert "NaN or infinite voxels in z slices 0, 2" in data(*arguments, code=2).stderr
        assert not Path("set.h5").exists()
    elif facts["kind"] == "numpy" or str(facts.get("importable", "")).startswith("yes"):
        data(*arguments)
        data("check", "set.h5")
    else:
        data(*arguments, code=2)
        assert not Path("set.h5").exists()


@pytest.mark.parametrize("fraction", [0.001, 0.3, 0.999])
def test_every_truncated_shared_file_is_refused_or_shorter(
    data: Data, shared_data: Path, tmp_path: Path, fraction: float
) -> None:
    for name in shared_files("headers", "real", "coords"):
        if (shared_data / name).is_file():
            raw = (shared_data / name).read_bytes()
            path = tmp_path / Path(name).name
            path.write_bytes(raw[: max(1, int(len(raw) * fraction))])
            for command in (
                ["info", path],
                ["import", path, "--contrast", "dark", "--voxel-size", 10, "--out", "x.h5"],
            ):
                code = main(["data", *map(str, command)])
                assert code in (0, 2), f"{name}: exit code {code}"
            path.unlink()
            Path("x.h5").unlink(missing_ok=True)


@pytest.fixture
def particles(data: Data, shared_data: Path) -> Any:
    """The 20 ribosome subtomograms of EMPIAR-10499."""
    source = shared_data / "real" / "EMPIAR-10499_subtomograms_20x32_12A.npz"
    data("import", source, "--contrast", "bright", "--tilt-range", -60, 60, "--out", "real.h5")
    return open_subtomograms("real.h5")


def test_the_real_particles_keep_what_is_known_of_them(particles: Any, shared_data: Path) -> None:
    with np.load(shared_data / "real" / "EMPIAR-10499_subtomograms_20x32_12A.npz") as given:
        assert (len(particles), particles.box, particles.voxel_size, particles.density_sign) == (
            20,
            32,
            12.0,
            1,
        )
        np.testing.assert_array_equal(
            particles.read(slice(None)), given["subtomograms"].astype(np.float32)
        )
        np.testing.assert_allclose(
            particles.positions, given["coords_xyz_12A_voxels"][:, ::-1] * 12.0
        )
        np.testing.assert_allclose(
            particles.rotations, euler_to_matrix(given["angles_rot_tilt_psi"]), atol=1e-6
        )
        np.testing.assert_array_equal(particles.tomogram, given["tomogram"])
        weights = particles.read_extra("fourier_weight", np.arange(20))
        np.testing.assert_array_equal(weights, given["fourier_weight"])


def test_the_real_particles_average_to_the_ribosome(particles: Any, shared_data: Path) -> None:
    """Turned back by the given angles they correlate with the published average, which is the
    mirror image of theirs.

    The angles must be read as they are (RELION's, reference to tomogram): any other reading gives
    less. The hand of twenty particles alone is not known; the map beside them has the other one.
    """
    reference = mrcfile.read(
        shared_data / "real" / "EMPIAR-10499" / "warptools_reconstruct_32_12A.mrc"
    )
    volumes, rotations = particles.read(slice(None)), particles.rotations.astype(np.float64)
    average = np.mean([_turned(v, r.T) for v, r in zip(volumes, rotations, strict=True)], axis=0)
    mirrored = _low_pass(reference[(-np.arange(32)) % 32])
    found = _correlation(_low_pass(average), mirrored)
    forward = np.mean([_turned(v, r) for v, r in zip(volumes, rotations, strict=True)], axis=0)
    assert found > 0.8, f"correlation {found:.3f}"
    assert found > _correlation(_low_pass(forward), mirrored) + 0.1, "the angles turn the right way"
    assert found > _correlation(_low_pass(volumes.mean(axis=0)), mirrored) + 0.1, (
        "the angles matter"
    )
    assert _correlation(_low_pass(average), _low_pass(reference)) > 0.5, (
        "bright like the map, whatever the hand"
    )


def _turned(volume: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Density at r moves to matrix r, about voxel 16."""
    from scipy.ndimage import affine_transform

    centre = np.full(3, 16.0)
    back = matrix.T
    turned: np.ndarray = affine_transform(
        volume, back, centre - back @ centre, order=3, mode="nearest"
    )
    return turned


def _low_pass(volume: np.ndarray, resolution: float = 60.0, voxel_size: float = 12.0) -> np.ndarray:
    frequency = np.fft.fftfreq(32, voxel_size)
    radius = np.sqrt(
        sum(axis**2 for axis in np.meshgrid(frequency, frequency, frequency, indexing="ij"))
    )
    return np.fft.ifftn(np.fft.fftn(volume) * (radius < 1 / resolution)).real


def _correlation(first: np.ndarray, second: np.ndarray, radius: float = 12.0) -> float:
    grid = np.indices(first.shape) - 16
    inside = (grid**2).sum(axis=0) <= radius**2
    return float(np.corrcoef(first[inside], second[inside])[0, 1])


def test_a_kill_during_an_import_harms_nothing(tmp_path: Path, shared_data: Path) -> None:
    import random
    import signal
    import sys
    import time

    source = tmp_path / "particles.mrcs"
    write_mrc(source, cubes(2000, box=16))
    out = tmp_path / "set.h5"
    command = [
        sys.executable,
        "-m",
        "cryoet_core.cli.main",
        "data",
        "import",
        str(source),
        "--contrast",
        "dark",
    ]
    command += ["--out", str(out), "--overwrite", "--quiet"]
    generator = random.Random(0)
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(generator.uniform(0.3, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists() or check_store(out) == []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert check_store(out) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["particles.mrcs", "set.h5"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """On a small file system of its own, where the machine lets us make one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], stderr=-3
        ).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")
    try:
        write_mrc(tmp_path / "big.mrcs", cubes(300, box=16))
        code = main(
            [
                "data",
                "import",
                str(tmp_path / "big.mrcs"),
                "--contrast",
                "dark",
                "--out",
                str(folder / "a.h5"),
            ]
        )
        assert code == 2
        write_store(tmp_path / "big.h5", cubes(300, box=16), 10.0)
        assert (
            main(["data", "export", str(tmp_path / "big.h5"), "--out", str(folder / "a.star")]) == 2
        )
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["umount", folder], check=True)

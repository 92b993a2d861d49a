"""The store of tomograms: what is written is read, whatever is wrong is said, nothing half-written
looks whole.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cryoet_core.picks.table import Picks
from cryoet_core.store import NotRepresentable
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import ArrayVolume
from cryoet_core.tomograms.check import check_tomograms
from cryoet_core.tomograms.store import describe_tomograms, open_store
from cryoet_core.tomograms.writer import TomogramWriter

SHAPE = (70, 33, 90)


def noise(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 2, shape).astype(np.float32)


def some_picks(name: str, count: int = 5) -> Picks:
    random = np.random.default_rng(3)
    picks = Picks.of(
        random.uniform(0, 300, (count, 3)),
        name,
        scores=random.random(count),
        classes=np.arange(count) % 3 - 1,
        class_names=("ribosome", "proteasome 26S"),
        rotations=np.repeat(np.eye(3)[None], count, 0),
    )
    picks.extra["defocus"] = np.arange(count) / 2  # type: ignore[index]
    picks.extra["source"] = np.array([f"00{i}" for i in range(count)])  # type: ignore[index]
    return picks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "set.h5"


def a_store(path: Path) -> Path:
    with TomogramWriter(path) as writer:
        ids = np.zeros(SHAPE, np.int64)
        ids[3, 4, 5], ids[69, 32, 89] = 70_000, 1
        facts: dict[str, Any] = {
            "masks": {"occupancy": ids},
            "attributes": {"snr": 0.1, "species": ["a", "b"]},
        }
        writer.add(
            "TS_01",
            noise(),
            voxel_size=10.0,
            picks=some_picks("TS_01"),
            tilt_range=(-60, 50.5),
            **facts,
        )
        writer.add("a/b %2F.", noise(seed=1), voxel_size=7.84, density_sign=-1, dtype="float32")
        assert not path.exists()
    return path


# ---- round trip ----------------------------------------------------------------------------------


def test_everything_comes_back(path: Path) -> None:
    a_store(path)
    assert os.listdir(path.parent) == ["set.h5"]
    first, second = open_store(path)
    assert (first.name, first.shape, first.voxel_size, first.density_sign) == (
        "TS_01",
        SHAPE,
        10.0,
        1,
    )
    assert (first.tilt_range, first.tilt_axis, first.where) == (
        (-60.0, 50.5),
        "y",
        f"{path}: tomogram TS_01",
    )
    assert first.attributes == {"snr": 0.1, "species": ["a", "b"]}
    np.testing.assert_array_equal(first.read(), noise().astype(np.float16).astype(np.float32))
    assert (second.name, second.density_sign, second.tilt_range, second.picks) == (
        "a/b %2F.",
        -1,
        None,
        None,
    )
    region = (slice(60, 70), slice(5, 6), slice(63, 90))
    np.testing.assert_array_equal(second.read(region), -noise(seed=1)[region])
    assert check_tomograms(path) == []
    wanted, got = some_picks("TS_01"), first.picks
    assert got is not None
    for name in ("positions", "scores", "classes", "rotations", "tomograms"):
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))
    assert got.class_names == wanted.class_names
    np.testing.assert_array_equal(got.extra["defocus"], wanted.extra["defocus"])
    assert list(got.extra["source"]) == ["000", "001", "002", "003", "004"]
    ids = first.masks["occupancy"].read((slice(3, 4), slice(4, 5), slice(5, 7)))
    assert ids.dtype.kind == "u"
    assert ids.tolist() == [[[70_000, 0]]]
    facts = describe_tomograms([first, second])
    assert facts["n"] == 2
    assert facts["tomograms"]["TS_01"]["picks"] == {"ribosome": 2, "proteasome 26S": 1}
    assert facts["tomograms"]["a/b %2F."]["contrast"] == "dark"


def test_no_picks_and_none_known_are_told_apart(path: Path) -> None:
    with TomogramWriter(path) as writer:
        writer.add("none", noise((4, 4, 4)), voxel_size=10, picks=Picks.empty())
        writer.add("unknown", noise((4, 4, 4)), voxel_size=10)
    none, unknown = open_store(path)
    assert none.picks is not None
    assert len(none.picks) == 0
    assert unknown.picks is None


@pytest.mark.parametrize("thick", [1, 7, 64, 70])
def test_slabs_of_any_thickness_stream(path: Path, thick: int) -> None:
    def parts() -> Iterator[np.ndarray]:
        for start in range(0, SHAPE[0], thick):
            yield noise()[start : start + thick]

    with TomogramWriter(path) as writer:
        writer.add("slabs", parts(), voxel_size=10, dtype="float32", shape=SHAPE)
        writer.add("volume", ArrayVolume(noise()), voxel_size=10, dtype="float32")
    for tomogram in open_store(path):
        np.testing.assert_array_equal(tomogram.read(), noise())


def test_the_volume_is_chunked_for_tiles_and_plain_hdf5_reads_it(path: Path) -> None:
    a_store(path)
    with h5py.File(path) as file:
        volume = file["tomograms/TS_01/volume"]
        assert volume.chunks == (64, 33, 64)
        assert volume.compression is None
        assert volume.dtype == np.float16
        assert file["tomograms/TS_01/masks/occupancy"].compression == "gzip"


def test_a_file_of_the_same_name_is_kept_unless_told(path: Path) -> None:
    a_store(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"exists already.*`overwrite`"), TomogramWriter(path):
        pass
    with contextlib.suppress(RuntimeError), TomogramWriter(path, overwrite=True) as writer:
        writer.add("x", noise((4, 4, 4)), voxel_size=10)
        raise RuntimeError
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["set.h5"]
    with TomogramWriter(path, overwrite=True) as writer:
        writer.add("x", noise((4, 4, 4)), voxel_size=10)
    assert [tomogram.name for tomogram in open_store(path)] == ["x"]


def test_a_reader_sees_the_new_file_under_an_old_name(path: Path) -> None:
    for seed in (0, 1):
        with TomogramWriter(path, overwrite=True) as writer:
            writer.add("x", noise((4, 5, 6), seed), voxel_size=10, dtype="float32")
        os.utime(path, ns=(seed, seed))
        np.testing.assert_array_equal(open_store(path)[0].read(), noise((4, 5, 6), seed))


# ---- what cannot be stored -----------------------------------------------------------------------


def with_nan() -> np.ndarray:
    values = noise((9, 4, 4))
    values[[2, 3, 7]] = np.nan
    return values


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "NaN": ({"volume": with_nan()}, r"NaN or infinite voxels in z slices 2-3, 7 \(from 0, of 9\)"),
    "constant": ({"volume": np.full((4, 4, 4), 7.0)}, "constant \\(7 everywhere\\)"),
    "two dimensions": ({"volume": np.zeros((4, 4))}, "shape"),
    "voxel size": ({"voxel_size": 0}, "`voxel_size`"),
    "sign": ({"density_sign": 0}, "density sign 0"),
    "tilt range": ({"tilt_range": (60, -60)}, "rising degrees"),
    "tilt axis": ({"tilt_axis": "x"}, "tilt axis 'x'"),
    "type": ({"dtype": "int8"}, "type int8"),
    "no name": ({"name": " "}, "name of one line"),
    "a line break": ({"name": "a\nb"}, "name of one line"),
    "the same name": ({"name": "there"}, "two tomograms named 'there'"),
    "picks of another": (
        {"picks": some_picks("other")},
        "picks of tomogram 'other' were given to 'x'",
    ),
    "picks at NaN": ({"picks": Picks.of(np.full((1, 3), np.nan), "x")}, "no numbers"),
    "a mask of another shape": ({"masks": {"ids": np.zeros((2, 2, 2), int)}}, "mask 'ids'"),
    "a mask of fractions": ({"masks": {"ids": np.zeros((9, 4, 4))}}, "whole numbers"),
    "fewer slabs": ({"volume": [noise((2, 4, 4))], "shape": (9, 4, 4)}, "2 slices; expected 9"),
    "more slabs": (
        {"volume": [noise((2, 4, 4))] * 5, "shape": (9, 4, 4)},
        r"a slab of \(2, 4, 4\) after 8",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_stored_is_refused_and_the_rest_goes_on(path: Path, name: str) -> None:
    change, words = REFUSED[name]
    with TomogramWriter(path) as writer:
        writer.add("there", noise((4, 4, 4)), voxel_size=10)
        with pytest.raises(UserError, match=words):
            writer.add(**{"name": "x", "volume": noise((9, 4, 4)), "voxel_size": 10, **change})
        writer.add("x", noise((4, 4, 4)), voxel_size=10)
    assert [tomogram.name for tomogram in open_store(path)] == ["there", "x"]
    assert check_tomograms(path) == []


@pytest.mark.parametrize("values", [noise((9, 9, 9)) * 1e5, noise((9, 9, 9)) * 0.001 + 100])
def test_float16_that_loses_too_much_is_refused(path: Path, values: np.ndarray) -> None:
    with TomogramWriter(path) as writer:
        with pytest.raises(NotRepresentable, match="use float32"):
            writer.add("x", values, voxel_size=10)
        writer.add("x", values, voxel_size=10, dtype="float32")
    np.testing.assert_array_equal(open_store(path)[0].read(), values)


def test_an_empty_store_is_not_written(path: Path) -> None:
    with pytest.raises(UserError, match="no tomograms were written"), TomogramWriter(path):
        pass
    assert os.listdir(path.parent) == []


# ---- crashes -------------------------------------------------------------------------------------

KILLED = """
import sys, time
import numpy as np
from cryoet_core.tomograms.writer import TomogramWriter
def parts():
    for i in range(8):
        yield np.random.default_rng(i).normal(size=(16, 64, 64))
        if i == {stop}:
            print("now", flush=True)
            time.sleep(60)
with TomogramWriter({path!r}, overwrite=True) as writer:
    writer.add("whole", np.arange(64.0).reshape(4, 4, 4), voxel_size=10)
    writer.add("half", parts(), voxel_size=10, shape=(128, 64, 64))
    print("now", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("stop", [5, 99])
def test_a_killed_writer_leaves_nothing_that_looks_whole(path: Path, stop: int) -> None:
    a_store(path)
    before = path.read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(stop=stop, path=str(path))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    with (
        pytest.raises(UserError, match="another process is writing it"),
        TomogramWriter(path, overwrite=True),
    ):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert path.read_bytes() == before
    partial = path.with_name("set.h5.partial")
    with pytest.raises(UserError, match=r"never finished|damaged or truncated|holds no tomogram"):
        open_store(partial)
    assert check_tomograms(partial) != []
    with TomogramWriter(path, overwrite=True) as writer:
        writer.add("x", noise((4, 4, 4)), voxel_size=10)
    assert os.listdir(path.parent) == ["set.h5"]


def test_a_full_disk_is_said_in_one_line(path: Path) -> None:
    code = (
        "import resource, signal, numpy as np\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "from cryoet_core.support.errors import UserError\n"
        "from cryoet_core.tomograms.writer import TomogramWriter\n"
        "try:\n"
        f"    with TomogramWriter({str(path)!r}) as writer:\n"
        "        writer.add('x', np.random.rand(100, 100, 100), voxel_size=10)\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.count("\n") == 1, done.stderr
    assert "cannot be written" in done.stdout
    assert os.listdir(path.parent) == []


# ---- wrong files ---------------------------------------------------------------------------------


def test_other_files_are_refused(tmp_path: Path) -> None:
    from cryoet_core.store import write_store

    (tmp_path / "empty.h5").touch()
    (tmp_path / "text.h5").write_text("some words that are no table of numbers at all\n")
    write_store(tmp_path / "cubes.h5", noise((3, 8, 8 * 8)).reshape(3, 8, 8, 8), 10.0)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    cases = {
        "none.h5": "no such file",
        "": "a folder",
        "empty.h5": "empty",
        "text.h5": "text file",
        "cubes.h5": "holds subtomograms; expected a store of tomograms",
        "other.h5": "another program",
    }
    for name, words in cases.items():
        with pytest.raises(UserError, match=words):
            open_store(tmp_path / name)
        if name:
            assert any(words in line for line in check_tomograms(tmp_path / name))


def delete(file: Any, name: str) -> None:
    del file[name]


def put(file: Any, name: str, values: Any) -> None:
    del file[name]
    file[name] = values


GROUP = "tomograms/TS_01"
CHANGES: dict[str, tuple[Callable[[Any], Any], str, bool]] = {
    "version": (lambda f: f.attrs.__setitem__("version", 99), "version 99", True),
    "unfinished": (lambda f: f.attrs.__setitem__("complete", False), "never finished", True),
    "no group": (lambda f: delete(f, "tomograms"), "holds no tomogram", True),
    "no volume": (lambda f: delete(f, f"{GROUP}/volume"), "no volume", True),
    "integers": (lambda f: put(f, f"{GROUP}/volume", np.zeros((3, 3, 3), "i2")), "int16", True),
    "no voxel size": (lambda f: f[GROUP].attrs.__delitem__("voxel_size"), "voxel_size", True),
    "no scores": (lambda f: delete(f, f"{GROUP}/picks/scores"), "scores", True),
    "short scores": (lambda f: put(f, f"{GROUP}/picks/scores", np.zeros(2)), "scores", True),
    "class out of range": (
        lambda f: put(f, f"{GROUP}/picks/classes", np.full(5, 7)),
        "classes: out of range",
        True,
    ),
    "negative voxels": (
        lambda f: f[GROUP].attrs.__setitem__("voxel_size", -1.0),
        "voxel_size is -1",
        False,
    ),
    "sign": (lambda f: f[GROUP].attrs.__setitem__("density_sign", 3), "density_sign is 3", False),
    "tilts": (lambda f: f[GROUP].attrs.__setitem__("tilt_range", (60, -60)), "tilt_range", False),
    "attributes": (lambda f: f[GROUP].attrs.__setitem__("attributes", "{"), "no JSON", True),
    "NaN": (
        lambda f: f[f"{GROUP}/volume"].__setitem__(slice(4, 9), np.nan),
        "NaN or infinity in z slices 4-8",
        False,
    ),
    "constant": (lambda f: f[f"{GROUP}/volume"].__setitem__(..., 3), "constant", False),
    "far picks": (
        lambda f: put(f, f"{GROUP}/picks/positions", np.full((5, 3), 1e4)),
        "outside in rows 0, 1",
        False,
    ),
    "rotations": (
        lambda f: put(f, f"{GROUP}/picks/rotations", np.ones((5, 3, 3))),
        "no rotation in",
        False,
    ),
    "masks": (
        lambda f: put(f, f"{GROUP}/masks/occupancy", np.zeros((2, 2, 2))),
        "masks/occupancy",
        False,
    ),
    "extra": (
        lambda f: put(f, f"{GROUP}/picks/extra/defocus", np.zeros(2)),
        "extra/defocus",
        False,
    ),
    "surprise": (lambda f: f[GROUP].__setitem__("surprise", 1), "surprise: no part", False),
    "twice": (lambda f: f.copy(GROUP, "tomograms/again"), "a second tomogram named 'TS_01'", False),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_broken_store_is_reported_and_refused_where_it_cannot_be_read(
    path: Path, name: str
) -> None:
    change, words, refused = CHANGES[name]
    with TomogramWriter(path) as writer:
        ids = np.zeros((9, 9, 9), np.int64)
        picks = some_picks("TS_01").select(np.arange(5))
        picks.positions[:] /= 10
        writer.add("TS_01", noise((9, 9, 9)), voxel_size=10, picks=picks, masks={"occupancy": ids})
    with h5py.File(path, "r+") as file:
        change(file)
    assert any(words in line for line in check_tomograms(path)), check_tomograms(path)
    if refused:
        with pytest.raises(UserError, match=str(path)):
            open_store(path)


def test_every_problem_is_reported_not_only_the_first(path: Path) -> None:
    a_store(path)
    with h5py.File(path, "r+") as file:
        for name in ("negative voxels", "sign", "tilts", "NaN", "surprise", "masks"):
            CHANGES[name][0](file)
        file["tomograms/a%2Fb %252F./volume"][7, 0, 0] = np.inf
    lines = check_tomograms(path)
    assert len(lines) == 7
    assert any("a%2Fb" in line and "z slice 7" in line for line in lines)


def test_a_truncated_or_damaged_file_never_passes(path: Path) -> None:
    a_store(path)
    whole = path.read_bytes()
    for size in (len(whole) // 2, 100, len(whole) - 5000):
        path.write_bytes(whole[:size])
        assert check_tomograms(path) != []
        with pytest.raises(UserError, match="damaged"):
            open_store(path)

"""Writing a store: what it refuses, and that nothing half-written looks whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from noise_cubes import cubes

from cryoet_core.store import (
    NotRepresentable,
    SubtomogramWriter,
    check_store,
    open_subtomograms,
    write_store,
)
from cryoet_core.support.errors import UserError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "set.h5"


def test_float16_refuses_what_it_cannot_hold(path: Path) -> None:
    generator = np.random.default_rng(0)
    large, flat = generator.normal(0, 1e6, (1, 8, 8, 8)), generator.normal(3e4, 1, (1, 8, 8, 8))
    for volumes in (large, flat):
        with pytest.raises(NotRepresentable, match="float32"):
            write_store(path, volumes, 10.0)
        assert os.listdir(path.parent) == []
        write_store(path, volumes, 10.0, dtype="float32")
        assert check_store(path) == []
        path.unlink()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"voxel_size": 0.0}, "voxel size"),
        ({"voxel_size": float("nan")}, "voxel size"),
        ({"density_sign": 0}, "density sign"),
        ({"box": 1}, "box"),
        ({"dtype": "int8"}, "type int8"),
        ({"tilt_range": (60, -60)}, "tilt range"),
    ],
)
def test_a_wrong_header_is_refused(path: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        SubtomogramWriter(path, **({"box": 8, "voxel_size": 10.0} | arguments))


def test_rows_that_do_not_fit_are_refused_and_leave_nothing(path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"volumes": cubes(2, box=4)}, "boxes of 8 voxels"),
        ({"volumes": cubes(2).astype(complex)}, "complex"),
        ({"volumes": cubes(2), "labels": [0, 5]}, "labels 0 to 5"),
        ({"volumes": cubes(2), "positions": np.zeros((3, 3))}, "3 rows of positions"),
        ({"volumes": cubes(9)}, "announced"),
    ]
    for arguments, words in wrong:
        with (
            pytest.raises(UserError, match=words),
            SubtomogramWriter(path, 8, 10.0, class_names=("a",), n=4) as writer,
        ):
            writer.append(**arguments)
        assert os.listdir(path.parent) == []
    with (
        pytest.raises(UserError, match="2 of the 4 announced volumes"),
        SubtomogramWriter(path, 8, 10.0, n=4) as writer,
    ):
        writer.append(cubes(2))
    with pytest.raises(UserError, match="no volumes"), SubtomogramWriter(path, 8, 10.0):
        pass
    assert os.listdir(path.parent) == []


def test_a_failing_writer_leaves_the_old_store(path: Path) -> None:
    write_store(path, cubes(3, seed=1), 10.0)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), SubtomogramWriter(path, 8, 10.0) as writer:
        writer.append([cubes(2), 1 / 0])
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["set.h5"]


def test_two_writers_of_one_store_do_not_mix(path: Path) -> None:
    with SubtomogramWriter(path, 8, 10.0, n=2) as writer:
        with (
            pytest.raises(UserError, match="another process"),
            SubtomogramWriter(path, 8, 10.0, n=2) as other,
        ):
            other.append(cubes(2))
        writer.append(cubes(2))
    assert check_store(path) == []


def test_a_missing_folder_and_a_folder_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="no folder"),
        SubtomogramWriter(tmp_path / "no" / "set.h5", 8, 10.0),
    ):
        pass
    with pytest.raises(UserError, match="a folder"), SubtomogramWriter(tmp_path, 8, 10.0):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_disk_is_one_clear_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        pytest.raises(UserError, match="disk is full"),
        SubtomogramWriter(path, 8, 10.0, n=2) as writer,
    ):
        writer.append(cubes(2))
    assert os.listdir(path.parent) == []


WRITE = """
import sys, numpy as np
from cryoet_core.store import SubtomogramWriter
path, announced = sys.argv[1], sys.argv[2] == "yes"
volumes = np.random.default_rng(0).normal(size=(64, 16, 16, 16)).astype("f4")
print("ready", flush=True)
while True:
    with SubtomogramWriter(path, 16, 10.0, class_names=("a",), n=640 if announced else None) as writer:
        for _ in range(10):
            writer.append(volumes, labels=np.zeros(64, int), tomogram="t")
"""


@pytest.mark.parametrize("announced", ["yes", "no"])
def test_kill_at_random_moments_never_harms_a_store(path: Path, announced: str) -> None:
    generator = random.Random(announced)
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE, str(path), announced], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(generator.uniform(0.0, 0.5))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if path.exists():
            assert check_store(path) == []
            assert len(open_subtomograms(path)) == 640
        partial = path.with_name(path.name + ".partial")
        if partial.exists() and not _is_whole(partial):
            assert check_store(partial), "a half-written file passed the check"
    write_store(path, cubes(2), 10.0)
    assert len(open_subtomograms(path)) == 2, "what a killed writer left is no obstacle"


def _is_whole(partial: Path) -> bool:
    """Killed between the last byte and the rename: the file is complete and only its name is
    not.
    """
    try:
        return len(open_subtomograms(partial)) == 640
    except UserError:
        return False


def test_memory_stays_bounded_for_a_file_larger_than_the_budget(path: Path) -> None:
    code = """
import resource, sys, numpy as np
from cryoet_core.store import SubtomogramWriter, open_subtomograms
volumes = np.random.default_rng(0).normal(size=(128, 32, 32, 32)).astype("f2")
with SubtomogramWriter(sys.argv[1], 32, 10.0, n=8192) as writer:
    for _ in range(64):
        writer.append(volumes)
data = open_subtomograms(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
order = np.random.default_rng(1).permutation(8192)
for i in range(0, 8192, 64):
    data.read(order[i : i + 64])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    grown = float(
        subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, check=True
        ).stdout
    )
    assert path.stat().st_size > 512e6
    assert grown < 400, f"{grown:.0f} MB for a file of 537 MB"

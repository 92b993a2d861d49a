"""Wrong input: one clear line on standard error, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cryoet_core.cli.guard import explain, guarded
from cryoet_core.store import write_store
from cryoet_core.support.errors import RunError, UserError

Command = Callable[..., Any]


def complains(done: Any, *parts: str) -> None:
    """The outcome is one line that has all the parts, and no traceback."""
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


def missing(folder: Path) -> Path:
    return folder / "missing.h5"


def directory(folder: Path) -> Path:
    (folder / "some.h5").mkdir()
    return folder / "some.h5"


def empty(folder: Path) -> Path:
    (folder / "empty.h5").touch()
    return folder / "empty.h5"


def text(folder: Path) -> Path:
    (folder / "text.h5").write_text("no HDF5 at all\n" * 100)
    return folder / "text.h5"


def truncated(folder: Path) -> Path:
    path = write_store(
        folder / "cut.h5", np.random.default_rng(0).normal(size=(9, 16, 16, 16)), 10.0
    )
    os.truncate(path, path.stat().st_size // 2)
    return path


def other_kind(folder: Path) -> Path:
    path = write_store(
        folder / "kind.h5", np.random.default_rng(0).normal(size=(9, 16, 16, 16)), 10.0
    )
    with h5py.File(path, "r+") as file:
        file.attrs["kind"] = "tomograms"
    return path


def nan(folder: Path) -> Path:
    volumes = np.random.default_rng(0).normal(size=(9, 16, 16, 16))
    volumes[3, 0, 0, 0] = np.nan
    return write_store(folder / "nan.h5", volumes, 10.0)


def constant(folder: Path) -> Path:
    volumes = np.random.default_rng(0).normal(size=(9, 16, 16, 16))
    volumes[4] = 1.0
    return write_store(folder / "constant.h5", volumes, 10.0)


def too_few(folder: Path) -> Path:
    return write_store(
        folder / "few.h5", np.random.default_rng(0).normal(size=(1, 16, 16, 16)), 10.0
    )


FILES: dict[Callable[[Path], Path], tuple[str, ...]] = {
    missing: ("missing.h5",),
    directory: ("some.h5", "folder"),
    empty: ("empty.h5", "empty"),
    text: ("text.h5",),
    truncated: ("cut.h5",),
    other_kind: ("kind.h5", "tomograms"),
    nan: ("nan.h5", "row 3"),
    constant: ("constant.h5", "row 4", "constant"),
    too_few: ("--classes 2", "1 volumes"),
}


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_wrong_file(make: Callable[[Path], Path], here: Command, tmp_path: Path) -> None:
    path = make(tmp_path)
    done = here("run", "toy", "--data", path, "--out", tmp_path / "run", "--quiet")
    complains(done, *FILES[make])


def test_unequal_boxes(here: Command, tiny_store: Path, tmp_path: Path) -> None:
    other = write_store(
        tmp_path / "b.h5", np.random.default_rng(0).normal(size=(4, 20, 20, 20)), 10.0
    )
    done = here("run", "toy", "--data", tiny_store, "--data", other, "--out", tmp_path / "r")
    complains(done, "b.h5", "20", "16")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--classes", "99"], ["--classes", "'99'", "1 to 9"]),
        (["--classes", "two"], ["--classes", "'two'", "integer"]),
        (["--sharpness", "0"], ["--sharpness", "> 0"]),
        (["--sharpnes", "1"], ["--sharpnes", "--sharpness"]),
        (["--preset", "quick"], ["--preset quick", "fast, paper"]),
        (["--precision", "64"], ["--precision 64", "bf16"]),
        (["--max-memory", "lots"], ["--max-memory", "lots", "4GB"]),
        (["--threads", "0"], ["--threads", "0"]),
        (["--devices", "0"], ["--devices", "0"]),
        (["--seed", "-1"], ["--seed", "-1"]),
        (["--device", "tpu"], ["--device tpu", "cuda"]),
        (["--config", "absent.toml"], ["--config absent.toml"]),
        (["extra"], ["extra"]),
    ],
)
def test_wrong_option(
    arguments: list[str], parts: list[str], here: Command, tiny_store: Path, tmp_path: Path
) -> None:
    done = here("run", "toy", "--data", tiny_store, "--out", tmp_path / "r", *arguments)
    complains(done, *parts)
    assert not (tmp_path / "r").exists()


def test_a_gpu_that_is_not_there(
    cryoet: Command, site: Path, tiny_store: Path, tmp_path: Path
) -> None:
    arguments = ("run", "toy", "--data", tiny_store, "--out", tmp_path / "r", "--device", "cuda")
    done = cryoet(*arguments, site=site, code=None, CUDA_VISIBLE_DEVICES="")
    complains(done, "--device cuda", "--device cpu")


def test_missing_data_option(here: Command) -> None:
    complains(here("run", "toy"), "--data")


def test_an_output_folder_that_exists(here: Command, tiny_store: Path, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    done = here("run", "toy", "--data", tiny_store, "--out", tmp_path / "r")
    complains(done, str(tmp_path / "r"), "exists already")
    assert list((tmp_path / "r").iterdir()) == []


def test_unknown_command_and_option_have_close_names(here: Command) -> None:
    complains(here("rnu"), "rnu", "did you mean run")
    complains(here("--versoin"), "--version")
    complains(here("methods", "shwo"), "shwo")


@pytest.mark.parametrize("command", ["evaluate", "resume", "report", "predict"])
def test_a_folder_that_is_no_run(
    command: str, here: Command, tiny_store: Path, tmp_path: Path
) -> None:
    more = ("--data", tiny_store) if command == "predict" else ()
    complains(here(command, tmp_path / "nothing", *more), "nothing", "no such run")
    complains(here(command, tmp_path, *more), str(tmp_path), "not a run folder")
    complains(here(command, tiny_store, *more), "tiny.h5", "folder")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(cryoet: Command, site: Path, tmp_path: Path, small_disk: Path) -> None:
    data = write_store(
        tmp_path / "many.h5", np.random.default_rng(0).normal(size=(9, 40, 40, 40)), 10.0
    )
    done = cryoet(
        "run", "toy", "--data", data, "--out", small_disk / "run", "--quiet", site=site, code=None
    )
    complains(done, str(small_disk), "the disk is full")


def test_explain_gives_one_line_and_a_code() -> None:
    assert explain(UserError("x.h5: empty")) == ("x.h5: empty", 2)
    assert explain(RunError("diverged")) == ("diverged", 1)
    assert explain(OSError(errno.ENOSPC, "No space", "/out/a"))[1] == 2
    assert "/out/a: the disk is full" in explain(OSError(errno.ENOSPC, "No space", "/out/a"))[0]
    assert explain(OSError(errno.EIO, "Input/output error"))[1] == 1
    assert "--debug" in explain(ValueError("odd"))[0]
    assert explain(MemoryError())[1] == 1


def test_guarded_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def raises(error: BaseException) -> Callable[[], int]:
        def call() -> int:
            raise error

        return call

    assert guarded(lambda: 0) == 0
    assert guarded(raises(SystemExit(3))) == 3
    assert guarded(raises(SystemExit(None))) == 0
    assert guarded(raises(SystemExit("words"))) == 1
    assert guarded(raises(KeyboardInterrupt()), hint=lambda: "go on") == 130
    assert guarded(raises(UserError("two\nlines"))) == 2
    assert capsys.readouterr().err == "error: interrupted; go on\nerror: two lines\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    import sys

    command = f"{sys.executable} -m cryoet_core.cli.main methods --json | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""

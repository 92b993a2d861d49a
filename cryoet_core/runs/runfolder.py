"""The folder of a run: made in one step, recognised, locked against a second writer."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cryoet_core.runs import checkpoint
from cryoet_core.support import files, journal
from cryoet_core.support.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, FACTS, METRICS, CHECKPOINTS = "config.json", "run.json", "metrics.jsonl", "checkpoints"
_FORMAT, _VERSION = "cryoet run", 1


@dataclass(frozen=True)
class DataCard:
    """What a finished run says of its data, for later data to be compared with.

    Attributes
    ----------
    n : int
        Number of subtomograms or tomograms.
    voxel_size : float
        Å; of tomograms that of the first.
    box : int, optional
        Box size of subtomograms, in voxels.
    density_sign : int, optional
        +1 where protein is bright in the first tomogram, -1 where it is dark.
    """

    n: int
    voxel_size: float
    box: int | None = None
    density_sign: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The card as run.json holds it, without what does not apply."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Outcome:
    """What a finished run says of itself.

    Attributes
    ----------
    task : str, optional
        What its labels are: ``"clustering"`` or ``"classification"``; None where it picks.
    data : DataCard, optional
        The data that it was fitted on.
    """

    task: str | None = None
    data: DataCard | None = None


class RunFolder:
    """What a run's folder says.

    Parameters
    ----------
    folder : Path
        The folder.
    record : mapping
        The content of its config.json.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.dir, self.record = folder, dict(record)
        self.method: str = record["method"]
        self.seed: int = record["seed"]
        self.preset: str | None = record["preset"]
        self.inputs: dict[str, list[Path]] = {
            k: [Path(p) for p in v] for k, v in record["inputs"].items()
        }
        self.reading: dict[str, Any] = dict(record.get("reading", {}))
        self.options: dict[str, Any] = dict(record["options"])

    @property
    def facts(self) -> dict[str, Any]:
        """The content of run.json: status, wall time, timings, peak memory, provenance.

        ``status`` is started, running, done, failed or interrupted.
        """
        facts: dict[str, Any] = files.read_json(self.dir / FACTS)
        return facts

    @property
    def outcome(self) -> Outcome:
        """What the run said of itself when it ended; empty before."""
        said = self.facts.get("facts", {})
        known = {part.name for part in fields(DataCard)}
        card = {name: value for name, value in said.get("data", {}).items() if name in known}
        return Outcome(said.get("task"), DataCard(**card) if card else None)

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, without a torn last one."""
        return journal.read(self.dir / METRICS)

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors (on the CPU) and state of a checkpoint; None when there is none.

        Raises
        ------
        RunError
            The file is damaged.
        """
        return checkpoint.load(self.checkpoint_path(name))

    def checkpoint_path(self, name: str) -> Path:
        """The path of a checkpoint, checkpoints/NAME.safetensors."""
        return self.dir / CHECKPOINTS / f"{name}.safetensors"

    def read_json(self, name: str) -> Any:
        """A small JSON file of the run; None when there is none, RunError when it is damaged."""
        return files.read_json(self.dir / name) if (self.dir / name).exists() else None


def make(
    out: Path | None, method: str, record: Mapping[str, Any], facts: Mapping[str, Any]
) -> Path:
    """Make the folder of a run with config.json and run.json inside.

    It is filled under a hidden name and then renamed, so a run folder is whole or absent.

    Parameters
    ----------
    out : Path or None
        The folder; None means runs/<method>/<time>-<hash>.
    method : str
        Name of the method.
    record : mapping
        The content of config.json.
    facts : mapping
        The content of run.json.

    Returns
    -------
    Path
        The folder, absolute.

    Raises
    ------
    UserError
        ``out`` exists.
    """
    folder = out if out is not None else _fresh(method)
    folder = Path(os.path.abspath(folder))
    if folder.exists() or folder.is_symlink():
        raise UserError(
            f"`out` {folder}: exists already; expected a new folder; choose another "
            "name or remove it"
        )
    beside = _unfinished(folder)
    with files.explained(folder):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            files.write_json(beside / CONFIG, {"format": _FORMAT, "version": _VERSION, **record})
            files.write_json(beside / FACTS, facts)
            os.rename(beside, folder)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        files.sync(folder.parent)
    return folder


def read(folder: Path) -> dict[str, Any]:
    """The content of config.json.

    Raises
    ------
    UserError
        ``folder`` is no run folder; the message says why.
    """
    if not folder.exists():
        if _unfinished(folder).exists():
            raise UserError(
                f"{folder}: this run was ended while it started, nothing was done yet; run it again"
            )
        raise UserError(f"{folder}: no such run folder; expected one that `cryoet run` made")
    if not folder.is_dir():
        raise UserError(f"{folder}: a file; expected a folder that `cryoet run` made")
    if not (folder / CONFIG).exists():
        inside = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        more = (
            f"; it holds run folders, name one of them, such as {folder / inside[-1]}"
            if inside
            else ""
        )
        raise UserError(
            f"{folder}: not a run folder (no {CONFIG}); expected a folder that `cryoet "
            f"run` made{more}"
        )
    record = files.read_json(folder / CONFIG)
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise UserError(
            f"{folder / CONFIG}: not written by `cryoet run`; expected a folder that "
            "`cryoet run` made"
        )
    if record.get("version") != _VERSION:
        raise UserError(
            f"{folder / CONFIG}: version {record.get('version')}; this program reads version "
            f"{_VERSION}; "
            "use the version of cryoet that wrote it"
        )
    return record


def lock(folder: Path) -> IO[bytes] | None:
    """Hold the folder until the result is closed or the process dies, however it dies.

    Returns
    -------
    file or None
        None on a file system without locks.

    Raises
    ------
    UserError
        Another process holds it.
    """
    with files.explained(folder):
        handle = (folder / ".lock").open("ab")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.close()
        raise UserError(
            f"{folder}: another process is still writing this run; wait until it has ended"
        ) from error
    except OSError:
        handle.close()
        return None
    return handle


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.starting")


def _fresh(method: str) -> Path:
    token = hashlib.sha256(f"{time.time_ns()} {os.getpid()}".encode() + os.urandom(8)).hexdigest()[
        :6
    ]
    return Path("runs") / method / f"{time.strftime('%Y%m%d-%H%M%S')}-{token}"

"""Small files written so that a crash leaves the old one or the new one, and disk errors that a
user understands.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryoet_core.support.errors import RunError, UserError

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space or choose another --out",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another --out",
    errno.EFBIG: "the file system allows no file of this size: choose another --out",
    errno.EROFS: "the file system is read-only: choose another --out",
    errno.EACCES: "permission denied: choose an --out where you may write",
    errno.EPERM: "permission denied: choose an --out where you may write",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter --out",
    errno.ENOTDIR: "a part of this path is a file, not a folder: choose another --out",
}


def disk_error(error: OSError, path: Path) -> UserError | None:
    """The one-line message for a disk that cannot take ``path``; None where the user cannot help
    it.

    HDF5 loses ``errno`` on some ways out and keeps it in the text only, so the text is searched as
    well.
    """
    for code, advice in _ADVICE.items():
        if error.errno == code or f"errno = {code}," in str(error):
            return UserError(f"{path}: cannot be written: {advice}")
    return None


def shown(path: Path) -> str:
    """A path as short as it can be said: relative to here where it lies below here."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a UserError about ``path`` where the user can do something
    about it.
    """
    try:
        yield
    except OSError as error:
        known = disk_error(error, path)
        if known is None:
            raise
        raise known from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; on success fsync it and rename it to ``path``, else
    remove it.
    """
    beside = path.with_name(f"{path.name}.partial")
    with explained(path):
        try:
            yield beside
            sync(beside)
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync(path.parent)


def sync(path: Path) -> None:
    """Push a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` atomically. UserError when the disk refuses."""
    with replacing(path) as beside:
        beside.write_bytes(data)


def make_folder(path: Path) -> None:
    """Make a folder and those above it. UserError when a file has the name or the disk refuses."""
    with explained(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise UserError(f"{path}: a file; expected a folder; choose another `out`") from error


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by ``value`` as strict JSON (a number that is not finite becomes null),
    atomically.
    """
    write_bytes(path, (json.dumps(plain(value), indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The content of a JSON file. RunError when it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        what = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise RunError(
            f"{path}: {what}; expected JSON that `cryoet run` wrote; start the run again"
        ) from error


def plain(value: Any) -> Any:
    """``value`` with numpy and torch values, tuples and paths as JSON has them; NaN and infinity
    become None.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "tolist"):  # numpy arrays and scalars, torch tensors
        return plain(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")

"""Write small files whole or not at all, and explain disk errors in plain words."""

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
    errno.ENOSPC: "the disk is full: free some space or choose another `out`",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another `out`",
    errno.EFBIG: "the file system allows no file of this size: choose another `out`",
    errno.EROFS: "the file system is read-only: choose another `out`",
    errno.EACCES: "permission denied: choose an `out` where you may write",
    errno.EPERM: "permission denied: choose an `out` where you may write",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter `out`",
    errno.ENOTDIR: "a part of this path is a file, not a folder: choose another `out`",
}


def disk_error(error: OSError, path: Path) -> UserError | None:
    """Return the one-line message for a disk that cannot take ``path``.

    HDF5 loses ``errno`` on some ways out and keeps it in the text only, so the text is searched as
    well.

    Parameters
    ----------
    error : OSError
        The error of the operating system or of HDF5.
    path : Path
        The file or folder that was written.

    Returns
    -------
    UserError | None
        The error to raise; None where the user cannot do anything about it.
    """
    for code, advice in _ADVICE.items():
        if error.errno == code or f"errno = {code}," in str(error):
            return UserError(f"{path}: cannot be written: {advice}")
    return None


def shown(path: Path) -> str:
    """Shorten a path for display: relative to the working folder where it lies below it."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Convert an OSError of the block into a UserError about ``path``.

    Parameters
    ----------
    path : Path
        The file or folder that the block writes.

    Yields
    ------
    Iterator[None]
        Nothing; used as ``with explained(path):``.

    Raises
    ------
    UserError
        When the user can do something about the error; any other OSError passes unchanged.
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
    """Give a name beside ``path`` to write to, and rename the file when it is whole.

    On success the file is synchronised with the disk and renamed to ``path``; otherwise it is
    removed.

    Parameters
    ----------
    path : Path
        The file to replace.

    Yields
    ------
    Iterator[Path]
        The name to write to.

    Raises
    ------
    UserError
        When the disk refuses.
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
    """Replace a file atomically.

    Parameters
    ----------
    path : Path
        The file to replace.
    data : bytes
        Its new content.

    Raises
    ------
    UserError
        When the disk refuses.
    """
    with replacing(path) as beside:
        beside.write_bytes(data)


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Parameters
    ----------
    path : Path
        The folder; it may exist.

    Raises
    ------
    UserError
        When a file has the name or the disk refuses.
    """
    with explained(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise UserError(f"{path}: a file; expected a folder; choose another `out`") from error


def write_json(path: Path, value: Any) -> None:
    """Replace a file by strict JSON, atomically.

    Parameters
    ----------
    path : Path
        The file to replace.
    value : Any
        What `plain` accepts; a number that is not finite becomes null.

    Raises
    ------
    UserError
        When the disk refuses.
    """
    write_bytes(path, (json.dumps(plain(value), indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Any
        Its content.

    Raises
    ------
    RunError
        When the file is missing or damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        what = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise RunError(
            f"{path}: {what}; expected JSON that `cryoet run` wrote; start the run again"
        ) from error


def plain(value: Any) -> Any:
    """Convert numpy and torch values, tuples and paths to what JSON holds.

    Parameters
    ----------
    value : Any
        Numbers, texts, arrays, paths, and lists and mappings of them.

    Returns
    -------
    Any
        The same in plain Python; NaN and infinity become None.

    Raises
    ------
    TypeError
        For a value that JSON cannot hold.
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

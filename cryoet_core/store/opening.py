"""What all stores have in common: how a file is opened, and what its header must say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryoet_core.formats.sniff import describe
from cryoet_core.support.errors import UserError
from cryoet_core.support.hdf5 import FORMAT

_MAGIC = b"\x89HDF\r\n\x1a\n"


def open_file(path: Path, kind: str) -> Any:
    """Open an HDF5 file for reading; its header is not checked.

    HDF5's file locks are not used: a finished store never changes, and shared file systems often
    have no locks.

    Parameters
    ----------
    path : Path
        The file.
    kind : {"subtomograms", "tomograms"}
        What the store is expected to hold, for messages.

    Returns
    -------
    h5py.File
        The open file.

    Raises
    ------
    UserError
        The file is missing, a folder, empty, truncated or no HDF5 file.
    """
    import h5py

    expected = f"expected a store of {kind} (.h5)"
    if not path.exists():
        raise UserError(f"{path}: no such file; {expected}")
    if path.is_dir():
        raise UserError(f"{path}: a folder; {expected}; `cryoet data import` makes one")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; {expected}")
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise UserError(f"{path}: {_no_store(path, expected, error)}") from error


def _no_store(path: Path, expected: str, error: OSError) -> str:
    """Say why a file that HDF5 refuses is no store."""
    if isinstance(error, PermissionError):
        return "permission denied"
    with path.open("rb") as file:
        is_hdf5 = file.read(len(_MAGIC)) == _MAGIC
    if is_hdf5:
        return "a damaged or truncated HDF5 file; expected a whole store; make or copy it again"
    return f"{describe(path)}; {expected}; `cryoet data import` makes one of most formats"


def header_problem(file: Any, kind: str, version: int) -> str | None:
    """Say what is wrong with the format, kind, version or completeness of an open file.

    Parameters
    ----------
    file : h5py.File
        The open file.
    kind : {"subtomograms", "tomograms"}
        What the store is expected to hold.
    version : int
        The version of the format that is read here.

    Returns
    -------
    str or None
        A phrase for a message; None when the header is right.
    """
    found = {name: file.attrs.get(name) for name in ("format", "version", "kind")}
    if found["format"] != FORMAT:
        return (
            "an HDF5 file of another program; expected a store (attribute format = cryoet); use "
            "`cryoet data import`"
        )
    if found["kind"] != kind:
        return f"holds {found['kind']}; expected a store of {kind}"
    if found["version"] != version:
        return (
            f"store version {found['version']}; expected {version}; use the release of cryoet "
            "that wrote it"
        )
    if not file.attrs.get("complete", False):
        return (
            "was never finished (its writer was interrupted); expected a whole store; write it "
            "again"
        )
    return None

"""The parts of a file being written: raw columns, room on the disk, and the lock on its name."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cryoet_core.support import files
from cryoet_core.support.errors import UserError


class Column:
    """A data set that is written as raw bytes, into its place in the store or into a spool file.

    Parameters
    ----------
    name : str
        The name of the data set.
    shape : tuple of int
        The shape of one row.
    dtype : numpy.dtype or str
        The stored type.
    """

    def __init__(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        self.name, self.shape, self.dtype = name, shape, np.dtype(dtype)
        self.file: BinaryIO | None = None
        self.spool: Path | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(self.dtype.itemsize * np.prod(self.shape))

    def write(self, rows: np.ndarray) -> None:
        """Append rows (b, *shape) to the open file."""
        if self.file is not None:
            self.file.write(np.ascontiguousarray(rows, dtype=self.dtype).data.cast("B"))

    def close(self) -> None:
        """Close the file, if one is open."""
        if self.file is not None:
            self.file.close()
            self.file = None


def allocate(file: Any, column: Column, count: int) -> int:
    """Make a contiguous data set whose bytes are written later.

    Parameters
    ----------
    file : h5py.File
        The file, open for writing.
    column : Column
        Name, row shape and type of the data set.
    count : int
        The number of rows.

    Returns
    -------
    int
        The offset of the first row in the file, in bytes.
    """
    from h5py import h5d, h5p, h5s, h5t

    create = h5p.create(h5p.DATASET_CREATE)
    create.set_layout(h5d.CONTIGUOUS)
    create.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    create.set_fill_time(h5d.FILL_TIME_NEVER)
    link = h5p.create(h5p.LINK_CREATE)
    link.set_create_intermediate_group(True)
    space = h5s.create_simple((count, *column.shape))
    dataset = h5d.create(
        file.id, column.name.encode(), h5t.py_create(column.dtype), space, dcpl=create, lcpl=link
    )
    return int(dataset.get_offset())


def reserve(path: Path, size: int) -> None:
    """Have the file system set space aside, so that a full disk is met here and now.

    HDF5 must not meet it: h5py then fails on every later call and may crash the process when it
    ends.

    Parameters
    ----------
    path : Path
        The file, which is made where it is missing.
    size : int
        Its size in bytes.

    Raises
    ------
    OSError
        The disk is full. A file system that cannot reserve space raises nothing.
    """
    with path.open("ab") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if files.disk_error(error, path):
                raise
            # a file system that cannot reserve space: continue without


def room(values: np.ndarray) -> int:
    """Return the bytes that a small data set takes in a file at most.

    HDF5 keeps each text in blocks of 4 kB with some waste.
    """
    size = (
        values.nbytes
        if values.dtype.kind != "O"
        else sum(48 + 2 * len(str(value).encode()) for value in values)
    )
    return size + (1 << 14)


def claim(partial: Path, path: Path) -> BinaryIO:
    """Lock the file to write, so that two writers of one store do not mix.

    Parameters
    ----------
    partial : Path
        The file to write, beside the target.
    path : Path
        The target.

    Returns
    -------
    file
        Holds the lock until it is closed.

    Raises
    ------
    UserError
        Another process writes the file, or it cannot be made.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path}: no folder {path.parent}; expected an existing one; make it first")
    if path.is_dir():
        raise UserError(f"{path}: a folder; expected the name of a file to write")
    with files.explained(path):
        lock = partial.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise UserError(
            f"{path}: another process is writing it; wait for it or choose another name"
        ) from error
    except OSError:
        pass  # a file system without locks: continue without
    return lock

"""Volumes in a file of another program, and reading of files that may be compressed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from cryoet_core.support.errors import UserError


@dataclass(frozen=True)
class VolumeStack:
    """Volumes of a file, axes (z, y, x), not yet read where the format allows it.

    Attributes
    ----------
    path : Path
        The file.
    format : str
        Name of the format.
    array : np.ndarray, shape (n, d, h, w)
        The volumes.
    voxel_size : tuple[float, float, float] | None
        Å, (z, y, x); None where the file does not say it.
    notes : tuple[str, ...]
        What was assumed while reading.
    """

    path: Path
    format: str
    array: np.ndarray
    voxel_size: tuple[float, float, float] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.array)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one volume in voxels, (d, h, w)."""
        _, d, h, w = self.array.shape
        return d, h, w

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read volumes in the machine's byte order.

        Parameters
        ----------
        rows : np.ndarray, shape (b,)
            Indices of volumes.

        Returns
        -------
        np.ndarray, shape (b, d, h, w)
            The volumes.
        """
        values = np.asarray(self.array[rows])
        return values.astype(values.dtype.newbyteorder("="), copy=False)


_COMPRESSIONS: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}


_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)


def is_compressed(start: bytes) -> bool:
    """Tell whether a file that starts so is gzip, bzip2 or xz."""
    return any(start.startswith(magic) for magic in _COMPRESSIONS)


def plain_file(path: Path) -> BinaryIO:
    """Open a file, or an unpacked temporary copy of a compressed one, at its start.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    BinaryIO
        The open file.

    Raises
    ------
    UserError
        When it cannot be read.
    """
    if path.is_dir():
        raise UserError(f"{path}: a folder; expected a file")
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; expected a file that can be read"
        ) from error
    start = file.read(8)
    file.seek(0)
    for magic, opener in _COMPRESSIONS.items():
        if start.startswith(magic):
            return _unpacked(path, file, opener)
    return file


def first_bytes(path: Path, count: int) -> bytes:
    """Read the first bytes of a file, of its content where it is compressed.

    Parameters
    ----------
    path : Path
        The file.
    count : int
        Number of bytes.

    Returns
    -------
    bytes
        The bytes; fewer where the file is shorter.

    Raises
    ------
    UserError
        When a compressed file is damaged.
    """
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        opener = next(
            (opener for magic, opener in _COMPRESSIONS.items() if start.startswith(magic)), None
        )
        if opener is None:
            return file.read(count)
        try:
            return bytes(opener(file).read(count))
        except _DAMAGED as error:
            raise UserError(
                f"{path}: damaged or truncated compressed file ({error}); copy it again"
            ) from error


def _unpacked(path: Path, file: BinaryIO, opener: Callable[[BinaryIO], Any]) -> BinaryIO:
    copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 (handed out open)
    try:
        with file:
            shutil.copyfileobj(opener(file), copy, 4 << 20)
    except _DAMAGED as error:
        copy.close()
        raise UserError(
            f"{path}: damaged or truncated compressed file ({error}); copy it again"
        ) from error
    copy.seek(0)
    return copy


def size_of(file: BinaryIO) -> int:
    """Return the length of an open file in bytes; its position stays."""
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end


def mapped(file: BinaryIO, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...]) -> np.ndarray:
    """Make a read-only memory map of an open file, which may be closed afterwards.

    Parameters
    ----------
    file : BinaryIO
        The open file.
    dtype : np.dtype[Any]
        Type of the values.
    offset : int
        Where they begin, in bytes.
    shape : tuple[int, ...]
        Shape of the array.

    Returns
    -------
    np.ndarray
        The array.
    """
    array: np.ndarray = np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape)
    return array


VOLUME_SUFFIXES = (".mrc", ".mrcs", ".map", ".rec", ".ccp4", ".em", ".st", ".ali")
PACKED_SUFFIXES = (".gz", ".bz2", ".xz")


def has_volume_name(path: Path) -> bool:
    """Tell whether the name is that of an MRC or EM file, compressed or not."""
    name = path.name.lower()
    for packed in PACKED_SUFFIXES:
        name = name.removesuffix(packed)
    return name.endswith(VOLUME_SUFFIXES)

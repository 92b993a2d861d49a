"""EM files (TOM, AV3, PyTom): a header of 512 bytes, then the volume.

They say neither voxel size nor contrast.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from cryoet_core.formats.stack import VolumeStack, mapped, size_of
from cryoet_core.support.errors import UserError

HEADER_BYTES = 512
TYPES = {1: "i1", 2: "i2", 4: "i4", 5: "f4", 9: "f8"}
BIG_ENDIAN = (0, 3, 5)
"""Machine codes (first byte): 0 OS-9, 3 SGI and 5 Mac are big-endian; 1 VAX, 2 Convex and 6 PC are
not.
"""
_COMPLEX = 8


def has_codes(start: bytes) -> bool:
    """Tell whether a file begins with an EM file's machine and data codes; many others do, too."""
    return len(start) >= HEADER_BYTES and start[0] <= 6 and start[3] in {*TYPES, _COMPLEX}


def is_em(start: bytes, size: int) -> bool:
    """Tell whether a file is an EM file: its codes are known and its length fits the header.

    Parameters
    ----------
    start : bytes
        The first 512 bytes.
    size : int
        Length of the file in bytes.

    Returns
    -------
    bool
        True for an EM file.
    """
    if not has_codes(start):
        return False
    item = np.dtype(TYPES.get(start[3], "c8")).itemsize
    shape = _shape(start)
    return (
        all(0 < edge < 1 << 20 for edge in shape)
        and HEADER_BYTES + item * int(np.prod(shape, dtype=object)) == size
    )


def looks_truncated(start: bytes, size: int) -> bool:
    """Tell whether a file would be an EM file if it were longer.

    Only machine code 6, as written today, is considered.

    Parameters
    ----------
    start : bytes
        The first 512 bytes.
    size : int
        Length of the file in bytes.

    Returns
    -------
    bool
        True for a truncated EM file.
    """
    if not has_codes(start) or start[0] != 6 or start[1:3] != b"\0\0" or start[3] == _COMPLEX:
        return False
    shape = _shape(start)
    item = np.dtype(TYPES[start[3]]).itemsize
    return all(0 < edge <= 1 << 14 for edge in shape) and size < HEADER_BYTES + item * int(
        np.prod(shape, dtype=object)
    )


def open_em(path: Path, file: BinaryIO) -> VolumeStack:
    """Map the volume of an open EM file.

    Parameters
    ----------
    path : Path
        Its name, for messages.
    file : BinaryIO
        The open file, unpacked.

    Returns
    -------
    VolumeStack
        A stack of one volume.

    Raises
    ------
    UserError
        For a truncated file, complex data and motive lists.
    """
    file.seek(0)
    start = file.read(HEADER_BYTES)
    if not is_em(start, size_of(file)):
        raise UserError(f"{path}: no EM file, or a truncated one; copy it again")
    if start[3] == _COMPLEX:
        raise UserError(
            f"{path}: an EM file of complex numbers; expected a volume of real ones; transform it "
            "back"
        )
    shape = _shape(start)
    if shape[0] == 1 and shape[2] == 20:
        raise UserError(
            f"{path}: an EM motive list of {shape[1]} particles, no volume; expected a volume"
        )
    order = ">" if start[0] in BIG_ENDIAN else "<"
    return VolumeStack(
        path, "EM", mapped(file, np.dtype(order + TYPES[start[3]]), HEADER_BYTES, (1, *shape))
    )


def _shape(start: bytes) -> tuple[int, int, int]:
    nx, ny, nz = np.frombuffer(start[4:16], (">" if start[0] in BIG_ENDIAN else "<") + "i4")
    return int(nz), int(ny), int(nx)

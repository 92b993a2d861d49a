"""MRC and CCP4 maps and stacks: modes 0, 1, 2, 6 and 12, whatever their header gets wrong.

Either byte order and axes in any order are read. The header's layout is mrcfile's; what a header
may get wrong (stamp, byte order, axes, sizes, signedness) is decided here from the whole header and
the length of the file, since files of many programs are wrong in one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from cryoet_core.formats.stack import VolumeStack, mapped, size_of
from cryoet_core.support.errors import UserError

HEADER_BYTES = 1024
TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
REFUSED = {
    3: "complex 16-bit",
    4: "complex 32-bit (a Fourier transform)",
    16: "RGB bytes",
    101: "4-bit",
}
_LARGEST = 1 << 20
_IMOD_STAMP = 1146047817
_LITTLE, _BIG = (b"\x44\x44", b"\x44\x41"), (b"\x11\x11",)


@dataclass(frozen=True)
class Header:
    """What an MRC header says, after the doubts are settled.

    Attributes
    ----------
    shape : tuple[int, int, int]
        (sections, rows, columns) as they lie in the file.
    mode : int
        The MRC mode.
    dtype : np.dtype[Any]
        The type of the values, with their byte order.
    axes : tuple[int, int, int]
        For z, y and x, which axis of the file it is.
    cell : tuple[float, float, float] | None
        Å per voxel along z, y, x; None where unknown.
    depth : int
        Sections of one volume.
    offset : int
        Where the values begin, in bytes.
    notes : tuple[str, ...]
        What was assumed.
    """

    shape: tuple[int, int, int]
    mode: int
    dtype: np.dtype[Any]
    axes: tuple[int, int, int]
    cell: tuple[float, float, float] | None
    depth: int
    offset: int
    notes: tuple[str, ...] = ()


def looks_like_mrc(start: bytes) -> bool:
    """Tell whether the first 1024 bytes can be an MRC header of a mode known here."""
    return len(start) >= HEADER_BYTES and bool(_byte_orders(start))


def read_header(path: Path, file: BinaryIO) -> Header:
    """Read and judge the header of an open file.

    Parameters
    ----------
    path : Path
        Its name, for messages.
    file : BinaryIO
        The open file, unpacked, at its start.

    Returns
    -------
    Header
        The header.

    Raises
    ------
    UserError
        When it is no MRC file or cannot be read.
    """
    start = file.read(HEADER_BYTES)
    if len(start) < HEADER_BYTES:
        raise UserError(
            f"{path}: {len(start)} bytes; expected an MRC file, whose header alone has "
            f"{HEADER_BYTES}"
        )
    orders = _byte_orders(start)
    if not orders:
        raise UserError(
            f"{path}: no MRC header (its sizes or mode make no sense in either byte order)"
        )
    stamped = ">" if start[212:214] in _BIG else "<"
    order = stamped if stamped in orders else orders[0]
    raw = _parse(start, order)
    mode = int(raw["mode"])
    if mode not in TYPES:
        raise UserError(
            f"{path}: MRC mode {mode}, {REFUSED[mode]} data; expected mode 0, 1, 2, 6 or 12; "
            "convert it"
        )
    notes = [] if order == stamped or start[212:214] == b"\0\0" else ["the machine stamp is wrong"]
    header = Header(
        shape=(int(raw["nz"]), int(raw["ny"]), int(raw["nx"])),
        mode=mode,
        dtype=np.dtype(order + TYPES[mode]),
        axes=_axes(path, raw, notes),
        cell=_cell(raw),
        depth=_depth(raw),
        offset=HEADER_BYTES + int(raw["nsymbt"]),
    )
    if mode == 0 and _unsigned(start, order, raw):
        header = replace(header, dtype=np.dtype("u1"))
        notes.append("bytes read as unsigned (0 to 255), as its header says")
    _check_size(path, header, size_of(file), notes)
    return replace(header, notes=tuple(notes))


def open_mrc(path: Path, file: BinaryIO) -> VolumeStack:
    """Map the volumes of an open MRC file.

    Parameters
    ----------
    path : Path
        Its name, for messages.
    file : BinaryIO
        The open file, unpacked.

    Returns
    -------
    VolumeStack
        One volume, or the n subtomograms of a stack (nz = n * depth).

    Raises
    ------
    UserError
        When it is no MRC file or cannot be read.
    """
    file.seek(0)
    header = read_header(path, file)
    array = mapped(file, header.dtype, header.offset, header.shape)
    nz, ny, nx = header.shape
    if header.axes != (0, 1, 2):
        array = array.transpose(header.axes)[None]
    elif ny == nx and nz != header.depth and nz % header.depth == 0:
        array = array.reshape(-1, header.depth, ny, nx)
    elif ny == nx and nz % nx == 0:
        array = array.reshape(-1, nx, ny, nx)
    else:
        array = array[None]
    cell = header.cell
    if cell is not None and len(array) > 1:
        # programs write z of a stack per volume, per stack or not at all; its volumes
        # have equal sides, with the x-y sampling
        cell = (cell[1], cell[1], cell[2])
    return VolumeStack(path, "MRC", array, cell, header.notes)


def declared_depth(start: bytes) -> int | None:
    """Return the number of sections of one volume as a header declares it.

    Parameters
    ----------
    start : bytes
        The first 1024 bytes.

    Returns
    -------
    int | None
        Fewer sections than all in a stack; None for no MRC file.
    """
    orders = _byte_orders(start) if len(start) >= HEADER_BYTES else []
    return _depth(_parse(start, orders[0])) if orders else None


def _parse(start: bytes, order: str) -> Any:
    return np.frombuffer(start[:HEADER_BYTES], HEADER_DTYPE.newbyteorder(order))[0]


def _byte_orders(start: bytes) -> list[str]:
    """The byte orders in which sizes and mode make sense."""
    return [order for order in "<>" if _plausible(_parse(start, order))]


def _plausible(raw: Any) -> bool:
    sizes = [int(raw[name]) for name in ("nx", "ny", "nz")]
    known = int(raw["mode"]) in TYPES or int(raw["mode"]) in REFUSED
    return (
        known and all(0 < size <= _LARGEST for size in sizes) and 0 <= int(raw["nsymbt"]) < 1 << 30
    )


def _axes(path: Path, raw: Any, notes: list[str]) -> tuple[int, int, int]:
    stored = [int(raw[name]) for name in ("maps", "mapr", "mapc")]
    if stored == [0, 0, 0]:
        notes.append("axis order not given; taken as x, y, z")
        return 0, 1, 2
    if sorted(stored) != [1, 2, 3]:
        shown = ", ".join(str(axis) for axis in reversed(stored))
        raise UserError(
            f"{path}: axis order {shown}; expected a permutation of 1, 2, 3; repair the header"
        )
    axes = (stored.index(3), stored.index(2), stored.index(1))
    if axes != (0, 1, 2):
        notes.append("axes were permuted; brought to z, y, x")
    return axes


def _cell(raw: Any) -> tuple[float, float, float] | None:
    """Å per voxel along z, y, x; None where the header does not say."""
    with np.errstate(all="ignore"):
        sizes = [float(raw["cella"][axis]) / float(raw["m" + axis] or 1) for axis in "zyx"]
    if not all(np.isfinite(size) and size >= 0 for size in sizes) or sizes[2] <= 0:
        return None
    return sizes[0], sizes[1], sizes[2]


def _depth(raw: Any) -> int:
    """Sections of one volume of a stack, as space group 401 and mz say."""
    nz, mz = int(raw["nz"]), int(raw["mz"])
    return mz if 401 <= int(raw["ispg"]) <= 630 and 0 < mz <= nz else nz


def _unsigned(start: bytes, order: str, raw: Any) -> bool:
    """Tell whether bytes are unsigned.

    IMOD before 2014 wrote unsigned bytes, and its flags say so; others show it in the largest value
    only.
    """
    stamp, flags = np.frombuffer(start[152:160], order + "i4")
    if stamp == _IMOD_STAMP:
        return not flags & 1
    return bool(127 < raw["dmax"] <= 255 and raw["dmin"] >= 0)


def _check_size(path: Path, header: Header, found: int, notes: list[str]) -> None:
    section = header.shape[1] * header.shape[2] * header.dtype.itemsize
    expected = header.offset + section * header.shape[0]
    shape = " x ".join(str(size) for size in reversed(header.shape))
    if found <= header.offset:
        raise UserError(
            f"{path}: a header without data; expected {shape} voxels; copy the file again"
        )
    if found < expected:
        raise UserError(
            f"{path}: truncated: {found} bytes; expected {expected} for {shape} voxels of mode "
            f"{header.mode}; "
            "copy it again"
        )
    if found >= expected + section:
        raise UserError(
            f"{path}: {found} bytes, but {shape} voxels of mode {header.mode} take {expected}; "
            "size and header disagree; repair the header"
        )
    if found > expected:
        notes.append(f"{found - expected} bytes after the data are ignored")

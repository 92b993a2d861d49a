"""IMOD's binary models: every point of every contour is a pick, the objects are classes.

Coordinates are voxels; in x and y 0 is the edge of the first voxel, in z its middle (IMOD's own
convention), so the first voxel's centre is at (0.5, 0.5, 0). All numbers are big-endian. Format:
bio3d.colorado.edu/imod/doc/binspec.html.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cryoet_core.formats.picks.model import PickFile, PickReading, Writing, find
from cryoet_core.formats.picks.rows import Rows, finish
from cryoet_core.formats.picks.voxels import in_voxels
from cryoet_core.formats.relion import UNLABELLED
from cryoet_core.formats.stack import plain_file
from cryoet_core.picks.table import Picks
from cryoet_core.support import files
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import counted

MAGIC = b"IMODV"
CENTRE = np.array([0.5, 0.5, 0.0])
HEADER, OBJECT, CONTOUR, MESH = 240, 176, 16, 16
UNITS = {-9: 10.0, -10: 1.0, -6: 1e4}
"""Å of IMOD's units: nm, Å, µm."""
SCATTERED, OPEN = 1 << 9, 1 << 3
MODEL_FLAGS = 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13
"""z from -0.5; not written by 3dmod yet; several clip planes; material as bytes."""
IMAGE_ORIGIN = 1 << 14
_LARGEST = 1 << 30


@dataclass
class Model:
    """The content of an IMOD model.

    Attributes
    ----------
    names : list[str]
        Names of the objects.
    points : list[list[np.ndarray]]
        Of each object, the points (n, 3) x, y, z of each contour.
    lines : bool
        Whether some contour is more than scattered points.
    scattered : bool
        Whether the object that was read last holds scattered points.
    voxel_size : float | None
        Å.
    shift : np.ndarray, shape (3,)
        Voxels from the model to the whole image.
    angles : bool
        Whether 3dmod's slicer left angles.
    """

    names: list[str] = field(default_factory=list)
    points: list[list[np.ndarray]] = field(default_factory=list)
    lines: bool = False
    scattered: bool = False
    voxel_size: float | None = None
    shift: np.ndarray = field(default_factory=lambda: np.zeros(3))
    angles: bool = False


def read(path: Path, reading: PickReading) -> PickFile:
    """Read the points of a model.

    Parameters
    ----------
    path : Path
        The pick file.
    reading : PickReading
        What the user says of it that the file does not.

    Returns
    -------
    PickFile
        The picks in the order of the file, in Å and (z, y, x).

    Raises
    ------
    UserError
        Where the file is damaged, or nothing says the voxel size.
    """
    with plain_file(path) as file:
        raw = file.read(_LARGEST)
    if not raw.startswith(MAGIC) or len(raw) < HEADER:
        raise UserError(
            f"{path}: no IMOD model, or a truncated one; expected {HEADER} bytes that begin with "
            "IMODV1.2"
        )
    try:
        model = _model(raw)
    except (struct.error, ValueError) as error:
        raise UserError(
            f"{path}: a damaged or truncated IMOD model ({error}); expected whole chunks up to IEOF"
        ) from error
    sets = [np.concatenate(parts) if parts else np.zeros((0, 3)) for parts in model.points]
    xyz = np.concatenate(sets) if sets else np.zeros((0, 3))
    rows = Rows(path, "imod", xyz.astype(np.float64) - CENTRE + model.shift, model.voxel_size)
    if not np.isfinite(rows.xyz).all():
        raise UserError(f"{path}: holds points that are no numbers; repair the model")
    filled = [index for index, points in enumerate(sets) if len(points)]
    if any(model.names[index] for index in filled) or len(filled) > 1:
        names = [name or f"object{index + 1}" for index, name in enumerate(model.names)]
        rows.classes = [
            name for name, points in zip(names, sets, strict=True) for _ in range(len(points))
        ]
    if model.lines:
        rows.notes.append("contours of several points: each point is a pick")
    if model.shift.any():
        rows.notes.append(
            "moved by the image reference of the model (it was made on a part of the image)"
        )
    if model.angles:
        rows.notes.append("slicer angles are not read as orientations")
    return finish(rows, reading)


def _model(raw: bytes) -> Model:
    model = Model()
    flags = struct.unpack_from(">I", raw, 8 + 128 + 16)[0]
    pixel, units = struct.unpack_from(">fi", raw, 8 + 128 + 60 + 20)
    if units in UNITS and np.isfinite(pixel) and pixel > 0:
        model.voxel_size = shortest(pixel) * UNITS[units]
    position = HEADER
    while position + 4 <= len(raw):
        name = raw[position : position + 4]
        position += 4
        if name == b"IEOF":
            return model
        position += _chunk(model, name, raw, position, flags)
    raise ValueError("no IEOF")


def _chunk(model: Model, name: bytes, raw: bytes, position: int, flags: int) -> int:
    """Read one chunk and return its length in bytes."""
    if name == b"OBJT":
        if position + OBJECT > len(raw):
            raise ValueError("an object is cut off")
        model.scattered = bool(struct.unpack_from(">I", raw, position + 132)[0] & SCATTERED)
        model.names.append(
            raw[position : position + 64].split(b"\0")[0].decode("utf-8", "replace").strip()
        )
        model.points.append([])
        return OBJECT
    if name == b"CONT":
        count = struct.unpack_from(">i", raw, position)[0]
        if count < 0 or position + CONTOUR + 12 * count > len(raw) or not model.points:
            raise ValueError(f"a contour of {counted(count, 'point')} is cut off")
        model.points[-1].append(
            np.frombuffer(raw, ">f4", 3 * count, position + CONTOUR).reshape(count, 3)
        )
        model.lines |= count > 1 and not model.scattered
        return int(CONTOUR + 12 * count)
    if name == b"MESH":
        vertices, indices = struct.unpack_from(">ii", raw, position)
        if min(vertices, indices) < 0:
            raise ValueError("a mesh of negative size")
        return MESH + 12 * int(vertices) + 4 * int(indices)
    length = struct.unpack_from(">i", raw, position)[0]
    if length < 0 or position + 4 + length > len(raw):
        raise ValueError(f"chunk {name.decode('latin-1')!r} is cut off")
    if name == b"MINX" and length >= 72:
        _image_reference(
            model,
            np.frombuffer(raw, ">f4", 18, position + 4).reshape(6, 3).astype(np.float64),
            flags,
        )
    model.angles |= name == b"SLAN"
    return 4 + int(length)


def _image_reference(model: Model, reference: np.ndarray, flags: int) -> None:
    """Read the image that the model lies on (MINX).

    It has a scale, the origin of the image and that of the part that was loaded. Rows of
    ``reference``: old scale, old translation, old rotation, then the same for the current image.
    """
    _, old, _, scale, current, _ = reference
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        return
    if np.ptp(scale) <= 1e-3 * scale.max() and scale[0] != 1:
        model.voxel_size = shortest(scale[0])
    if flags & IMAGE_ORIGIN and np.isfinite(old).all() and np.isfinite(current).all():
        shift = (old - current) / scale
        if np.abs(shift).max() > 1e-3:
            model.shift = shift


def shortest(value: float) -> float:
    """Return the decimal number that was meant by a float32."""
    return float(str(np.float32(value)))


def write(path: Path, picks: Picks, writing: Writing) -> list[str]:
    """Replace a file by a model of scattered points, one object for each class, as float32.

    Parameters
    ----------
    path : Path
        The file to replace.
    picks : Picks
        The picks, in Å and (z, y, x).
    writing : Writing
        Geometry of the tomograms, voxel size, box size and optics to write with.

    Returns
    -------
    list[str]
        What the format could not hold, in a few words each.

    Raises
    ------
    UserError
        Where the voxel size of the tomogram is unknown.
    """
    points = (in_voxels(path, picks, writing) + CENTRE).astype(">f4")
    name = str(picks.tomograms[0]) if len(picks) else ""
    size = writing.size_of(path, name) if len(picks) else 0.0
    geometry = find(writing.geometry, name)
    extent = np.ceil(points.max(0, initial=0)).astype(int) + 1
    shape = geometry.shape if geometry else tuple(int(edge) for edge in extent[::-1])
    names = [*picks.class_names, UNLABELLED]
    used = sorted({int(label) for label in picks.classes}, key=lambda label: label % len(names))
    raw = [_header(shape, len(used), size)]
    lost = []
    for number, label in enumerate(used):
        text = names[label].encode()[:63]
        lost += (
            [f"imod cuts the name of class {names[label]!r}"]
            if text != names[label].encode()
            else []
        )
        raw.append(_object(text, number, writing.box))
        members = points[picks.classes == label]
        raw.append(b"CONT" + struct.pack(">iIii", len(members), 0, 0, 0) + members.tobytes())
    files.write_bytes(path, b"".join([*raw, b"IEOF"]))
    return lost


def _header(shape: tuple[int, ...], objects: int, size: float) -> bytes:
    name = b"picks, written by cryoet".ljust(128, b"\0")
    head = struct.pack(">4iIiiii", *shape[::-1], objects, MODEL_FLAGS, 1, 1, 0, 255)
    head += struct.pack(">6f5i", 0, 0, 0, 1, 1, 1, 0, 0, 0, 3, 128)
    return (
        b"IMODV1.2"
        + name
        + head
        + struct.pack(">fii3f", size / 10 or 1.0, -9 if size else 0, 0, 0, 0, 0)
    )


def _object(name: bytes, number: int, box: int | None) -> bytes:
    """An object whose points are drawn as spheres of the box's size."""
    colour = ((0.0, 1.0, 0.0), (1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.5, 0.0))[
        number % 5
    ]
    numbers = struct.pack(">iIii3fi", 1, SCATTERED | OPEN, 0, 1, *colour, box // 2 if box else 5)
    return (
        b"OBJT"
        + name.ljust(64, b"\0")
        + bytes(64)
        + numbers
        + bytes([1, 3, 1, 1, 0, 0, 0, 0])
        + bytes(8)
    )

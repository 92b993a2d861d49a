"""Point annotations of the CryoET Data Portal: one JSON object on each line.

Coordinates are voxels, the first voxel at 0.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from cryoet_core.formats.picks.angles import orthonormal
from cryoet_core.formats.picks.json_text import json_of, location, matrix
from cryoet_core.formats.picks.model import PickFile, PickReading, Writing
from cryoet_core.formats.picks.rows import Rows, finish
from cryoet_core.formats.picks.text import lines_of
from cryoet_core.formats.picks.voxels import in_voxels
from cryoet_core.picks.table import Picks
from cryoet_core.support import files
from cryoet_core.support.errors import UserError

MATRIX = "xyz_rotation_matrix"
_SPACING = re.compile(r"VoxelSpacing(\d+(?:\.\d+)?)")


def read(path: Path, reading: PickReading) -> PickFile:
    """Read the points of one tomogram.

    In the portal's folders, the names say run, voxel size and object.

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
        Names the line that is no point.
    """
    places, matrices = [], []
    for line, text in lines_of(path):
        point = json_of(path, text)
        places.append(location(path, f"line {line}", point))
        rotated = point.get(MATRIX)
        matrices.append(
            np.full((3, 3), np.nan) if rotated is None else matrix(path, f"line {line}", rotated, 3)
        )
    rows = Rows(path, "portal", np.array(places, dtype=np.float64).reshape(-1, 3))
    rotations = np.array(matrices).reshape(-1, 3, 3)
    known = np.isfinite(rotations).all(axis=(1, 2))
    bad = np.flatnonzero(known & ~orthonormal(rotations))
    if len(bad):
        raise UserError(f"{path}: the matrix of point {bad[0] + 1} is no rotation; repair it")
    rows.rotations = rotations[:, ::-1, ::-1].copy() if known.any() else None
    _by_folders(rows)
    return finish(rows, reading)


def _by_folders(rows: Rows) -> None:
    """RUN/Reconstructions/VoxelSpacing10.000/Annotations/100/ribosome-1.0_point.ndjson."""
    parents = rows.path.absolute().parents
    spacing = next((parent for parent in parents if _SPACING.fullmatch(parent.name)), None)
    if spacing is None:
        return
    match = _SPACING.fullmatch(spacing.name)
    rows.voxel_size = float(match[1]) if match else None
    rows.notes.append(f"voxel size and run by the folder {spacing.name}")
    run = (
        spacing.parent.parent
        if spacing.parent.name in ("Reconstructions", "Tomograms")
        else spacing.parent
    )
    rows.tomograms = [run.name] * len(rows.xyz) if run.name else None
    named = re.fullmatch(r"(.+?)-\d+(?:\.\d+)*_\w+\.ndjson", rows.path.name)
    rows.classes = [named[1]] * len(rows.xyz) if named else None


def write(path: Path, picks: Picks, writing: Writing) -> list[str]:
    """Replace a file by the points of one tomogram.

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
    lines = []
    for row, (x, y, z) in enumerate(in_voxels(path, picks, writing)):
        place = {axis: round(float(value), 6) for axis, value in zip("xyz", (x, y, z), strict=True)}
        point = {"type": "point", "location": place}
        rotated = None if picks.rotations is None else picks.rotations[row]
        if rotated is not None and np.isfinite(rotated).all():
            point = {
                "type": "orientedPoint",
                "location": place,
                MATRIX: rotated[::-1, ::-1].round(9).tolist(),
            }
        lines.append(json.dumps(point, allow_nan=False) + "\n")
    files.write_bytes(path, ("".join(lines) or "# no points\n").encode())
    return []

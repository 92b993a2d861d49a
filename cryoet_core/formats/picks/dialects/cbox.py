"""crYOLO's ``.cbox``: a star of boxes with confidences.

x and y are the corner of the box, z is its centre, in voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cryoet_core.formats.picks.dialects.box import box_of, depth
from cryoet_core.formats.picks.model import PickFile, PickReading, Writing
from cryoet_core.formats.picks.rows import Rows, finish
from cryoet_core.formats.picks.voxels import in_voxels
from cryoet_core.formats.star import StarTable, read_star, rounded, write_star
from cryoet_core.picks.table import Picks
from cryoet_core.support import files
from cryoet_core.support.errors import UserError

COLUMNS = ("CoordinateX", "CoordinateY", "Width", "Height")
MISSING = "<NA>"


def read(path: Path, reading: PickReading) -> PickFile:
    """Read the boxes of one tomogram.

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
        Where a column is missing, a value is no number, or there is no z.
    """
    table = next((t for t in read_star(path) if all(column in t for column in COLUMNS)), None)
    if table is None:
        raise UserError(
            f"{path}: a STAR file without boxes; expected data_cryolo with {', '.join(COLUMNS)}"
        )
    x, y, width, height = (table.numbers(column, path) for column in COLUMNS)
    has_depth = "CoordinateZ" in table and any(
        cell != MISSING for cell in table.columns["CoordinateZ"]
    )
    z = table.numbers("CoordinateZ", path) if has_depth else depth(path, len(table), reading)
    rows = Rows(path, "cbox", np.stack([x + width / 2, y + height / 2, z], axis=1))
    if "Confidence" in table:
        rows.scores = _numbers(table.columns["Confidence"])
    return finish(rows, reading)


def _numbers(cells: Sequence[str]) -> np.ndarray:
    try:
        return np.array(["nan" if cell == MISSING else cell for cell in cells], dtype=np.float64)
    except ValueError:
        return np.full(len(cells), np.nan)


def write(path: Path, picks: Picks, writing: Writing) -> list[str]:
    """Replace a file by the boxes of one tomogram.

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
        Where the voxel size of the tomogram or the box size is unknown.
    """
    box = box_of(path, writing)
    voxels = in_voxels(path, picks, writing)
    n, none = len(picks), [MISSING] * len(picks)
    corner = voxels - np.array([box / 2, box / 2, 0])
    columns = {f"Coordinate{axis}": rounded(corner[:, i]) for i, axis in enumerate("XYZ")}
    columns |= {edge: [f"{box:.1f}"] * n for edge in ("Width", "Height", "Depth")}
    columns |= {"EstWidth": none, "EstHeight": none}
    columns["Confidence"] = [
        f"{score:.9g}" if np.isfinite(score) else MISSING for score in picks.scores
    ]
    columns |= {"NumBoxes": none, "Angle": none}
    slices = sorted({f"{z:.6f}" for z in voxels[:, 2]}, key=float)
    tables = [StarTable("cryolo", columns), StarTable("cryolo_include", {"slice_index": slices})]
    text = write_star(tables)
    files.write_bytes(path, f"\ndata_global\n\n_cbox_format_version 1.0\n{text}".encode())
    return []

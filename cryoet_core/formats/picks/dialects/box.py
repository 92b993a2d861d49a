"""EMAN 1's ``.box``: boxes in one slice.

Each line holds the corner x, y of a box and its width and height, in pixels. The centre is corner +
width / 2, as EMAN and crYOLO count it. There is no z: ``PickReading.slice`` gives it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryoet_core.formats.picks.model import PickFile, PickReading, Writing
from cryoet_core.formats.picks.rows import Rows, finish
from cryoet_core.formats.picks.text import number_rows
from cryoet_core.formats.picks.voxels import in_voxels
from cryoet_core.picks.table import Picks
from cryoet_core.support import files
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import counted


def read(path: Path, reading: PickReading) -> PickFile:
    """Read the boxes of one slice.

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
        Names a bad line, or says that the slice is not given.
    """
    table = number_rows(path, (4, 5), "4 (x, y, width, height)")
    rows = Rows(
        path,
        "box",
        np.column_stack([table[:, :2] + table[:, 2:4] / 2, depth(path, len(table), reading)]),
    )
    return finish(rows, reading)


def depth(path: Path, n: int, reading: PickReading) -> np.ndarray:
    """Return z of boxes in one slice.

    Parameters
    ----------
    path : Path
        The file, for messages.
    n : int
        Number of boxes.
    reading : PickReading
        Says the slice.

    Returns
    -------
    np.ndarray, shape (n,)
        z in voxels.

    Raises
    ------
    UserError
        Where the slice is not given.
    """
    if reading.slice is None:
        raise UserError(
            f"{path}: {counted(n, 'box')} in x and y, without z; expected positions in a "
            "tomogram; `slice` N "
            "places them in one "
            "slice"
        )
    return np.full(n, float(reading.slice))


def box_of(path: Path, writing: Writing) -> int:
    """Return the box size in voxels.

    Parameters
    ----------
    path : Path
        The file, for messages.
    writing : Writing
        Says the box size.

    Returns
    -------
    int
        The box size.

    Raises
    ------
    UserError
        Where the box size is not given.
    """
    if writing.box is None:
        raise UserError(
            f"{path}: holds boxes, whose size is unknown; expected their edge in voxels; give `box`"
        )
    return writing.box


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
    corners = in_voxels(path, picks, writing) - box / 2
    text = "".join(f"{x:.4f}\t{y:.4f}\t{box}\t{box}\n" for x, y, _ in corners)
    files.write_bytes(path, (text or "# no picks\n").encode())
    return []

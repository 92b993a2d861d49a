"""STOPGAP's motive list, a star.

Positions are orig + shift in voxels, the first voxel at 1; angles as in AV3.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryoet_core.formats.picks import angles
from cryoet_core.formats.picks.model import PickFile, PickReading
from cryoet_core.formats.picks.names import tomograms_of
from cryoet_core.formats.picks.rows import Rows, class_numbers, finish
from cryoet_core.formats.star import read_star
from cryoet_core.support.errors import UserError

ORIGINAL, SHIFT = ("orig_x", "orig_y", "orig_z"), ("x_shift", "y_shift", "z_shift")
EULER = ("phi", "the", "psi")


def read(path: Path, reading: PickReading) -> PickFile:
    """Read the picks of all tomograms of a motive list.

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
        Where a column is missing or a value is no number.
    """
    table = next((t for t in read_star(path) if all(column in t for column in ORIGINAL)), None)
    if table is None:
        raise UserError(f"{path}: no motive list of STOPGAP; expected {', '.join(ORIGINAL)}")
    xyz = np.stack([table.numbers(column, path) for column in ORIGINAL], axis=1) - 1
    if all(column in table for column in SHIFT):
        xyz += np.stack([table.numbers(column, path) for column in SHIFT], axis=1)
    rows = Rows(path, "stopgap", xyz)
    if "tomo_num" in table:
        rows.tomograms, note = tomograms_of(path, table.numbers("tomo_num", path), reading.names)
        rows.notes += note
    if all(column in table for column in EULER):
        rows.rotations = angles.zxz(
            np.stack([table.numbers(column, path) for column in EULER], axis=1)
        )
    if "score" in table:
        rows.scores = table.numbers("score", path)
    if "class" in table:
        rows.classes = class_numbers(table.numbers("class", path))
    return finish(rows, reading)

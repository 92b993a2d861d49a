"""Dynamo's tables: 26 or more columns of numbers without a header.

Tomograms are numbers that a ``.doc`` names. Columns (from 1): shifts 4-6, tdrot, tilt, narot 7-9,
cc 10, tomogram 20, class 22, x, y, z 24-26. Coordinates are continuous with 0 at the corner of the
first voxel, so its centre is at 0.5.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cryoet_core.formats.picks import angles
from cryoet_core.formats.picks.model import PickFile, PickReading, Writing
from cryoet_core.formats.picks.names import numbered, tomograms_of
from cryoet_core.formats.picks.rows import Rows, class_numbers, finish
from cryoet_core.formats.picks.text import lines_of, number
from cryoet_core.formats.picks.voxels import in_voxels
from cryoet_core.picks.table import Picks
from cryoet_core.support import files
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import counted

SHIFT, EULER, SCORE, TOMOGRAM, CLASS, PLACE = slice(3, 6), slice(6, 9), 9, 19, 21, slice(23, 26)
USED = (*range(3, 10), TOMOGRAM, CLASS, *range(23, 26))
LEAST, WIDTH = 26, 35
CORNER = 0.5
_COMPLEX = re.compile(r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)[-+][\d.]+(?:[eE][-+]?\d+)?i")


def read(path: Path, reading: PickReading) -> PickFile:
    """Read the picks of all tomograms of a table.

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
        Names the first line with too few columns or with what is no number.
    """
    table = _table(path)
    rows = Rows(path, "dynamo", table[:, PLACE] + table[:, SHIFT] - CORNER)
    beside = path.with_name(re.sub(r"\.tbl(\.\w+)?$", "", path.name) + ".doc")
    names = reading.names or (beside if beside.is_file() else None)
    rows.tomograms, rows.notes = tomograms_of(path, table[:, TOMOGRAM], names)
    rows.rotations = angles.dynamo(table[:, EULER]) if table[:, EULER].any() else None
    rows.scores = table[:, SCORE] if table[:, SCORE].any() else None
    rows.classes = class_numbers(table[:, CLASS])
    return finish(rows, reading)


def _table(path: Path) -> np.ndarray:
    """The columns that are read, in their places; the others stay 0: some hold complex numbers."""
    lines = lines_of(path)
    table = np.zeros((len(lines), LEAST))
    for row, (line, content) in enumerate(lines):
        cells = content.replace(",", " ").split()
        if len(cells) < LEAST:
            raise UserError(
                f"{path}: line {line} has {counted(len(cells), 'column')}; expected {LEAST} or more"
            )
        try:
            values = np.array([float(cells[column]) for column in USED])
        except ValueError:
            values = np.array([number(path, line, _real(cells[column])) for column in USED])
        if not np.isfinite(values).all():
            raise UserError(
                f"{path}: line {line} holds a value that is not finite; expected numbers"
            )
        table[row, USED] = values
    return table


def _real(cell: str) -> str:
    match = _COMPLEX.fullmatch(cell)
    return match[1] if match else cell


def write(path: Path, picks: Picks, writing: Writing) -> list[str]:
    """Replace a file by a table, and the ``.doc`` beside it, which names the tomograms.

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
        Where the voxel size of a tomogram is unknown.
    """
    voxels = in_voxels(path, picks, writing) + CORNER
    numbers = numbered(str(name) for name in picks.tomograms)
    rotated = np.zeros((len(picks), 3))
    if picks.rotations is not None:
        rotated = np.nan_to_num(angles.to_dynamo(picks.rotations))
    lines = []
    for row in range(len(picks)):
        cells = ["0"] * WIDTH
        cells[0], cells[1], cells[2] = str(row + 1), "1", "1"
        cells[EULER] = [f"{angle:.6f}" for angle in rotated[row]]
        cells[SCORE] = f"{picks.scores[row]:.9g}" if np.isfinite(picks.scores[row]) else "0"
        cells[TOMOGRAM] = str(numbers[str(picks.tomograms[row])])
        cells[CLASS] = str(picks.classes[row] + 1)
        cells[PLACE] = [f"{place:.6f}" for place in voxels[row]]
        lines.append(" ".join(cells) + "\n")
    named = "".join(f"{number} {name}\n" for name, number in numbers.items())
    files.write_bytes(path.with_suffix(".doc"), (named or "# no tomograms\n").encode())
    files.write_bytes(path, ("".join(lines) or "# no picks\n").encode())
    unknown = int((~np.isfinite(picks.scores)).sum())
    return (
        [f"{unknown} of the scores are unknown and stand as 0"] if 0 < unknown < len(picks) else []
    )

"""AV3 and TOM motive lists: an EM file with 20 numbers for each particle.

Positions are voxels from 1; the angles are phi, psi, theta as in STOPGAP.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryoet_core.formats import em
from cryoet_core.formats.picks import angles
from cryoet_core.formats.picks.model import PickFile, PickReading
from cryoet_core.formats.picks.names import tomograms_of
from cryoet_core.formats.picks.rows import Rows, class_numbers, finish
from cryoet_core.formats.stack import plain_file, size_of
from cryoet_core.support.errors import UserError

WIDTH = 20
SCORE, TOMOGRAM, CLASS = 0, 4, 19
PLACE, SHIFT, EULER = slice(7, 10), slice(10, 13), [16, 18, 17]
"""Columns from 0; the angles are stored phi, psi, theta."""


def is_motive_list(start: bytes, size: int) -> bool:
    """Tell whether an EM file has rows of 20 real numbers.

    Parameters
    ----------
    start : bytes
        The first 512 bytes.
    size : int
        Length of the file in bytes.

    Returns
    -------
    bool
        True for a motive list.
    """
    return (
        em.is_em(start, size)
        and start[3] in (5, 9)
        and _shape(start)[0] == WIDTH
        and _shape(start)[2] == 1
    )


def _shape(start: bytes) -> list[int]:
    order = ">" if start[0] in em.BIG_ENDIAN else "<"
    return [int(edge) for edge in np.frombuffer(start[4:16], f"{order}i4")]


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
        Where it is no motive list or holds a number that is not finite.
    """
    with plain_file(path) as file:
        start = file.read(em.HEADER_BYTES)
        if not is_motive_list(start, size_of(file)):
            raise UserError(
                f"{path}: no motive list; expected an EM file of {WIDTH} numbers a particle"
            )
        order = ">" if start[0] in em.BIG_ENDIAN else "<"
        table = (
            np.frombuffer(file.read(), f"{order}{em.TYPES[start[3]]}")
            .reshape(-1, WIDTH)
            .astype(np.float64)
        )
    used = table[:, [TOMOGRAM, *range(7, 13)]]
    bad = np.flatnonzero(~np.isfinite(used).all(axis=1))
    if len(bad):
        raise UserError(
            f"{path}: row {bad[0]} holds a position or tomogram that is no number; repair it"
        )
    rows = Rows(path, "av3", table[:, PLACE] + table[:, SHIFT] - 1, scores=table[:, SCORE])
    rows.tomograms, rows.notes = tomograms_of(path, table[:, TOMOGRAM], reading.names)
    rows.rotations = angles.zxz(table[:, EULER])
    rows.classes = class_numbers(np.nan_to_num(table[:, CLASS]))
    return finish(rows, reading)

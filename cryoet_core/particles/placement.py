"""Which picks lie in which tomogram; what is wrong where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cryoet_core.picks.hypotheses import likeliest_cause
from cryoet_core.picks.table import Picks, join
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import Tomogram, Tomograms
from cryoet_core.tomograms.attaching import assigned, read
from cryoet_core.tomograms.reading import Draft
from cryoet_core.tomograms.tomogram import shown_names

SLACK = 1.0
"""Voxels that a centre may lie beyond the outermost voxels: a sub-voxel fit or rounding at the
border.
"""


def read_into(files: Sequence[Path], tomograms: Tomograms) -> tuple[Picks, list[str]]:
    """Read picks into the tomograms that their names mean, wherever they lie.

    Parameters
    ----------
    files : sequence of Path
        Files of picks.
    tomograms : Tomograms
        The tomograms.

    Returns
    -------
    picks : Picks
        The picks of all files.
    notes : list of str
        What was assumed.

    Raises
    ------
    UserError
        A file holds no picks, or names match no tomogram.
    """
    drafts = [Draft(t.name, t.volume, t.where, t.voxel_size) for t in tomograms]
    notes: list[str] = []
    parts = [
        part
        for file in files
        for part in assigned(read(file, drafts, notes), file, drafts, notes).values()
    ]
    return join(parts), notes


def rows_in(picks: Picks, tomograms: Tomograms) -> dict[str, np.ndarray]:
    """Return the rows of the picks in each tomogram.

    Parameters
    ----------
    picks : Picks
        The picks.
    tomograms : Tomograms
        The tomograms.

    Returns
    -------
    dict of str to numpy.ndarray
        Tomogram name -> rows, in the order of the tomograms; those without picks are left out.

    Raises
    ------
    UserError
        There are no picks, or some are in a tomogram that is not there.
    """
    if not len(picks):
        raise UserError("`picks`: holds no picks; expected at least one")
    names, counts = np.unique(picks.tomograms.astype(str), return_counts=True)
    known = {tomogram.name for tomogram in tomograms}
    unknown = [
        (str(name), int(count))
        for name, count in zip(names, counts, strict=True)
        if name not in known
    ]
    if unknown:
        total = sum(count for _, count in unknown)
        name, count = unknown[0]
        verb = "is" if total == 1 else "are"
        more = f" and {len(unknown) - 1} more names" if len(unknown) > 1 else ""
        raise UserError(
            f"`picks`: {total:,} of {len(picks):,} picks {verb} in tomograms that `data` does not "
            f"have ({count:,} in {name!r}{more}); expected "
            f"{shown_names(tomograms)}; rename one or the other, or give all tomograms"
        )
    return {
        t.name: rows for t in tomograms if len(rows := np.flatnonzero(picks.tomograms == t.name))
    }


def outside(positions: np.ndarray, tomogram: Tomogram) -> np.ndarray:
    """Return which positions do not lie in the tomogram.

    Parameters
    ----------
    positions : numpy.ndarray
        (n, 3), Å, axes (z, y, x).
    tomogram : Tomogram
        The tomogram.

    Returns
    -------
    numpy.ndarray
        (n,) bool; centres up to ``SLACK`` voxels beyond the outermost voxels count as inside.
    """
    slack = SLACK * tomogram.voxel_size
    return np.asarray(((positions < -slack) | (positions > tomogram.extent + slack)).any(axis=1))


def describe_outside(positions: np.ndarray, beyond: np.ndarray, tomogram: Tomogram) -> str:
    """Say how many positions lie outside, how far, and the likeliest cause; for a message.

    Parameters
    ----------
    positions : numpy.ndarray
        (n, 3), Å, axes (z, y, x).
    beyond : numpy.ndarray
        (n,) bool, those outside.
    tomogram : Tomogram
        The tomogram.
    """
    worst = positions[beyond]
    parts = []
    for axis, name in enumerate("zyx"):
        low, high, end = worst[:, axis].min(), worst[:, axis].max(), tomogram.extent[axis]
        if low < 0 or high > end:
            parts.append(f"{name} from {low:.0f} to {high:.0f} of 0 to {end:.0f} Å")
    cause = likeliest_cause(positions, tomogram.shape, tomogram.voxel_size)
    because = f"; the likeliest cause: {cause}" if cause else ""
    verb = "lies" if beyond.sum() == 1 else "lie"
    return (
        f"{int(beyond.sum()):,} of {len(positions):,} picks {verb} outside tomogram "
        f"{tomogram.name} ({', '.join(parts)}){because}"
    )

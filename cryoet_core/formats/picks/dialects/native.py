"""Picks of this program in HDF5, which hold everything; see `formats.picks.store_file`."""

from __future__ import annotations

from pathlib import Path

from cryoet_core.formats.picks.model import PickFile, PickReading, Writing
from cryoet_core.formats.picks.store_file import load_picks, save_picks
from cryoet_core.picks.table import Picks


def read(path: Path, reading: PickReading) -> PickFile:
    """Read the picks of a file that this program wrote.

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
        When the file is missing, damaged or another.
    """
    return PickFile(load_picks(path), [], "cryoet")


def write(path: Path, picks: Picks, writing: Writing) -> list[str]:
    """Replace a file by picks, which lose nothing.

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
        When the disk refuses.
    """
    save_picks(path, picks)
    return []

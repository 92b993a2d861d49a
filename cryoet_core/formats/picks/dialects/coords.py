"""``.coords`` and text of three columns: x, y, z in voxels, the first voxel at 0.

PyTom's header names the tomogram.
"""

from __future__ import annotations

from pathlib import Path

from cryoet_core.formats.picks.model import PickFile, PickReading, Writing
from cryoet_core.formats.picks.rows import Rows, finish
from cryoet_core.formats.picks.text import comments_of, number_rows
from cryoet_core.formats.picks.voxels import in_voxels
from cryoet_core.picks.table import Picks
from cryoet_core.support import files


def read(path: Path, reading: PickReading) -> PickFile:
    """Read the picks of one tomogram.

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
        Names the first line that is anything but three numbers.
    """
    rows = Rows(path, "coords", number_rows(path, (3,), "3 (x, y, z)"))
    said = comments_of(path)
    name = said.get("TOMONAME")
    if name:
        rows.tomograms = [name] * len(rows.xyz)
    binning = said.get("BINNINGFACTOR", "1")
    if binning not in ("1", "1.0"):
        rows.notes.append(f"picked in a tomogram binned by {binning}, whose voxel size is meant")
    return finish(rows, reading)


def write(path: Path, picks: Picks, writing: Writing) -> list[str]:
    """Replace a file by the picks of one tomogram.

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
    voxels = in_voxels(path, picks, writing)
    text = "".join(f"{x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in voxels)
    files.write_bytes(path, (text or "# no picks\n").encode())
    return []

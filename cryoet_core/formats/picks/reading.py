"""Read pick files of any format, and say what one is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryoet_core.formats.picks.detecting import detect_dialect
from cryoet_core.formats.picks.formats import format_of
from cryoet_core.formats.picks.model import Geometry, PickFile, PickReading
from cryoet_core.support.errors import UserError


def read_picks(path: Path | str, reading: PickReading | None = None) -> PickFile:
    """Read every pick of a file, in its order, in Å and (z, y, x).

    The dialect is recognised by the content unless it is given.

    Parameters
    ----------
    path : Path | str
        The pick file.
    reading : PickReading | None, optional
        What the user says of it that the file does not.

    Returns
    -------
    PickFile
        The picks.

    Raises
    ------
    UserError
        With one line where it holds no picks, is damaged, or needs what neither it nor ``reading``
        says.
    """
    path, reading = Path(path), reading or PickReading()
    reading.refuse_nonsense()
    return format_of(reading.dialect or detect_dialect(path)).read(path, reading)


def describe_picks(path: Path | str) -> dict[str, Any]:
    """Return the facts of a pick file for ``cryoet data info``.

    Parameters
    ----------
    path : Path | str
        The pick file.

    Returns
    -------
    dict[str, Any]
        The dialect, and, where the file says enough, the numbers of picks, classes and tomograms.

    Raises
    ------
    UserError
        Where it holds no picks.
    """
    form = format_of(detect_dialect(path))
    found, needs = _as_far_as_it_says(Path(path))
    picks = found.picks
    names = list(dict.fromkeys(str(name) for name in picks.tomograms))
    facts: dict[str, Any] = {
        "dialect": found.dialect,
        "format": form.what,
        "picks": len(picks),
        "tomograms": names[:20] if found.named else None,
        "classes": {
            name: int((picks.classes == index).sum())
            for index, name in enumerate(picks.class_names)
        },
        "scores": bool((picks.scores == picks.scores).any()),
        "angles": picks.rotations is not None,
        "needs": needs or None,
    }
    if needs:
        return facts
    if len(picks):
        facts["from_zyx"], facts["to_zyx"] = (
            edge.round(1).tolist() for edge in (picks.positions.min(0), picks.positions.max(0))
        )
    return facts | {"voxel_size": found.voxel_size, "notes": found.notes}


def _as_far_as_it_says(path: Path) -> tuple[PickFile, str]:
    """The picks, and what a file needs to be read; they are somewhere then."""
    try:
        return read_picks(path), ""
    except UserError as error:
        needs = str(error).removeprefix(f"{path}: ")
    anywhere = {"": Geometry((0, 0, 0), 1.0)}
    return read_picks(
        path, PickReading(voxel_size=1.0, slice=0.0, unit="angstrom", geometry=anywhere)
    ), needs

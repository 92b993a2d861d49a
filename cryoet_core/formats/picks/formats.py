"""The table of the formats of picks: names, what each holds, and its module."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cryoet_core.formats.picks.model import PickFile, PickReading, Writing
from cryoet_core.picks.table import Picks
from cryoet_core.support.errors import UserError

EVERYTHING = frozenset(
    {"scores", "classes", "class names", "rotations", "tomograms", "extra", "depth", "unknown"}
)
"""What a pick may have. "tomograms": several in a file. "depth": z. "unknown": a rotation in some
rows only.
"""


@dataclass(frozen=True)
class Format:
    """One dialect.

    Attributes
    ----------
    dialect : str
        Its name.
    what : str
        What a file of it is, in words.
    endings : tuple[str, ...]
        Endings of file names; the first is written.
    holds : frozenset[str]
        What it can hold, of ``EVERYTHING``.
    reader : str
        The module that reads it.
    writer : str | None
        The module that writes it; None for a format that is only read.
    beside : tuple[str, ...]
        Endings of files that are written with it.
    """

    dialect: str
    what: str
    endings: tuple[str, ...]
    holds: frozenset[str]
    reader: str
    writer: str | None = None
    beside: tuple[str, ...] = ()

    @property
    def in_voxels(self) -> bool:
        """Whether its coordinates count in voxels when it is written."""
        return self.dialect not in ("csv", "relion5", "copick", "cryoet")

    def read(self, path: Path, reading: PickReading) -> PickFile:
        """Read a file of this dialect.

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
            When the file is damaged, or needs what nothing says.
        """
        return cast(PickFile, _function(self.reader, "read")(path, reading))

    def write(self, path: Path, picks: Picks, writing: Writing) -> list[str]:
        """Write a file of this dialect.

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
            When the format is only read, or needs what nothing says.
        """
        if self.writer is None:
            raise UserError(
                f"`dialect` {self.dialect}: is read only; expected one of {', '.join(WRITTEN)}"
            )
        return cast(list[str], _function(self.writer, "write")(path, picks, writing))


def _function(module: str, name: str) -> Callable[..., Any]:
    return cast(
        Callable[..., Any],
        getattr(importlib.import_module(f"cryoet_core.formats.picks.dialects.{module}"), name),
    )


_PLACED = frozenset({"rotations", "depth", "unknown"})
_STAR = frozenset({"scores", "classes", "class names", "rotations", "tomograms", "depth"})
FORMATS = (
    Format("csv", "a table of picks", (".csv", ".tsv"), EVERYTHING, "csv", "csv"),
    Format("relion30", "picks in a RELION 3.0 star", (".star",), _STAR, "relion", "relion_write"),
    Format("relion31", "picks in a RELION 3.1 star", (".star",), _STAR, "relion", "relion_write"),
    Format("relion4", "picks in a RELION 4 star", (".star",), _STAR, "relion", "relion_write"),
    Format("relion5", "picks in a RELION 5 star", (".star",), _STAR, "relion", "relion_write"),
    Format("warp", "picks in a star of Warp", (".star",), _STAR, "relion", "relion_write"),
    Format("stopgap", "a motive list of STOPGAP", (".star",), _STAR, "stopgap"),
    Format("av3", "a motive list of AV3 or TOM", (".em",), _STAR, "av3"),
    Format(
        "dynamo",
        "a table of Dynamo",
        (".tbl",),
        _STAR - {"class names"},
        "dynamo",
        "dynamo",
        (".doc",),
    ),
    Format(
        "imod",
        "an IMOD model",
        (".mod",),
        frozenset({"classes", "class names", "depth"}),
        "imod",
        "imod",
    ),
    Format(
        "coords",
        "coordinates in voxels",
        (".coords", ".txt"),
        frozenset({"depth"}),
        "coords",
        "coords",
    ),
    Format("cbox", "boxes of crYOLO", (".cbox",), frozenset({"scores", "depth"}), "cbox", "cbox"),
    Format("box", "boxes of EMAN 1 in one slice", (".box",), frozenset(), "box", "box"),
    Format(
        "eman",
        "boxes of EMAN 2",
        ("_info.json",),
        _STAR - {"rotations", "tomograms"},
        "eman",
        "eman",
    ),
    Format("copick", "picks of copick", (".json",), _STAR, "copick", "copick"),
    Format("portal", "points of the CryoET Data Portal", (".ndjson",), _PLACED, "portal", "portal"),
    Format("cryoet", "picks of cryoet", (".h5",), EVERYTHING, "native", "native"),
)
BY_DIALECT = {form.dialect: form for form in FORMATS}
DIALECTS = tuple(BY_DIALECT)
WRITTEN = tuple(form.dialect for form in FORMATS if form.writer)
_DEFAULTS = {"relion": "relion31", ".star": "relion31"}


def format_of(dialect: str) -> Format:
    """Return the format of a dialect; "relion" is the version that most programs read.

    Parameters
    ----------
    dialect : str
        Name of the dialect.

    Returns
    -------
    Format
        The format.

    Raises
    ------
    UserError
        When there is no such dialect.
    """
    name = _DEFAULTS.get(dialect, dialect)
    if name not in BY_DIALECT:
        raise UserError(f"`dialect` {dialect}: unknown; expected one of {', '.join(DIALECTS)}")
    return BY_DIALECT[name]


def format_for(path: Path) -> Format:
    """Return the format that the ending of a file name stands for.

    Parameters
    ----------
    path : Path
        The file name.

    Returns
    -------
    Format
        The format.

    Raises
    ------
    UserError
        Where the ending stands for none.
    """
    name = path.name.lower()
    if path.suffix.lower() in _DEFAULTS:
        return BY_DIALECT[_DEFAULTS[path.suffix.lower()]]
    for form in FORMATS:
        if form.writer and name.endswith(form.endings):
            return form
    raise UserError(f"{path}: its name says no format; expected `dialect` {', '.join(WRITTEN)}")

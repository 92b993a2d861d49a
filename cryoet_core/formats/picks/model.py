"""What the user says of a pick file, what is in it, and what a file is written with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryoet_core.picks.table import Picks
from cryoet_core.support.errors import UserError

UNITS = {"angstrom": 1.0, "nm": 10.0, "voxel": None}


@dataclass(frozen=True)
class Geometry:
    """Size of a tomogram.

    Attributes
    ----------
    shape : tuple[int, int, int]
        Shape in voxels, (z, y, x).
    voxel_size : float
        Å.
    """

    shape: tuple[int, int, int]
    voxel_size: float


@dataclass(frozen=True)
class PickReading:
    """What the user says of a pick file that the file does not.

    Attributes
    ----------
    voxel_size : float | None
        Å, where the file counts in voxels and does not say their size.
    coordinate_pixel_size : float | None
        Å that its coordinates count in, also where the file says another.
    geometry : Mapping[str, Geometry] | None
        The tomograms, by name: their voxel sizes where nothing else says it, and their middles for
        formats that count from there.
    tomograms_star : Path | None
        A RELION tomogram set, for the same.
    tomogram : str | None
        The name for picks of a file that names none.
    names : Path | None
        A file of tomogram numbers and names.
    slice : float | None
        The slice (voxel index in z) of files that hold x and y alone.
    unit : str | None
        "angstrom", "nm" or "voxel", for tables whose columns do not say it.
    class_column : str | None
        The column with the class.
    class_name : str
        The class where the file has no classes.
    dialect : str | None
        The format, where the content does not tell.
    """

    voxel_size: float | None = None
    coordinate_pixel_size: float | None = None
    geometry: Mapping[str, Geometry] | None = None
    tomograms_star: Path | None = None
    tomogram: str | None = None
    names: Path | None = None
    slice: float | None = None
    unit: str | None = None
    class_column: str | None = None
    class_name: str = "particle"
    dialect: str | None = None

    def refuse_nonsense(self) -> None:
        """Check the values.

        Raises
        ------
        UserError
            Names the argument that is wrong.
        """
        for name in ("voxel_size", "coordinate_pixel_size"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"`{name}` {value}: expected a number of Å above 0")
        if self.unit is not None and self.unit not in UNITS:
            raise UserError(f"`unit` {self.unit}: expected one of {', '.join(UNITS)}")


@dataclass(frozen=True)
class PickFile:
    """The content of a pick file, row by row as it stands there.

    Attributes
    ----------
    picks : Picks
        The picks.
    notes : list[str]
        What was assumed.
    dialect : str
        The format of the file.
    voxel_size : float | None
        Å that its coordinates count in; None where they are Å or count several.
    named : bool
        Whether the file itself says in which tomogram its picks are.
    optics : Mapping[str, float]
        "voltage" (kV), "cs" (mm) and "amplitude_contrast", where a star says the same of all.
    """

    picks: Picks
    notes: list[str]
    dialect: str
    voxel_size: float | None = None
    named: bool = True
    optics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Writing:
    """What picks are written with.

    Attributes
    ----------
    dialect : str
        The format.
    geometry : Mapping[str, Geometry]
        The tomograms, by name.
    voxel_size : float | None
        Å, for tomograms that ``geometry`` lacks.
    box : int | None
        Box size in voxels, for formats of boxes.
    optics : Mapping[str, float]
        As in `PickFile`, for stars.
    """

    dialect: str
    geometry: Mapping[str, Geometry] = field(default_factory=dict)
    voxel_size: float | None = None
    box: int | None = None
    optics: Mapping[str, float] = field(default_factory=dict)

    def size_of(self, path: Path, tomogram: str) -> float:
        """Return the voxel size of a tomogram.

        Parameters
        ----------
        path : Path
            The file, for messages.
        tomogram : str
            Name of the tomogram.

        Returns
        -------
        float
            Å.

        Raises
        ------
        UserError
            Where nothing says it.
        """
        found = find(self.geometry, tomogram)
        size = found.voxel_size if found else self.voxel_size
        if size is None:
            raise UserError(
                f"{path}: counts in voxels, and the voxel size of tomogram {tomogram!r} is "
                "unknown; expected its size "
                "in Å; give `voxel_size` or the tomogram (`data`)"
            )
        return size

    def geometry_of(self, path: Path, tomogram: str) -> Geometry:
        """Return shape and voxel size of a tomogram.

        Parameters
        ----------
        path : Path
            The file, for messages.
        tomogram : str
            Name of the tomogram.

        Returns
        -------
        Geometry
            The geometry.

        Raises
        ------
        UserError
            Where nothing says it.
        """
        found = find(self.geometry, tomogram)
        if found is None:
            raise UserError(
                f"{path}: counts from the middle of the tomogram, and the size of {tomogram!r} is "
                "unknown; expected "
                "its shape; give the tomogram (`data`) or a RELION tomogram set (`tomograms`)"
            )
        return found


def find(geometry: Mapping[str, Geometry] | None, tomogram: str) -> Geometry | None:
    """Find a tomogram by its name, or by its name without folder and ending.

    Parameters
    ----------
    geometry : Mapping[str, Geometry] | None
        The tomograms, by name.
    tomogram : str
        The name that is sought.

    Returns
    -------
    Geometry | None
        The tomogram; where no name fits, any of them if all are alike; else None.
    """
    from cryoet_core.formats.picks.names import tomogram_name

    if not geometry:
        return None
    if tomogram in geometry:
        return geometry[tomogram]
    same = [
        known for name, known in geometry.items() if tomogram_name(name) == tomogram_name(tomogram)
    ]
    known = same or list(geometry.values())
    return known[0] if all(other == known[0] for other in known) else None

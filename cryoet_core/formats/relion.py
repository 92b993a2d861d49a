"""The meaning of the particle columns of RELION 3.0, 3.1, 4 and 5 and of similar programs.

Coordinates are pixels of some image, or since 5 Å from the tomogram's centre; origins are shifts
that centre the particle in its box, in pixels (3.0) or Å; angles are (rot, tilt, psi) in degrees.
All become Å from the corner, (z, y, x), and active rotations.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.algorithms.orientation import euler_to_matrix
from cryoet_core.formats.star import StarTable, read_star
from cryoet_core.support.errors import UserError

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
BOX_ANGLES = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
ZYX = ("Z", "Y", "X")
UNLABELLED = "unlabelled"
"""The class name that stands for none in a star that was exported."""
LABEL_COLUMNS = ("rlnGroupName", "rlnClassNumber", "rlnTomoParticleClass", "rlnGroupNumber")


@dataclass
class Particles:
    """A particle table in the project's terms; row i is row i of the file.

    Attributes
    ----------
    path : Path
        The star.
    table : StarTable
        The particles as text.
    dialect : str
        "relion30", "relion31", "relion4" or "relion5".
    pixel_size : float | None
        Å of the images, None where the file does not say it.
    image : list[str] | None
        The n texts of rlnImageName.
    tomogram : np.ndarray, shape (n,), or None
        Names of the tomograms.
    rotations : np.ndarray, shape (n, 3, 3), or None
        Active rotations from the reference frame to the tomogram frame.
    origin : np.ndarray, shape (n, 3), or None
        Shift that centres the particle, in Å.
    positions : np.ndarray, shape (n, 3), or None
        Positions of the particles in Å, (z, y, x).
    dimensions : int | None
        2 for stacks of tilt images, 3 for volumes, None where the file does not say it.
    optics : dict[str, float]
        Voltage, Cs and amplitude contrast, where all particles have the same.
    extras : dict[str, np.ndarray]
        Further columns with n rows each.
    notes : list[str]
        What was assumed.
    """

    path: Path
    table: StarTable
    dialect: str
    pixel_size: float | None = None
    image: list[str] | None = None
    tomogram: np.ndarray | None = None
    rotations: np.ndarray | None = None
    origin: np.ndarray | None = None
    positions: np.ndarray | None = None
    dimensions: int | None = None
    optics: dict[str, float] = field(default_factory=dict)
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.table)

    def labels(self, column: str) -> np.ndarray:
        """Return the class name of each particle from a column.

        Parameters
        ----------
        column : str
            Name of the column, with or without the underscore.

        Returns
        -------
        np.ndarray, shape (n,)
            The names, "" for none.

        Raises
        ------
        UserError
            When there is no such column.
        """
        name = column.removeprefix("_")
        if name not in self.table:
            close = difflib.get_close_matches(name, self.table.columns, 3, 0.5) or list(
                self.table.columns
            )
            raise UserError(
                f"`label_column` {column}: {self.path} has no such column; it has "
                f"{', '.join(close)}"
            )
        return np.array(
            ["" if text == UNLABELLED else text for text in self.table.columns[name]], dtype=object
        )


def read_particles(
    path: Path,
    coordinate_pixel_size: float | None = None,
    tomograms: Path | None = None,
    voxel_size: float | None = None,
) -> Particles:
    """Read a particle star.

    Parameters
    ----------
    path : Path
        The star.
    coordinate_pixel_size : float | None, optional
        Å that a unit of rlnCoordinateX stands for, where it is known better than the file says.
    tomograms : Path | None, optional
        A RELION tomogram set, for coordinates from the tomogram's centre.
    voxel_size : float | None, optional
        Å of a pixel of the images, where the file does not say it.

    Returns
    -------
    Particles
        The particles.

    Raises
    ------
    UserError
        When it is no particle table of RELION or a value is no number.
    """
    tables = read_star(path)
    table = _particle_table(path, tables)
    optics = next((t for t in tables if t.name == "optics" and "rlnOpticsGroup" in t), None)
    general = next((t for t in tables if "rlnTomoSubTomosAre2DStacks" in t), None)
    if not len(table):
        raise UserError(f"{path}: the particle table has no rows; expected at least one particle")
    particles = Particles(path, table, _dialect(table, optics))
    joined = _with_optics(path, table, optics)
    particles.pixel_size = _pixel_size(path, joined)
    dimensions = joined.get("rlnImageDimensionality")
    particles.dimensions = None if dimensions is None else int(dimensions.max())
    if general is not None and general.columns["rlnTomoSubTomosAre2DStacks"][0] == "1":
        particles.dimensions = 2
    particles.image = table.columns.get("rlnImageName")
    name = next(
        (column for column in ("rlnTomoName", "rlnMicrographName") if column in table), None
    )
    if name:
        particles.tomogram = np.array(table.columns[name], dtype=object)
    particles.rotations = _rotations(path, table)
    particles.origin = _origin(path, table, particles.pixel_size or voxel_size)
    _place(particles, joined, coordinate_pixel_size, tomograms)
    _facts(particles, joined)
    return particles


def _particle_table(path: Path, tables: list[StarTable]) -> StarTable:
    known = ("rlnImageName", "rlnCoordinateX", "rlnCenteredCoordinateXAngst", "rlnTomoParticleName")
    found = [
        table
        for table in tables
        if any(column in table for column in known) and table.name != "optics"
    ]
    named = [table for table in found if table.name == "particles"]
    if found:
        return (named or sorted(found, key=len))[-1]
    columns = list(max(tables, key=len).columns)
    what = (
        "a STOPGAP motive list"
        if "motl_idx" in columns
        else f"a table of {', '.join(columns[:4])}, ..."
    )
    raise UserError(
        f"{path}: {what}; expected particles of RELION (rlnImageName, rlnCoordinateX); convert it"
    )


def _dialect(table: StarTable, optics: StarTable | None) -> str:
    if optics is None:
        return "relion30" if "rlnOpticsGroup" not in table else "relion31"
    if "rlnCenteredCoordinateXAngst" in table:
        return "relion5"
    return "relion4" if "rlnTomoName" in table else "relion31"


def _with_optics(path: Path, table: StarTable, optics: StarTable | None) -> dict[str, np.ndarray]:
    """Numeric optics columns for each particle: its own, or those of its optics group."""
    wanted = (
        *(
            "rlnImagePixelSize",
            "rlnPixelSize",
            "rlnDetectorPixelSize",
            "rlnMagnification",
            "rlnImageDimensionality",
        ),
        *(
            "rlnTomoTiltSeriesPixelSize",
            "rlnVoltage",
            "rlnSphericalAberration",
            "rlnAmplitudeContrast",
        ),
    )
    joined = {column: table.numbers(column, path) for column in wanted if column in table}
    if optics is None:
        return joined
    rows = {group: row for row, group in enumerate(optics.columns["rlnOpticsGroup"])}
    groups = table.columns.get("rlnOpticsGroup", [optics.columns["rlnOpticsGroup"][0]] * len(table))
    unknown = sorted(set(groups) - set(rows))
    if unknown:
        raise UserError(
            f"{path}: optics group {unknown[0]} is not in data_optics; expected one of "
            f"{', '.join(rows)}"
        )
    which = np.array([rows[group] for group in groups], dtype=np.intp)
    return joined | {
        column: optics.numbers(column, path)[which] for column in wanted if column in optics
    }


def _pixel_size(path: Path, joined: dict[str, np.ndarray]) -> float | None:
    """Å of a pixel of the particles' images."""
    values = joined.get("rlnImagePixelSize")
    if values is None and "rlnDetectorPixelSize" in joined:
        values = (
            joined["rlnDetectorPixelSize"] * 1e4 / joined.get("rlnMagnification", np.array([1e4]))
        )
    if values is None:
        values = joined.get("rlnPixelSize")
    if values is None or not len(values):
        return None
    if np.ptp(values) > 1e-3 * values.max():
        found = ", ".join(f"{value:g}" for value in np.unique(values)[:4])
        raise UserError(
            f"{path}: pixel sizes of {found} Å; expected one; import each optics group by itself"
        )
    return float(values[0])


def _rotations(path: Path, table: StarTable) -> np.ndarray | None:
    rotated = [
        column for column in BOX_ANGLES if column in table and np.any(table.numbers(column, path))
    ]
    if rotated and "rlnImageName" in table:
        raise UserError(
            f"{path}: {rotated[0]} is not 0: the boxes were cut out rotated, each with its own "
            "missing wedge; expected "
            "boxes along the tomogram's axes; extract them again without these columns"
        )
    if not all(column in table for column in ANGLES):
        return None
    return euler_to_matrix(np.stack([table.numbers(column, path) for column in ANGLES], axis=1))


def _origin(path: Path, table: StarTable, pixel_size: float | None) -> np.ndarray | None:
    """Å (z, y, x) by which an image must be shifted to centre its particle."""
    if all(f"rlnOrigin{axis}Angst" in table for axis in ZYX):
        return np.stack([table.numbers(f"rlnOrigin{axis}Angst", path) for axis in ZYX], axis=1)
    if not all(f"rlnOrigin{axis}" in table for axis in ZYX):
        return None
    origin = np.stack([table.numbers(f"rlnOrigin{axis}", path) for axis in ZYX], axis=1)
    if pixel_size is None and origin.any():
        raise UserError(
            f"{path}: rlnOriginX is in pixels of unknown size; expected rlnDetectorPixelSize too; "
            "give `voxel_size`"
        )
    return origin * (pixel_size or 1.0)


def _place(
    particles: Particles, joined: dict[str, np.ndarray], given: float | None, tomograms: Path | None
) -> None:
    """Positions of the particles, and a note that says which scale was taken for them."""
    path, table = particles.path, particles.table
    if all(f"rlnCenteredCoordinate{axis}Angst" in table for axis in ZYX):
        centred = np.stack(
            [table.numbers(f"rlnCenteredCoordinate{axis}Angst", path) for axis in ZYX], axis=1
        )
        if tomograms is None:
            particles.extras["centered_positions"] = centred
            particles.notes.append(
                "positions count from the tomogram's centre; `tomograms` tomograms.star places them"
            )
            return
        names = [] if particles.tomogram is None else list(particles.tomogram)
        corner = centred + tomogram_centres(tomograms, names)
    elif all(f"rlnCoordinate{axis}" in table for axis in ZYX):
        scale, source = _coordinate_scale(
            joined, given, particles.pixel_size, _of_warptools(particles)
        )
        if scale is None:
            particles.notes.append(
                "positions left out: no pixel size; give `coordinate_pixel_size`"
            )
            return
        corner = (
            np.stack([table.numbers(f"rlnCoordinate{axis}", path) for axis in ZYX], axis=1) * scale
        )
        particles.notes.append(
            f"a coordinate counts {scale:g} Å ({source}; `coordinate_pixel_size` sets another)"
        )
    else:
        return
    particles.positions = corner if particles.origin is None else corner - particles.origin


def _of_warptools(particles: Particles) -> bool:
    """Tell whether these are stacks of tilt images that WarpTools wrote.

    Their coordinates count pixels of the images, whatever the optics say.
    """
    names = [] if particles.tomogram is None else list(map(str, particles.tomogram))
    return particles.dimensions == 2 and any(name.endswith(".tomostar") for name in names)


def _coordinate_scale(
    joined: dict[str, np.ndarray], given: float | None, pixel_size: float | None, warptools: bool
) -> tuple[float | None, str]:
    """Return Å of one unit of rlnCoordinateX.

    The unit is a pixel of the tilt series since RELION 4, before that one of the images.
    """
    if given is not None:
        return given, "as given"
    if warptools and pixel_size is not None:
        return pixel_size, "the images' pixel size, as WarpTools counts"
    if "rlnTomoTiltSeriesPixelSize" in joined:
        return float(joined["rlnTomoTiltSeriesPixelSize"][0]), "rlnTomoTiltSeriesPixelSize"
    return pixel_size, "the images' pixel size"


def tomogram_centres(path: Path, names: list[str]) -> np.ndarray:
    """Return the centre of each named tomogram, from a RELION tomogram set.

    Parameters
    ----------
    path : Path
        The tomogram set.
    names : list[str]
        Names of the n tomograms.

    Returns
    -------
    np.ndarray, shape (n, 3)
        Å, (z, y, x).

    Raises
    ------
    UserError
        When a tomogram is not in the set.
    """
    columns = (
        "rlnTomoName",
        "rlnTomoSizeX",
        "rlnTomoSizeY",
        "rlnTomoSizeZ",
        "rlnTomoTiltSeriesPixelSize",
    )
    table = next((t for t in read_star(path) if all(column in t for column in columns)), None)
    if table is None:
        raise UserError(
            f"{path}: no RELION tomogram set; expected a table with {', '.join(columns)}"
        )
    sizes = np.stack([table.numbers(f"rlnTomoSize{axis}", path) for axis in ZYX], axis=1)
    centres = sizes / 2 * table.numbers("rlnTomoTiltSeriesPixelSize", path)[:, None]
    rows = {name: row for row, name in enumerate(table.columns["rlnTomoName"])}
    missing = sorted({name for name in names if name not in rows})
    if missing or not names:
        raise UserError(
            f"{path}: tomogram {missing[0] if missing else '(rlnTomoName)'} is not in it; add it"
        )
    placed: np.ndarray = centres[[rows[name] for name in names]]
    return placed


def _facts(particles: Particles, joined: dict[str, np.ndarray]) -> None:
    """Optics of the whole set, and what is known of each particle."""
    path, table = particles.path, particles.table
    names = {
        "rlnVoltage": "voltage",
        "rlnSphericalAberration": "cs",
        "rlnAmplitudeContrast": "amplitude_contrast",
    }
    for column, name in names.items():
        values = joined.get(column)
        if values is not None and len(values) and np.ptp(values) == 0:
            particles.optics[name] = float(values[0])
    if "rlnDefocusU" in table:
        second = "rlnDefocusV" if "rlnDefocusV" in table else "rlnDefocusU"
        mean = (table.numbers("rlnDefocusU", path) + table.numbers(second, path)) / 2
        particles.extras["defocus"] = (mean / 1e4).astype(np.float32)
    if "rlnRandomSubset" in table:
        particles.extras["random_subset"] = table.numbers("rlnRandomSubset", path).astype(np.int8)


def describe_particles(particles: Particles) -> dict[str, Any]:
    """Return the facts of a particle star for ``data info``."""
    return {
        "particles": len(particles),
        "dialect": particles.dialect,
        "pixel_size": particles.pixel_size,
        "tomograms": 0 if particles.tomogram is None else len(set(particles.tomogram)),
        "angles": particles.rotations is not None,
        "images": particles.image is not None,
        "columns": list(particles.table.columns),
        "notes": particles.notes,
    }

"""Reading RELION's particle stars of versions 1 to 5, and those of Warp and WarpTools, as picks.

A particle is where its coordinate is, minus its origin (RELION 4 and later: the origin rotated with
the subtomogram). Coordinates count from 0, in pixels of the tilt series (4, 5), of the images
(before, and WarpTools) or Å from the tomogram's middle (5); origins in Å, or pixels of the images
up to 3.0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cryoet_core.algorithms.orientation import euler_to_matrix
from cryoet_core.formats.picks import angles
from cryoet_core.formats.picks.model import Geometry, PickFile, PickReading
from cryoet_core.formats.picks.names import tomogram_name
from cryoet_core.formats.picks.rows import Rows, class_numbers, finish
from cryoet_core.formats.relion import ANGLES, BOX_ANGLES
from cryoet_core.formats.star import StarTable, read_star
from cryoet_core.support.errors import UserError

XYZ = ("X", "Y", "Z")
CENTRED = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in XYZ)
PIXELS = tuple(f"rlnCoordinate{axis}" for axis in XYZ)
SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
OPTICS = {
    "voltage": "rlnVoltage",
    "cs": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
}
CLASS_NAME = "cryoetClassName"
SCORES = ("rlnAutopickFigureOfMerit", "rlnParticleFigureOfMerit", "rlnLCCmax")
NO_SCORE = -999.0
"""What RELION writes for a figure of merit that nobody calculated."""


def read(path: Path, reading: PickReading) -> PickFile:
    """Read the picks of a particle star.

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
        Where it holds none, none in 3-D, or nothing says its pixel size.
    """
    tables = read_star(path)
    star = _Star(path, tables)
    if all(column in star.table for column in CENTRED):
        rows = Rows(
            path,
            "relion5",
            star.columns(CENTRED),
            centred=True,
            in_voxels=False,
            sizes=star.sizes(),
        )
    else:
        rows = Rows(path, star.dialect(), _pixels(star, reading), star.coordinate_size())
        if (
            rows.dialect == "warp"
            and star.optics is not None
            and reading.coordinate_pixel_size is None
        ):
            rows.notes.append(
                "WarpTools: coordinates in pixels of the images (`coordinate_pixel_size` sets "
                "another)"
            )
        rows.notes += _contradiction(star, rows.voxel_size)
    rows.tomograms = star.tomograms
    rows.rotations, rotated = _rotations(star)
    rows.shift = _shift(star, rotated, reading)
    rows.scores = _scores(star)
    rows.classes = _classes(star, reading)
    rows.optics = star.one_optics()
    return finish(rows, reading)


class _Star:
    """The particles of a star with what its other tables say of each."""

    def __init__(self, path: Path, tables: Sequence[StarTable]):
        self.path = path
        self.table = _particles(path, tables)
        self.optics = next(
            (t for t in tables if t.name == "optics" and "rlnOpticsGroup" in t), None
        )
        self.stacks_2d = any(
            t.columns.get("rlnTomoSubTomosAre2DStacks", [""])[0] == "1" for t in tables if len(t)
        )
        column = next(
            (name for name in ("rlnTomoName", "rlnMicrographName") if name in self.table), None
        )
        self.tomograms = self.table.columns[column] if column else None

    def __len__(self) -> int:
        return len(self.table)

    def columns(self, names: Sequence[str]) -> np.ndarray:
        """Columns (n, 3) of numbers."""
        return np.stack([self.table.numbers(name, self.path) for name in names], axis=1)

    def joined(self, name: str) -> np.ndarray | None:
        """A number of each particle, its own or its optics group's; None where neither has it."""
        if name in self.table:
            return self.table.numbers(name, self.path)
        if self.optics is None or name not in self.optics:
            return None
        rows = {group: row for row, group in enumerate(self.optics.columns["rlnOpticsGroup"])}
        groups = self.table.columns.get("rlnOpticsGroup", [next(iter(rows), "")] * len(self))
        unknown = next((group for group in groups if group not in rows), None)
        if unknown is not None:
            raise UserError(
                f"{self.path}: optics group {unknown} is not in data_optics; expected "
                f"{', '.join(rows)}"
            )
        return self.optics.numbers(name, self.path)[[rows[group] for group in groups]]

    def image_size(self) -> np.ndarray | None:
        """Å of a pixel of the images."""
        size = self.joined("rlnImagePixelSize")
        detector = self.joined("rlnDetectorPixelSize")
        if size is None and detector is not None:
            magnification = self.joined("rlnMagnification")
            size = detector if magnification is None else detector * 1e4 / magnification
        return self.joined("rlnPixelSize") if size is None else size

    def coordinate_size(self) -> np.ndarray | None:
        """Å of a unit of rlnCoordinateX."""
        if self.dialect() != "warp":
            for name in ("rlnTomoTiltSeriesPixelSize", "rlnMicrographPixelSize"):
                size = self.joined(name)
                if size is not None:
                    return size
        return self.image_size()

    def one_optics(self) -> dict[str, float]:
        """What is the same for all particles."""
        found = ((name, self.joined(column)) for name, column in OPTICS.items())
        return {
            name: float(v[0]) for name, v in found if v is not None and len(v) and np.ptp(v) == 0
        }

    def dialect(self) -> str:
        if self.tomograms and self.tomograms[0].endswith(".tomostar"):
            dimensions = self.joined("rlnImageDimensionality")
            if (
                self.optics is None
                or self.stacks_2d
                or (dimensions is not None and np.all(dimensions == 2))
            ):
                return "warp"
        if self.optics is None:
            return "relion31" if "rlnOpticsGroup" in self.table else "relion30"
        return "relion4" if "rlnTomoName" in self.table else "relion31"

    def sizes(self) -> dict[str, Geometry]:
        """Sizes of tomograms where the particles' own rows say them, as in our stars."""
        pixel = self.joined("rlnTomoTiltSeriesPixelSize")
        if self.tomograms is None or pixel is None or not all(name in self.table for name in SIZES):
            return {}
        shapes = self.columns(SIZES[::-1]).astype(np.int64)
        first = {
            tomogram_name(name): row for row, name in reversed(list(enumerate(self.tomograms)))
        }
        return {
            name: Geometry(
                (int(shapes[row][0]), int(shapes[row][1]), int(shapes[row][2])), float(pixel[row])
            )
            for name, row in first.items()
        }


def _particles(path: Path, tables: Sequence[StarTable]) -> StarTable:
    found = [table for table in tables if all(name in table for name in CENTRED)]
    found += [table for table in tables if all(name in table for name in PIXELS[:2])]
    if found:
        return next((table for table in found if table.name == "particles"), found[0])
    shown = ", ".join(list(max(tables, key=len).columns)[:4])
    raise UserError(
        f"{path}: a STAR file of {shown}, ...; expected picks (rlnCoordinateX, rlnCoordinateY, ...)"
    )


def _pixels(star: _Star, reading: PickReading) -> np.ndarray:
    if PIXELS[2] in star.table:
        return star.columns(PIXELS)
    if reading.slice is None:
        raise UserError(
            f"{star.path}: particles in 2-D (no rlnCoordinateZ); expected positions in a tomogram; "
            "`slice` N places "
            "them in one slice"
        )
    flat = np.stack([star.table.numbers(name, star.path) for name in PIXELS[:2]], axis=1)
    return np.column_stack([flat, np.full(len(flat), reading.slice)])


def _contradiction(star: _Star, size: float | np.ndarray | None) -> list[str]:
    """Note where Warp's names of images say another pixel size than the star.

    Such a name is ``TS_0000001_2.74A.mrc``.
    """
    match = re.search(
        r"_(\d+\.\d\d)A(_\d+)?\.mrcs?$",
        star.table.columns.get("rlnImageName", [""])[0] if len(star) else "",
    )
    if match is None or size is None or star.dialect() != "warp":
        return []
    named, said = float(match[1]), float(np.ravel(size)[0])
    if abs(named - said) < 0.01 + 0.01 * said:
        return []
    return [
        f"coordinates count {said:g} Å, but the images' names say {named:g} Å; "
        "`coordinate_pixel_size` sets another"
    ]


def _rotations(star: _Star) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The particles' rotations, and those of their subtomograms if cut out rotated."""
    particle = (
        angles.relion(star.columns(ANGLES)) if all(name in star.table for name in ANGLES) else None
    )
    rotated = None
    if all(name in star.table for name in BOX_ANGLES):
        boxes = star.columns(BOX_ANGLES)
        rotated = euler_to_matrix(boxes) if boxes.any() else None
    if rotated is None or particle is None:
        return (rotated if particle is None else particle), rotated
    return rotated @ particle, rotated


def _shift(star: _Star, rotated: np.ndarray | None, reading: PickReading) -> np.ndarray | None:
    """Å (x, y, z) from the coordinate to the particle."""
    if all(f"rlnOrigin{axis}Angst" in star.table for axis in XYZ):
        origin = star.columns([f"rlnOrigin{axis}Angst" for axis in XYZ])
    elif all(f"rlnOrigin{axis}" in star.table for axis in XYZ):
        pixels = star.columns([f"rlnOrigin{axis}" for axis in XYZ])
        if not pixels.any():
            return None
        size = star.image_size()
        if size is None:
            given = reading.coordinate_pixel_size or reading.voxel_size
            if given is None:
                raise UserError(
                    f"{star.path}: rlnOriginX in pixels of unknown size; expected it in the star; "
                    "give `voxel_size`"
                )
            size = np.full(len(star), given)
        origin = pixels * size[:, None]
    else:
        return None
    if rotated is not None:
        origin = np.einsum("nij,nj->ni", rotated, origin[:, ::-1])[:, ::-1]
    return -origin


def _scores(star: _Star) -> np.ndarray | None:
    for name in SCORES:
        if name in star.table:
            values = _loose(star.table.columns[name])
            scores = np.where(values == NO_SCORE, np.nan, values)
            if np.isfinite(scores).any():
                return scores
    return None


def _loose(cells: Sequence[str]) -> np.ndarray:
    """Numbers, NaN for what is none."""
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        return np.array([_number(cell) for cell in cells])


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _classes(star: _Star, reading: PickReading) -> list[str] | None:
    if reading.class_column is not None:
        name = reading.class_column.removeprefix("_")
        if name not in star.table:
            has = ", ".join(star.table.columns)
            raise UserError(f"`class_column` {name}: {star.path} has no such column; it has {has}")
        return star.table.columns[name]
    if CLASS_NAME in star.table:
        return star.table.columns[CLASS_NAME]
    if "rlnClassNumber" in star.table:
        return class_numbers(np.nan_to_num(_loose(star.table.columns["rlnClassNumber"])))
    return None

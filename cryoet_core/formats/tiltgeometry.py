"""Read the tilt geometry of RELION tomogram sets (versions 4 and 5, WarpTools).

It consists of the projection, defocus and dose of each image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cryoet_core.algorithms.insertion import TiltSeries
from cryoet_core.formats.star import StarTable, read_star
from cryoet_core.support.errors import UserError

_PROJECTION = ("rlnTomoProjX", "rlnTomoProjY")
_ANGLES = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
_SERIES = "rlnTomoTiltSeriesStarFile"


def read_tilt_series(path: Path, names: list[str]) -> dict[str, TiltSeries]:
    """Read the tilt series of named tomograms.

    Parameters
    ----------
    path : Path
        The tomogram set.
    names : list[str]
        Names of the tomograms.

    Returns
    -------
    dict[str, TiltSeries]
        The tilt series by the tomogram's name.

    Raises
    ------
    UserError
        For a tomogram that is not in the set, or a column that is missing.
    """
    tables = read_star(path)
    index = next((table for table in tables if "rlnTomoName" in table), None)
    if index is None:
        raise UserError(f"{path}: no RELION tomogram set; expected a table with rlnTomoName")
    rows = {name: row for row, name in enumerate(index.columns["rlnTomoName"])}
    found = {}
    for name in names:
        if name not in rows:
            raise UserError(
                f"{path}: tomogram {name} is not in it; expected every tomogram of the particles; "
                "add it"
            )
        table = _series_table(path, tables, index, rows[name], name)
        found[name] = _series(path, table, index, rows[name])
    return found


def _series_table(
    path: Path, tables: list[StarTable], index: StarTable, row: int, name: str
) -> StarTable:
    """Return the table of a tomogram's images.

    It is in the set itself (RELION 4), or in a star of its own (RELION 5).
    """
    own = next((table for table in tables if table.name == name), None)
    if own is not None:
        return own
    if _SERIES not in index:
        raise UserError(
            f"{path}: no table data_{name} and no {_SERIES}; expected the images of each tomogram"
        )
    said = Path(index.columns[_SERIES][row])
    places = (
        [said]
        if said.is_absolute()
        else [base / said for base in (Path(), path.parent, *path.resolve().parents)]
    )
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise UserError(
            f"{path}: {_SERIES} of {name} is {said}, which is not there; start from the project's "
            "folder or copy it"
        )
    return max(read_star(file), key=len)


def _series(path: Path, table: StarTable, index: StarTable, row: int) -> TiltSeries:
    count = len(table)

    def numbers(column: str, default: float) -> np.ndarray:
        return table.numbers(column, path) if column in table else np.full(count, default)

    def optics(column: str, default: float) -> float:
        return float(index.numbers(column, path)[row]) if column in index else default

    if "rlnDefocusU" not in table:
        raise UserError(
            f"{path}: tilt images without rlnDefocusU; expected their defocus; estimate it first"
        )
    second = "rlnDefocusV" if "rlnDefocusV" in table else "rlnDefocusU"
    defocus = (table.numbers("rlnDefocusU", path) + table.numbers(second, path)) / 2e4
    return TiltSeries(
        torch.from_numpy(_axes(path, table)).float(),
        torch.from_numpy(defocus).float(),
        torch.from_numpy(numbers("rlnMicrographPreExposure", 0.0)).float(),
        torch.from_numpy(numbers("rlnCtfScalefactor", 1.0)).float(),
        optics("rlnVoltage", 300.0),
        optics("rlnSphericalAberration", 2.7),
        optics("rlnAmplitudeContrast", 0.07),
    )


def _axes(path: Path, table: StarTable) -> np.ndarray:
    """Directions (t, 2, 3) of the images' x and y in the tomogram, components (x, y, z)."""
    if all(column in table for column in _PROJECTION):
        rows = [
            [_vector(path, column, text) for text in table.columns[column]]
            for column in _PROJECTION
        ]
        paired: np.ndarray = np.array(rows).transpose(1, 0, 2)
        return paired
    if not all(column in table for column in _ANGLES):
        raise UserError(
            f"{path}: tilt images without {_PROJECTION[0]} or {', '.join(_ANGLES)}; expected their "
            "geometry; align the "
            "tilt series first"
        )
    x, y, z = (np.radians(table.numbers(column, path)) for column in _ANGLES)
    return _projection(x, y, z)[:, :2]


def _projection(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return RELION 5's projection Rz Ry Rx of a point (x, y, z), angles in radians (t,).

    Its rows are the image's axes.
    """
    one, zero = np.ones_like(x), np.zeros_like(x)

    def matrix(*entries: np.ndarray) -> np.ndarray:
        stacked: np.ndarray = np.stack(entries, -1).reshape(-1, 3, 3)
        return stacked

    about_x = matrix(one, zero, zero, zero, np.cos(x), -np.sin(x), zero, np.sin(x), np.cos(x))
    about_y = matrix(np.cos(y), zero, np.sin(y), zero, one, zero, -np.sin(y), zero, np.cos(y))
    about_z = matrix(np.cos(z), -np.sin(z), zero, np.sin(z), np.cos(z), zero, zero, zero, one)
    product: np.ndarray = about_z @ about_y @ about_x
    return product


def _vector(path: Path, column: str, text: str) -> list[float]:
    try:
        values = [float(part) for part in text.strip("[] ").split(",")]
    except ValueError as error:
        raise UserError(f"{path}: {column} is {text!r}; expected [x,y,z,offset]") from error
    if len(values) < 3 or not np.isfinite(values).all():
        raise UserError(f"{path}: {column} is {text!r}; expected [x,y,z,offset]")
    return values[:3]

"""Make picks of the rows of a file: units to Å, axes to (z, y, x), names and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cryoet_core.formats.picks.model import Geometry, PickFile, PickReading, find
from cryoet_core.formats.picks.names import natural, stem_of, tomogram_name, whole_numbers
from cryoet_core.formats.relion import UNLABELLED
from cryoet_core.picks.table import Picks
from cryoet_core.support.errors import UserError

FAR = 1e9
"""No tomogram is a decimetre wide: Å beyond this are a damaged file."""


@dataclass
class Rows:
    """The rows that a reader found, in the file's order.

    Attributes
    ----------
    path : Path
        The file.
    dialect : str
        Its format.
    xyz : np.ndarray, shape (n, 3)
        Coordinates, the first voxel's centre at 0.
    voxel_size : float | np.ndarray | None
        Å of a unit of them, one for all or (n,); None where the file does not say it.
    shift : np.ndarray, shape (n, 3), or None
        Å (x, y, z), added to the positions.
    centred : bool
        Whether the coordinates count from the tomogram's middle.
    tomograms : Sequence[str] | None
        One name for each row, as it stands there.
    classes : Sequence[str] | None
        One name for each row, as it stands there.
    scores : np.ndarray, shape (n,), or None
        NaN for none.
    rotations : np.ndarray, shape (n, 3, 3), or None
        As in `Picks`.
    extra : dict[str, np.ndarray]
        Further columns with n rows each.
    notes : list[str]
        What was assumed.
    sizes : dict[str, Geometry]
        Geometry that stands in the file itself.
    in_voxels : bool
        Whether ``xyz`` counts in voxels; False where it is Å.
    stem : str | None
        The tomogram by the file's name, where that has more to it.
    optics : dict[str, float]
        As in `PickFile`.
    """

    path: Path
    dialect: str
    xyz: np.ndarray
    voxel_size: float | np.ndarray | None = None
    shift: np.ndarray | None = None
    centred: bool = False
    tomograms: Sequence[str] | None = None
    classes: Sequence[str] | None = None
    scores: np.ndarray | None = None
    rotations: np.ndarray | None = None
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sizes: dict[str, Geometry] = field(default_factory=dict)
    in_voxels: bool = True
    stem: str | None = None
    optics: dict[str, float] = field(default_factory=dict)


def finish(rows: Rows, reading: PickReading) -> PickFile:
    """Make the picks of a file.

    Parameters
    ----------
    rows : Rows
        What a reader found.
    reading : PickReading
        What the user says.

    Returns
    -------
    PickFile
        The picks.

    Raises
    ------
    UserError
        Where the voxel size or a tomogram's size is needed and nothing says it.
    """
    n = len(rows.xyz)
    names, named = _names(rows, reading)
    unit = _unit(rows, reading, names) if rows.in_voxels else np.ones(n)
    with np.errstate(over="ignore"):  # refused below
        xyz = rows.xyz * unit[:, None]
    if rows.centred:
        xyz = xyz + _middles(rows, reading, names)[:, ::-1]
    if rows.shift is not None:
        xyz = xyz + rows.shift
    far = np.flatnonzero(~(np.abs(xyz) < FAR).all(axis=1))
    if len(far):
        raise UserError(
            f"{rows.path}: row {far[0]} lies at {_shown(xyz[far[0]])} Å; expected a place in a "
            "tomogram"
        )
    classes, class_names = _classes(rows.classes, n, reading.class_name)
    scores = np.full(n, np.nan) if rows.scores is None else rows.scores
    picks = Picks(
        np.ascontiguousarray(xyz[:, ::-1], dtype=np.float64).reshape(n, 3),
        _single(scores),
        classes,
        class_names,
        names,
        rows.rotations,
        rows.extra,
    )
    one = rows.in_voxels and n > 0 and float(np.ptp(unit)) <= 1e-6 * float(unit.max())
    return PickFile(
        picks, rows.notes, rows.dialect, float(unit[0]) if one else None, named, rows.optics
    )


def _single(scores: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = scores.astype(np.float32)
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def _names(rows: Rows, reading: PickReading) -> tuple[np.ndarray, bool]:
    """The tomogram of each row, and whether the file itself says it."""
    n = len(rows.xyz)
    given = [tomogram_name(text) for text in rows.tomograms or ()]
    if given and all(given):
        return _objects(given), True
    known = list(reading.geometry or ())
    fallback = reading.tomogram or (
        known[0] if len(known) == 1 else rows.stem or stem_of(rows.path)
    )
    if n and reading.tomogram is None and len(known) == 1:
        rows.notes.append(f"the file names no tomogram: taken for {fallback}")
    return _objects([name or fallback for name in given or [""] * n]), False


def _objects(names: Sequence[str]) -> np.ndarray:
    found = np.empty(len(names), dtype=object)
    found[:] = names
    return found


def _unit(rows: Rows, reading: PickReading, names: np.ndarray) -> np.ndarray:
    """Return Å of a unit of the coordinates, (n,).

    It is as given for them, else as the file says, else as given, else as the tomograms have it.
    """
    n = len(names)
    said = (
        None
        if rows.voxel_size is None
        else np.broadcast_to(np.asarray(rows.voxel_size, dtype=np.float64), (n,))
    )
    if reading.coordinate_pixel_size is not None:
        return np.full(n, reading.coordinate_pixel_size)
    if said is not None:
        bad = np.flatnonzero(~((said > 0) & (said < FAR)))
        if len(bad):
            raise UserError(
                f"{rows.path}: a pixel size of {said[bad[0]]:g} Å; expected one above 0; repair "
                "the file"
            )
        other = reading.voxel_size
        if other and n and abs(said[0] / other - 1) > 1e-3:
            rows.notes.append(
                f"its coordinates count {said[0]:g} Å as the file says, not `voxel_size` {other:g} "
                "(`coordinate_pixel_size` sets another)"
            )
        return said
    if reading.voxel_size is not None:
        return np.full(n, reading.voxel_size)
    return _unit_of_tomograms(rows, reading, names)


def _unit_of_tomograms(rows: Rows, reading: PickReading, names: np.ndarray) -> np.ndarray:
    sizes = {}
    for name in dict.fromkeys(names):
        found = find(reading.geometry, name)
        if found is None:
            raise UserError(
                f"{rows.path}: coordinates in voxels, whose size the file does not say (tomogram "
                f"{name!r}); expected "
                "it in Å; give `voxel_size`"
            )
        sizes[name] = found.voxel_size
    return np.array([sizes[name] for name in names], dtype=np.float64)


def _middles(rows: Rows, reading: PickReading, names: np.ndarray) -> np.ndarray:
    """Å (z, y, x) of the middle of each row's tomogram: half its size, as RELION counts it."""
    known = dict(rows.sizes)
    if reading.tomograms_star is not None:
        known |= tomogram_set(reading.tomograms_star)
    middles = {}
    for name in dict.fromkeys(names):
        found = known.get(name) or find(reading.geometry, name)
        if found is None:
            raise UserError(
                f"{rows.path}: coordinates count from the middle of tomogram {name!r}, whose size "
                "is unknown; expected "
                "its size; give the tomogram or `tomograms` tomograms.star"
            )
        middles[name] = np.array(found.shape) / 2 * found.voxel_size
    return np.array([middles[name] for name in names]).reshape(len(names), 3)


def tomogram_set(path: Path) -> dict[str, Geometry]:
    """Read the tomograms of a RELION tomogram set.

    Parameters
    ----------
    path : Path
        The tomogram set.

    Returns
    -------
    dict[str, Geometry]
        The tomograms by name, in pixels of their tilt series.

    Raises
    ------
    UserError
        When it is no tomogram set.
    """
    from cryoet_core.formats.star import read_star

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
    x, y, z, size = (table.numbers(column, path) for column in columns[1:])
    return {
        tomogram_name(name): Geometry((int(z[i]), int(y[i]), int(x[i])), float(size[i]))
        for i, name in enumerate(table.columns[columns[0]])
    }


def _classes(
    texts: Sequence[str] | None, n: int, single: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    if texts is None:
        return np.zeros(n, np.int64), (single,)
    labels = ["" if text == UNLABELLED else text for text in texts]
    names = tuple(sorted({label for label in labels if label}, key=natural))
    table = {name: index for index, name in enumerate(names)} | {"": -1}
    return np.array([table[label] for label in labels], dtype=np.int64), names or (single,)


def class_numbers(numbers: np.ndarray) -> list[str] | None:
    """Name classes by their numbers: class1, class2, ...; "" for 0 and below.

    Parameters
    ----------
    numbers : np.ndarray, shape (n,)
        Class of each row.

    Returns
    -------
    list[str] | None
        The n names; None where all are of one class.
    """
    whole = whole_numbers(numbers)
    if len(np.unique(whole)) < 2:
        return None
    return [f"class{number}" if number > 0 else "" for number in whole]


def _shown(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values)

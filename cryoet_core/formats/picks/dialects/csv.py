"""Tables in text: comma, tab, semicolon or pipe between the columns, with a header or without.

Ours is ``tomogram,class,x,y,z,score`` in Å, then RELION's ``rot,tilt,psi`` in degrees where known
and any further columns. Of others the header is matched by name; a unit stands in it (``x_nm``, ``X
[A]``) or is given.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from cryoet_core.formats.columns import AXES, NAMES, column
from cryoet_core.formats.picks import angles
from cryoet_core.formats.picks.model import UNITS, PickFile, PickReading, Writing
from cryoet_core.formats.picks.rows import Rows, finish
from cryoet_core.formats.picks.text import number, text_of
from cryoet_core.formats.relion import UNLABELLED
from cryoet_core.picks.table import Picks
from cryoet_core.support import files
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import counted

OURS = ("tomogram", "class", "x", "y", "z")
EULER = ("rot", "tilt", "psi")
_ANGSTROM_TABLES = (set(OURS), {"experiment", "particle_type", "x", "y", "z"})
"""Headers whose plain x, y, z are known to be Å: ours, and that of the CZII object identification
challenge.
"""
_MISSING = ("", "nan", "na", "<na>", "none", "null")


def read(path: Path, reading: PickReading) -> PickFile:
    """Read the picks of a table.

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
        Where a column is missing, its unit is unknown or a value is no number.
    """
    numbers, cells = _cells(path)
    header = cells[0] if any(not _is_number(cell) for cell in cells[0]) else None
    body, lines = (cells[1:], numbers[1:]) if header else (cells, numbers)
    if header is None and len(cells[0]) != 3:
        raise UserError(
            f"{path}: {len(cells[0])} columns without a header; expected x, y, z; give the columns "
            "names on line "
            f"{numbers[0]}"
        )
    names = [column(cell) for cell in header or ("x", "y", "z")]
    _check(path, names, body, lines)
    table = _Table(path, [name for name, _ in names], header or ["x", "y", "z"], body, lines)
    rows = Rows(path, "csv", np.stack([table.numbers(table.index(axis)) for axis in "xyz"], axis=1))
    _scale(rows, names, reading)
    _fill(rows, table, reading)
    return finish(rows, reading)


class _Table:
    """Columns by the name that they have here."""

    def __init__(
        self,
        path: Path,
        names: list[str],
        titles: list[str],
        body: list[list[str]],
        lines: list[int],
    ):
        self.path, self.names, self.titles, self.body, self.lines = path, names, titles, body, lines
        self.taken: set[int] = set()

    def index(self, name: str) -> int:
        found = self.names.index(name)
        self.taken.add(found)
        return found

    def text(self, name: str) -> list[str] | None:
        if name not in self.names:
            return None
        return [row[self.index(name)] for row in self.body]

    def numbers(self, column: int, missing: bool = False) -> np.ndarray:
        """Return a column as numbers (n,); with ``missing`` an empty cell is NaN.

        Raises
        ------
        UserError
            Names the line of what is no number.
        """
        cells = [(line, row[column]) for line, row in zip(self.lines, self.body, strict=True)]
        values = [
            np.nan
            if missing and cell.lower() in _MISSING
            else number(self.path, line, cell, f"a number for {self.titles[column]}")
            for line, cell in cells
        ]
        return np.array(values, dtype=np.float64)


def _cells(path: Path) -> tuple[list[int], list[list[str]]]:
    """Line numbers and cells of all lines with something on them."""
    text = text_of(path)
    kept = [
        (i, line)
        for i, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.startswith("#")
    ]
    if not kept:
        raise UserError(f"{path}: no line with values; expected a header with x, y, z")
    first = kept[0][1]
    delimiter = max("\t,;|", key=first.count)
    if delimiter in first:
        rows = [
            [cell.strip() for cell in _split(path, number, line, delimiter)]
            for number, line in kept
        ]
    else:
        rows = [line.split() for _, line in kept]
    return [number for number, _ in kept], rows


def _split(path: Path, number: int, line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except (csv.Error, StopIteration) as error:
        raise UserError(
            f"{path}: line {number}: {error}; expected columns between {delimiter!r}"
        ) from error


def _check(
    path: Path, names: list[tuple[str, str | None]], body: list[list[str]], lines: list[int]
) -> None:
    plain = [name for name, _ in names]
    missing = [axis for axis in "xyz" if axis not in plain]
    if missing:
        raise UserError(
            f"{path}: no column {missing[0]} (it has {', '.join(plain[:8])}); expected x, y and z"
        )
    twice = next((name for name in ("x", "y", "z", *NAMES) if plain.count(name) > 1), None)
    if twice:
        raise UserError(
            f"{path}: two columns for {twice}; expected one; rename or remove the other"
        )
    for line, row in zip(lines, body, strict=True):
        if len(row) != len(names):
            raise UserError(
                f"{path}: line {line} has {counted(len(row), 'column')}; expected {len(names)}, "
                "as in its "
                "first line"
            )


def _scale(rows: Rows, names: list[tuple[str, str | None]], reading: PickReading) -> None:
    """The unit of x, y and z: as their titles say, as given, or known of this table."""
    units = {unit for name, unit in names if name in AXES}
    plain = {name for name, _ in names}
    raw = {title for title, _ in names}
    if len(units) > 1:
        raise UserError(f"{rows.path}: x, y and z in different units; expected one")
    unit = units.pop() or reading.unit
    if unit is None and any(table <= (plain | raw) for table in _ANGSTROM_TABLES):
        unit = "angstrom"
        rows.notes.append("x, y and z taken as Å, as in tables of cryoet (`unit` says otherwise)")
    if unit is None and (reading.voxel_size or reading.coordinate_pixel_size):
        unit = "voxel"
    if unit is None:
        raise UserError(
            f"{rows.path}: x, y and z without a unit; expected one in the header (x_angstrom, "
            "x_nm, x_voxel); give "
            "`unit` angstrom, nm or voxel"
        )
    scale = UNITS[unit]
    if scale is not None:
        rows.in_voxels = False
        rows.xyz = rows.xyz * scale


def _fill(rows: Rows, table: _Table, reading: PickReading) -> None:
    rows.tomograms = table.text("tomogram")
    if reading.class_column is not None:
        rows.classes = _given_classes(table, reading.class_column)
    else:
        rows.classes = table.text("class")
    if rows.classes is not None:
        rows.classes = ["" if text.lower() in _MISSING else text for text in rows.classes]
    if "score" in table.names:
        rows.scores = table.numbers(table.index("score"), missing=True)
    if all(name in table.names for name in EULER):
        found = np.stack([table.numbers(table.index(name), missing=True) for name in EULER], axis=1)
        rows.rotations = angles.relion(found)
    for index, title in enumerate(table.titles):
        if index not in table.taken and title:
            rows.extra[title] = _extra(table, index)


def _given_classes(table: _Table, column: str) -> list[str]:
    if column not in table.titles:
        raise UserError(
            f"`class_column` {column}: {table.path} has no such column; it has "
            f"{', '.join(table.titles[:8])}"
        )
    index = table.titles.index(column)
    table.taken.add(index)
    return [row[index] for row in table.body]


def _extra(table: _Table, index: int) -> np.ndarray:
    cells = [row[index] for row in table.body]
    try:
        return np.array(
            [np.nan if cell.lower() in _MISSING else float(cell) for cell in cells],
            dtype=np.float64,
        )
    except ValueError:
        return np.array(cells, dtype=object)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def write(path: Path, picks: Picks, writing: Writing) -> list[str]:
    """Replace a file by a table in Å, which holds everything.

    For .tsv there are tabs between the columns.

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
    """
    names = [*picks.class_names, UNLABELLED]
    positions = [[f"{value:.6f}" for value in row] for row in picks.positions]
    header = [*OURS, "score"]
    rotated = None if picks.rotations is None else angles.to_relion(picks.rotations)
    header += [*EULER] if rotated is not None else []
    extra = {name: values for name, values in picks.extra.items() if np.ndim(values) == 1}
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n")
    table.writerow([*header, *extra])
    for row, (z, y, x) in enumerate(positions):
        cells = [
            str(picks.tomograms[row]),
            names[picks.classes[row]],
            x,
            y,
            z,
            _cell(picks.scores[row]),
        ]
        cells += [_cell(angle, 6) for angle in rotated[row]] if rotated is not None else []
        table.writerow([*cells, *(_cell(values[row]) for values in extra.values())])
    files.write_bytes(path, text.getvalue().encode())
    lost = [name for name in picks.extra if name not in extra]
    return [f"column {name} (several values a row)" for name in lost]


def _cell(value: object, digits: int | None = None) -> str:
    if isinstance(value, (float, np.floating)):
        if not np.isfinite(value):
            return ""
        return (
            f"{value:.{digits}f}"
            if digits is not None
            else repr(value.item() if hasattr(value, "item") else value)
        )
    return str(value)

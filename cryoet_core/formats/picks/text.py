"""Read text files, compressed or not, as lines and as rows of numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cryoet_core.formats.stack import plain_file
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import counted

LARGEST = 1 << 30
_COMMENTS = ("#", "%", "//")


def text_of(path: Path) -> str:
    """Read the text of a file (gzip, bzip2 and xz too).

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        The text.

    Raises
    ------
    UserError
        When it is missing, empty or no text.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; expected picks")
    with plain_file(path) as file:
        raw = file.read(LARGEST).removeprefix(b"\xef\xbb\xbf")
    if not raw.strip():
        raise UserError(f"{path}: the file is empty; expected picks")
    if b"\0" in raw:
        raise UserError(f"{path}: binary data; expected a text file")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def lines_of(path: Path) -> list[tuple[int, str]]:
    """Return the lines that are neither empty nor comments, with their numbers from 1."""
    numbered = (
        (number, line.strip())
        for number, line in enumerate(re.split(r"\r\n|\n|\r", text_of(path)), 1)
    )
    return [(number, line) for number, line in numbered if line and not line.startswith(_COMMENTS)]


def comments_of(path: Path) -> dict[str, str]:
    """Return the ``#KEY value`` lines of a file, keys in upper case."""
    found = (
        re.match(r"\s*#\s*(\w+)[\s:=]+(\S.*?)\s*$", line) for line in text_of(path).splitlines()
    )
    return {match[1].upper(): match[2] for match in found if match}


def cells_of(line: str) -> list[str]:
    """Split a line into values, at white space or commas."""
    return [cell for cell in re.split(r"[\s,;]+", line) if cell]


def number(path: Path, line: int, cell: str, expected: str = "a number") -> float:
    """Return a value of a line as a number.

    Parameters
    ----------
    path : Path
        The file, for messages.
    line : int
        Number of the line, for messages.
    cell : str
        The value.
    expected : str, optional
        What is expected, for messages.

    Returns
    -------
    float
        The number.

    Raises
    ------
    UserError
        Names the line when the value is no finite number.
    """
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value) or "_" in cell:
        raise UserError(f"{path}: line {line}: {cell[:40]!r}; expected {expected}")
    return value


def number_rows(path: Path, widths: Sequence[int], columns: str) -> np.ndarray:
    """Read all lines as numbers; every line has the same width.

    Parameters
    ----------
    path : Path
        The file.
    widths : Sequence[int]
        Numbers of columns that are allowed.
    columns : str
        What is expected on a line, for messages.

    Returns
    -------
    np.ndarray, shape (n, width)
        The numbers.

    Raises
    ------
    UserError
        Names the first line that is something else.
    """
    rows: list[list[float]] = []
    for line, content in lines_of(path):
        cells = cells_of(content)
        if len(cells) not in widths or (rows and len(cells) != len(rows[0])):
            raise UserError(
                f"{path}: line {line} has {counted(len(cells), 'column')}; expected {columns} "
                "on each line"
            )
        rows.append([number(path, line, cell) for cell in cells])
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(rows[0]) if rows else widths[0])

"""Text files: read whole, whatever packs them; rows of numbers, and the line of what is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cryoet_core.formats.stack import plain_file
from cryoet_core.support.errors import UserError

LARGEST = 1 << 30
_COMMENTS = ("#", "%", "//")


def text_of(path: Path) -> str:
    """The text of a file (gzip, bzip2 and xz too).

    UserError when it is missing, empty or no text.
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
    """Lines with something on them and their numbers from 1, without comments."""
    numbered = (
        (number, line.strip())
        for number, line in enumerate(re.split(r"\r\n|\n|\r", text_of(path)), 1)
    )
    return [(number, line) for number, line in numbered if line and not line.startswith(_COMMENTS)]


def comments_of(path: Path) -> dict[str, str]:
    """``#KEY value`` lines, keys in upper case."""
    found = (
        re.match(r"\s*#\s*(\w+)[\s:=]+(\S.*?)\s*$", line) for line in text_of(path).splitlines()
    )
    return {match[1].upper(): match[2] for match in found if match}


def cells_of(line: str) -> list[str]:
    """The values on a line, between white space or commas."""
    return [cell for cell in re.split(r"[\s,;]+", line) if cell]


def number(path: Path, line: int, cell: str, expected: str = "a number") -> float:
    """A value of a line. UserError that names the line when it is no finite number."""
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value) or "_" in cell:
        raise UserError(f"{path}: line {line}: {cell[:40]!r}; expected {expected}")
    return value


def number_rows(path: Path, widths: Sequence[int], columns: str) -> np.ndarray:
    """All lines as numbers (n, width), every line of the same width, one of ``widths``.

    ``columns`` says what is expected on a line. UserError that names the first line which is
    something else.
    """
    rows: list[list[float]] = []
    for line, content in lines_of(path):
        cells = cells_of(content)
        if len(cells) not in widths or (rows and len(cells) != len(rows[0])):
            raise UserError(
                f"{path}: line {line} has {len(cells)} columns; expected {columns} on each line"
            )
        rows.append([number(path, line, cell) for cell in cells])
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(rows[0]) if rows else widths[0])

"""STAR files as text tables.

Values stay the text that they are: a tomogram named 007 remains 007.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cryoet_core.formats.stack import plain_file
from cryoet_core.support.errors import UserError

LARGEST = 2 << 30


@dataclass
class StarTable:
    """One block of a STAR file.

    Attributes
    ----------
    name : str
        Name of the block.
    columns : dict[str, list[str]]
        Columns of text, all of one length, by label without the leading underscore.
    """

    name: str
    columns: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def numbers(self, column: str, path: Path) -> np.ndarray:
        """Return a column as numbers.

        Parameters
        ----------
        column : str
            Label without the leading underscore.
        path : Path
            The file, for messages.

        Returns
        -------
        np.ndarray, shape (n,), float64
            The numbers.

        Raises
        ------
        UserError
            Names the first row that is no number.
        """
        values = self.columns[column]
        try:
            numbers = np.array(values, dtype=np.float64)
        except ValueError:
            numbers = np.array([_number(value) for value in values])
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad):
            raise UserError(
                f"{path}: {column} of row {bad[0]} is {values[bad[0]]!r}; expected a number"
            )
        return numbers


def read_star(path: Path) -> list[StarTable]:
    """Read all blocks of a STAR file (gzip or bzip2 too).

    Pairs outside of loops are a table of one row.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    list[StarTable]
        The blocks, in order.

    Raises
    ------
    UserError
        When it is missing or no STAR file.
    """
    from gemmi import cif

    if not path.exists():
        raise UserError(f"{path}: no such file; expected a STAR file")
    with plain_file(path) as file:
        raw = file.read(LARGEST)
    try:
        document = cif.read_string(raw.decode())
    except (ValueError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).removeprefix("string").split())
        raise UserError(
            f"{path}: no STAR file, or a damaged one ({reason}); expected data_ blocks"
        ) from error
    tables = [table for block in document for table in _tables(block)]
    if not tables:
        raise UserError(f"{path}: a STAR file without a table; expected a block with loop_")
    return tables


def _tables(block: object) -> list[StarTable]:
    pairs, tables, name = StarTable(block.name.strip()), [], block.name.strip()  # type: ignore[attr-defined]
    for item in block:  # type: ignore[attr-defined]
        if item.pair is not None:
            pairs.columns[item.pair[0].removeprefix("_")] = [_text(item.pair[1])]
        elif item.loop is not None:
            tags, values = item.loop.tags, item.loop.values
            width = len(tags)
            columns = {
                tag.removeprefix("_"): [_text(v) for v in values[i::width]]
                for i, tag in enumerate(tags)
            }
            tables.append(StarTable(name, columns))
    return [pairs, *tables] if pairs.columns else tables


def write_star(tables: list[StarTable], comment: str = "") -> str:
    """Write tables as the text of a STAR file that RELION reads.

    Parameters
    ----------
    tables : list[StarTable]
        The blocks. The block "general" is written as pairs, all others as loops.
    comment : str, optional
        First line of the file.

    Returns
    -------
    str
        The text.

    Raises
    ------
    UserError
        For a value that cannot stand in a STAR file.
    """
    from gemmi import cif

    parts = [f"# {comment}\n"] if comment else []
    for table in tables:
        parts.append(f"\ndata_{table.name}\n\n")
        if table.name == "general":
            parts += [
                f"_{label} {cif.quote(values[0])}\n" for label, values in table.columns.items()
            ]
            continue
        parts.append("loop_\n")
        parts += [f"_{label} #{number}\n" for number, label in enumerate(table.columns, 1)]
        quoted = [[_quoted(value) for value in values] for values in table.columns.values()]
        parts += [" ".join(row) + "\n" for row in zip(*quoted, strict=True)]
    return "".join(parts)


def rounded(values: np.ndarray, digits: int = 6) -> list[str]:
    """Write numbers as text.

    Parameters
    ----------
    values : np.ndarray, shape (n,)
        The numbers.
    digits : int, optional
        Digits after the point.

    Returns
    -------
    list[str]
        The n texts.
    """
    return [f"{value:.{digits}f}" for value in values]


def columns_of(
    prefix: str, axes: str, values: np.ndarray, digits: int = 6, suffix: str = ""
) -> Mapping[str, list[str]]:
    """Split vectors into three columns of text, in the order x, y, z.

    Parameters
    ----------
    prefix : str
        Beginning of the columns' names.
    axes : str
        The three letters that stand for x, y and z.
    values : np.ndarray, shape (n, 3)
        Vectors in (z, y, x).
    digits : int, optional
        Digits after the point.
    suffix : str, optional
        End of the columns' names.

    Returns
    -------
    Mapping[str, list[str]]
        Columns by name, ``prefix + axis + suffix``.

    Examples
    --------
    >>> dict(columns_of("rlnCoordinate", "XYZ", np.array([[3.0, 2.0, 1.0]]), digits=1))
    {'rlnCoordinateX': ['1.0'], 'rlnCoordinateY': ['2.0'], 'rlnCoordinateZ': ['3.0']}
    """
    return {
        f"{prefix}{axis}{suffix}": rounded(column, digits)
        for axis, column in zip(axes, values.T[::-1], strict=True)
    }


def _text(value: str) -> str:
    from gemmi import cif

    return str(cif.as_string(value)) if value[:1] in "'\";" else value


_PLAIN = re.compile(
    r"(?![.?]$|data_|loop_|save_|stop_|global_)[^\s\x00-\x1f\"'#$\[\];_][^\s\x00-\x1f\"']*",
    re.IGNORECASE | re.ASCII,
)


def _quoted(value: str) -> str:
    """Return a value as a token, in quotes only where it must be.

    Simple readers take quotes for a part of a name.
    """
    from gemmi import cif

    if _PLAIN.fullmatch(value) and value.isascii():
        return value
    quoted = str(cif.quote(value))
    if "\n" in quoted:
        raise UserError(
            f"{value!r} cannot stand in a STAR file (a line break, or both kinds of quotes); "
            "rename it"
        )
    return quoted


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")

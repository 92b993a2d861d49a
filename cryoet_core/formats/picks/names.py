"""Names of tomograms, as the files of other programs write them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cryoet_core.formats.picks.text import lines_of
from cryoet_core.support.errors import UserError

_ENDINGS = (
    ".tomostar",
    ".mrc",
    ".mrcs",
    ".rec",
    ".st",
    ".ali",
    ".map",
    ".em",
    ".hdf",
    ".zarr",
    ".gz",
    ".bz2",
    ".xz",
)


def tomogram_name(text: str) -> str:
    """Return the name of a tomogram without folder and endings.

    Parameters
    ----------
    text : str
        A name or path.

    Returns
    -------
    str
        The name; one of which nothing would remain stays as it is.

    Examples
    --------
    >>> tomogram_name("tomograms/TS_01.mrc.tomostar")
    'TS_01'
    """
    name = re.split(r"[/\\]", text.strip().rstrip("/\\"))[-1]
    while True:
        ending = next((ending for ending in _ENDINGS if name.lower().endswith(ending)), None)
        if ending is None or len(name) == len(ending):
            return name or text
        name = name[: -len(ending)]


def stem_of(path: Path) -> str:
    """Return a pick file's name without folder and endings.

    It stands for the tomogram where nothing else does.

    Parameters
    ----------
    path : Path
        The pick file.

    Returns
    -------
    str
        The name.
    """
    name = tomogram_name(path.name)
    return name.rsplit(".", 1)[0] if "." in name[1:] else name


def read_names(path: Path) -> dict[int, str]:
    """Read a file of tomogram numbers and names.

    Parameters
    ----------
    path : Path
        A Dynamo .doc, or a table with a number and a name (or path) on each line.

    Returns
    -------
    dict[int, str]
        The names by number.

    Raises
    ------
    UserError
        Names the line that is something else, or a number that stands twice.
    """
    names: dict[int, str] = {}
    for number, line in lines_of(path):
        match = re.fullmatch(r"(\d{1,9})(?:\.0*)?[\s,;]+(\S.*)", line)
        if not match:
            raise UserError(
                f"{path}: line {number} is {line[:60]!r}; expected a tomogram's number and its name"
            )
        if int(match[1]) in names:
            raise UserError(
                f"{path}: line {number}: tomogram {match[1]} stands twice; expected it once"
            )
        names[int(match[1])] = tomogram_name(match[2].strip("\"'"))
    return names


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Number tomograms from 1, in the order of their names.

    Parameters
    ----------
    names : Iterable[str]
        Names of the tomograms.

    Returns
    -------
    dict[str, int]
        The numbers by name; names that are all numbers keep theirs.
    """
    distinct = sorted(set(names), key=natural)
    if all(re.fullmatch(r"[1-9]\d{0,8}", name) for name in distinct):
        return {name: int(name) for name in distinct}
    return {name: number for number, name in enumerate(distinct, 1)}


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return a key by which class2 is sorted before class10.

    Parameters
    ----------
    text : str
        The name.

    Returns
    -------
    list[tuple[int, int, str]]
        The key.

    Examples
    --------
    >>> sorted(["class10", "class2"], key=natural)
    ['class2', 'class10']
    """
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]


def whole_numbers(numbers: np.ndarray) -> np.ndarray:
    """Round numbers to whole ones, within a billion."""
    return np.clip(np.round(numbers), -1e9, 1e9).astype(np.int64)


def tomograms_of(
    path: Path, numbers: np.ndarray, names: Path | None
) -> tuple[list[str] | None, list[str]]:
    """Return the tomogram of each row from its number.

    Parameters
    ----------
    path : Path
        The pick file, for messages.
    numbers : np.ndarray, shape (n,)
        Numbers of the tomograms.
    names : Path | None
        A file of tomogram numbers and names.

    Returns
    -------
    tuple[list[str] | None, list[str]]
        The n names, or None where all numbers are 0, which stands for none; and notes.

    Raises
    ------
    UserError
        Where ``names`` lacks a number.
    """
    whole = whole_numbers(numbers)
    distinct = np.unique(whole)
    if names is None:
        if not distinct.any():
            return None, []
        return [str(each) for each in whole], [
            "tomograms are numbers there; `names` FILE names them"
        ]
    known = read_names(names)
    missing = [int(each) for each in distinct if int(each) not in known]
    if missing:
        raise UserError(
            f"{path}: tomogram {missing[0]} is not in {names}; expected its number and name there; "
            "add it"
        )
    return [known[int(each)] for each in whole], [f"tomograms named by {names.name}"]

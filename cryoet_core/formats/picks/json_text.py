"""Read JSON of unknown origin: its size is limited and its numbers are checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.formats.picks.text import text_of
from cryoet_core.support.errors import UserError


def json_of(path: Path, text: str | None = None) -> Any:
    """Parse a JSON file.

    Parameters
    ----------
    path : Path
        The file.
    text : str | None, optional
        Text from the file; without it the whole file is read.

    Returns
    -------
    Any
        The content.

    Raises
    ------
    UserError
        Names the line where it is damaged.
    """
    try:
        return json.loads(text_of(path) if text is None else text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged JSON ({error}); expected picks") from error


def real(path: Path, where: str, value: object) -> float:
    """Return a finite number.

    Parameters
    ----------
    path : Path
        The file, for messages.
    where : str
        The place in the file, for messages.
    value : object
        What stands there.

    Returns
    -------
    float
        The number.

    Raises
    ------
    UserError
        Where it is none.
    """
    if not isinstance(value, bool) and isinstance(value, (int, float)):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise UserError(f"{path}: {where} is {str(value)[:40]!r}; expected a number")


def score_of(value: object) -> float:
    """Return a score, NaN for none."""
    try:
        return (
            float(value)
            if isinstance(value, (int, float)) and not isinstance(value, bool)
            else math.nan
        )
    except OverflowError:
        return math.nan


def location(path: Path, where: str, point: object) -> list[float]:
    """Read x, y and z of ``{"location": {"x", "y", "z"}}``.

    Parameters
    ----------
    path : Path
        The file, for messages.
    where : str
        The place in the file, for messages.
    point : object
        What stands there.

    Returns
    -------
    list[float]
        x, y and z.

    Raises
    ------
    UserError
        Where they are missing.
    """
    place = point.get("location") if isinstance(point, Mapping) else None
    if not isinstance(place, Mapping) or not all(axis in place for axis in "xyz"):
        raise UserError(f"{path}: {where} has no location; expected x, y and z")
    return [real(path, f"{axis} of {where}", place[axis]) for axis in "xyz"]


def matrix(path: Path, where: str, value: object, size: int) -> np.ndarray:
    """Read a square matrix.

    Parameters
    ----------
    path : Path
        The file, for messages.
    where : str
        The place in the file, for messages.
    value : object
        What stands there.
    size : int
        Number of rows and columns.

    Returns
    -------
    np.ndarray, shape (size, size)
        The matrix.

    Raises
    ------
    UserError
        Where it is none.
    """
    rows = value if isinstance(value, list) and len(value) == size else []
    if not rows or not all(isinstance(row, list) and len(row) == size for row in rows):
        raise UserError(f"{path}: the matrix of {where} is no {size} x {size} matrix; repair it")
    return np.array([[real(path, f"the matrix of {where}", cell) for cell in row] for row in rows])

"""JSON of strangers: parsed with a limit, its numbers checked."""

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
    """The content of a JSON file, or of ``text`` from it. UserError with the line where it is
    damaged.
    """
    try:
        return json.loads(text_of(path) if text is None else text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged JSON ({error}); expected picks") from error


def real(path: Path, where: str, value: object) -> float:
    """A finite number. UserError that says where it is none."""
    if not isinstance(value, bool) and isinstance(value, (int, float)):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise UserError(f"{path}: {where} is {str(value)[:40]!r}; expected a number")


def score_of(value: object) -> float:
    """A score, NaN for none."""
    try:
        return (
            float(value)
            if isinstance(value, (int, float)) and not isinstance(value, bool)
            else math.nan
        )
    except OverflowError:
        return math.nan


def location(path: Path, where: str, point: object) -> list[float]:
    """x, y and z of ``{"location": {"x", "y", "z"}}``.

    UserError that says where they are missing.
    """
    place = point.get("location") if isinstance(point, Mapping) else None
    if not isinstance(place, Mapping) or not all(axis in place for axis in "xyz"):
        raise UserError(f"{path}: {where} has no location; expected x, y and z")
    return [real(path, f"{axis} of {where}", place[axis]) for axis in "xyz"]


def matrix(path: Path, where: str, value: object, size: int) -> np.ndarray:
    """A matrix (size, size) of numbers. UserError that says where it is none."""
    rows = value if isinstance(value, list) and len(value) == size else []
    if not rows or not all(isinstance(row, list) and len(row) == size for row in rows):
        raise UserError(f"{path}: the matrix of {where} is no {size} x {size} matrix; repair it")
    return np.array([[real(path, f"the matrix of {where}", cell) for cell in row] for row in rows])

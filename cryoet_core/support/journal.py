"""metrics.jsonl: one JSON object per line, appended and flushed; a torn last line is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryoet_core.support import files


def read(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a journal, without a torn last line; without a file there are none."""
    return [row for row, _ in _rows(path)]


def _rows(path: Path) -> list[tuple[dict[str, Any], int]]:
    """Return each whole row with the position of its end in bytes.

    Reading stops at the first line that is no JSON object.
    """
    rows: list[tuple[dict[str, Any], int]] = []
    end = 0
    if not path.exists():
        return rows
    with path.open("rb") as file:
        for line in file:
            end += len(line)
            try:
                row = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or not isinstance(row, dict):
                break
            rows.append((row, end))
    return rows


class Journal:
    """Append rows to a journal file.

    A journal that existed before is first cut back to what the resumed run has not yet done.

    Parameters
    ----------
    path : Path
        The file (metrics.jsonl); it may exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._resumed = path.exists()
        if self._resumed:
            self._cut(len(_rows(path)))

    def append(self, row: dict[str, Any]) -> None:
        """Write one row and flush it.

        The first row with a ``step`` removes the rows that an interrupted run wrote past it.

        Parameters
        ----------
        row : dict[str, Any]
            One JSON object.

        Raises
        ------
        UserError
            When the disk refuses.
        """
        row = files.plain(row)
        if self._resumed and "step" in row:
            self._cut(_first_repeated(read(self.path), row))
            self._resumed = False
        with files.explained(self.path), self.path.open("ab") as file:
            file.write((json.dumps(row, allow_nan=False) + "\n").encode())

    def _cut(self, count: int) -> None:
        """Keep the first ``count`` rows."""
        with files.explained(self.path), self.path.open("r+b") as file:
            file.truncate(_rows(self.path)[count - 1][1] if count else 0)


def _first_repeated(rows: list[dict[str, Any]], new: dict[str, Any]) -> int:
    """Index of the first row that ``new`` repeats: the same ``phase`` (if any) and a step as late.

    Rows are in the order in which they happened, so everything after that one is repeated, too.
    Without any such row it is the number of rows.
    """
    for index, row in enumerate(rows):
        if row.get("phase") == new.get("phase") and "step" in row and row["step"] >= new["step"]:
            return index
    return len(rows)

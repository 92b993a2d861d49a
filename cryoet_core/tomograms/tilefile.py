"""An array on disk that is filled box by box, and the journal that says which boxes are done."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.store.columns import reserve
from cryoet_core.support import files, journal

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

SYNC_SECONDS = 2.0
"""Boxes are brought to the disk and noted together, this far apart: a crash costs as much work at
most.
"""


class TileFile:
    """Values of a whole tomogram on disk, filled box by box and resumable.

    NAME.tiles holds the values; NAME.tiles.jsonl has one line per box that is done. The journal's
    first line says what the values are of; values of anything else are thrown away. A box is noted
    only once its values are on the disk, so what is noted is there, whatever crashed.

    Parameters
    ----------
    folder : Path
        Where the two files lie; it is made where it is missing.
    name : str
        The name of the values.
    shape : (int, int, int, int)
        Channels and output voxels (z, y, x), float32.
    facts : mapping
        What the values are of; anything that JSON holds.
    """

    def __init__(
        self, folder: Path, name: str, shape: tuple[int, int, int, int], facts: Mapping[str, Any]
    ) -> None:
        files.make_folder(folder)
        self.path = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}.tiles"
        self._journal = self.path.with_name(f"{self.path.name}.jsonl")
        self.shape = shape
        head = json.loads(json.dumps(files.plain({"name": name, "map": shape, **facts})))
        rows = journal.read(self._journal)
        size = 4 * int(np.prod(shape))
        if (
            not rows
            or rows[0] != head
            or not self.path.exists()
            or self.path.stat().st_size != size
        ):
            rows = [head]
            self._begin(head, size)
        self._done: list[Box] = [_box(row["done"]) for row in rows[1:]]
        self._lines = journal.Journal(self._journal)  # cuts a torn last line
        self._array: np.ndarray = np.memmap(self.path, np.float32, "r+", shape=shape)
        self._pending: list[Box] = []
        self._synced = time.monotonic()

    def _begin(self, head: Mapping[str, Any], size: int) -> None:
        with files.explained(self.path):
            self._journal.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
            # a memory map of a file that the disk cannot hold ends the process, so its space is
            # taken first
            reserve(self.path, size)
            os.truncate(self.path, size)
            files.sync(self.path)
        files.write_bytes(self._journal, (json.dumps(head) + "\n").encode())

    def missing(self, boxes: Sequence[Box]) -> list[Box]:
        """Return the boxes that what is done, and may have been cut otherwise, does not cover."""
        if not self._done:
            return list(boxes)
        covered = np.zeros(self.shape[1:], bool)
        for box in self._done:
            covered[_region(box)] = True
        return [box for box in boxes if not covered[_region(box)].all()]

    def write(self, box: Box, values: np.ndarray) -> None:
        """Store the values of a box of output voxels.

        Parameters
        ----------
        box : Box
            First and last + 1 voxel along z, y and x.
        values : numpy.ndarray
            (channels, d, h, w).
        """
        z, y, x = _region(box)
        self._array[:, z, y, x] = values
        self._pending.append(box)
        self._done.append(box)
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self._array.flush()  # type: ignore[attr-defined]
            for each in self._pending:
                self._lines.append({"done": each})
            self._pending, self._synced = [], time.monotonic()

    def array(self) -> np.ndarray:
        """Return the values as a map of the file whose changes stay in memory."""
        values: np.ndarray = np.memmap(self.path, np.float32, "c", shape=self.shape)
        return values


def _box(row: Sequence[Sequence[int]]) -> Box:
    z, y, x = ((int(start), int(stop)) for start, stop in row)
    return z, y, x


def _region(box: Box) -> tuple[slice, slice, slice]:
    z, y, x = (slice(*span) for span in box)
    return z, y, x

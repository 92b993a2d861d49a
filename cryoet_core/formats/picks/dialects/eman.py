"""EMAN 2's ``info/NAME_info.json``: ``boxes_3d``, rows of x, y, z, method, score, class.

With ``apix_unbin`` (since 2018) coordinates count from the voxel n // 2 of the tomogram, in units
of so many Å; without it, in voxels from the first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.formats.picks.json_text import json_of, real
from cryoet_core.formats.picks.model import PickFile, PickReading, Writing, find
from cryoet_core.formats.picks.names import stem_of
from cryoet_core.formats.picks.rows import Rows, finish
from cryoet_core.formats.relion import UNLABELLED
from cryoet_core.picks.table import Picks
from cryoet_core.support import files
from cryoet_core.support.errors import UserError

BOXES, SCALE, CLASSES = "boxes_3d", "apix_unbin", "class_list"
BOX = 64
"""EMAN's own box where nobody says one."""


def read(path: Path, reading: PickReading) -> PickFile:
    """Read the boxes of one tomogram.

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
        Where a box is damaged, or the tomogram's size is needed and unknown.
    """
    info = json_of(path)
    boxes = info.get(BOXES) if isinstance(info, Mapping) else None
    if not isinstance(boxes, list):
        raise UserError(
            f"{path}: JSON without {BOXES}; expected the info file of a tomogram in EMAN 2"
        )
    table = [_box(path, index, box) for index, box in enumerate(boxes)]
    rows = Rows(path, "eman", np.array([box[:3] for box in table], dtype=np.float64).reshape(-1, 3))
    rows.stem = stem_of(path).removesuffix("_info")
    rows.scores = np.array([box[3] for box in table], dtype=np.float64)
    rows.classes = _classes(info.get(CLASSES), [int(box[4]) for box in table])
    if SCALE in info:
        scale = real(path, SCALE, info[SCALE])
        if scale <= 0:
            raise UserError(f"{path}: {SCALE} is {scale:g}; expected Å above 0; repair it")
        rows.voxel_size = scale
        rows.xyz = rows.xyz + _middle(rows, reading) / scale
    return finish(rows, reading)


def _box(path: Path, index: int, box: object) -> list[float]:
    """x, y, z, score (NaN for a box that a person set) and class."""
    if not isinstance(box, list) or len(box) < 3:
        raise UserError(
            f"{path}: box {index} is {str(box)[:40]!r}; expected x, y, z, method, score, class"
        )
    xyz = [real(path, f"box {index}", value) for value in box[:3]]
    score = real(path, f"the score of box {index}", box[4]) if len(box) > 4 else np.nan
    manual = len(box) < 4 or (box[3] == "manual" and score == 0)
    label = real(path, f"the class of box {index}", box[5]) if len(box) > 5 else 0
    return [*xyz, np.nan if manual else score, np.clip(label, -1e9, 1e9)]


def _classes(known: Any, labels: list[int]) -> list[str] | None:
    known = known if isinstance(known, Mapping) else {}
    if not known and len(set(labels)) < 2:
        return None
    return [_class_name(known.get(str(label)), label) for label in labels]


def _class_name(entry: object, label: int) -> str:
    name = entry.get("name") if isinstance(entry, Mapping) else entry
    return str(name) if name else f"class{label}"


def _middle(rows: Rows, reading: PickReading) -> np.ndarray:
    """Å (x, y, z) of the voxel n // 2."""
    name = reading.tomogram or rows.stem or ""
    geometry = find(reading.geometry, name)
    if geometry is None:
        raise UserError(
            f"{rows.path}: coordinates count from the middle of tomogram {name!r}, whose size is "
            "unknown; expected its "
            "size; give the tomogram"
        )
    middle: np.ndarray = np.array(geometry.shape[::-1]) // 2 * geometry.voxel_size
    return middle


def write(path: Path, picks: Picks, writing: Writing) -> list[str]:
    """Replace a file by an info file with the boxes of one tomogram.

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

    Raises
    ------
    UserError
        Where the size of the tomogram is unknown.
    """
    names = [*picks.class_names, UNLABELLED]
    used = sorted({int(label) for label in picks.classes}, key=lambda label: label % len(names))
    numbers = {label: number for number, label in enumerate(used)}
    boxes: list[list[object]] = []
    info: dict[str, object] = {}
    if len(picks):
        geometry = writing.geometry_of(path, str(picks.tomograms[0]))
        middle = np.array(geometry.shape) // 2
        for row, (z, y, x) in enumerate(picks.positions / geometry.voxel_size - middle):
            score = float(picks.scores[row])
            judged = ["tm", score] if np.isfinite(score) else ["manual", 0.0]
            place = [round(float(value), 6) for value in (x, y, z)]
            boxes.append([*place, *judged, numbers[int(picks.classes[row])]])
        info[SCALE] = geometry.voxel_size
    info[BOXES] = boxes
    info[CLASSES] = {
        str(number): {"name": names[label], "boxsize": writing.box or BOX}
        for label, number in numbers.items()
    }
    files.write_bytes(path, (json.dumps(info, indent=1, allow_nan=False) + "\n").encode())
    return []

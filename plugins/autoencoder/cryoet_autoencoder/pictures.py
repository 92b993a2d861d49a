"""Draw pictures of a run for its report: the centres of the clusters as three slices each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cryoet_core.support import files

FOLDER, PICTURES = "pictures", "pictures.json"
WIDTH = 96
"""Pixels of a slice, at least."""


def write_orthoslices(path: Path, volume: np.ndarray, low: float, high: float) -> None:
    """Write the central slices (y, x), (z, x) and (z, y) of a volume side by side as a PNG.

    Parameters
    ----------
    path : Path
        File to write.
    volume : np.ndarray
        Volume (d, h, w).
    low : float
        Value that is black.
    high : float
        Value that is white.
    """
    z, y, x = (n // 2 for n in volume.shape)
    scale = 255 / (high - low) if high > low else 0.0
    factor = -(-WIDTH // max(volume.shape))
    planes = [volume[z], volume[:, y], volume[:, :, x]]
    grey = [
        np.clip((plane - low) * scale, 0, 255).astype(np.uint8).repeat(factor, 0).repeat(factor, 1)
        for plane in planes
    ]
    line = np.full((grey[0].shape[0], 3), 255, np.uint8)
    files.make_folder(path.parent)
    with files.replacing(path) as beside:
        Image.fromarray(np.hstack([grey[0], line, grey[1], line, grey[2]])).save(
            beside, "PNG", optimize=True
        )


def write_centres(
    folder: Path, pictures: np.ndarray, captions: Sequence[str], order: Sequence[int]
) -> list[Any]:
    """Write a PNG for each of the centres, all on one grey scale.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    pictures : np.ndarray
        Decoded centres (k, s, s, s).
    captions : Sequence[str]
        Caption of each centre.
    order : Sequence[int]
        Centres to draw, in this order.

    Returns
    -------
    list[Any]
        Entries for pictures.json.
    """
    low, high = np.percentile(pictures, (1, 99.8))
    entries = []
    for index in order:
        name = f"{FOLDER}/cluster{index + 1}.png"
        write_orthoslices(folder / name, pictures[index], float(low), float(high))
        entries.append({"file": name, "caption": captions[index]})
    return entries


def add_pictures(folder: Path, title: str, note: str, entry: Any) -> None:
    """Add an entry to a group of a folder's pictures.json, in place of one of the same file.

    Parameters
    ----------
    folder : Path
        Folder with pictures.json.
    title : str
        Title of the group.
    note : str
        Note of the group.
    entry : Any
        File and caption.
    """
    path = folder / PICTURES
    groups = files.read_json(path) if path.exists() else []
    group = next((group for group in groups if group["title"] == title), None)
    if group is None:
        group = {"title": title, "note": note, "pictures": []}
        groups.append(group)
    group["pictures"] = [known for known in group["pictures"] if known["file"] != entry["file"]] + [
        entry
    ]
    files.write_json(path, groups)

"""Read and write label volumes as MRC files of bytes (mode 0): 0 background, 1 the first class."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import mrcfile
import numpy as np

from cryoet_core.support import files

FOLDER, NAMES = "segmentation", "classes.json"


def write_labels(path: Path, labels: np.ndarray, voxel_size: float) -> None:
    """Write the labels of a tomogram.

    Parameters
    ----------
    path : Path
        File to write.
    labels : np.ndarray
        Labels (d, h, w).
    voxel_size : float
        Voxel size in Å.
    """
    files.make_folder(path.parent)
    with files.replacing(path) as beside, mrcfile.new(beside, overwrite=True) as file:
        file.set_data(labels.astype(np.int8, copy=False))
        file.set_volume()
        file.voxel_size = voxel_size


def write_stack(
    path: Path, parts: Iterable[np.ndarray], n: int, box: int, voxel_size: float
) -> None:
    """Write the labels of subtomograms as a stack of volumes.

    Parameters
    ----------
    path : Path
        File to write.
    parts : Iterable[np.ndarray]
        Labels batch by batch, (b, box, box, box).
    n : int
        Number of subtomograms.
    box : int
        Box size in voxels.
    voxel_size : float
        Voxel size in Å.
    """
    files.make_folder(path.parent)
    shape = (n, box, box, box)
    with (
        files.replacing(path) as beside,
        mrcfile.new_mmap(beside, shape, mrc_mode=0, overwrite=True) as file,
    ):
        start = 0
        for part in parts:
            file.data[start : start + len(part)] = part
            start += len(part)
        file.voxel_size = voxel_size
        file.update_header_stats()


def read_labels(path: Path) -> np.ndarray:
    """Read labels (d, h, w) int8, mapped."""
    with mrcfile.mmap(path, mode="r", permissive=False) as file:
        return np.asarray(file.data)


def write_names(folder: Path, names: tuple[str, ...]) -> None:
    """Write beside the volumes what their numbers mean."""
    files.make_folder(folder)
    files.write_json(
        folder / NAMES, {"0": "background"} | {str(i + 1): name for i, name in enumerate(names)}
    )

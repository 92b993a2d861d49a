"""Reading a store of tomograms; ``layout`` says what is on disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.picks.table import Picks
from cryoet_core.store.opening import open_file
from cryoet_core.support.errors import UserError
from cryoet_core.support.hdf5 import read_json, read_rows
from cryoet_core.tomograms import layout
from cryoet_core.tomograms.tomogram import Tomogram
from cryoet_core.tomograms.volume import Region

__all__ = ["StoredVolume", "describe_tomograms", "open_store"]


@dataclass(frozen=True)
class StoredVolume:
    """A data set of a store; each process opens the file where it first reads it.

    Attributes
    ----------
    path : Path
        The store.
    dataset : str
        The name of the data set in it.
    shape : (int, int, int)
        Voxels (z, y, x).
    whole_numbers : bool
        It is a mask.
    """

    path: Path
    dataset: str
    shape: tuple[int, int, int]
    whole_numbers: bool = False

    def read(self, region: Region) -> np.ndarray:
        """Return a region (z, y, x), float32 or the whole numbers of a mask.

        Raises
        ------
        UserError
            The data is damaged.
        """
        try:
            modified = self.path.stat().st_mtime_ns
            with _LOCK:  # one handle of HDF5 must not be read by two threads
                values = _handle(self.path, modified, os.getpid())[self.dataset][region]
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{self.path}: cannot be read ({error}); see `cryoet data check {self.path}`"
            ) from error
        return values if self.whole_numbers else np.asarray(values, dtype=np.float32)


_LOCK = threading.Lock()


@lru_cache(maxsize=8)
def _handle(path: Path, modified: int, process: int) -> Any:
    import h5py

    return h5py.File(path, "r", locking=False)


def open_store(path: Path | str) -> list[Tomogram]:
    """Open the tomograms of a store, in the order in which they were written.

    Parameters
    ----------
    path : Path or str
        The store.

    Returns
    -------
    list of Tomogram
        Nothing of their volumes is read yet.

    Raises
    ------
    UserError
        The file is not a whole store; one line says why.
    """
    path = Path(path)
    with open_file(path, layout.KIND) as file:
        try:
            problem = layout.header_problem(file)
            if problem:
                raise UserError(f"{path}: {problem}")
            groups = list(file[layout.ROOT].values())
            return [_tomogram(path, group, alone=len(groups) == 1) for group in groups]
        except (KeyError, ValueError, TypeError, RuntimeError, OSError, AttributeError) as error:
            raise UserError(
                f"{path}: a damaged store ({error}); see `cryoet data check {path}`"
            ) from error


def _tomogram(path: Path, group: Any, *, alone: bool) -> Tomogram:
    attrs = group.attrs
    name = str(attrs["name"])
    volume = group.get("volume")
    problem = layout.volume_problem(volume)
    if problem:
        raise UserError(f"{path}: tomogram {name!r}: {problem}")
    tilt = attrs.get("tilt_range")
    masks = group.get("masks", {})
    return Tomogram(
        name,
        StoredVolume(path, volume.name, volume.shape),
        float(attrs["voxel_size"]),
        int(attrs["density_sign"]),
        None if tilt is None else (float(tilt[0]), float(tilt[1])),
        str(attrs.get("tilt_axis", "y")),
        _picks(group["picks"], name) if "picks" in group else None,
        str(path) if alone else f"{path}: tomogram {name}",
        {
            mask: StoredVolume(path, masks[mask].name, masks[mask].shape, whole_numbers=True)
            for mask in masks
        },
        read_json(attrs, "attributes"),
    )


def _picks(group: Any, name: str) -> Picks:
    positions = group["positions"][:]
    return Picks(
        positions.astype(np.float64),
        group["scores"][:].astype(np.float32),
        group["classes"][:].astype(np.int64),
        tuple(str(label) for label in group.attrs["class_names"]),
        np.full(len(positions), name, dtype=object),
        group["rotations"][:].astype(np.float64) if "rotations" in group else None,
        {extra: read_rows(values) for extra, values in group.get("extra", {}).items()},
    )


def describe_tomograms(tomograms: Sequence[Tomogram]) -> dict[str, Any]:
    """Return the facts of tomograms: counts, then each one's geometry, conventions and picks."""
    return {
        "n": len(tomograms),
        "tomograms": {tomogram.name: _facts(tomogram) for tomogram in tomograms},
        "conventions": "axes z, y, x; positions in Å, voxel i at i * voxel size; rotations active, "
        "from reference",
        "notes": list(dict.fromkeys(note for tomogram in tomograms for note in tomogram.notes)),
    }


def _facts(tomogram: Tomogram) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "shape_zyx": list(tomogram.shape),
        "voxel_size": tomogram.voxel_size,
        "contrast": "bright" if tomogram.density_sign > 0 else "dark",
        "tilt_range": tomogram.tilt_range,
        "picks": None,
    }
    picks = tomogram.picks
    if picks is not None:
        facts["picks"] = {
            name: int((picks.classes == index).sum())
            for index, name in enumerate(picks.class_names)
        }
        facts["rotations"] = picks.rotations is not None
    if tomogram.masks:
        facts["masks"] = list(tomogram.masks)
    if tomogram.attributes:
        facts["attributes"] = dict(tomogram.attributes)
    return facts

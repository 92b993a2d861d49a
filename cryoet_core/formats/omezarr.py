"""OME-Zarr (NGFF 0.1 to 0.5, Zarr 2 and 3): read one level of a multiscale image chunk by chunk.

A chunk that is missing reads as zeros by Zarr's rules, so a copy that was cut short looks like a
dark tomogram; such an array is refused when it is opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.support.errors import UserError

UNITS = {
    "angstrom": 1.0,
    "ångström": 1.0,
    "å": 1.0,
    "nanometer": 10.0,
    "nanometre": 10.0,
    "nm": 10.0,
}
MARKS = {".zattrs", ".zgroup", ".zarray", "zarr.json"}
SAME_VOXELS = 0.02


@dataclass(frozen=True)
class ZarrVolume:
    """A 3-D array of a Zarr folder.

    Attributes
    ----------
    path : Path
        The folder.
    array : Any
        The opened Zarr array.
    order : tuple[int, int, int]
        For z, y and x, which axis it is, of those kept.
    kept : tuple[int, ...]
        The axes of the array that are spatial.
    """

    path: Path
    array: Any
    order: tuple[int, int, int]
    kept: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape in voxels, (z, y, x)."""
        sizes = [self.array.shape[axis] for axis in self.kept]
        d, h, w = (int(sizes[axis]) for axis in self.order)
        return d, h, w

    def read(self, region: tuple[slice, slice, slice]) -> np.ndarray:
        """Read a region of the volume.

        Parameters
        ----------
        region : tuple[slice, slice, slice]
            Slices along z, y and x.

        Returns
        -------
        np.ndarray, shape (d, h, w), float32
            The values.

        Raises
        ------
        UserError
            When a chunk cannot be read.
        """
        index: list[Any] = [0] * len(self.array.shape)
        for part, axis in zip(region, self.order, strict=True):
            index[self.kept[axis]] = part
        try:
            values = self.array[tuple(index)]
        except Exception as error:  # each codec fails in its own way on a damaged chunk
            where = ", ".join(
                f"{part.start or 0}-{part.stop if part.stop else ''}" for part in region
            )
            raise UserError(
                f"{self.path}: a chunk in z, y, x {where} cannot be read ({_line(error)}); copy it "
                "again"
            ) from error
        transposed: np.ndarray = np.transpose(np.asarray(values, dtype=np.float32), self.order)
        return transposed


@dataclass(frozen=True)
class Level:
    """One array of a multiscale image.

    Attributes
    ----------
    name : str
        Name of the array in the image.
    volume : ZarrVolume
        Its values.
    cell : tuple[float, float, float] | None
        Å per voxel (z, y, x), None where the file does not say it.
    reason : str
        Why ``cell`` is None.
    notes : tuple[str, ...]
        What was assumed.
    """

    name: str
    volume: ZarrVolume
    cell: tuple[float, float, float] | None
    reason: str
    notes: tuple[str, ...]


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a Zarr group or array."""
    return path.is_dir() and any((path / mark).exists() for mark in MARKS)


def open_omezarr(path: Path, voxel_size: float | None = None) -> Level:
    """Open one level of an OME-Zarr image, or a bare array.

    Parameters
    ----------
    path : Path
        The folder.
    voxel_size : float | None, optional
        Å; chooses the level with voxels of this size. Without it, the finest is opened.

    Returns
    -------
    Level
        The level.

    Raises
    ------
    UserError
        For a folder that is no 3-D image, a missing or unreadable array, and missing chunks.
    """
    import zarr

    try:
        node = zarr.open(str(path), mode="r")
    except Exception as error:  # zarr has no one class for damaged metadata
        raise UserError(
            f"{path}: a Zarr folder that cannot be read ({_line(error)}); copy it again"
        ) from error
    if hasattr(node, "shape"):
        volume = _volume(path, node, ("z", "y", "x"))
        return _whole(Level("", volume, None, f"{path} does not say it", ()))
    levels = _levels(path, node)
    chosen = levels[0]
    if voxel_size is not None:
        matching = [
            level
            for level in levels
            if level.cell and abs(level.cell[0] / voxel_size - 1) <= SAME_VOXELS
        ]
        chosen = matching[0] if matching else chosen
    return _whole(chosen)


def _levels(path: Path, group: Any) -> list[Level]:
    attributes = dict(group.attrs)
    image = _mapping(attributes.get("ome", attributes)).get("multiscales")
    if not isinstance(image, list) or not image or not isinstance(image[0], Mapping):
        raise UserError(
            f"{path}: a Zarr folder without multiscales; expected the folder of an OME-Zarr image"
        )
    datasets = image[0].get("datasets")
    if not isinstance(datasets, list) or not datasets:
        raise UserError(
            f"{path}: an OME-Zarr image without levels; expected multiscales[0].datasets; repair it"
        )
    names, units = _axes(path, image[0].get("axes"))
    common = _scale(image[0], len(names) or 3)
    return [_level(path, group, _mapping(entry), names, units, common) for entry in datasets]


def _level(
    path: Path,
    group: Any,
    entry: Mapping[str, Any],
    names: Sequence[str],
    units: Sequence[str | None],
    common: Any,
) -> Level:
    name = str(entry.get("path", ""))
    try:
        array = group[name]
    except Exception as error:
        raise UserError(
            f"{path}: level {name!r} is missing or damaged ({_line(error)}); copy it again"
        ) from error
    if not names and len(array.shape) == 3:
        names = ("z", "y", "x")
    volume = _volume(path, array, names)
    notes = [] if volume.order == (0, 1, 2) else ["axes were permuted; brought to z, y, x"]
    scale = _scale(entry, len(array.shape))
    if scale is None:
        return Level(name, volume, None, f"{path} does not say it", tuple(notes))
    if common is not None:
        scale = [one * other for one, other in zip(scale, common, strict=True)]
    kept_units = [units[axis] if units else None for axis in volume.kept]
    if any(unit not in UNITS for unit in kept_units):
        found = next(unit for unit in kept_units if unit not in UNITS)
        return Level(
            name,
            volume,
            None,
            f"{path} gives it in {found or 'no unit'}, not angstrom",
            tuple(notes),
        )
    sizes = [
        scale[axis] * UNITS[str(unit)] for axis, unit in zip(volume.kept, kept_units, strict=True)
    ]
    z, y, x = (float(sizes[axis]) for axis in volume.order)
    return Level(name, volume, (z, y, x), "", tuple(notes))


def _axes(path: Path, axes: Any) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """Names and units of the axes; NGFF 0.3 has names alone, older ones none."""
    if axes is None:
        return (), ()
    if not isinstance(axes, list) or not all(isinstance(axis, (str, Mapping)) for axis in axes):
        raise UserError(f"{path}: axes {axes!r}; expected a list of named axes; repair .zattrs")
    names = tuple(
        str(axis if isinstance(axis, str) else axis.get("name", "")).lower() for axis in axes
    )
    units = tuple(
        None if isinstance(axis, str) or not axis.get("unit") else str(axis["unit"]).lower()
        for axis in axes
    )
    return names, units


def _scale(entry: Mapping[str, Any], count: int) -> list[float] | None:
    """The product of an entry's scales, one number per axis; None where it has none."""
    found: list[float] | None = None
    for step in entry.get("coordinateTransformations") or []:
        values = _mapping(step).get("scale")
        if isinstance(values, list) and len(values) == count:
            found = [
                float(value) * (found[axis] if found else 1.0) for axis, value in enumerate(values)
            ]
    return found


def _volume(path: Path, array: Any, names: Sequence[str]) -> ZarrVolume:
    """The array's z, y and x; other axes must be of length 1."""
    shape = array.shape
    if len(names) != len(shape) or sorted(set(names) & set("zyx")) != ["x", "y", "z"]:
        raise UserError(
            f"{path}: an array {tuple(shape)} with axes {', '.join(names) or 'unnamed'}; expected "
            "z, y, x"
        )
    kept = tuple(axis for axis, name in enumerate(names) if name in "zyx")
    more = [
        f"{shape[axis]} along {name}"
        for axis, name in enumerate(names)
        if axis not in kept and shape[axis] != 1
    ]
    if more:
        raise UserError(
            f"{path}: an image of {', '.join(more)}; expected one volume; split it first"
        )
    if np.dtype(array.dtype).kind not in "fiub":
        raise UserError(f"{path}: values of type {array.dtype}; expected real numbers")
    short = [names[axis] for axis in kept]
    return ZarrVolume(path, array, (short.index("z"), short.index("y"), short.index("x")), kept)


def _whole(level: Level) -> Level:
    """The level, unless chunks of it are missing."""
    array = level.volume.array
    there, expected = int(array.nchunks_initialized), int(array.nchunks)
    if there < expected:
        first = _first_missing(level.volume.path / level.name, array)
        raise UserError(
            f"{level.volume.path}: {expected - there} of {expected} chunks are missing{first}; "
            "expected every chunk "
            "(missing ones read as zeros); copy it again, or write it with its empty chunks "
            "(write_empty_chunks)"
        )
    return level


def _first_missing(folder: Path, array: Any) -> str:
    """`` (the first: 0/1/2)``, where the folder is laid out plainly."""
    grid = [range(-(-n // c)) for n, c in zip(array.shape, array.chunks, strict=True)]
    if (folder / "zarr.json").exists():
        prefix, separator = "c/", "/"
    else:
        prefix, separator = (
            "",
            _mapping(json.loads((folder / ".zarray").read_text())).get("dimension_separator", "."),
        )
    for position in product(*grid):
        key = prefix + separator.join(map(str, position))
        if not (folder / key).exists():
            return f" (the first: {folder.name}/{key})"
    return ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

"""``cryoet data check`` of a store of tomograms: every problem, not only the first one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.store.check import GEOMETRY, Expected, attribute_problems, no_rotation
from cryoet_core.store.opening import open_file
from cryoet_core.store.subtomograms import describe_rows
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import layout
from cryoet_core.tomograms.reading import TomogramOptions
from cryoet_core.tomograms.sources import drafts_of
from cryoet_core.tomograms.statistics import bad_slices, describe_bad, ranges, slabs

_PARTS = ("volume", "picks", "masks")
_COLUMNS = {"positions": (3,), "scores": (), "classes": (), "rotations": (3, 3)}


def check_tomograms(path: Path | str) -> list[str]:
    """Return every problem of a store of tomograms, not only the first one.

    Parameters
    ----------
    path : Path or str
        The store. The whole file is read, in bounded memory.

    Returns
    -------
    list of str
        One line for each departure from the format and the conventions; empty for a sound store. A
        damaged file gives lines too, never an exception.
    """
    path = Path(path)
    try:
        with open_file(path, layout.KIND) as file:
            return list(_problems(file))
    except UserError as error:
        return [str(error).removeprefix(f"{path}: ")]
    except Exception as error:  # whatever HDF5 makes of damaged bytes is a problem of the file
        return [f"damaged: {error}; expected a whole store; write it again"]


def check_sources(path: Path) -> list[str]:
    """Return what an import of tomograms of another program would stumble on; reads all of them."""
    found = []
    try:
        for draft in drafts_of(path, TomogramOptions()):
            bad = bad_slices(draft.volume)
            if bad:
                found.append(f"{draft.name}: {describe_bad(bad, draft.volume.shape[0])}")
    except UserError as error:
        found.append(str(error).removeprefix(f"{path}: "))
    return found


def _problems(file: Any) -> Iterator[str]:
    problem = layout.header_problem(file)
    if problem:
        yield problem
    if not hasattr(file.get(layout.ROOT), "keys"):
        return
    for name in sorted(set(file) - {layout.ROOT}):
        yield f"/{name}: no part of a store; expected only /{layout.ROOT}; it is ignored"
    seen: set[str] = set()
    for key in file[layout.ROOT]:
        where = f"/{layout.ROOT}/{key}"
        try:
            group = file[layout.ROOT][key]
            name = str(group.attrs.get("name", ""))
            if name in seen:
                yield (
                    f"{where}: a second tomogram named {name!r}; expected a name of its own for "
                    "each"
                )
            seen.add(name)
            yield from (f"{where}: {line}" for line in _tomogram(group))
        except Exception as error:  # as above: one damaged tomogram leaves the others to be checked
            yield f"{where}: damaged ({error}); expected a whole tomogram; write it again"


def _tomogram(group: Any) -> Iterator[str]:
    yield from _header(group.attrs)
    for name in sorted(set(group) - set(_PARTS)):
        yield f"{name}: no part of a tomogram; expected {', '.join(_PARTS)}; it is ignored"
    problem = layout.volume_problem(group.get("volume"))
    if problem:
        yield problem
        return
    volume = group["volume"]
    yield from _values(volume)
    for name, mask in group.get("masks", {}).items():
        if mask.shape != volume.shape or mask.dtype.kind not in "iu":
            yield (
                f"masks/{name}: {mask.shape} {mask.dtype}; expected whole numbers of shape "
                f"{volume.shape}"
            )
    if "picks" in group:
        yield from _picks(group["picks"], volume.shape, group.attrs.get("voxel_size"))


def _header(attrs: Any) -> Iterator[str]:
    expected: Expected = {"name": (lambda v: bool(str(v).strip()), "a name")} | GEOMETRY
    required = ("name", "voxel_size", "density_sign")
    yield from attribute_problems(attrs, expected, required, ("attributes",))


def _values(volume: Any) -> Iterator[str]:
    """NaN slices, and a volume that is the same everywhere."""
    bad: list[int] = []
    low, high = np.inf, -np.inf
    for part in slabs(volume.shape, volume.chunks[0] if volume.chunks else None):
        values = np.asarray(volume[part], dtype=np.float32)
        finite = np.isfinite(values)
        bad += (part.start + np.flatnonzero(~finite.all(axis=(1, 2)))).tolist()
        if finite.any():
            low, high = min(low, values[finite].min()), max(high, values[finite].max())
    if bad:
        yield (
            f"volume: NaN or infinity in z slice{'s' if len(bad) != 1 else ''} {ranges(bad)}; "
            "expected numbers"
        )
    if low == high:
        yield f"volume: constant ({low:g}); expected a volume that varies"


def _picks(group: Any, shape: tuple[int, ...], voxel_size: Any) -> Iterator[str]:
    names = group.attrs.get("class_names")
    if names is None:
        yield "picks: attribute class_names is missing; expected the names of the classes"
    for column in ("positions", "scores", "classes"):
        if column not in group:
            yield f"picks/{column} is missing; expected one row for each pick"
    count = len(group["positions"]) if "positions" in group else 0
    sound = {}
    for column, row in _COLUMNS.items():
        if column not in group:
            continue
        if group[column].shape != (count, *row) or group[column].dtype.kind not in "fiu":
            yield (
                f"picks/{column}: {group[column].shape} {group[column].dtype}; expected numbers, "
                f"{(count, *row)}"
            )
        else:
            sound[column] = group[column][:]
    for extra, values in group.get("extra", {}).items():
        if values.ndim < 1 or len(values) != count:
            yield f"picks/extra/{extra}: shape {values.shape}; expected {count} rows"
    if "positions" in sound:
        yield from _positions(sound["positions"], shape, voxel_size)
    if "classes" in sound and names is not None:
        outside = (sound["classes"] < -1) | (sound["classes"] >= len(names))
        if outside.any():
            rows = describe_rows(np.flatnonzero(outside))
            yield (
                f"picks/classes: out of range in {rows}; expected -1 to {len(names) - 1} "
                f"(class names: {len(names)})"
            )
    if "rotations" in sound:
        yield from _rotations(sound["rotations"])


def _positions(positions: np.ndarray, shape: tuple[int, ...], voxel_size: Any) -> Iterator[str]:
    infinite = ~np.isfinite(positions).all(axis=1)
    if infinite.any():
        yield (
            f"picks/positions: no numbers in {describe_rows(np.flatnonzero(infinite))}; expected Å"
        )
    if voxel_size is None or not voxel_size > 0:
        return
    extent = (np.array(shape) - 1) * float(voxel_size)
    outside = ~infinite & (
        (positions < -float(voxel_size)) | (positions > extent + float(voxel_size))
    ).any(axis=1)
    if outside.any():
        box = " x ".join(f"{edge:g}" for edge in extent)
        yield (
            f"picks/positions: outside in {describe_rows(np.flatnonzero(outside))}; expected 0 "
            f"to {box} Å (z, y, x)"
        )


def _rotations(matrices: np.ndarray) -> Iterator[str]:
    known = np.isfinite(matrices).all(axis=(1, 2))  # NaN: this one's rotation is not known
    bad = known & no_rotation(matrices)
    if bad.any():
        yield (
            f"picks/rotations: no rotation in {describe_rows(np.flatnonzero(bad))}; expected "
            "orthonormal matrices"
        )

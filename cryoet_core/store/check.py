"""``cryoet data check``: everything that is wrong with a store, not only the first thing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from cryoet_core.store import layout
from cryoet_core.store.opening import open_file
from cryoet_core.store.statistics import scan
from cryoet_core.store.subtomograms import describe_rows
from cryoet_core.support import hdf5
from cryoet_core.support.errors import UserError

Expected: TypeAlias = dict[str, tuple[Callable[[Any], bool], str]]
GEOMETRY: Expected = {
    "voxel_size": (lambda v: 0 < float(v) < float("inf"), "a number of Å above 0"),
    "density_sign": (lambda v: int(v) in (1, -1), "1 (protein bright) or -1 (dark)"),
    "tilt_range": (lambda v: -90 <= v[0] < v[1] <= 90, "rising degrees within -90 to 90"),
    "tilt_axis": (lambda v: v == "y", "y"),
}
"""Attributes that stores of subtomograms and of tomograms share."""

SHAPES = {
    "labels": (),
    "mean": (),
    "std": (),
    "positions": (3,),
    "rotations": (3, 3),
    "tomogram": (),
    "split": (),
}


def check_store(path: Path | str) -> list[str]:
    """Return every problem of a store of subtomograms, not only the first one.

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
            return list(_problems(path, file))
    except UserError as error:
        return [str(error).removeprefix(f"{path}: ")]
    except Exception as error:  # whatever HDF5 makes of damaged bytes is a problem of the file
        return [f"damaged: {error}; expected a whole store; write it again"]


def _problems(path: Path, file: Any) -> Iterator[str]:
    problem = layout.header_problem(file)
    if problem:
        yield problem
    yield from _header(file.attrs)
    if file.attrs.get("kind") != layout.KIND or layout.volumes_problem(file):
        return
    count = len(file["volumes"])
    names = [
        *(name for name in SHAPES if name in file),
        *(f"extras/{name}" for name in file.get("extras", {})),
    ]
    for name in names:
        yield from _rows(name, file[name], count)
    for name in sorted(set(file) - {*SHAPES, "volumes", "extras"}):
        yield f"/{name}: no part of a store; expected no other data sets; it is ignored"
    if problem is None:
        yield from _values(path, file)


def _header(attrs: Any) -> Iterator[str]:
    expected: Expected = GEOMETRY | {
        "class_names": (lambda v: len(set(v)) == len(v), "names that differ"),
        "snr": (lambda v: float(v) > 0, "a number above 0"),
    }
    required = ("voxel_size", "density_sign", "class_names")
    yield from attribute_problems(attrs, expected, required, ("optics", "provenance"))


def attribute_problems(
    attrs: Any, expected: Expected, required: Collection[str], objects: Collection[str]
) -> Iterator[str]:
    """Yield what is wrong with the attributes of a file or a group.

    Parameters
    ----------
    attrs : h5py.AttributeManager
        The attributes.
    expected : Expected
        Name -> whether a value is right, and what is expected in words.
    required : collection of str
        Attributes that must be there.
    objects : collection of str
        Attributes that hold JSON objects.
    """
    for name, (right, wanted) in expected.items():
        value = attrs.get(name)
        if value is None:
            if name in required:
                yield f"attribute {name} is missing; expected {wanted}"
            continue
        try:
            good = bool(right(value))
        except (TypeError, ValueError, IndexError, OverflowError):
            good = False
        if not good:
            yield f"attribute {name} is {value}; expected {wanted}"
    for name in objects:
        try:
            hdf5.read_json(attrs, name)
        except (TypeError, ValueError):
            yield f"attribute {name} is no JSON; expected a JSON object"


def _rows(name: str, dataset: Any, count: int) -> Iterator[str]:
    if dataset.ndim < 1 or dataset.shape[0] != count:
        yield f"/{name}: shape {dataset.shape}; expected {count} rows, one for each volume"
        return
    shape = SHAPES.get(name)
    if shape is not None and dataset.shape[1:] != shape:
        yield f"/{name}: shape {dataset.shape}; expected {(count, *shape)}"
        return
    if name in ("positions", "rotations", "labels", "split") and dataset.dtype.kind not in "fiu":
        yield f"/{name}: type {dataset.dtype}; expected numbers"
        return
    if shape is None or name == "tomogram":
        return
    values: np.ndarray = dataset[:]
    if name in ("positions", "rotations"):
        bad = ~np.isfinite(values).reshape(count, -1).all(axis=1)
        if bad.any():
            yield f"/{name}: not finite in {describe_rows(np.flatnonzero(bad))}; expected numbers"
        elif name == "rotations":
            yield from _not_rotations(values)
    elif name == "labels":
        names = len(dataset.parent.attrs.get("class_names", ()))
        yield from _out_of_range(name, values, names, f"class names: {names}")
    elif name == "split":
        yield from _out_of_range(name, values, len(layout.SPLITS), ", ".join(layout.SPLITS))


def _not_rotations(matrices: np.ndarray) -> Iterator[str]:
    bad = no_rotation(matrices)
    if bad.any():
        yield (
            f"/rotations: no rotation in {describe_rows(np.flatnonzero(bad))}; expected "
            "orthonormal, determinant +1"
        )


def no_rotation(matrices: np.ndarray) -> np.ndarray:
    """Return which matrices (n, 3, 3) are no rotations, (n,) bool.

    Examples
    --------
    >>> import numpy as np
    >>> no_rotation(np.stack([np.eye(3), -np.eye(3)]))
    array([False,  True])
    """
    matrices = matrices.astype(np.float64)
    product = np.einsum("nij,nkj->nik", matrices, matrices) - np.eye(3)
    bad: np.ndarray = (np.abs(product).max(axis=(1, 2)) > 1e-3) | (np.linalg.det(matrices) < 0)
    return bad


def _out_of_range(name: str, values: np.ndarray, size: int, what: str) -> Iterator[str]:
    bad = (values < -1) | (values >= size)
    if bad.any():
        yield (
            f"/{name}: out of range in {describe_rows(np.flatnonzero(bad))}; expected -1 to "
            f"{size - 1} ({what})"
        )


def _values(path: Path, file: Any) -> Iterator[str]:
    """NaN and constant volumes, and statistics that are not those of the volumes."""
    volumes = layout.map_dataset(path, file["volumes"])

    def read(rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), *volumes.array.shape[1:]), volumes.array.dtype)
        volumes.gather(rows, out)
        return out

    mean, std = scan(read, *volumes.array.shape[:2])
    infinite = ~np.isfinite(mean)
    if infinite.any():
        yield (
            f"/volumes: NaN or infinity in {describe_rows(np.flatnonzero(infinite))}; expected "
            "numbers"
        )
    if (std == 0).any():
        yield (
            f"/volumes: constant in {describe_rows(np.flatnonzero(std == 0))}; expected volumes "
            "that vary"
        )
    for name, found, slack in (("mean", mean, 1e-3 * std), ("std", std, 1e-3 * std)):
        if name not in file or file[name].shape != found.shape:
            continue
        bad = ~infinite & ~(np.abs(file[name][:] - found) <= slack + 1e-6 * np.abs(mean))
        if bad.any():
            rows = describe_rows(np.flatnonzero(bad))
            yield (
                f"/{name}: not that of the volumes in {rows}; expected it to match; the volumes "
                "were changed"
            )

"""What a store of tomograms looks like on disk: names, types and the checks of every reader.

One HDF5 file. Root attributes: ``format`` "cryoet", ``version``, ``kind`` "tomograms",
``complete``, ``provenance`` (JSON). One group per tomogram under ``/tomograms``, with attributes
``name``, ``voxel_size`` (Å), ``density_sign``, ``tilt_axis``, where known ``tilt_range`` (degrees),
and ``attributes`` (JSON). In it:

``volume`` (d, h, w) float16 or float32, uncompressed, in chunks for tiles. ``picks``: a group with
``positions`` (n, 3), ``scores`` (n,), ``classes`` (n,), attribute ``class_names``, where known
``rotations`` (n, 3, 3), and ``extra/<name>``; absent where nothing is known of picks.
``masks/<name>`` (d, h, w) whole numbers, compressed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cryoet_core.store import opening

VERSION, KIND, ROOT = 1, "tomograms", "tomograms"
CHUNK = 64
_CHUNK_LAYER = 256 << 20
"""Bytes that a layer of chunks may take: a writer holds one in memory."""


def chunks(shape: tuple[int, int, int], itemsize: int) -> tuple[int, int, int]:
    """Return the chunks of a volume: 64³ voxels, thinner where a layer would be too large to hold.

    Parameters
    ----------
    shape : (int, int, int)
        Voxels (z, y, x).
    itemsize : int
        Bytes of a voxel.

    Examples
    --------
    >>> chunks((40, 100, 100), 2)
    (40, 64, 64)
    """
    d, h, w = shape
    thick = max(1, min(CHUNK, _CHUNK_LAYER // (h * w * itemsize)))
    return min(thick, d), min(CHUNK, h), min(CHUNK, w)


def key(name: str) -> str:
    """Return a tomogram's name as the name of a group: HDF5 gives "/" and "." a meaning.

    Examples
    --------
    >>> key("day 1/TS_01")
    'day 1%2FTS_01'
    """
    escaped = name.replace("%", "%25").replace("/", "%2F")
    return escaped.replace(".", "%2E") if set(escaped) == {"."} else escaped


def header_problem(file: Any) -> str | None:
    """Say what keeps an open file from being a whole store, None when nothing does."""
    problem = opening.header_problem(file, KIND, VERSION)
    if problem:
        return problem
    if not hasattr(file.get(ROOT), "keys") or not len(file[ROOT]):
        return f"holds no tomogram; expected groups in /{ROOT}; write it again"
    return None


def volume_problem(volume: Any) -> str | None:
    """Say what keeps a tomogram's ``volume`` from being read, None when nothing does."""
    import h5py

    if not isinstance(volume, h5py.Dataset):
        return "no volume; expected (d, h, w) float16 or float32; write it again"
    if volume.ndim != 3 or 0 in volume.shape:
        return f"volume of shape {volume.shape}; expected (d, h, w)"
    if volume.dtype.newbyteorder("=") not in (np.float16, np.float32):
        return f"volume of type {volume.dtype}; expected float16 or float32"
    return None

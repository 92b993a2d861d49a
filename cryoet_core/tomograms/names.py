"""The name of a tomogram from the name of its file."""

from __future__ import annotations

import re

from cryoet_core.formats.stack import PACKED_SUFFIXES, VOLUME_SUFFIXES

_STEMS = (
    *PACKED_SUFFIXES,
    ".ome.zarr",
    ".zarr",
    ".h5",
    ".hdf5",
    ".tomostar",
    ".tlt",
    *VOLUME_SUFFIXES,
)


def stem(name: str) -> str:
    """Return the name of a tomogram from that of a file: without folders and known endings.

    Examples
    --------
    >>> stem("rec/TS_01.mrc.gz")
    'TS_01'
    """
    name = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    shorter = True
    while shorter:
        ending = next(
            (
                ending
                for ending in _STEMS
                if name.lower().endswith(ending) and len(name) > len(ending)
            ),
            "",
        )
        name, shorter = name[: len(name) - len(ending)], bool(ending)
    return name

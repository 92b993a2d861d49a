"""The format name of all HDF5 files of this program, and how they keep texts and JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

FORMAT = "cryoet"
"""The root attribute ``format`` of every file that this program writes."""


def text_type() -> Any:
    """Return HDF5's type for a text of any length."""
    import h5py

    return h5py.string_dtype()


def read_json(attrs: Any, name: str) -> dict[str, Any]:
    """Read a JSON object from a text attribute.

    Parameters
    ----------
    attrs : Any
        The attributes of an HDF5 group or data set.
    name : str
        Name of the attribute.

    Returns
    -------
    dict[str, Any]
        The object; empty where there is none.
    """
    import json

    value = json.loads(attrs.get(name, "{}"))
    return value if isinstance(value, dict) else {}


def read_rows(dataset: Any) -> np.ndarray:
    """Read all values of an HDF5 data set; texts become numpy text."""
    import h5py

    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr()[:], dtype=np.str_)
    values: np.ndarray = dataset[:]
    return values

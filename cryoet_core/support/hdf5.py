"""What all HDF5 files of ours have in common: the format's name, and how texts and JSON are
kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FORMAT = "cryoet"
"""The root attribute ``format`` of every file that this program writes."""


def text_type() -> Any:
    """HDF5's type for a text of any length."""
    import h5py

    return h5py.string_dtype()


def read_json(attrs: Any, name: str) -> dict[str, Any]:
    """The JSON object of a text attribute, empty where there is none."""
    import json

    value = json.loads(attrs.get(name, "{}"))
    return value if isinstance(value, dict) else {}


def read_rows(dataset: Any) -> np.ndarray:
    """A data set's values; texts as numpy text."""
    import h5py

    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr()[:], dtype=np.str_)
    values: np.ndarray = dataset[:]
    return values

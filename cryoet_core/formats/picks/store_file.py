"""Keep picks in one HDF5 file, exactly as they are in memory.

The file is written beside the target and renamed when it is whole. Root attributes: ``format``
"cryoet", ``version``, ``kind`` "picks", ``class_names``. One row per pick in ``/positions``,
``/scores``, ``/classes``, ``/tomograms`` (numbers into ``/tomogram_names``) and, where known,
``/rotations`` and further columns in ``/extra/0``, ``/extra/1``, ..., each with its ``name`` as an
attribute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.picks.table import Picks
from cryoet_core.support import files
from cryoet_core.support.errors import UserError
from cryoet_core.support.hdf5 import FORMAT, read_rows, text_type

KIND, VERSION = "picks", 1
_EXPECTED = "expected picks that cryoet wrote (.h5)"


def save_picks(path: Path, picks: Picks) -> None:
    """Replace a file by picks.

    Parameters
    ----------
    path : Path
        The file.
    picks : Picks
        The picks.

    Raises
    ------
    UserError
        When the disk refuses.
    """
    import h5py

    names, numbers = np.unique(picks.tomograms.astype(str), return_inverse=True)
    with files.replacing(Path(path)) as beside, h5py.File(beside, "w", locking=False) as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, "kind": KIND})
        file.attrs["class_names"] = np.array(picks.class_names, dtype=text_type())
        file["tomogram_names"] = names.astype(object).astype(text_type())
        file["tomograms"] = numbers.astype(np.int32)
        for name in ("positions", "scores", "classes", "rotations"):
            values = getattr(picks, name)
            if values is not None:
                file[name] = values
        for index, (name, values) in enumerate(picks.extra.items()):
            text = values.dtype.kind in "UO"
            file[f"extra/{index}"] = values.astype(object).astype(text_type()) if text else values
            file[f"extra/{index}"].attrs["name"] = name


def load_picks(path: Path) -> Picks:
    """Read picks that `save_picks` wrote.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Picks
        The picks.

    Raises
    ------
    UserError
        When the file is missing, damaged or another.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; {_EXPECTED}")
    try:
        with h5py.File(path, "r", locking=False) as file:
            found = {name: file.attrs.get(name) for name in ("format", "kind", "version")}
            if (found["format"], found["kind"]) != (FORMAT, KIND):
                raise UserError(f"{path}: holds {found['kind'] or 'something else'}; {_EXPECTED}")
            if found["version"] != VERSION:
                raise UserError(
                    f"{path}: version {found['version']}; expected {VERSION}; use the cryoet that "
                    "wrote it"
                )
            return _read(file)
    except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"{path}: damaged or no HDF5 file ({error}); {_EXPECTED}; write it again"
        ) from error


def is_picks(path: Path) -> bool:
    """Tell whether a file is one that `save_picks` wrote, from its content."""
    import h5py

    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError:
        return False
    with file:
        return bool(file.attrs.get("format") == FORMAT and file.attrs.get("kind") == KIND)


def _read(file: Any) -> Picks:
    names = np.asarray(file["tomogram_names"].asstr()[:], dtype=object)
    columns = [file["extra"][str(index)] for index in range(len(file.get("extra", ())))]
    extra = {str(column.attrs["name"]): read_rows(column) for column in columns}
    return Picks(
        positions=file["positions"][:],
        scores=file["scores"][:],
        classes=file["classes"][:],
        class_names=tuple(str(name) for name in file.attrs["class_names"]),
        tomograms=names[file["tomograms"][:]] if len(names) else np.zeros(0, dtype=object),
        rotations=file["rotations"][:] if "rotations" in file else None,
        extra={
            name: values.astype(object) if values.dtype.kind == "U" else values
            for name, values in extra.items()
        },
    )

"""Opening what a Python user has: files of any kind, opened data sets, arrays."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from cryoet_core.exchange.collect import ImportOptions, collect
from cryoet_core.exchange.facts import identify
from cryoet_core.exchange.importing import ImportSettings, import_source
from cryoet_core.formats.sniff import kind_of
from cryoet_core.runs.inputs import reading_of
from cryoet_core.store import Subtomograms, open_subtomograms
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import Tomograms, open_tomograms

PathLike: TypeAlias = str | os.PathLike[str]
TOMOGRAM_KINDS = ("tomograms", "zarr", "copick", "manifest")


def open_data(
    path: PathLike | Sequence[PathLike],
    *,
    kind: str = "auto",
    picks: PathLike | Sequence[PathLike] | None = None,
    voxel_size: float | None = None,
    contrast: str | None = None,
    tilt_range: Sequence[float] | None = None,
    label_column: str | None = None,
) -> Subtomograms | Tomograms:
    """Open subtomograms or tomograms of any kind that the program reads.

    Parameters
    ----------
    path : str, os.PathLike or a list of them
        A store (.h5), a star, a stack (.mrcs), tomograms (.mrc, .zarr), a copick project, ...
    kind : {"auto", "subtomograms", "tomograms"}
        What the volumes are; ``"auto"``: boxes of equal sides are subtomograms.
    picks : path or paths, optional
        Known particle centres in tomograms.
    voxel_size : float, optional
        Å per voxel, where the file does not say it.
    contrast : {"dark", "bright"}, optional
        How protein looks, where the file does not say it.
    tilt_range : (float, float), optional
        Lowest and highest tilt in degrees.
    label_column : str, optional
        The column of a star that holds the class of each particle.

    Returns
    -------
    Subtomograms or Tomograms
        The opened data set. Subtomograms of other programs are converted into a temporary store.

    Raises
    ------
    UserError
        The file is missing, damaged or of another kind, or leaves out what must be known.

    Examples
    --------
    >>> import cryoet_core as cryoet
    >>> particles = cryoet.open("particles.h5")  # doctest: +SKIP
    """
    paths = as_paths(path)
    if _are_tomograms(kind, paths):
        return as_tomograms(
            paths, picks=picks, voxel_size=voxel_size, contrast=contrast, tilt_range=tilt_range
        )
    if picks is not None:
        raise UserError("`picks`: belong to tomograms, but these are subtomograms; leave it out")
    if all(each.is_file() and kind_of(each) == "store" for each in paths):
        return open_subtomograms(paths)
    source = collect(paths, ImportOptions(label_column=label_column, voxel_size=voxel_size))
    target = temporary_folder() / f"{paths[0].stem}.h5"
    tilts = None if tilt_range is None else (float(tilt_range[0]), float(tilt_range[1]))
    import_source(source, target, ImportSettings(voxel_size, contrast, tilts))
    return open_subtomograms([target])


def as_paths(value: Any) -> list[Path]:
    """Return the paths in a path or a list of paths; a text is one path.

    Raises
    ------
    UserError
        There is none, or something else than a path.
    """
    given = [value] if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(given, (list, tuple)) or not given:
        raise UserError(f"`data` {value!r}: expected a path or a list of paths")
    wrong = next((each for each in given if not isinstance(each, (str, os.PathLike))), None)
    if wrong is not None:
        raise UserError(f"`data` holds a {type(wrong).__name__}; expected paths")
    return [Path(each).expanduser() for each in given]


def as_tomograms(data: Any, **said: Any) -> Tomograms:
    """Open tomograms, or pass opened ones through.

    Parameters
    ----------
    data : path, paths or Tomograms
        The tomograms.
    **said
        What the files do not say: picks, voxel_size, contrast, tilt_range, axes.

    Returns
    -------
    Tomograms
        Nothing of the volumes is read yet.
    """
    if isinstance(data, Tomograms):
        return data
    if said.get("picks") is not None:
        said["picks"] = as_paths(said["picks"])
    return open_tomograms(as_paths(data), reading_of(said))


def files_of(name: str, value: Any, folder: Path, said: dict[str, Any]) -> list[Path]:
    """Return the files of an input, as a run records them.

    Parameters
    ----------
    name : str
        The argument, for messages.
    value : path, paths, Subtomograms, Tomograms or numpy.ndarray
        What the user gave.
    folder : Path
        Where an array is kept as a store.
    said : dict
        What the user says of the data; what opened tomograms were opened with is added, and what
        an array takes is removed.

    Returns
    -------
    list of Path
        Files that the run can open again when it resumes.
    """
    if isinstance(value, np.ndarray):
        value = _array_store(name, value, said)
    if isinstance(value, Subtomograms):
        return _files_of_store(name, value, folder)
    if isinstance(value, Tomograms):
        if not value.opened_from:
            raise UserError(f"`{name}`: tomograms without files; expected paths")
        said.update(value.said)
        return [Path(path) for path in value.opened_from]
    return as_paths(value)


def temporary_folder() -> Path:
    """Make a folder that is removed when Python ends."""
    folder = Path(tempfile.mkdtemp(prefix="cryoet-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _array_store(name: str, array: np.ndarray, said: dict[str, Any]) -> Subtomograms:
    missing = [key for key in ("voxel_size", "contrast") if said.get(key) is None]
    if missing:
        raise UserError(f"`{name}`: an array does not say its {missing[0]}; give `{missing[0]}`")
    keys = ("voxel_size", "contrast", "tilt_range")
    given = {key: said.pop(key) for key in keys if said.get(key) is not None}
    return Subtomograms.from_array(array, **given)


def _files_of_store(name: str, data: Subtomograms, folder: Path) -> list[Path]:
    whole = open_subtomograms(list(data.paths))
    if len(whole) != len(data) or not np.array_equal(whole.labels, data.labels):
        raise UserError(
            f"`{name}`: a part of a data set; expected a whole one; save the part first"
        )
    if not getattr(data, "temporary", False):
        return list(data.paths)
    folder.mkdir(parents=True, exist_ok=True)  # the run outlives an array's temporary store
    kept = [folder / f"{name}-{index}{path.suffix}" for index, path in enumerate(data.paths)]
    for path, copy in zip(data.paths, kept, strict=True):
        shutil.copyfile(path, copy)
    return kept


def _are_tomograms(kind: str, paths: list[Path]) -> bool:
    if kind not in ("auto", "subtomograms", "tomograms"):
        raise UserError(f"`kind` {kind}: expected auto, subtomograms or tomograms")
    if kind != "auto":
        return kind == "tomograms"
    if kind_of(paths[0]) in TOMOGRAM_KINDS:
        return True
    return str(identify(paths[0]).get("importable", "")).startswith("yes, as a tomogram")

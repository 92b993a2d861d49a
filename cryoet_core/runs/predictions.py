"""predictions.h5 and predictions.star: what a labeller said of each subtomogram.

They also say which file and row each subtomogram is.

predictions.h5: attributes ``format`` "cryoet", ``kind`` "predictions", ``version``, ``method``,
``classes`` (names); ``/labels`` (n,) int64 into the classes, -1 for none of them;
``/probabilities`` (n, k) float32; ``/embedding`` (n, f) float32 where there is one;
``/extra/<name>``; ``/source/files`` (names), ``/source/file`` (n,) into them and ``/source/row``
(n,), from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryoet_core.plugins.interfaces import Labels
from cryoet_core.support import files
from cryoet_core.support.errors import RunError, UserError

if TYPE_CHECKING:
    from cryoet_core.runs.run import Run
    from cryoet_core.store import Subtomograms

HDF5_NAME, STAR_NAME = "predictions.h5", "predictions.star"
_VERSION = 1


@dataclass(frozen=True)
class Predictions:
    """The content of predictions.h5: subtomogram i is row ``rows[i]`` of ``files[file[i]]``.

    Attributes
    ----------
    labels : Labels
        What the labeller said.
    method : str
        Name of the method.
    files : tuple of str
        Absolute paths of the stores.
    file : array of int, shape (n,)
        Index into ``files``.
    rows : array of int, shape (n,)
        Row in that file, from 0.
    """

    labels: Labels
    method: str
    files: tuple[str, ...]
    file: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def write_predictions(
    run: Run, labels: Labels, data: Subtomograms, folder: Path | None = None
) -> Path:
    """Write predictions.h5 and predictions.star on rank 0, each atomically.

    Parameters
    ----------
    run : Run
        The run that labelled.
    labels : Labels
        What it said of n subtomograms.
    data : Subtomograms
        These n subtomograms.
    folder : Path, optional
        Where the files go; by default the run's own folder.

    Returns
    -------
    Path
        The HDF5 file.

    Raises
    ------
    RunError
        The labels do not fit the data.
    UserError
        The files cannot be written.
    """
    _check(labels, len(data))
    folder = run.dir if folder is None else folder
    if run.rank == 0:
        with files.explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        files.write_bytes(folder / HDF5_NAME, _hdf5(run.method, labels, data))
        files.write_bytes(folder / STAR_NAME, _star(labels, data).encode())
    return folder / HDF5_NAME


def read_predictions(path: Path) -> Predictions:
    """Read predictions.h5, named itself or by its folder.

    Raises
    ------
    UserError
        The file is missing or something else.
    """
    import h5py

    path = path / HDF5_NAME if path.is_dir() else path
    if not path.exists():
        raise UserError(
            f"{path}: no such file; expected the {HDF5_NAME} of a finished run; try `cryoet resume`"
        )
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != "cryoet" or file.attrs.get("kind") != "predictions":
                raise UserError(
                    f"{path}: holds no predictions; expected a {HDF5_NAME} that this program wrote"
                )
            if file.attrs["version"] != _VERSION:
                raise UserError(
                    f"{path}: version {file.attrs['version']}; this program reads "
                    f"version {_VERSION}"
                )
            return _read(file)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: damaged or no HDF5 file ({error}); expected a {HDF5_NAME}; predict again"
        ) from error


def _check(labels: Labels, n: int) -> None:
    """What every labeller must deliver; a method that does not is at fault, not its user."""
    k = len(labels.classes)
    for name, shape in (("labels", (n,)), ("probabilities", (n, k))):
        found = getattr(labels, name).shape
        if found != shape:
            raise RunError(
                f"the method returned {name} of shape {found}; expected {shape}: {n} "
                f"volumes, {k} classes"
            )
    rows = [("embedding", labels.embedding)] if labels.embedding is not None else []
    for name, array in [*rows, *labels.extra.items()]:
        if len(array) != n:
            raise RunError(
                f"the method returned {len(array)} rows of {name}; expected {n}, one "
                "for each volume"
            )
    if n and not -1 <= labels.labels.min() <= labels.labels.max() < k:
        found = f"{labels.labels.min()} to {labels.labels.max()}"
        raise RunError(
            f"the method returned labels {found}; expected -1 to {k - 1}, indices into "
            f"its {k} classes"
        )
    if not np.isfinite(labels.probabilities).all():
        raise RunError(
            "the method returned probabilities that are not finite; expected rows that sum to 1"
        )


def _hdf5(method: str, labels: Labels, data: Subtomograms) -> bytes:
    """The content of predictions.h5, made in memory.

    The HDF5 library itself may crash on a disk that is full.
    """
    import h5py

    names, file_index, rows = _sources(data)
    with h5py.File(HDF5_NAME, "w", driver="core", backing_store=False) as file:
        file.attrs.update(
            {"format": "cryoet", "kind": "predictions", "version": _VERSION, "method": method}
        )
        file.attrs["classes"] = _texts(labels.classes)
        file["labels"] = labels.labels.astype(np.int64)
        file["probabilities"] = labels.probabilities.astype(np.float32)
        if labels.embedding is not None:
            file["embedding"] = labels.embedding.astype(np.float32)
        for name, array in labels.extra.items():
            file[f"extra/{name}"] = np.asarray(array)
        file["source/files"] = _texts(names)
        file["source/file"] = file_index.astype(np.int32)
        file["source/row"] = rows.astype(np.int64)
        file.flush()
        return bytes(file.id.get_file_image())


def _texts(texts: tuple[str, ...]) -> np.ndarray:
    import h5py

    return np.array(texts, dtype=h5py.string_dtype())


def _read(file: Any) -> Predictions:
    labels = Labels(
        labels=file["labels"][:],
        probabilities=file["probabilities"][:],
        classes=tuple(str(name) for name in file.attrs["classes"]),
        embedding=file["embedding"][:] if "embedding" in file else None,
        extra={name: array[:] for name, array in file["extra"].items()} if "extra" in file else {},
    )
    names = tuple(file["source/files"].asstr()[:])
    return Predictions(
        labels, str(file.attrs["method"]), names, file["source/file"][:], file["source/row"][:]
    )


def _sources(data: Subtomograms) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """File names, and for each volume the index of its file and its row there."""
    return tuple(str(path.absolute()) for path in data.paths), data.source_file, data.source_row


def _star(labels: Labels, data: Subtomograms) -> str:
    """A RELION 3.1 particle table. Class numbers count from 1; 0 is "none of the classes"."""
    from gemmi import cif

    names, file_index, rows = _sources(data)
    best = labels.probabilities.max(axis=1) if len(labels.classes) else np.zeros(len(labels))
    class_names = np.array([*labels.classes, "none"], dtype=object)[labels.labels]
    columns: dict[str, list[str]] = {
        "ImageName": [
            f"{row + 1:06d}@{names[index]}" for index, row in zip(file_index, rows, strict=True)
        ],
        "ClassNumber": [str(label + 1) for label in labels.labels],
        "MaxValueProbDistribution": [f"{value:.6f}" for value in best],
        "OpticsGroup": ["1"] * len(labels),
    }
    if data.tomogram is not None:
        columns["MicrographName"] = [str(name) for name in data.tomogram]
    if data.positions is not None:
        for axis, values in zip("ZYX", data.positions.T / data.voxel_size, strict=True):
            columns[f"Coordinate{axis}"] = [f"{value:.3f}" for value in values]
    columns |= _poses(labels.extra, data.voxel_size)
    table = {f"_rln{name}": values for name, values in columns.items()}
    table["_cryoetClassName"] = [str(name) for name in class_names]

    document = cif.Document()
    optics = {
        "OpticsGroup": 1,
        "OpticsGroupName": "opticsGroup1",
        "ImagePixelSize": f"{data.voxel_size:.6f}",
    }
    optics |= {"ImageSize": data.box, "ImageDimensionality": 3}
    _loop(document, "optics", {f"_rln{name}": [str(value)] for name, value in optics.items()})
    _loop(document, "particles", table)
    return str(document.as_string())


def _poses(extra: Mapping[str, np.ndarray], voxel_size: float) -> dict[str, list[str]]:
    """RELION's angles and origins where the method found the poses of the particles.

    ``extra`` rotations (n, 3, 3) carry the reference onto the particle; shifts (n, 3), voxels, lead
    from the box centre to the particle's centre, and RELION subtracts its origin from the
    coordinate.
    """
    from cryoet_core.algorithms.orientation import matrix_to_euler

    columns: dict[str, list[str]] = {}
    if "rotations" in extra:
        angles = matrix_to_euler(extra["rotations"])
        for name, values in zip(("Rot", "Tilt", "Psi"), angles.T, strict=True):
            columns[f"Angle{name}"] = [f"{value:.3f}" for value in values]
    if "shifts" in extra:
        for axis, values in zip("ZYX", -np.asarray(extra["shifts"]).T * voxel_size, strict=True):
            columns[f"Origin{axis}Angst"] = [f"{value:.3f}" for value in values]
    return columns


def _loop(document: Any, block: str, columns: dict[str, list[str]]) -> None:
    from gemmi import cif

    loop = document.add_new_block(block).init_loop("", list(columns))
    loop.set_all_values([[cif.quote(value) for value in values] for values in columns.values()])

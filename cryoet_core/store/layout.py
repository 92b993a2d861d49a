"""What a store of subtomograms looks like on disk: names, types and the checks of every reader.

One HDF5 file. Root attributes: ``format`` "cryoet", ``version``, ``kind`` "subtomograms",
``complete``, ``voxel_size`` (Å), ``density_sign``, ``class_names``, and where known ``tilt_range``
(degrees), ``tilt_axis``, ``snr``, ``optics`` and ``provenance`` (JSON). ``/volumes`` (n, d, d, d)
float16 or float32, contiguous and uncompressed, so that a memory map at its offset reads it. One
row per volume in ``/labels``, ``/mean``, ``/std`` and, where known, ``/positions``, ``/rotations``,
``/tomogram``, ``/split`` and ``/extras/<name>``.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.store import opening
from cryoet_core.support.errors import UserError
from cryoet_core.support.hdf5 import read_json, read_rows

VERSION, KIND = 1, "subtomograms"
SPLITS = ("train", "val", "test")
"""``/split`` holds indices into these, -1 for none."""
LARGE_ROW = 1024
"""An extra whose row takes more bytes than this is read from the memory map on demand."""


@dataclass
class MappedArray:
    """A contiguous data set as a read-only array over a memory map of its file.

    Attributes
    ----------
    array : numpy.ndarray
        (n, ...), over ``memory``.
    memory : mmap.mmap
        The map of the file.
    touched : int
        Bytes that were read since pages were last given back to the system.
    """

    array: np.ndarray
    memory: mmap.mmap
    touched: int = 0

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy rows into an array, in one call into numpy.

        Parameters
        ----------
        rows : numpy.ndarray
            (m,), which rows.
        out : numpy.ndarray
            (m, ...), of the same dtype; receives them.
        """
        np.take(self.array, rows, axis=0, out=out, mode="clip")
        if len(rows):
            row = self.array[0].nbytes
            span = int(rows.max() - rows.min() + 1) * row
            self.touched += min(len(rows) * max(row, _HUGE_PAGE), span)
        if self.touched > _RELEASE_AFTER:
            self.memory.madvise(mmap.MADV_DONTNEED)
            self.touched = 0


# Mapped pages count as this process's memory although the system may drop them at will. Giving them
# back now and then keeps a pass over a file larger than memory within a budget; the page cache
# keeps its copy. A touched page brings up to 2 MB around it into the map.
_RELEASE_AFTER, _HUGE_PAGE = 256 << 20, 2 << 20


@dataclass
class StoreFile:
    """One opened store file: header and rows in memory, volumes and large extras mapped.

    Attributes
    ----------
    path : Path
        The file.
    volumes : MappedArray
        (n, d, d, d), as stored.
    voxel_size : float
        Å.
    density_sign : int
        +1 protein bright, -1 dark, as stored.
    class_names : tuple of str
        The names of the classes.
    labels : numpy.ndarray
        (n,) int64, indices into ``class_names``, -1 unlabelled.
    tilt_range : (float, float) or None
        Lowest and highest tilt in degrees.
    tilt_axis : str
        The tilt axis, "y".
    snr : float or None
        Signal-to-noise ratio.
    optics, provenance : dict
        What the file says of the microscope and of its origin.
    rows : dict of str to numpy.ndarray
        Those of ``ROWS`` that the file has, (n, ...), without the labels.
    extras : dict of str to numpy.ndarray
        What else the file says of each volume, (n, ...).
    large : dict of str to MappedArray
        Extras that are too large to be held in memory.
    """

    path: Path
    volumes: MappedArray
    voxel_size: float
    density_sign: int
    class_names: tuple[str, ...]
    labels: np.ndarray
    tilt_range: tuple[float, float] | None
    tilt_axis: str
    snr: float | None
    optics: dict[str, Any]
    provenance: dict[str, Any]
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    large: dict[str, MappedArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.volumes.array)

    @property
    def box(self) -> int:
        """Box size in voxels."""
        return int(self.volumes.array.shape[1])


def header_problem(file: Any) -> str | None:
    """Say what keeps an open file from being a whole store, None when nothing does."""
    return opening.header_problem(file, KIND, VERSION) or volumes_problem(file)


def volumes_problem(file: Any) -> str | None:
    """Return what keeps ``/volumes`` from being mapped, None when nothing does."""
    import h5py

    volumes = file.get("volumes")
    if not isinstance(volumes, h5py.Dataset):
        return "has no /volumes; expected (n, d, d, d) float16 or float32; write it again"
    if volumes.ndim != 4 or len(set(volumes.shape[1:])) != 1 or 0 in volumes.shape:
        return f"/volumes has shape {volumes.shape}; expected at least one box, (n, d, d, d)"
    if volumes.dtype.newbyteorder("=") not in (np.float16, np.float32):
        return f"/volumes is {volumes.dtype}; expected float16 or float32"
    offset = volumes.id.get_offset()
    if volumes.chunks is not None or offset is None:
        return (
            "/volumes is chunked or compressed; expected a contiguous data set (h5repack -l "
            "volumes:CONTI -f NONE)"
        )
    if offset + volumes.size * volumes.dtype.itemsize > file.id.get_filesize():
        return "is truncated: /volumes goes beyond its end; expected a whole store; copy it again"
    return None


def open_shard(path: Path) -> StoreFile:
    """Open one store file.

    Parameters
    ----------
    path : Path
        The store.

    Returns
    -------
    StoreFile
        Its header and rows; the volumes are mapped, not read.

    Raises
    ------
    UserError
        The file is not a whole store; one line says why.
    """
    with opening.open_file(path, KIND) as file:
        try:
            problem = header_problem(file)
            if problem:
                raise UserError(f"{path}: {problem}")
            return _read(path, file)
        except (
            KeyError,
            ValueError,
            TypeError,
            RuntimeError,
            OSError,
            OverflowError,
            AttributeError,
        ) as error:
            # the last: a group or a named type where a data set should be
            raise UserError(
                f"{path}: a damaged store ({error}); see `cryoet data check {path}`"
            ) from error


def _read(path: Path, file: Any) -> StoreFile:
    attrs, count = file.attrs, len(file["volumes"])
    rows = {name: read_rows(file[name]) for name in ROWS if name in file}
    group = file.get("extras", {})
    large = {name: map_dataset(path, group[name]) for name in group if _is_large(group[name])}
    extras = {name: read_rows(group[name]) for name in group if name not in large}
    for name, array in (rows | extras).items():
        if len(array) != count:
            raise ValueError(f"/{name} has {len(array)} rows, /volumes {count}")
    sign = int(attrs["density_sign"])
    if sign not in (1, -1):
        raise ValueError(f"density_sign is {sign}, expected 1 or -1")
    tilt = attrs.get("tilt_range")
    snr = attrs.get("snr")
    return StoreFile(
        path,
        map_dataset(path, file["volumes"]),
        voxel_size=float(attrs["voxel_size"]),
        density_sign=sign,
        class_names=tuple(str(name) for name in attrs["class_names"]),
        labels=rows.pop("labels", np.full(count, -1)).astype(np.int64),
        tilt_range=None if tilt is None else (float(tilt[0]), float(tilt[1])),
        tilt_axis=str(attrs.get("tilt_axis", "y")),
        snr=None if snr is None else float(snr),
        optics=read_json(attrs, "optics"),
        provenance=read_json(attrs, "provenance"),
        rows=rows,
        extras=extras,
        large=large,
    )


ROWS = ("labels", "mean", "std", "positions", "rotations", "tomogram", "split")


def _is_large(dataset: Any) -> bool:
    row = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
    return row > LARGE_ROW and dataset.chunks is None and dataset.id.get_offset() is not None


def map_dataset(path: Path, dataset: Any) -> MappedArray:
    """Map a contiguous data set of a file into memory, read-only.

    Parameters
    ----------
    path : Path
        The file.
    dataset : h5py.Dataset
        The data set, of the same file while it is open.

    Returns
    -------
    MappedArray
        Valid after the HDF5 file is closed.
    """
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    array = np.frombuffer(
        memory, dtype=dataset.dtype, count=dataset.size, offset=dataset.id.get_offset()
    )
    return MappedArray(array.reshape(dataset.shape), memory)

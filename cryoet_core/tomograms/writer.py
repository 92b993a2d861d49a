"""Writing a store of tomograms, each volume slab by slab."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.picks.table import Picks
from cryoet_core.store.columns import reserve, room
from cryoet_core.store.partial import StoreWriter
from cryoet_core.store.rows import COARSE, NotRepresentable
from cryoet_core.support import files
from cryoet_core.support.errors import UserError
from cryoet_core.support.hdf5 import FORMAT, text_type
from cryoet_core.tomograms import layout
from cryoet_core.tomograms.statistics import describe_bad, slabs
from cryoet_core.tomograms.volume import ArrayVolume, Volume


class TomogramWriter(StoreWriter):
    """Write a store of tomograms, each in bounded memory.

        with TomogramWriter(path) as writer:
            writer.add("TS_01", volume, voxel_size=10.0, picks=picks)

    Nothing named ``path`` appears or changes before the block ends well; a crash leaves
    ``path.partial`` at most, which no reader takes for a store.

    Parameters
    ----------
    path : Path or str
        The store to write.
    overwrite : bool
        Replace a store that exists.
    provenance : mapping, optional
        Where the tomograms come from; anything that JSON holds.

    Raises
    ------
    UserError
        The store exists, the disk refuses, or something cannot be stored.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        overwrite: bool = False,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(path)
        self.names: list[str] = []
        self._overwrite = overwrite
        self._provenance = json.dumps(files.plain(dict(provenance or {})))

    def add(
        self,
        name: str,
        volume: np.ndarray | Volume | Iterable[np.ndarray],
        *,
        voxel_size: float,
        density_sign: int = 1,
        tilt_range: tuple[float, float] | None = None,
        tilt_axis: str = "y",
        picks: Picks | None = None,
        masks: Mapping[str, np.ndarray] | None = None,
        attributes: Mapping[str, Any] | None = None,
        dtype: str = "float16",
        shape: tuple[int, int, int] | None = None,
    ) -> None:
        """Add one tomogram; where it cannot be stored, nothing is added.

        Parameters
        ----------
        name : str
            A name of its own, of one line.
        volume : numpy.ndarray, Volume or iterable of numpy.ndarray
            (d, h, w), or slabs (k, h, w) along z together with ``shape``.
        voxel_size : float
            Å.
        density_sign : int
            What the volume is, which is stored as given: +1 protein bright, -1 dark.
        tilt_range : (float, float), optional
            Lowest and highest tilt in degrees.
        tilt_axis : str
            The tilt axis, "y".
        picks : Picks, optional
            Picks of this tomogram; None where nothing is known of any.
        masks : mapping of str to numpy.ndarray, optional
            Whole numbers (d, h, w), by name.
        attributes : mapping, optional
            Anything that JSON holds.
        dtype : {"float16", "float32"}
            The stored type.
        shape : (int, int, int), optional
            (d, h, w), for slabs.

        Raises
        ------
        NotRepresentable
            float16 would cost more than 1 % of the standard deviation.
        UserError
            The volume holds NaN, which names the slices, or is constant, or a fact cannot be.
        """
        extent = tuple(int(edge) for edge in shape or getattr(volume, "shape", None) or ())
        if len(extent) != 3 or 0 in extent:
            raise UserError(f"{self.path}: tomogram {name!r} of shape {extent}; expected (d, h, w)")
        size = (extent[0], extent[1], extent[2])
        self._refuse(name, voxel_size, density_sign, tilt_range, tilt_axis, dtype)
        columns = _columns(self.path, name, picks)
        whole = {
            mask: _whole_numbers(self.path, mask, values, size)
            for mask, values in (masks or {}).items()
        }
        facts: dict[str, Any] = {
            "name": name,
            "voxel_size": float(voxel_size),
            "density_sign": int(density_sign),
            "tilt_axis": tilt_axis,
            "attributes": json.dumps(files.plain(dict(attributes or {})), allow_nan=False),
        }
        if tilt_range is not None:
            facts["tilt_range"] = np.array(tilt_range, dtype=np.float64)
        with files.explained(self.path):
            self._write(
                name, _slabs_of(volume), size, np.dtype(dtype), facts, picks, columns, whole
            )
        self.names.append(name)

    def _refuse(
        self, name: str, voxel_size: float, sign: int, tilt: Any, tilt_axis: str, dtype: str
    ) -> None:
        problems = {
            f"tomogram {name!r}; expected a name of one line": not name.strip()
            or not name.isprintable(),
            f"two tomograms named {name!r}; expected a name of its own for each": name
            in self.names,
            f"voxel size {voxel_size} Å; expected a number above 0 (`voxel_size`)": not 0
            < voxel_size
            < float("inf"),
            f"density sign {sign}; expected 1 (protein bright) or -1 (dark)": sign not in (1, -1),
            f"tilt axis {tilt_axis!r}; expected y (rotate the tomogram first)": tilt_axis != "y",
            f"tilt range {tilt}; expected rising degrees within -90 to 90": (
                tilt is not None and not -90 <= tilt[0] < tilt[1] <= 90
            ),
            f"type {dtype}; expected float16 or float32": dtype not in ("float16", "float32"),
        }
        for problem, found in problems.items():
            if found:
                raise UserError(f"{self.path}: {problem}")

    # ---- the file --------------------------------------------------------------------------------

    def _start(self) -> None:
        import h5py

        if self.path.exists() and not self._overwrite:
            raise UserError(f"{self.path}: exists already; choose another name or give `overwrite`")
        with files.explained(self.path), h5py.File(self.partial, "w", locking=False) as file:
            file.attrs["format"] = FORMAT
            file.attrs["version"] = layout.VERSION
            file.attrs["kind"] = layout.KIND
            file.attrs["complete"] = False
            file.attrs["provenance"] = self._provenance
            file.create_group(layout.ROOT, track_order=True)

    def _write(
        self,
        name: str,
        parts: Iterator[np.ndarray],
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        facts: Mapping[str, Any],
        picks: Picks | None,
        columns: Mapping[str, np.ndarray],
        masks: Mapping[str, np.ndarray],
    ) -> None:
        import h5py

        chunk = layout.chunks(shape, dtype.itemsize)
        padded = int(
            np.prod([-(-edge // step) * step for edge, step in zip(shape, chunk, strict=True)])
        )
        taken = (
            self.partial.stat().st_size
            + padded * dtype.itemsize
            + sum(map(room, columns.values()))
            + (1 << 20)
        )
        reserve(self.partial, taken + sum(mask.nbytes + (1 << 20) for mask in masks.values()))
        with h5py.File(self.partial, "r+", locking=False) as file:
            group = file[layout.ROOT].create_group(layout.key(name))
            try:
                group.attrs.update(facts)
                volume = group.create_dataset("volume", shape, dtype, chunks=chunk)
                _Stream(f"{self.path}: tomogram {name!r}", volume, shape, dtype).write(
                    parts, chunk[0]
                )
                for mask, values in masks.items():
                    options: dict[str, Any] = {
                        "compression": "gzip",
                        "compression_opts": 1,
                        "shuffle": True,
                    }
                    group.create_dataset(f"masks/{mask}", data=values, chunks=chunk, **options)
                if picks is not None:
                    store = group.create_group("picks")
                    store.attrs["class_names"] = np.array(picks.class_names, dtype=text_type())
                    for column, values in columns.items():
                        text = values.dtype.kind == "O"
                        store.create_dataset(
                            column, data=values.astype(text_type()) if text else values
                        )
            except BaseException:
                del file[layout.ROOT][layout.key(name)]
                raise

    def _finish(self) -> None:
        if not self.names:
            raise UserError(f"{self.path}: no tomograms were written; expected at least one")


class _Stream:
    """Slabs of any thickness into a chunked data set, a layer of chunks at a time.

    It judges what they hold on the way.
    """

    def __init__(
        self, where: str, volume: Any, shape: tuple[int, int, int], dtype: np.dtype[Any]
    ) -> None:
        self.where, self.volume, self.shape, self.dtype = where, volume, shape, dtype
        self.bad: list[int] = []
        self.sums = np.zeros(3)
        self.low, self.high = np.inf, -np.inf
        self.origin: np.float32 | None = None

    def write(self, parts: Iterator[np.ndarray], thick: int) -> None:
        layer = np.empty((thick, *self.shape[1:]), self.dtype)
        done, filled = 0, 0
        for part in parts:
            if (
                part.ndim != 3
                or part.shape[1:] != self.shape[1:]
                or done + filled + len(part) > self.shape[0]
            ):
                raise UserError(
                    f"{self.where}: a slab of {part.shape} after {done + filled} of {self.shape} "
                    "slices"
                )
            for start in range(0, len(part), thick):
                piece = self._judged(part[start : start + thick], done + filled)
                while len(piece):
                    taken = piece[: thick - filled]
                    layer[filled : filled + len(taken)] = taken
                    piece, filled = piece[len(taken) :], filled + len(taken)
                    if filled == thick or done + filled == self.shape[0]:
                        self.volume[done : done + filled] = layer[:filled]
                        done, filled = done + filled, 0
        if done != self.shape[0]:
            raise UserError(f"{self.where}: {done + filled} slices; expected {self.shape[0]}")
        self._refuse()

    def _judged(self, part: np.ndarray, first: int) -> np.ndarray:
        """Return the slices in the stored type; note what they lose and whether they are finite."""
        wide = np.asarray(part, dtype=np.float32)
        finite = np.isfinite(wide).all(axis=(1, 2))
        self.bad += (first + np.flatnonzero(~finite)).tolist()
        self.low, self.high = min(self.low, float(wide.min())), max(self.high, float(wide.max()))
        with np.errstate(all="ignore"):
            stored = wide.astype(self.dtype)
            if self.dtype == np.float16 and not self.bad:
                lost = wide - stored
                # around one value of the volume, so that a large mean does not swallow a small
                # spread
                self.origin = wide.flat[0] if self.origin is None else self.origin
                wide = wide - self.origin
                self.sums += [np.square(lost).sum(dtype=np.float64), *_sums(wide)]
        return stored

    def _refuse(self) -> None:
        if self.bad:
            raise UserError(f"{self.where}: {describe_bad(self.bad, self.shape[0])}")
        if self.low == self.high:
            raise UserError(
                f"{self.where}: constant ({self.low:g} everywhere); expected a tomogram that varies"
            )
        if self.dtype == np.float16:
            lost, mean, square = self.sums / np.prod(self.shape)
            std = float(np.sqrt(max(square - mean**2, 0.0)))
            if std > 0 and not np.sqrt(lost) <= COARSE * std:
                raise NotRepresentable(
                    f"{self.where}: float16 cannot hold it (values {self.low:g} to {self.high:g}, "
                    "standard deviation "
                    f"{std:g}); expected at most 65504 and a spread about the mean; use "
                    "float32"
                )


def _sums(values: np.ndarray) -> tuple[float, float]:
    return float(values.sum(dtype=np.float64)), float(np.square(values).sum(dtype=np.float64))


def _slabs_of(volume: np.ndarray | Volume | Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Slabs (k, h, w) of a volume of any of the three kinds."""
    if isinstance(volume, np.ndarray):
        volume = ArrayVolume(volume)
    if isinstance(volume, Iterable):
        yield from volume
    else:
        everything = slice(None)
        yield from (volume.read((part, everything, everything)) for part in slabs(volume.shape))


def _columns(path: Path, name: str, picks: Picks | None) -> dict[str, np.ndarray]:
    """Return picks as data sets of n rows.

    UserError for those of other tomograms and for positions that are no numbers.
    """
    if picks is None:
        return {}
    others = sorted({str(other) for other in picks.tomograms} - {name, ""})
    if others:
        raise UserError(
            f"{path}: picks of tomogram {others[0]!r} were given to {name!r}; expected its own"
        )
    if not np.isfinite(picks.positions).all():
        raise UserError(
            f"{path}: picks of tomogram {name!r} at positions that are no numbers; expected Å"
        )
    columns = {
        "positions": picks.positions,
        "scores": picks.scores,
        "classes": picks.classes.astype(np.int32),
    }
    if picks.rotations is not None:
        columns["rotations"] = picks.rotations
    for extra, values in picks.extra.items():
        columns[f"extra/{extra}"] = values.astype(object) if values.dtype.kind == "U" else values
    return columns


def _whole_numbers(
    path: Path, name: str, values: np.ndarray, shape: tuple[int, int, int]
) -> np.ndarray:
    """Return a mask in the smallest type that holds its numbers."""
    values = np.asarray(values)
    if values.shape != shape or values.dtype.kind not in "iub":
        raise UserError(
            f"{path}: mask {name!r} of {values.shape} {values.dtype}; expected whole numbers of "
            f"{shape}"
        )
    low, high = int(values.min()), int(values.max())
    types = ("u1", "u2", "u4", "u8") if low >= 0 else ("i1", "i2", "i4", "i8")
    fitting = next(t for t in types if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return values.astype(fitting)

"""Reading: one or several store files as one data set with random access to batches."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np

from cryoet_core.plugins.interfaces import Kind
from cryoet_core.store.layout import SPLITS, MappedArray, StoreFile, open_shard
from cryoet_core.store.statistics import scan
from cryoet_core.store.writer import SubtomogramWriter
from cryoet_core.support.errors import UserError

SAME_VOXEL_SIZE = 1e-3
"""Voxel sizes of files that are read together may differ by this part."""

T = TypeVar("T")
Contrast: TypeAlias = Literal["dark", "bright"]


class Subtomograms:
    """Subtomograms of one or several stores, in the order of the files; see ``open_subtomograms``.

    There are n volumes. An attribute is None where no file, or not every file, says it.

    Attributes
    ----------
    box : int
        Box size in voxels.
    voxel_size : float
        Å.
    labels : numpy.ndarray
        (n,) int64, indices into ``class_names``, -1 unlabelled.
    class_names : tuple of str
        The class names of all files, each once.
    positions : numpy.ndarray or None
        (n, 3) float64, Å, axes (z, y, x).
    rotations : numpy.ndarray or None
        (n, 3, 3) float32, active, from the frame of the reference to that of the tomogram.
    tomogram : numpy.ndarray or None
        (n,), the name of each tomogram.
    split : numpy.ndarray or None
        (n,) int8, indices into ``SPLITS``, -1 for none.
    tilt_range : (float, float) or None
        Lowest and highest tilt in degrees, where all files agree.
    tilt_axis : str
        The tilt axis, "y".
    optics : dict
        What all files agree on.
    snr : float or None
        Signal-to-noise ratio, where all files agree.
    extras : mapping of str to numpy.ndarray
        What else the files say of each volume, (n, ...) by name.
    signs : numpy.ndarray
        (n,), the density sign of each stored volume.
    paths : tuple of Path
        The files.
    source_file, source_row : numpy.ndarray
        (n,), where each volume lies: volume i is row ``source_row[i]`` of
        ``paths[source_file[i]]``.
    temporary : bool
        Whether the files go when the data set does.
    """

    kind: Kind = "subtomograms"
    _whole: Subtomograms | None = None
    temporary = False

    def __init__(self, shards: Sequence[StoreFile]) -> None:
        self._shards = list(shards)
        sizes = [len(shard) for shard in shards]
        self.source_file = np.repeat(np.arange(len(shards), dtype=np.int32), sizes)
        self.source_row = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes])
        self.class_names, self.labels = _merge_labels(shards)
        self.signs = np.repeat(
            np.array([shard.density_sign for shard in shards], dtype=np.int8), sizes
        )
        names = set(shards[0].rows).intersection(*(shard.rows for shard in shards))
        self._rows = {
            name: np.concatenate([shard.rows[name] for shard in shards]) for name in names
        }
        names = set(shards[0].extras).intersection(*(shard.extras for shard in shards))
        self.extras: Mapping[str, np.ndarray] = {
            name: np.concatenate([shard.extras[name] for shard in shards]) for name in sorted(names)
        }
        self._large = set(shards[0].large).intersection(*(shard.large for shard in shards))

    # ---- facts of the whole set ------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.source_row)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The store files."""
        return tuple(shard.path for shard in self._shards)

    @property
    def box(self) -> int:
        """Box size in voxels."""
        return self._shards[0].box

    @property
    def voxel_size(self) -> float:
        """Voxel size in Å."""
        return self._shards[0].voxel_size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the stored volumes; float32 where files differ."""
        return np.result_type(
            *(shard.volumes.array.dtype.newbyteorder("=") for shard in self._shards)
        )

    @property
    def density_sign(self) -> int:
        """+1 protein bright, -1 dark, as stored; 0 where files differ.

        What ``read`` gives is always bright.
        """
        return _common([shard.density_sign for shard in self._shards]) or 0

    @property
    def tilt_range(self) -> tuple[float, float] | None:
        """Lowest and highest tilt in degrees, None where files differ."""
        return _common([shard.tilt_range for shard in self._shards])

    @property
    def tilt_axis(self) -> str:
        """The tilt axis."""
        return self._shards[0].tilt_axis

    @property
    def snr(self) -> float | None:
        """Signal-to-noise ratio, None where files differ."""
        return _common([shard.snr for shard in self._shards])

    @property
    def optics(self) -> dict[str, Any]:
        """What all files agree on about the microscope."""
        first = self._shards[0].optics
        return {
            k: v
            for k, v in first.items()
            if all(k in s.optics and s.optics[k] == v for s in self._shards)
        }

    @property
    def provenance(self) -> tuple[dict[str, Any], ...]:
        """What each file says of its origin."""
        return tuple(shard.provenance for shard in self._shards)

    @property
    def positions(self) -> np.ndarray | None:
        """Positions (n, 3) in Å, axes (z, y, x), or None."""
        return self._rows.get("positions")

    @property
    def rotations(self) -> np.ndarray | None:
        """Rotations (n, 3, 3), or None."""
        return self._rows.get("rotations")

    @property
    def tomogram(self) -> np.ndarray | None:
        """Names (n,) of the tomograms, or None."""
        return self._rows.get("tomogram")

    @property
    def split(self) -> np.ndarray | None:
        """Codes (n,) into ``SPLITS``, or None."""
        return self._rows.get("split")

    @property
    def sha256(self) -> str:
        """A fingerprint of the files (size and sampled blocks), the chosen rows and the labels."""
        from cryoet_core.support.provenance import fingerprint

        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(fingerprint(path)["sha256_sampled"].encode())
        for array in (self.source_file, self.source_row, self.labels):
            digest.update(array.tobytes())
        return digest.hexdigest()

    # ---- volumes ---------------------------------------------------------------------------------

    def __getitem__(self, index: int, /) -> np.ndarray:
        """Return volume ``index``, (d, d, d) float32, protein bright."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"volume {index} of {len(self)}")
        volume: np.ndarray = self.read(np.array([index % len(self)]))[0]
        return volume

    def read(self, indices: np.ndarray | slice) -> np.ndarray:
        """Read volumes, protein bright.

        Parameters
        ----------
        indices : numpy.ndarray or slice
            (b,), which volumes.

        Returns
        -------
        numpy.ndarray
            (b, d, d, d) float32, in the order of ``indices``.
        """
        if isinstance(indices, slice):
            indices = np.arange(len(self))[indices]
        volumes = self.read_stored(indices).astype(np.float32)
        signs = self.signs[indices]
        if (signs < 0).any():
            volumes *= signs.astype(np.float32)[:, None, None, None]
        return volumes

    def read_stored(self, indices: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Read volumes as they are stored: own ``dtype``, own sign.

        Parameters
        ----------
        indices : numpy.ndarray
            (b,), which volumes.
        out : numpy.ndarray, optional
            (b, d, d, d), receives them.

        Returns
        -------
        numpy.ndarray
            (b, d, d, d), ``out`` where it is given.
        """
        return self._gather([shard.volumes for shard in self._shards], indices, self.dtype, out)

    def read_extra(self, name: str, indices: np.ndarray) -> np.ndarray:
        """Read rows of an extra, also of one that is too large for ``extras`` (clean volumes).

        Parameters
        ----------
        name : str
            One of ``extra_names``.
        indices : numpy.ndarray
            (b,), which rows.

        Returns
        -------
        numpy.ndarray
            (b, ...).

        Raises
        ------
        KeyError
            There is no such extra.
        """
        if name in self.extras:
            rows: np.ndarray = self.extras[name][indices]
            return rows
        if name not in self._large:
            raise KeyError(f"no extra {name!r}; there are {self.extra_names}")
        maps = [shard.large[name] for shard in self._shards]
        return self._gather(
            maps, indices, np.result_type(*(m.array.dtype.newbyteorder("=") for m in maps))
        )

    @property
    def extra_names(self) -> list[str]:
        """What ``read_extra`` takes."""
        return sorted({*self.extras, *self._large})

    def _gather(
        self,
        maps: list[MappedArray],
        indices: np.ndarray,
        dtype: np.dtype[Any],
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Read rows from the files' maps: a loop over files, none over rows."""
        indices = np.asarray(indices)
        files, rows = self.source_file[indices], self.source_row[indices]
        if out is None:
            out = np.empty((len(indices), *maps[0].array.shape[1:]), dtype)
        if len(maps) == 1 and maps[0].array.dtype == dtype:
            maps[0].gather(rows, out)
            return out
        for index in np.unique(files):
            chosen = np.flatnonzero(files == index)
            part = np.empty((len(chosen), *out.shape[1:]), maps[index].array.dtype)
            maps[index].gather(rows[chosen], part)
            out[chosen] = part
        return out

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (n,) float32 of each stored volume, with its own sign.

        They are computed in one pass where the files do not hold them.
        """
        if not {"mean", "std"} <= self._rows.keys():
            self._rows["mean"], self._rows["std"] = scan(self.read_stored, len(self), self.box)
        return self._rows["mean"], self._rows["std"]

    def refuse_bad_values(self) -> None:
        """Raise UserError where volumes hold NaN or infinity or are constant; it names them."""
        mean, std = self.statistics()
        for what, bad in (
            ("not finite (NaN or infinity)", ~np.isfinite(mean + std)),
            ("constant", std == 0),
        ):
            if bad.any():
                raise UserError(
                    f"{self._where(bad)} {what}; expected finite, varying volumes; {_CURE}"
                )

    def _where(self, bad: np.ndarray) -> str:
        """Name bad volumes of one file: "set.h5: 2 of 100 volumes (rows 3, 17) are"."""
        first = self.source_file[np.flatnonzero(bad)[0]]
        rows = self.source_row[bad & (self.source_file == first)]
        listed = describe_rows(rows)
        return (
            f"{self.paths[first]}: {len(rows)} of {len(self._shards[first])} volumes ({listed}) "
            f"{_be(len(rows))}"
        )

    def __repr__(self) -> str:
        contrast = {1: "bright", -1: "dark", 0: "mixed"}[self.density_sign]
        classes = ", ".join(self.class_names) or "none"
        return (
            f"Subtomograms(n={len(self)}, box={self.box}, voxel_size={self.voxel_size:g} Å, "
            f"contrast={contrast}, classes={classes})"
        )

    @classmethod
    def from_array(
        cls,
        volumes: np.ndarray,
        *,
        voxel_size: float,
        contrast: Contrast,
        tilt_range: Sequence[float] | None = None,
        labels: Sequence[int] | np.ndarray | None = None,
        class_names: Sequence[str] | None = None,
    ) -> Subtomograms:
        """Make a data set of an array.

        Parameters
        ----------
        volumes : numpy.ndarray
            (n, d, d, d), axes (z, y, x).
        voxel_size : float
            Å per voxel.
        contrast : {"bright", "dark"}
            How protein looks in the volumes.
        tilt_range : (float, float), optional
            Lowest and highest tilt in degrees.
        labels : sequence of int, optional
            (n,), indices into ``class_names``, -1 where unknown.
        class_names : sequence of str, optional
            The names of the classes.

        Returns
        -------
        Subtomograms
            A data set in a temporary store, which goes when the data set does.

        Raises
        ------
        UserError
            The volumes are no boxes of equal sides, or a value is wrong.

        Examples
        --------
        >>> import numpy as np
        >>> volumes = np.random.default_rng(0).normal(size=(4, 8, 8, 8))
        >>> Subtomograms.from_array(volumes, voxel_size=10.0, contrast="bright")
        Subtomograms(n=4, box=8, voxel_size=10 Å, contrast=bright, classes=none)
        """
        volumes = np.asarray(volumes)
        if volumes.ndim != 4 or len(set(volumes.shape[1:])) != 1 or not len(volumes):
            raise UserError(
                f"`volumes` of shape {volumes.shape}: expected (n, d, d, d), boxes of equal sides"
            )
        if contrast not in ("bright", "dark"):
            raise UserError(f"`contrast` {contrast!r}: expected bright or dark (how protein looks)")
        names = tuple(class_names or ())
        tilts = _tilts(tilt_range)
        numbers = _given_labels(labels, len(volumes), len(names))
        if not 0 < voxel_size < float("inf"):
            raise UserError(f"`voxel_size` {voxel_size}: expected a number of Å above 0")
        folder = Path(tempfile.mkdtemp(prefix="cryoet-array-"))
        try:
            with SubtomogramWriter(
                folder / "array.h5",
                volumes.shape[1],
                voxel_size,
                1 if contrast == "bright" else -1,
                "float32",
                names,
                tilts,
                n=len(volumes),
            ) as writer:
                writer.append(volumes, labels=numbers)
            data = open_subtomograms(folder / "array.h5")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        data.temporary = True
        weakref.finalize(data, shutil.rmtree, folder, ignore_errors=True)
        return data

    # ---- parts -----------------------------------------------------------------------------------

    def subset(self, indices: np.ndarray) -> Subtomograms:
        """Return some of the volumes, sharing the files.

        Parameters
        ----------
        indices : numpy.ndarray
            Integers or a mask.

        Returns
        -------
        Subtomograms
            The volumes in that order.
        """
        indices = np.arange(len(self))[indices]
        part = self._copy()
        for name in ("source_file", "source_row", "labels", "signs"):
            setattr(part, name, getattr(self, name)[indices])
        part._rows = {name: array[indices] for name, array in self._rows.items()}
        part.extras = {name: array[indices] for name, array in self.extras.items()}
        return part

    def part(self, split: str) -> Subtomograms:
        """Return the volumes of one split.

        Parameters
        ----------
        split : {"train", "val", "test"}
            The split.

        Returns
        -------
        Subtomograms
            Its volumes.

        Raises
        ------
        UserError
            The files hold no split, or there is none of this name.
        """
        if self.split is None or split not in SPLITS:
            raise UserError(
                f"{self.paths[0]}: no split {split!r} in the file; expected one of "
                f"{', '.join(SPLITS)}"
            )
        return self.subset(self.split == SPLITS.index(split))

    def without_labels(self) -> Subtomograms:
        """Return the same volumes with every label -1, no class names and no extras.

        Extras go because they may hold the truth.
        """
        part = self._copy()
        part.labels, part.class_names = np.full(len(self), -1), ()
        part.extras, part._large = {}, set()
        return part

    def _copy(self) -> Subtomograms:
        part = object.__new__(Subtomograms)
        part.__dict__.update(self.__dict__)
        part._whole = self  # the files of an array go with the last data set that reads them
        part._rows = dict(self._rows)
        return part


def _tilts(given: Sequence[float] | None) -> tuple[float, float] | None:
    """Lowest and highest tilt. UserError for what is no rising pair of degrees."""
    if given is None:
        return None
    if len(given) != 2 or not -90 <= given[0] < given[1] <= 90:
        raise UserError(f"`tilt_range` {given}: expected two rising degrees within -90 to 90")
    return float(given[0]), float(given[1])


def _given_labels(
    labels: Sequence[int] | np.ndarray | None, n: int, classes: int
) -> np.ndarray | None:
    """Labels (n,), one for each volume. UserError for another length, and for no such class."""
    if labels is None:
        return None
    found = np.asarray(labels)
    if found.shape != (n,) or found.dtype.kind not in "iu":
        raise UserError(
            f"`labels` of shape {found.shape} and type {found.dtype}: expected ({n},) whole numbers"
        )
    if n and not -1 <= found.min() <= found.max() < classes:
        raise UserError(
            f"`labels` from {found.min()} to {found.max()}: expected -1 to {classes - 1}, as there "
            f"are {classes} `class_names`"
        )
    return found


_CURE = "`cryoet data import THE_FILE.h5 --drop-bad --out clean.h5` leaves them out"


def open_subtomograms(
    paths: Sequence[Path | str] | Path | str, *, check_values: bool = True
) -> Subtomograms:
    """Open one or several stores as one data set.

    Parameters
    ----------
    paths : Path, str or a sequence of them
        The stores.
    check_values : bool
        Refuse volumes that hold NaN or are constant.

    Returns
    -------
    Subtomograms
        The volumes of all files, in their order.

    Raises
    ------
    UserError
        A file is missing, empty, truncated, unfinished, a folder or of another format or kind, the
        box or voxel sizes differ, or a volume is bad; one line says which.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not given:
        raise UserError("no data set is given; expected at least one store of subtomograms (.h5)")
    shards = [open_shard(Path(path)) for path in given]
    for shard in shards[1:]:
        _agree(shards[0], shard)
    data = Subtomograms(shards)
    if check_values:
        data.refuse_bad_values()
    return data


def describe_rows(rows: np.ndarray, limit: int = 8) -> str:
    """Name rows for a message.

    Parameters
    ----------
    rows : numpy.ndarray
        Row numbers.
    limit : int
        The most that are named.

    Returns
    -------
    str
        ``"row 3"``, ``"rows 3, 17"`` or, of many, ``"rows 3, 17, 20, ... and 40 more"``.

    Examples
    --------
    >>> import numpy as np
    >>> describe_rows(np.array([3, 17, 20]), limit=2)
    'rows 3, 17, ... and 1 more'
    """
    shown = ", ".join(str(row) for row in rows[:limit])
    more = f", ... and {len(rows) - limit} more" if len(rows) > limit else ""
    return f"row{'s' if len(rows) != 1 else ''} {shown}{more}"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _agree(first: StoreFile, other: StoreFile) -> None:
    if other.box != first.box:
        raise UserError(
            f"{other.path}: box {other.box}, but {first.path} has {first.box}; expected equal "
            "boxes; give one at a time"
        )
    if abs(other.voxel_size - first.voxel_size) > SAME_VOXEL_SIZE * first.voxel_size:
        raise UserError(
            f"{other.path}: voxel size {other.voxel_size:g} Å, but {first.path} has "
            f"{first.voxel_size:g} Å; "
            "expected equal voxel sizes; rescale one before importing"
        )


def _common(values: Sequence[T]) -> T | None:
    return values[0] if all(value == values[0] for value in values) else None


def _merge_labels(shards: Sequence[StoreFile]) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names of all shards, each once, and the labels as indices into them."""
    names = tuple(dict.fromkeys(name for shard in shards for name in shard.class_names))
    merged = []
    for shard in shards:
        table = np.array([*(names.index(name) for name in shard.class_names), -1], dtype=np.int64)
        if not -1 <= shard.labels.min() <= shard.labels.max() < len(shard.class_names):
            raise UserError(
                f"{shard.path}: labels beyond its {len(shard.class_names)} class names; write it "
                "again"
            )
        merged.append(table[shard.labels])
    return names, np.concatenate(merged)

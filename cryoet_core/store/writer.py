"""Writing a store of subtomograms, batch by batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.store import layout, rows
from cryoet_core.store.columns import Column, allocate, reserve, room
from cryoet_core.store.partial import StoreWriter
from cryoet_core.support import files, hdf5
from cryoet_core.support.errors import UserError


class SubtomogramWriter(StoreWriter):
    """Write a store, batch by batch, in bounded memory.

        with SubtomogramWriter(path, box=32, voxel_size=12.0, n=1000) as writer:
            writer.append(volumes, labels=labels)

    Nothing named ``path`` appears or changes before the block ends well; a crash leaves
    ``path.partial`` at most, which no reader takes for a store. With ``n`` the disk space is
    reserved at the first ``append`` and volumes are written in place; without it they go through a
    second file.

    Parameters
    ----------
    path : Path or str
        The store to write.
    box : int
        Box size in voxels.
    voxel_size : float
        Å.
    density_sign : int
        What the volumes are, which are stored as given: +1 protein bright, -1 dark.
    dtype : {"float16", "float32"}
        The stored type.
    class_names : sequence of str
        The names of the classes.
    tilt_range : (float, float), optional
        Lowest and highest tilt in degrees.
    optics : mapping, optional
        What is known of the microscope; anything that JSON holds.
    snr : float, optional
        Signal-to-noise ratio.
    provenance : mapping, optional
        Where the volumes come from; anything that JSON holds.
    n : int, optional
        The number of volumes, where it is known before.

    Raises
    ------
    UserError
        The disk refuses, or the rows do not fit together.
    """

    def __init__(
        self,
        path: Path | str,
        box: int,
        voxel_size: float,
        density_sign: int = 1,
        dtype: str = "float16",
        class_names: Sequence[str] = (),
        tilt_range: tuple[float, float] | None = None,
        optics: Mapping[str, Any] | None = None,
        snr: float | None = None,
        provenance: Mapping[str, Any] | None = None,
        n: int | None = None,
    ) -> None:
        super().__init__(path)
        self.box, self.n, self.count = int(box), n, 0
        self.class_names = tuple(class_names)
        rows.check_header(self.path, box, voxel_size, density_sign, dtype, tilt_range)
        self._attrs: dict[str, Any] = {
            "format": hdf5.FORMAT,
            "version": layout.VERSION,
            "kind": layout.KIND,
            "voxel_size": float(voxel_size),
            "density_sign": int(density_sign),
            "tilt_axis": "y",
            "optics": json.dumps(files.plain(dict(optics or {}))),
            "provenance": json.dumps(files.plain(dict(provenance or {}))),
        }
        if tilt_range is not None:
            self._attrs["tilt_range"] = np.array(tilt_range, dtype=np.float64)
        if snr is not None:
            self._attrs["snr"] = float(snr)
        self._columns = [Column("volumes", (self.box,) * 3, dtype)]
        self._rows: dict[str, list[np.ndarray]] = {}

    def append(
        self,
        volumes: Any,
        labels: Any = None,
        positions: Any = None,
        rotations: Any = None,
        tomogram: Any = None,
        split: Any = None,
        **extras: Any,
    ) -> None:
        """Add volumes and what is known of each; every call must give the same arguments.

        Parameters
        ----------
        volumes : array_like or torch.Tensor
            (b, d, d, d), (b, 1, d, d, d) or one (d, d, d).
        labels : array_like, optional
            (b,), indices into the class names, -1 unlabelled.
        positions : array_like, optional
            (b, 3), Å, axes (z, y, x).
        rotations : array_like, optional
            (b, 3, 3), active, from the frame of the reference to that of the tomogram.
        tomogram : str or sequence of str, optional
            One name for all, or (b,) names.
        split : array_like, optional
            (b,), codes or names of ``SPLITS``.
        **extras : array_like
            Further rows (b, ...), by name.

        Raises
        ------
        UserError
            Shapes, types or numbers of rows do not fit.
        NotRepresentable
            float16 cannot hold a volume.
        """
        try:
            volumes = rows.as_boxes(volumes, self.box)
            if not len(volumes):
                return
            if self.n is not None and self.count + len(volumes) > self.n:
                raise UserError(
                    f"more than the {self.n} announced volumes; expected {self.n - self.count} more"
                )
            given = {"labels": labels, "positions": positions, "rotations": rotations}
            given |= {"tomogram": tomogram, "split": split}
            batch = rows.row_values(len(volumes), len(self.class_names), given, extras)
            stored, mean, std = rows.to_stored(volumes, self._columns[0].dtype, self.count)
        except UserError as error:
            raise type(error)(f"{self.path}: {error}") from error
        batch |= {"volumes": stored, "mean": mean, "std": std}
        if not self._rows:
            self._begin(batch)
        self._store(batch)
        self.count += len(volumes)

    # ---- the file --------------------------------------------------------------------------------

    def _start(self) -> None:
        """Do nothing: the file is made once the types of the rows are known."""

    def _begin(self, batch: Mapping[str, np.ndarray]) -> None:
        """Make the store, or the spool files, at the first rows: their types are known now."""
        for name, value in batch.items():
            column = Column(name, value.shape[1:], value.dtype)
            if name.startswith("extras/") and column.row_bytes > layout.LARGE_ROW:
                self._columns.append(column)
        self._rows = {
            name: [] for name in batch if name not in {column.name for column in self._columns}
        }
        if self.n is not None:
            self._make(self.n)
            return
        for index, column in enumerate(self._columns):
            column.spool = self.partial.with_name(f"{self.partial.name}.{index}")
            with files.explained(self.path):
                column.file = column.spool.open("w+b")

    def _make(self, count: int) -> None:
        """Create the store with room for ``count`` rows, and open each column at its place."""
        import h5py

        small = 64 * len(self._rows) + 256  # bytes a row takes in the small data sets, roughly
        needed = count * (small + sum(column.row_bytes for column in self._columns)) + (1 << 16)
        with files.explained(self.path):
            reserve(self.partial, needed)
            with h5py.File(self.partial, "w", locking=False) as file:
                file.attrs.update(self._attrs)
                file.attrs["class_names"] = np.array(self.class_names, dtype=hdf5.text_type())
                file.attrs["complete"] = False
                offsets = [allocate(file, column, count) for column in self._columns]
            reserve(self.partial, needed)
            for column, offset in zip(self._columns, offsets, strict=True):
                column.close()
                column.file = self.partial.open("r+b")
                column.file.seek(offset)

    def _store(self, batch: Mapping[str, np.ndarray]) -> None:
        expected = {*self._rows, *(column.name for column in self._columns)}
        if set(batch) != expected:
            raise UserError(
                f"{self.path}: rows of {_listed(batch)}; expected, as before, {_listed(expected)}"
            )
        with files.explained(self.path):
            for column in self._columns:
                if batch[column.name].shape[1:] != column.shape:
                    raise UserError(
                        f"{self.path}: {column.name} changed its shape; expected (n, "
                        f"*{column.shape})"
                    )
                column.write(batch[column.name])
        for name, parts in self._rows.items():
            parts.append(batch[name])

    def _finish(self) -> None:
        import h5py

        if not self.count:
            raise UserError(f"{self.path}: no volumes were written; expected at least one")
        if self.n is not None and self.count != self.n:
            raise UserError(
                f"{self.path}: {self.count} of the {self.n} announced volumes were written"
            )
        if self.n is None:
            self._assemble()
        for column in self._columns:
            column.close()
        rows = {name: np.concatenate(parts) for name, parts in self._rows.items()}
        reserve(
            self.partial,
            self.partial.stat().st_size + sum(room(values) for values in rows.values()),
        )
        with h5py.File(self.partial, "r+", locking=False) as file:
            for name, values in rows.items():
                text = values.dtype.kind == "O"
                file.create_dataset(name, data=values.astype(hdf5.text_type()) if text else values)

    def _assemble(self) -> None:
        """Copy the spool files to their places in a store, now that the count is known."""
        spools = []
        for column in self._columns:
            if column.file is not None and column.spool is not None:
                column.file.flush()
                spools.append(column.spool)
        self._make(self.count)
        for column, spool in zip(self._columns, spools, strict=True):
            if column.file is not None:
                with spool.open("rb") as source:
                    shutil.copyfileobj(source, column.file, 16 << 20)
            spool.unlink()

    def _clean_up(self) -> None:
        """Close and remove whatever is left beside the target: nothing after a good end."""
        for column in self._columns:
            try:
                column.close()
            except OSError:
                column.file = (
                    None  # a full disk refuses the last buffer of a file that is removed anyway
                )
            if column.spool is not None:
                column.spool.unlink(missing_ok=True)
        super()._clean_up()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def write_store(
    path: Path | str, volumes: Any, voxel_size: float, labels: Any = None, **facts: Any
) -> Path:
    """Write volumes that are in memory as a store.

    Parameters
    ----------
    path : Path or str
        The store to write.
    volumes : array_like
        (n, d, d, d).
    voxel_size : float
        Å.
    labels : array_like, optional
        (n,), indices into the class names, -1 unlabelled.
    **facts
        The other header fields of ``SubtomogramWriter``, the rows of its ``append`` (``positions``,
        ``rotations``, ``tomogram``, ``split``) and ``extras``, a dict of further rows.

    Returns
    -------
    Path
        The store.
    """
    per_row = ("positions", "rotations", "tomogram", "split")
    given = {name: facts.pop(name) for name in per_row if name in facts}
    extras = facts.pop("extras", {})
    with SubtomogramWriter(
        path, np.shape(volumes)[-1], voxel_size, n=len(volumes), **facts
    ) as writer:
        writer.append(volumes, labels, **given, **extras)
    return Path(path)

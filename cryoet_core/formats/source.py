"""What is to be imported, in the project's own terms: the rows of a store that do not exist yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.formats.stack import VolumeStack
from cryoet_core.formats.volumes import open_volumes
from cryoet_core.support.errors import UserError

SAME_VOXEL_SIZE = 1e-3


@dataclass
class VolumeSource:
    """Volumes in files, one row each, and what is known of them.

    A column is None where the files do not say it.

    Attributes
    ----------
    files : list[Path]
        The files.
    file : np.ndarray, shape (n,)
        Volume i is in ``files[file[i]]``.
    index : np.ndarray, shape (n,)
        Volume i is number ``index[i]`` (from 0) of its file.
    shape : tuple[int, int, int]
        Shape of one volume in voxels, (d, h, w).
    voxel_size : float | None
        Å.
    voxel_reason : str
        Why ``voxel_size`` is None.
    sign : int | None
        +1 for bright protein, -1 for dark.
    labels : np.ndarray, shape (n,), or None
        Class names, "" for none.
    positions : np.ndarray, shape (n, 3), or None
        Å, (z, y, x).
    rotations : np.ndarray, shape (n, 3, 3), or None
        Active rotations from the reference frame to the tomogram frame.
    tomogram : np.ndarray, shape (n,), or None
        Names of the tomograms.
    split : np.ndarray, shape (n,), or None
        The split of each volume, as the store keeps it.
    tilt_range : tuple[float, float] | None
        Lowest and highest tilt in degrees.
    snr : float | None
        Signal-to-noise ratio.
    optics : dict[str, Any]
        Voltage, Cs and amplitude contrast.
    extras : dict[str, np.ndarray]
        Further columns with n rows each.
    notes : list[str]
        What was assumed.
    stacks : dict[Path, VolumeStack]
        Files that are open already.
    """

    files: list[Path]
    file: np.ndarray
    index: np.ndarray
    shape: tuple[int, int, int]
    voxel_size: float | None = None
    voxel_reason: str = "the file does not say it"
    sign: int | None = None
    labels: np.ndarray | None = None
    positions: np.ndarray | None = None
    rotations: np.ndarray | None = None
    tomogram: np.ndarray | None = None
    split: np.ndarray | None = None
    tilt_range: tuple[float, float] | None = None
    snr: float | None = None
    optics: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    stacks: dict[Path, VolumeStack] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def of_stacks(cls, stacks: Sequence[VolumeStack]) -> VolumeSource:
        """Take all volumes of some files, in order.

        Parameters
        ----------
        stacks : Sequence[VolumeStack]
            The opened files.

        Returns
        -------
        VolumeSource
            The source.

        Raises
        ------
        UserError
            When the shapes of the volumes differ. Voxel sizes that differ are left unknown, with a
            reason.
        """
        counts = [len(stack) for stack in stacks]
        source = cls(
            files=[stack.path for stack in stacks],
            file=np.repeat(np.arange(len(stacks)), counts),
            index=np.concatenate([np.arange(count) for count in counts]),
            shape=stacks[0].shape,
        )
        for stack in stacks:
            if stack.shape != source.shape:
                raise UserError(
                    f"{stack.path}: {_times(stack.shape)} voxels, but {stacks[0].path} has "
                    f"{_times(source.shape)}; "
                    "expected equal boxes; crop or pad them first"
                )
            if stack.format == "numpy":
                source.stacks[stack.path] = stack
        source.voxel_size, source.voxel_reason = _common_voxel_size(stacks)
        for note in dict.fromkeys(note for stack in stacks for note in stack.notes):
            having = [stack.path for stack in stacks if note in stack.notes]
            source.notes.append(
                f"{having[0].name}{f' and {len(having) - 1} more' if len(having) > 1 else ''}: "
                f"{note}"
            )
        return source

    def classes(self) -> tuple[list[str], np.ndarray]:
        """Return the sorted class names (numbers by value) and the label of each volume.

        Returns
        -------
        tuple[list[str], np.ndarray]
            The names, and the labels (n,), -1 where a volume has none.
        """
        if self.labels is None:
            return [], np.full(len(self), -1)
        names = sorted({str(name) for name in self.labels if str(name)}, key=_by_value)
        where = {name: index for index, name in enumerate(names)}
        return names, np.array([where.get(str(name), -1) for name in self.labels])

    def select(self, rows: np.ndarray) -> VolumeSource:
        """Return the source with some rows only, in their order.

        Parameters
        ----------
        rows : np.ndarray
            Indices of rows.

        Returns
        -------
        VolumeSource
            The new source.
        """
        picked: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("file", "index", "labels", "positions", "rotations", "tomogram", "split"):
            if picked[name] is not None:
                picked[name] = picked[name][rows]
        picked["extras"] = {name: values[rows] for name, values in self.extras.items()}
        return VolumeSource(**picked)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read volumes as they stand in the files.

        Parameters
        ----------
        rows : np.ndarray, shape (b,)
            Indices of rows.

        Returns
        -------
        np.ndarray, shape (b, d, h, w)
            The volumes.
        """
        files, out = self.file[rows], None
        for number in np.unique(files):
            chosen = np.flatnonzero(files == number)
            values = self._stack(number).read(self.index[rows[chosen]])
            if len(chosen) == len(rows):
                return values
            if out is None:
                out = np.empty(
                    (len(rows), *values.shape[1:]), np.result_type(values.dtype, np.float32)
                )
            out[chosen] = values
        assert out is not None
        return out

    def _stack(self, number: int) -> VolumeStack:
        path = self.files[number]
        return self.stacks.get(path) or open_volumes(path)


def cube_problem(shape: tuple[int, int, int]) -> str | None:
    """Say why volumes of a shape are no subtomograms.

    Parameters
    ----------
    shape : tuple[int, int, int]
        Shape of a volume in voxels, (d, h, w).

    Returns
    -------
    str | None
        The problem in words; None when the sides are equal.
    """
    d, h, w = shape
    if d == h == w > 1:
        return None
    found = f"{_times(shape)} (z, y, x) voxels"
    if d == 1:
        return f"a 2-D image of {h} x {w} pixels; expected subtomograms"
    if h == w:
        return (
            f"{found}: no whole number of volumes of {h} x {h} x {h}; expected subtomograms; if "
            "these are 2-D tilt images of particles, reconstruct the subtomograms first"
        )
    return f"{found}, not a cube; expected subtomograms; from a tomogram, cut them out first"


def _common_voxel_size(stacks: Sequence[VolumeStack]) -> tuple[float | None, str]:
    """Å, or None and the reason."""
    sizes = []
    for stack in stacks:
        size, reason = _voxel_size(stack)
        if size is None:
            return None, reason
        sizes.append(size)
        if abs(size - sizes[0]) > SAME_VOXEL_SIZE * sizes[0]:
            return None, f"{stack.path} says {size:g} Å, but {stacks[0].path} {sizes[0]:g} Å"
    return sizes[0], ""


def _voxel_size(stack: VolumeStack) -> tuple[float | None, str]:
    where, cell = stack.path, stack.voxel_size
    if cell is None or min(cell[1:]) <= 0:
        return None, f"{where} says 0 Å" if stack.format == "MRC" else f"{where} does not say it"
    if max(cell) - min(cell) > 0.01 * max(cell):
        return (
            None,
            f"{where} says {cell[2]:.4g}, {cell[1]:.4g}, {cell[0]:.4g} Å along x, y, z; expected "
            "equal ones",
        )
    if abs(cell[2] - 1) < 1e-6:
        return None, f"{where} says 1 Å, which programs write when they do not know"
    if cell[2] < 0.3:
        return None, f"{where} says {cell[2]:.4g} Å, too small for a subtomogram (is it nm?)"
    return float(f"{cell[2]:.6g}"), ""


def _by_value(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.isdecimal() else (1, 0, name)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)

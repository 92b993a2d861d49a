"""What a writer accepts as rows and header, brought to the stored types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.store import layout
from cryoet_core.store.statistics import volume_statistics
from cryoet_core.support.errors import UserError

COARSE = 0.01
"""float16 is refused where rounding costs a volume more than this part of its standard deviation
(rms).
"""


class NotRepresentable(UserError):
    """float16 cannot hold these volumes: too large, or varying too little around a large mean."""


def as_boxes(volumes: Any, box: int) -> np.ndarray:
    """Return volumes as (b, box, box, box) of real numbers.

    Parameters
    ----------
    volumes : array_like or torch.Tensor
        (b, d, d, d), (b, 1, d, d, d) or one (d, d, d).
    box : int
        Box size d in voxels.

    Raises
    ------
    UserError
        The volumes have another shape, or hold no real numbers.
    """
    if hasattr(volumes, "detach"):
        volumes = volumes.detach().cpu().numpy()
    array = np.asarray(volumes)
    if array.dtype.kind not in "fiub":
        raise UserError(f"volumes of type {array.dtype}; expected real numbers")
    if array.shape[-3:] != (box,) * 3:
        raise UserError(f"volumes of shape {array.shape}; expected boxes of {box} voxels a side")
    return array.reshape(-1, box, box, box)


def to_stored(
    volumes: np.ndarray, dtype: np.dtype[Any], first: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convert volumes to the stored type, in pieces that fit the cache.

    Parameters
    ----------
    volumes : numpy.ndarray
        (b, d, d, d).
    dtype : numpy.dtype
        float16 or float32.
    first : int
        The number of the first volume, for messages.

    Returns
    -------
    stored : numpy.ndarray
        (b, d, d, d) of ``dtype``.
    mean, std : numpy.ndarray
        (b,) float32, mean and standard deviation of each volume as stored.

    Raises
    ------
    NotRepresentable
        float16 loses too much.
    """
    stored = np.empty(volumes.shape, dtype)
    mean, std = np.empty(len(volumes), np.float32), np.empty(len(volumes), np.float32)
    step = max(1, _PIECE_BYTES // (4 * volumes[0].size))
    for i in range(0, len(volumes), step):
        part = slice(i, i + step)
        with np.errstate(all="ignore"):
            stored[part] = volumes[part]
        mean[part], std[part] = volume_statistics(stored[part])
        if dtype == np.float16 and volumes.dtype != np.float16:
            _refuse_losses(volumes[part], stored[part], first + i)
    return stored, mean, std


_PIECE_BYTES = 1 << 20


def _refuse_losses(volumes: np.ndarray, stored: np.ndarray, first: int) -> None:
    with np.errstate(all="ignore"):
        wide = volumes.astype(np.float32).reshape(len(volumes), -1)
        _, std = volume_statistics(wide)
        wide -= stored.reshape(wide.shape)
        rms = np.sqrt(np.matmul(wide[:, None, :], wide[:, :, None])[:, 0, 0] / wide.shape[1])
        lost = np.flatnonzero(
            (std > 0) & ~(rms <= COARSE * std)
        )  # a NaN or constant volume is judged elsewhere
    if len(lost):
        worst = volumes[lost[0]]
        raise NotRepresentable(
            f"float16 cannot hold volume {first + int(lost[0])} (largest value "
            f"{np.abs(worst).max():g}, "
            f"standard deviation {std[lost[0]]:g}); expected at most 65504 and a spread about the "
            "mean; use float32"
        )


def row_values(
    count: int, classes: int, given: dict[str, Any], extras: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Return what is known of each volume, in the stored types.

    Parameters
    ----------
    count : int
        The number of volumes.
    classes : int
        The number of class names.
    given : dict of str to array_like or None
        ``labels``, ``positions``, ``rotations``, ``tomogram`` and ``split``.
    extras : dict of str to array_like or None
        Further rows, by name.

    Returns
    -------
    dict of str to numpy.ndarray
        Name -> (count, ...), of what is given; labels always.

    Raises
    ------
    UserError
        Another number of rows, or a label without a class name.
    """
    rows = {
        "labels": _labels(given["labels"], count, classes),
        "positions": _shaped(given["positions"], np.float64, (3,)),
        "rotations": _shaped(given["rotations"], np.float32, (3, 3)),
        "tomogram": _names(given["tomogram"], count),
        "split": _split_codes(given["split"]),
    }
    known = {name: value for name, value in rows.items() if value is not None}
    known |= {
        f"extras/{name}": _extra(value) for name, value in extras.items() if value is not None
    }
    for name, value in known.items():
        if len(value) != count:
            raise UserError(f"{len(value)} rows of {name} for {count} volumes; expected as many")
    return known


def check_header(path: Path, box: int, voxel_size: float, sign: int, dtype: str, tilt: Any) -> None:
    """Refuse a header that makes no sense.

    Parameters
    ----------
    path : Path
        The store, for messages.
    box : int
        Box size in voxels.
    voxel_size : float
        Å.
    sign : int
        Density sign.
    dtype : str
        The stored type.
    tilt : (float, float) or None
        Lowest and highest tilt in degrees.

    Raises
    ------
    UserError
        A value is out of range.
    """
    if box < 2:
        raise UserError(f"{path}: box {box}; expected at least 2 voxels")
    if not (np.isfinite(voxel_size) and voxel_size > 0):
        raise UserError(
            f"{path}: voxel size {voxel_size} Å; expected a number above 0 (`voxel_size`)"
        )
    if sign not in (1, -1):
        raise UserError(f"{path}: density sign {sign}; expected 1 (protein bright) or -1 (dark)")
    if dtype not in ("float16", "float32"):
        raise UserError(f"{path}: type {dtype}; expected float16 or float32")
    if tilt is not None and not -90 <= tilt[0] < tilt[1] <= 90:
        raise UserError(
            f"{path}: tilt range {tilt[0]:g} to {tilt[1]:g}; expected rising degrees within -90 to "
            "90"
        )


def _labels(labels: Any, count: int, classes: int) -> np.ndarray:
    values = np.full(count, -1) if labels is None else np.asarray(labels).astype(np.int64)
    if len(values) and not -1 <= values.min() <= values.max() < classes:
        raise UserError(
            f"labels {values.min()} to {values.max()}; expected -1 to {classes - 1}: {classes} "
            "class names"
        )
    return values.astype(np.int32)


def _shaped(values: Any, dtype: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    return None if values is None else np.asarray(values, dtype=dtype).reshape(-1, *shape)


def _names(names: Any, count: int) -> np.ndarray | None:
    if names is None:
        return None
    return np.array(
        [names] * count if isinstance(names, str) else [str(name) for name in names], dtype=object
    )


def _split_codes(split: Any) -> np.ndarray | None:
    if split is None:
        return None
    values = np.asarray(split)
    if values.dtype.kind in "UO":
        values = np.array(
            [layout.SPLITS.index(name) if name in layout.SPLITS else -1 for name in values]
        )
    return values.astype(np.int8)


def _extra(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind == "U" else array

"""Mean and standard deviation of each volume, for standardising and for finding bad volumes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_CHUNK_BYTES = 32 << 20


def volume_statistics(volumes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and population standard deviation of each volume.

    Parameters
    ----------
    volumes : numpy.ndarray
        (n, d, h, w).

    Returns
    -------
    mean, std : numpy.ndarray
        (n,) float32; NaN where a voxel is not finite. The standard deviation of a constant volume
        is exactly 0.

    Examples
    --------
    >>> import numpy as np
    >>> volume_statistics(np.array([[[[1.0, 3.0]]]]))
    (array([2.], dtype=float32), array([1.], dtype=float32))
    """
    with np.errstate(all="ignore"):
        wide = volumes.reshape(len(volumes), -1).astype(np.float32)
        high, low = wide.max(axis=1), wide.min(axis=1)
        # the values of a huge volume are brought near 1 first: their squares would overflow float32
        peak = np.maximum(high, -low)
        scale = np.where(np.isfinite(peak) & (peak > 1e15), peak, np.float32(1))
        if (scale != 1).any():
            wide /= scale[:, None]
        mean = wide.mean(axis=1, dtype=np.float64)
        wide -= mean[:, None].astype(np.float32)
        squares = np.matmul(wide[:, None, :], wide[:, :, None])[:, 0, 0].astype(np.float64)
        std = np.sqrt(squares / wide.shape[1])
        std[high == low] = 0
        bad = ~np.isfinite(mean) | ~np.isfinite(std)
        mean, std = mean * scale, std * scale
    mean[bad] = std[bad] = np.nan
    return mean.astype(np.float32), std.astype(np.float32)


def scan(
    read: Callable[[np.ndarray], np.ndarray], count: int, box: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute ``volume_statistics`` of all volumes, in chunks of bounded memory.

    Parameters
    ----------
    read : callable
        Takes row numbers (m,) and returns those volumes (m, d, d, d).
    count : int
        The number of volumes.
    box : int
        Box size in voxels.

    Returns
    -------
    mean, std : numpy.ndarray
        (count,) float32.
    """
    step = max(1, _CHUNK_BYTES // (4 * box**3))
    parts = [
        volume_statistics(read(np.arange(i, min(i + step, count)))) for i in range(0, count, step)
    ]
    return np.concatenate([mean for mean, _ in parts]), np.concatenate([std for _, std in parts])

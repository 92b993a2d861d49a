"""Boxes cut out of a tomogram about positions between voxels, on a grid of any voxel size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cryoet_core.tomograms import Tomogram

REACH = 5
"""Half width of the kernel, in voxels of the coarser grid."""
_BETA = 5.0
"""Of the Kaiser window: amplitudes are kept to 0.4 % up to 0.3 and to 1.5 % up to 0.35 cycles per
voxel.
"""
_BATCH_BYTES = 64 << 20
_PIECE = 4


def boxes(
    tomogram: Tomogram, positions: np.ndarray, box: int, voxel_size: float | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Cut a box about each position, in batches of bounded memory.

    Values come from a sinc kernel under a Kaiser window, stretched where the boxes are coarser than
    the tomogram, so that finer detail does not fold back. A position on a voxel gives the voxels as
    they are. Beyond the tomogram's faces the outermost voxels are continued (``covered`` says
    where).

    Parameters
    ----------
    tomogram : Tomogram
        The tomogram.
    positions : numpy.ndarray
        (n, 3), Å, axes (z, y, x); voxel box // 2 of each box lies there.
    box : int
        Box size in voxels.
    voxel_size : float, optional
        Å per voxel of the boxes; the tomogram's own without it.

    Yields
    ------
    rows : slice
        Which positions.
    volumes : numpy.ndarray
        (b, box, box, box) float32, protein bright.
    """
    factor = _factor(tomogram, voxel_size)
    reach = REACH * max(factor, 1.0)
    size = int(np.ceil((box - 1) * factor + 2 * reach)) + 1
    first = positions / tomogram.voxel_size - box // 2 * factor
    step = max(1, _BATCH_BYTES // (4 * box**3))
    for start in range(0, len(positions), step):
        rows = slice(start, min(start + step, len(positions)))
        corner = np.floor(first[rows] - reach).astype(np.int64) + 1
        places = (first[rows] - corner)[:, :, None] + np.arange(box) * factor
        weights = _kernel(torch.from_numpy(places), size, max(factor, 1.0))
        volumes = torch.empty(len(corner), box, box, box)
        windows = torch.empty(min(_PIECE, len(corner)), size, size, size)
        for piece in range(0, len(corner), _PIECE):  # small pieces stay in the processor's cache
            part = slice(piece, min(piece + _PIECE, len(corner)))
            for index, place in enumerate(corner[part]):
                windows[index] = torch.from_numpy(_window(tomogram, place, size))
            volumes[part] = _interpolated(windows[: part.stop - part.start], weights[part])
        yield rows, volumes.numpy()


def covered(
    tomogram: Tomogram, position: np.ndarray, box: int, voxel_size: float | None = None
) -> list[np.ndarray]:
    """Return which voxels of a box lie inside the tomogram.

    Parameters
    ----------
    tomogram : Tomogram
        The tomogram.
    position : numpy.ndarray
        (3,), Å, axes (z, y, x).
    box : int
        Box size in voxels.
    voxel_size : float, optional
        Å per voxel of the box; the tomogram's own without it.

    Returns
    -------
    list of numpy.ndarray
        For each axis (box,) bool.
    """
    factor = _factor(tomogram, voxel_size)
    places = position[:, None] / tomogram.voxel_size + (np.arange(box) - box // 2) * factor
    return [
        (line >= -0.5) & (line <= n - 0.5) for line, n in zip(places, tomogram.shape, strict=True)
    ]


def inside(
    tomogram: Tomogram, positions: np.ndarray, box: int, voxel_size: float | None = None
) -> np.ndarray:
    """Return whether the whole box about each position lies in the tomogram.

    Parameters
    ----------
    tomogram : Tomogram
        The tomogram.
    positions : numpy.ndarray
        (n, 3), Å, axes (z, y, x).
    box : int
        Box size in voxels.
    voxel_size : float, optional
        Å per voxel of the boxes; the tomogram's own without it.

    Returns
    -------
    numpy.ndarray
        (n,) bool.
    """
    factor = _factor(tomogram, voxel_size)
    low = positions / tomogram.voxel_size - box // 2 * factor
    high = low + (box - 1) * factor
    return np.asarray(((low >= -0.5) & (high <= np.array(tomogram.shape) - 0.5)).all(axis=1))


def _factor(tomogram: Tomogram, voxel_size: float | None) -> float:
    return 1.0 if voxel_size is None else voxel_size / tomogram.voxel_size


def _window(tomogram: Tomogram, corner: np.ndarray, size: int) -> np.ndarray:
    """Return ``size`` voxels a side from ``corner``; beyond the faces the outermost continue."""
    shape = np.array(tomogram.shape)
    low, high = np.clip(corner, 0, shape - 1), np.clip(corner + size, 1, shape)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    values = tomogram.read((z, y, x))
    if values.shape == (size,) * 3:
        return values
    for axis in range(3):
        wanted = (
            np.clip(np.arange(corner[axis], corner[axis] + size), low[axis], high[axis] - 1)
            - low[axis]
        )
        values = np.take(values, wanted, axis=axis)
    return values


def _kernel(places: Tensor, size: int, stretch: float) -> Tensor:
    """Return weights (b, 3, box, size) of a window's voxels in the box's voxels.

    places (b, 3, box) are in voxels of the window.
    """
    reach = REACH * stretch
    first = (places - reach).floor().long() + 1
    taps = first[..., None] + torch.arange(int(2 * reach) + 1)
    distance = (places[..., None] - taps) / stretch
    ratio = 1 - (distance / REACH) ** 2
    weights = (
        torch.sinc(distance) * torch.special.i0(_BETA * ratio.clamp(min=0).sqrt()) * (ratio > 0)
    )
    weights = (weights / weights.sum(dim=-1, keepdim=True)).float()
    # the last tap may have no weight and lie beyond the window: it is added to another one
    return torch.zeros(*places.shape, size).scatter_add_(-1, taps.clamp(max=size - 1), weights)


def _interpolated(windows: Tensor, weights: Tensor) -> Tensor:
    """Interpolate windows (b, s, s, s) to (b, n, n, n) by weights (b, 3, n, s), axis by axis."""
    b, s = windows.shape[:2]
    n = weights.shape[2]
    along_z = torch.bmm(weights[:, 0], windows.reshape(b, s, s * s)).reshape(b, n, s, s)
    along_y = torch.matmul(weights[:, None, 1], along_z)
    return torch.matmul(along_y, weights[:, None, 2].transpose(-1, -2))

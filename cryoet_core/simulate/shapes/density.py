"""Density maps from atoms, and exact resampling of maps to another voxel size.

Arrays are (z, y, x); a map's origin is voxel n // 2. Lengths are in Å.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def gaussian_width(resolution: float, convention: str = "fourier") -> float:
    """Return the Gaussian that stands for an atom at a resolution.

    Parameters
    ----------
    resolution : float
        In Å.
    convention : str
        ``"fourier"``: resolution / (pi sqrt 2), so that the transform of the Gaussian falls to 1/e
        at 1 / resolution. ``"2sigma"``: resolution / 2.

    Returns
    -------
    float
        Standard deviation in Å.

    Raises
    ------
    ValueError
        The convention is another, or the resolution is not above 0.

    Examples
    --------
    >>> gaussian_width(10.0, "2sigma")
    5.0
    """
    if not resolution > 0:
        raise ValueError(f"resolution is {resolution}, expected more than 0 Å")
    if convention not in ("fourier", "2sigma"):
        raise ValueError(f"resolution convention is {convention!r}, expected 'fourier' or '2sigma'")
    return resolution / (math.pi * math.sqrt(2)) if convention == "fourier" else resolution / 2


def atoms_to_density(positions: Array, weights: Array, voxel_size: float, width: float) -> Array:
    """Sum Gaussians, one for each atom.

    Atoms are binned with trilinear weights, whose kernel is divided out in Fourier space together
    with the convolution, so the voxel size must be at most twice the width for a clean map.

    Parameters
    ----------
    positions : ndarray, shape (n, 3)
        (z, y, x) in Å from the origin.
    weights : ndarray, shape (n,)
        Atomic numbers.
    voxel_size : float
        Å per voxel.
    width : float
        Standard deviation of the Gaussians in Å.

    Returns
    -------
    ndarray, shape (n, n, n)
        Density per Å^3; it sums to the total of the weights over voxel_size^3.
    """
    reach = float(np.abs(positions).max(initial=0)) + 6 * width
    size = _even_fast_size(2 * math.ceil(reach / voxel_size) + 2)
    grid = np.zeros(size**3)
    place = positions / voxel_size + size // 2
    base = np.floor(place).astype(np.int64)
    part = place - base
    for corner in range(8):
        offset = np.array([corner >> 2, corner >> 1 & 1, corner & 1])
        share = np.where(offset == 1, part, 1 - part).prod(axis=1)
        flat = ((base + offset) * np.array([size * size, size, 1])).sum(axis=1)
        grid += np.bincount(flat, weights=weights * share, minlength=size**3)
    spectrum = np.fft.rfftn(grid.reshape((size,) * 3))
    for axis, n in enumerate((size, size, size // 2 + 1)):
        frequency = np.arange(n) if axis == 2 else np.fft.fftfreq(size) * size
        line = (
            np.exp(-2 * (math.pi * width * frequency / (size * voxel_size)) ** 2)
            / np.sinc(frequency / size) ** 2
        )
        spectrum *= line.reshape([-1 if a == axis else 1 for a in range(3)])
    density: Array = np.fft.irfftn(spectrum, s=(size,) * 3, axes=(0, 1, 2)) / voxel_size**3
    return density


def resample(
    density: NDArray[np.floating], voxel_size: float, target: float, centre: Array | None = None
) -> Array:
    """Resample a map to another voxel size, into a box that holds all of it.

    Band-limited interpolation, exact for any ratio: low-passed in Fourier space to the coarser of
    the two Nyquist frequencies (with a cosine edge over its last tenth), then summed as a Fourier
    series at the new points, one axis after another. Values keep their scale. Points outside the
    map are 0.

    Parameters
    ----------
    density : ndarray, shape (z, y, x)
        The map.
    voxel_size : float
        Å per voxel of the map.
    target : float
        Å per voxel of the result.
    centre : ndarray, shape (3,), optional
        The point of the map, in voxels (z, y, x), that comes to n // 2.

    Returns
    -------
    ndarray, shape (n, n, n)
        The resampled map.
    """
    sides = density.shape
    at = (
        np.array([n // 2 for n in sides], dtype=float)
        if centre is None
        else np.asarray(centre, dtype=float)
    )
    reach = max(max(c, n - 1 - c) for c, n in zip(at, sides, strict=True)) * voxel_size / target
    size = 2 * math.ceil(reach) + 2
    values: Array = (
        _lowpass(density, voxel_size, target) if target > voxel_size else density.astype(np.float64)
    )
    for axis, n in enumerate(sides):
        points = (np.arange(size) - size // 2) * (target / voxel_size) + at[axis]
        values = np.moveaxis(
            np.tensordot(_fourier_series(points, n), values, axes=(1, axis)), 0, axis
        )
    return values


def _lowpass(density: NDArray[np.floating], voxel_size: float, target: float) -> Array:
    squares: Any = 0.0
    for axis, n in enumerate(density.shape):
        frequency = np.fft.rfftfreq(n, voxel_size) if axis == 2 else np.fft.fftfreq(n, voxel_size)
        squares = squares + frequency.reshape([-1 if a == axis else 1 for a in range(3)]) ** 2
    relative = np.sqrt(squares) * 2 * target  # 1 at the new Nyquist frequency
    window = 0.5 + 0.5 * np.cos(math.pi * np.clip((relative - 0.9) / 0.1, 0, 1))
    low: Array = np.fft.irfftn(np.fft.rfftn(density) * window, s=density.shape, axes=(0, 1, 2))
    return low


def _fourier_series(points: Array, n: int) -> Array:
    """(len(points), n): weights that give the periodic band-limited function through n samples at
    ``points``.
    """
    offset = points[:, None] - np.arange(n)[None, :]
    top = (n - 1) // 2
    kernel = np.ones_like(offset)
    for frequency in range(1, top + 1):
        kernel += 2 * np.cos(2 * math.pi * frequency * offset / n)
    if n % 2 == 0:
        kernel += np.cos(math.pi * offset)
    kernel[(points < -0.5) | (points > n - 0.5)] = 0
    return kernel / n


def trim(density: Array, threshold: float) -> Array:
    """Cut out the smallest centred box with every value above ``threshold``, plus two voxels.

    Parameters
    ----------
    density : ndarray, shape (n, n, n)
        A map about voxel n // 2.
    threshold : float
        Values up to it may be cut away.

    Returns
    -------
    ndarray, shape (m, m, m)
        The part, about voxel m // 2.
    """
    where = np.argwhere(density > threshold)
    centre = np.array([n // 2 for n in density.shape])
    reach = int(np.abs(where - centre).max(initial=0)) + 2
    out = np.zeros((2 * reach + 2,) * 3)
    out_centre = reach + 1
    source, target = [], []
    for c, n in zip(centre, density.shape, strict=True):
        low, high = max(0, c - reach), min(n, c + reach + 1)
        source.append(slice(low, high))
        target.append(slice(low - c + out_centre, high - c + out_centre))
    out[tuple(target)] = density[tuple(source)]
    return out


def _even_fast_size(n: int) -> int:
    """The next even size whose transform is fast: factors 2, 3 and 5 only."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1 and n % 2 == 0:
            return n
        n += 1

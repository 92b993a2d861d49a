"""Central slices of volumes as small grey PNG images inside the page."""

from __future__ import annotations

import base64
import io

import numpy as np

SMOOTHING = 1.0
"""Standard deviation in voxels of the Gaussian that particles are smoothed with for the eye."""
_WIDEST = 36
"""Slices of particles are shrunk to at most this many pixels."""


def central_slices(volume: np.ndarray) -> list[np.ndarray]:
    """Return the slices through voxel n // 2.

    Parameters
    ----------
    volume : ndarray, shape (z, y, x)
        A volume.

    Returns
    -------
    list of ndarray
        Across z (y, x), across y (z, x), across x (z, y).
    """
    z, y, x = (n // 2 for n in volume.shape)
    return [volume[z], volume[:, y], volume[:, :, x]]


def smoothed_slices(volumes: np.ndarray, sigma: float = SMOOTHING) -> list[np.ndarray]:
    """Return the central slices of volumes smoothed in 3-D by a Gaussian.

    Only what reaches the slices is computed: the weighted sum over the planes near the centre, then
    the two axes left.

    Parameters
    ----------
    volumes : ndarray, shape (b, d, h, w)
        Volumes.
    sigma : float
        Standard deviation in voxels.

    Returns
    -------
    list of ndarray, shape (b, p, p) each
        Across z, y and x.
    """
    from scipy.ndimage import gaussian_filter1d

    reach = max(1, round(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    slices = []
    for axis in (1, 2, 3):
        middle = volumes.shape[axis] // 2
        planes = np.arange(middle - reach, middle + reach + 1)
        inside = (planes >= 0) & (planes < volumes.shape[axis])
        slab = np.moveaxis(np.take(volumes, planes[inside], axis=axis), axis, -1).astype(np.float32)
        plane = slab @ (weights[inside] / weights[inside].sum()).astype(np.float32)
        slices.append(gaussian_filter1d(gaussian_filter1d(plane, sigma, axis=1), sigma, axis=2))
    return slices


def strip(slices: list[np.ndarray], levels: int = 256, shrink: bool = False) -> str:
    """Draw slices side by side on one grey scale, with a column of white between.

    Black is the 1st and white the 99.5th percentile.

    Parameters
    ----------
    slices : list of ndarray
        Slices of one height.
    levels : int
        Grey levels; below 256 the file is smaller.
    shrink : bool
        Whether to make the picture smaller.

    Returns
    -------
    str
        A ``data:image/png`` address.
    """
    from PIL import Image

    if shrink:
        slices = [_shrunk(plane) for plane in slices]
    values = np.concatenate([plane.ravel() for plane in slices])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (1, 99.5)) if len(values) else (0.0, 1.0)
    scale = (levels - 1) / (high - low) if high > low else 0.0
    height = max(plane.shape[0] for plane in slices)
    columns = []
    for i, plane in enumerate(slices):
        grey = np.full((height, plane.shape[1] + (i > 0)), levels - 1, np.float32)
        grey[: plane.shape[0], grey.shape[1] - plane.shape[1] :] = np.clip(
            np.nan_to_num(plane - low) * scale, 0, levels - 1
        )
        columns.append(grey)
    pixels = np.rint(np.concatenate(columns, axis=1)) * (255 / (levels - 1))
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _shrunk(plane: np.ndarray) -> np.ndarray:
    from PIL import Image

    factor = _WIDEST / max(plane.shape)
    if factor >= 1:
        return plane
    shape = (max(1, round(plane.shape[1] * factor)), max(1, round(plane.shape[0] * factor)))
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize(shape, Image.Resampling.BOX))

"""Find particle centres in labelled voxels: connected parts of one class that are large enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def take_parts(
    labels: np.ndarray, own: np.ndarray, least: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the connected parts of each class that are large enough.

    Parameters
    ----------
    labels : np.ndarray
        Labels (d, h, w): 0 background, else 1 + class. Smaller parts become background in it.
    own : np.ndarray
        Probability (d, h, w) of a voxel's label, which weighs the voxels and whose mean is a
        part's score.
    least : Sequence[float]
        Voxels of the smallest part that counts, for each class.

    Returns
    -------
    tuple[np.ndarray, np.ndarray, np.ndarray]
        Centres of mass (n, 3) in voxels, scores (n,) and classes (n,) from 0.
    """
    positions, scores, classes = [np.zeros((0, 3))], [np.zeros(0)], [np.zeros(0, np.int64)]
    weights = own.astype(np.float32)
    for index, smallest in enumerate(least):
        parts, count = ndimage.label(labels == index + 1)
        large = np.bincount(parts.ravel(), minlength=count + 1) >= smallest
        large[0] = True  # what is not of this class
        labels[~large[parts]] = 0
        kept = np.flatnonzero(large[1:]) + 1
        if len(kept):
            positions.append(np.array(ndimage.center_of_mass(weights, parts, kept)).reshape(-1, 3))
            scores.append(np.asarray(ndimage.mean(weights, parts, kept), dtype=np.float64))
            classes.append(np.full(len(kept), index))
    return np.concatenate(positions), np.concatenate(scores), np.concatenate(classes)

"""From labelled voxels to particle centres: connected parts of one class that are large enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def centres(labels: np.ndarray, own: np.ndarray, least: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres of mass (n, 3) in voxels, scores (n,) and classes (n,) from 0 of the connected parts of each class.

    labels (d, h, w): 0 background, else 1 + class; own (d, h, w): the probability of a voxel's label, which weighs the
    voxels and whose mean is a part's score. least: voxels of the smallest part that counts, for each class.
    """
    positions, scores, classes = [np.zeros((0, 3))], [np.zeros(0)], [np.zeros(0, np.int64)]
    for index, smallest in enumerate(least):
        parts, count = ndimage.label(labels == index + 1)
        if not count:
            continue
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        large = np.flatnonzero(sizes >= smallest) + 1
        if not len(large):
            continue
        weights = own.astype(np.float32)
        positions.append(np.array(ndimage.center_of_mass(weights, parts, large)).reshape(-1, 3))
        scores.append(np.asarray(ndimage.mean(weights, parts, large), dtype=np.float64))
        classes.append(np.full(len(large), index))
    return np.concatenate(positions), np.concatenate(scores), np.concatenate(classes)

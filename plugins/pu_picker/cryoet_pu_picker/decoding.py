"""From heat maps to picks: their peaks, and of peaks that are too close only the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cryoet_core.algorithms.peaks import find_peaks
from cryoet_pu_picker.network import STRIDE


def centres(
    scores: np.ndarray,
    voxel_size: float,
    diameters: Sequence[float],
    thresholds: Sequence[float],
    spacing: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (n, 3) in Å, scores (n,) and species (n,) of the peaks of heat maps (c, d, h, w),
    best first.

    Picks have at least the threshold of their species; of any two species they are at least
    ``spacing`` times the mean of their diameters apart.
    """
    positions, values, species = [], [], []
    for channel, (map_, threshold) in enumerate(zip(scores, thresholds, strict=True)):
        found, heights = find_peaks(map_, distance=0.0, threshold=threshold)
        # the cell j of an axis with stride s covers voxels s j to s j + s - 1
        voxels = found * np.array(STRIDE) + (np.array(STRIDE) - 1) / 2
        positions.append(voxels * voxel_size)
        values.append(heights)
        species.append(np.full(len(heights), channel))
    place, value, kind = np.concatenate(positions), np.concatenate(values), np.concatenate(species)
    order = np.argsort(-value, kind="stable")
    place, value, kind = place[order], value[order], kind[order]
    kept = apart(place, spacing * np.asarray(diameters)[kind])
    return place[kept], value[kept], kind[kept]


def apart(positions: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Rows that stay when, from the first on, each removes later ones nearer than the mean of both
    distances.
    """
    from scipy.spatial import cKDTree

    alive = np.ones(len(positions), dtype=bool)
    if not len(positions):
        return alive.nonzero()[0]
    tree = cKDTree(positions)
    widest = distances.max()
    for row in range(len(positions)):
        if alive[row]:
            near = np.asarray(tree.query_ball_point(positions[row], (distances[row] + widest) / 2))
            gaps = np.linalg.norm(positions[near] - positions[row], axis=1)
            close = near[(gaps < (distances[row] + distances[near]) / 2) & (near > row)]
            alive[close] = False
    return alive.nonzero()[0]

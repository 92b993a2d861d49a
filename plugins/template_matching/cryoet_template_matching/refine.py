"""Better rotations and positions at candidates: ever smaller steps about the best so far, all
candidates together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoet_template_matching.matcher import FLAT, Matcher
from cryoet_template_matching.rotations import neighbours

LEVELS = 3
"""The step is halved so often: from 15 degrees down to 2."""
BYTES = 1 << 28


@dataclass(frozen=True)
class Refined:
    """positions (n, 3) in voxels, rotations (n, 3, 3), scores (n,)."""

    positions: NDArray[np.float64]
    rotations: NDArray[np.float64]
    scores: NDArray[np.float32]


def refine(
    matcher: Matcher,
    volume: NDArray[np.float32],
    positions: NDArray[np.float64],
    rotations: Tensor,
    step: float,
) -> Refined:
    """Climb from each position (n, 3) and rotation (n, 3, 3) of a search with ``step`` degrees.

    volume (d, h, w): as searched, filtered. At each level the scores of 15 rotations at 27 voxels
    are compared; at the last the position is the maximum of a quadratic through the three voxels of
    each axis.
    """
    each = (27 + 15) * matcher.edge**3 * 4 * 4
    piece = max(1, BYTES // each)
    parts = [
        _climb(
            matcher,
            volume,
            positions[start : start + piece],
            rotations[start : start + piece],
            step,
        )
        for start in range(0, len(positions), piece)
    ]
    return Refined(*(np.concatenate(some) for some in zip(*parts, strict=True)))


def _climb(
    matcher: Matcher,
    volume: NDArray[np.float32],
    positions: NDArray[np.float64],
    rotations: Tensor,
    step: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    places = np.rint(positions).astype(np.int64)
    turns, rows = rotations.to(matcher.device), torch.arange(len(rotations), device=matcher.device)
    for level in range(1, LEVELS + 1):
        tried = neighbours(step / 2**level).to(matcher.device) @ turns[:, None]
        scores = _scores(matcher, _patches(volume, places, matcher.half + 1), tried)
        best = scores.flatten(1).argmax(dim=1)
        turns = tried[rows, best // 27]
        shift = (best % 27).cpu().numpy()
        if level < LEVELS:
            places = places + np.stack(np.unravel_index(shift, (3, 3, 3)), axis=1) - 1
            places = np.clip(places, 0, np.array(volume.shape) - 1)
    around = scores[rows, best // 27].reshape(-1, 3, 3, 3).double().cpu().numpy()
    middle = np.stack(np.unravel_index(shift, (3, 3, 3)), axis=1)
    moved = places + middle - 1 + _vertex(around, middle)
    return moved, turns.double().cpu().numpy(), scores.flatten(1).amax(dim=1).cpu().numpy()


def _patches(volume: NDArray[np.float32], places: NDArray[np.int64], half: int) -> Tensor:
    """(n, m, m, m) about each place; beyond the faces mirrored at the outermost voxels, as in the
    search.
    """
    line = np.arange(-half, half + 1)
    index = []
    for axis, size in enumerate(volume.shape):
        at = places[:, axis, None] + line
        period = max(2 * (size - 1), 1)
        index.append(np.minimum(at % period, -at % period))
    z, y, x = index
    return torch.from_numpy(
        np.ascontiguousarray(volume[z[:, :, None, None], y[:, None, :, None], x[:, None, None]])
    )


def _scores(matcher: Matcher, patches: Tensor, rotations: Tensor) -> Tensor:
    """(n, k, 27): the score of k rotations for each patch, its template moved by -1, 0 and 1 voxel
    along each axis.
    """
    n, k = rotations.shape[:2]
    m = matcher.edge
    moved = (
        patches.to(matcher.device)
        .unfold(1, m, 1)
        .unfold(2, m, 1)
        .unfold(3, m, 1)
        .reshape(n, 27, m**3)
    )
    templates = matcher.templates(rotations.flatten(0, 1)).reshape(n, k, m**3)
    mask = matcher.mask.reshape(m**3)
    mean, square = moved @ mask / matcher.weight, moved.square() @ mask / matcher.weight
    deviation = (square - mean.square()).clamp(min=FLAT**2).sqrt()
    return templates @ moved.transpose(1, 2) / deviation[:, None]


def _vertex(around: NDArray[np.float64], middle: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, 3): from the best of 3^3 scores to the maximum of a parabola along each axis, at most
    half a voxel.

    0 along an axis where the best lies at the end.
    """
    rows = np.arange(len(around))
    found = np.zeros((len(around), 3))
    for axis in range(3):
        low, high = middle.copy(), middle.copy()
        low[:, axis], high[:, axis] = 0, 2
        at_low, at_high, at_middle = (rows, *low.T), (rows, *high.T), (rows, *middle.T)
        below, above = around[at_low], around[at_high]
        bend = below + above - 2 * around[at_middle]
        inside = (middle[:, axis] == 1) & (bend < 0)
        found[:, axis] = np.where(inside, (below - above) / (2 * np.where(inside, bend, -1)), 0)
    return np.clip(found, -0.5, 0.5)

"""Peaks of a score map: regional maxima, one for a plateau, thinned to a distance, refined below
the voxel.

And the value that parts strong peaks from weak ones.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Positions: TypeAlias = NDArray[np.float64]
Values: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.int64]

SLAB = 1 << 22  # voxels that are looked at together
BLOCK = 1 << 16  # candidates whose neighbourhoods are looked at together
PAIRS = 2048  # candidates that are compared with each other at once
BRIGHTEST = (
    0.05  # share of the peaks that count as equal where strong and weak ones are parted: gold beads
)
REACH = 0.87  # voxels that refinement may move a peak: half the diagonal of a voxel


def find_peaks(
    scores: Tensor | NDArray[Any],
    *,
    distance: float,
    threshold: float,
    limit: int | None = None,
    border: tuple[int, int, int] = (0, 0, 0),
    subvoxel: bool = True,
) -> tuple[Positions, Values]:
    """Positions (n, 3) in voxels (z, y, x) and values (n,) of the peaks of a map (d, h, w), best
    first.

    A peak is a regional maximum over the 26 neighbours with a value of at least ``threshold``; a
    plateau of equal values is one, at its voxel nearest to its middle, and a map that is constant
    has none. From the best on, each peak removes those nearer than ``distance`` voxels, so what is
    returned is that far apart; equal values are taken in the order of their voxels. Voxels nearer
    than ``border`` to a face and voxels of -inf (masked out) are no peaks. With ``subvoxel`` the
    maximum of the quadratic through the neighbourhood is the position, at most half a voxel away
    along each axis; values stay those of the voxel. ``limit``: the best so many. Beside the map it
    takes a byte for each voxel, five where plateaus occur. ValueError for NaN or another shape.
    """
    if scores.ndim != 3:
        raise ValueError(f"find_peaks: the map has shape {tuple(scores.shape)}, expected (d, h, w)")
    volume = scores if isinstance(scores, Tensor) else _shared(scores)
    flat = volume.reshape(-1)
    found = _candidates(volume, threshold)
    found = _one_per_plateau(flat, found, tuple(volume.shape))
    places = np.stack(np.unravel_index(found, tuple(volume.shape)), axis=1)
    size = np.array(volume.shape)
    found = found[((places >= border) & (places < size - border)).all(axis=1)]
    values = flat[torch.from_numpy(found).to(flat.device)].float().cpu().numpy()
    order = np.argsort(-values, kind="stable")
    return _thinned(
        flat, found[order], values[order], tuple(volume.shape), distance, limit, subvoxel
    )


def parting_value(values: NDArray[Any]) -> float:
    """The cut that parts values of peaks (n,) best in two: the variance between the parts is
    largest (Otsu 1979).

    The brightest twentieth counts as equal, so that a few gold beads are no part of their own; -inf
    for n < 2.
    """
    rising = np.sort(np.asarray(values, dtype=np.float64))
    if len(rising) < 2:
        return -np.inf
    rising = np.minimum(rising, rising[len(rising) - 1 - int(BRIGHTEST * len(rising))])
    below = np.arange(1, len(rising))
    total = np.cumsum(rising)
    gap = total[:-1] / below - (total[-1] - total[:-1]) / (len(rising) - below)
    cut = int(np.argmax(below * (len(rising) - below) * gap**2))
    return float(rising[cut] + rising[cut + 1]) / 2


def _shared(array: NDArray[Any]) -> Tensor:
    """The array as a tensor without a copy, even where it is a map of a file that may only be
    read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array))


def _candidates(volume: Tensor, threshold: float) -> Indices:
    """Flat indices of the voxels that no neighbour exceeds."""
    d, h, w = volume.shape
    thick = max(1, SLAB // (h * w))
    found = []
    for start in range(0, d, thick):
        low, high = max(start - 1, 0), min(start + thick + 1, d)
        piece = volume[low:high].float()
        if bool(piece.isnan().any()):
            raise ValueError("find_peaks: the map holds NaN")
        best = piece
        for axis in range(3):
            best = _widest(best, axis)
        kept = (piece >= best) & (piece >= threshold) & (piece > -torch.inf)
        inside = kept[start - low : start - low + thick].reshape(-1)
        found.append(inside.nonzero()[:, 0].cpu().numpy() + start * h * w)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _widest(values: Tensor, axis: int) -> Tensor:
    """The maximum over each voxel and its two neighbours along an axis."""
    n = values.shape[axis]
    if n == 1:
        return values
    pairs = torch.maximum(values.narrow(axis, 0, n - 1), values.narrow(axis, 1, n - 1))
    middle = torch.maximum(pairs.narrow(axis, 0, n - 2), pairs.narrow(axis, 1, n - 2))
    return torch.cat((pairs.narrow(axis, 0, 1), middle, pairs.narrow(axis, n - 2, 1)), dim=axis)


def _neighbours(found: Indices, shape: tuple[int, ...]) -> tuple[Indices, NDArray[np.bool_]]:
    """(m, 27) flat indices around each voxel, itself at 13, and which of them lie in the map."""
    places = np.stack(np.unravel_index(found, shape), axis=1)
    around = places[:, None] + (np.indices((3, 3, 3)).reshape(3, 27).T - 1)
    inside = ((around >= 0) & (around < np.array(shape))).all(axis=2)
    flat = around @ np.array([shape[1] * shape[2], shape[2], 1])
    return np.where(inside, flat, found[:, None]), inside


def _suspects(flat: Tensor, found: Indices, shape: tuple[int, ...]) -> Indices:
    """Rows of candidates that may touch an equal voxel: lines are taken to go on at the faces, so
    some do not.
    """
    places = torch.from_numpy(found).to(flat.device)
    values, equal = flat[places], torch.zeros(len(found), dtype=torch.bool, device=flat.device)
    for offset in (np.indices((3, 3, 3)).reshape(3, 27).T - 1) @ np.array(
        [shape[1] * shape[2], shape[2], 1]
    ):
        if offset:
            equal |= flat[(places + int(offset)).clamp(0, flat.numel() - 1)] == values
    return equal.nonzero()[:, 0].cpu().numpy()


def _one_per_plateau(flat: Tensor, found: Indices, shape: tuple[int, ...]) -> Indices:
    """Of candidates that touch (and so are equal) the middle one; none where an equal neighbour is
    no candidate.
    """
    if len(found) == flat.numel():
        return found[:0]
    suspects = _suspects(flat, found, shape)
    if not len(suspects):
        return found
    mask = np.zeros(flat.numel(), dtype=bool)
    mask[found] = True
    terrace = np.zeros(len(found), bool)
    for start in range(0, len(suspects), BLOCK):
        rows = suspects[start : start + BLOCK]
        around, inside = _neighbours(found[rows], shape)
        values = flat[torch.from_numpy(around).to(flat.device)].cpu().numpy()
        terrace[rows] = (inside & (values == values[:, 13:14]) & ~mask[around]).any(axis=1)
    from scipy.ndimage import label

    labels, count = label(mask.reshape(shape), np.ones((3, 3, 3)))
    group = labels.reshape(-1)[found] - 1
    spoilt = np.bincount(group[terrace], minlength=count) > 0
    sizes = np.bincount(group, minlength=count)
    places = np.stack(np.unravel_index(found, shape), axis=1)
    sums = [np.bincount(group, weights=axis, minlength=count) for axis in places.T]
    away = ((places - (np.stack(sums, axis=1) / sizes[:, None])[group]) ** 2).sum(axis=1)
    order = np.lexsort((found, away, group))
    first = order[np.unique(group[order], return_index=True)[1]]
    return np.sort(found[first[~spoilt]])


def _thinned(
    flat: Tensor,
    found: Indices,
    values: Values,
    shape: tuple[int, ...],
    distance: float,
    limit: int | None,
    subvoxel: bool,
) -> tuple[Positions, Values]:
    """From the best on, what is not nearer than ``distance`` to what has been kept."""
    wanted = len(found) if limit is None else limit
    kept, kept_values = np.zeros((0, 3)), np.zeros(0, np.float32)
    start, many = 0, PAIRS
    while start < len(found) and len(kept) < wanted:
        rows = np.arange(start, min(start + many, len(found)))
        places = np.stack(np.unravel_index(found[rows], shape), axis=1).astype(np.float64)
        # what is so near that no refinement can move it away need not be refined
        far = _away(kept, places, distance - REACH)
        rows, places = rows[far], places[far]
        if subvoxel:
            places += _offsets(flat, found[rows], shape)
        for part in range(0, len(rows), PAIRS):
            some = np.arange(part, min(part + PAIRS, len(rows)))
            some = some[_away(kept, places[some], distance)]
            some = some[far_apart(places[some], distance)]
            kept = np.concatenate((kept, places[some]))
            kept_values = np.concatenate((kept_values, values[rows[some]]))
        start, many = start + many, min(2 * many, BLOCK)
    return kept[:wanted], kept_values[:wanted]


def _away(kept: Positions, places: Positions, distance: float) -> NDArray[np.bool_]:
    """Which places are not nearer than ``distance`` to any that is kept."""
    from scipy.spatial import cKDTree

    if len(kept) == 0 or distance <= 0:
        return np.ones(len(places), bool)
    far: NDArray[np.bool_] = (
        cKDTree(kept).query(places, distance_upper_bound=distance)[0] >= distance
    )
    return far


def far_apart(places: Positions, distance: float) -> Indices:
    """Rows of places (n, 3), best first, that stay when each removes those nearer than ``distance``
    after it.
    """
    from scipy.spatial import cKDTree

    alive = np.ones(len(places), bool)
    if distance <= 0 or len(places) < 2:
        return alive.nonzero()[0]
    pairs = cKDTree(places).query_pairs(distance, output_type="ndarray")
    gaps = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
    pairs = pairs[gaps < distance]
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    edges = np.searchsorted(pairs[:, 0], np.arange(len(places) + 1))
    for row in np.unique(pairs[:, 0]):
        if alive[row]:
            alive[pairs[edges[row] : edges[row + 1], 1]] = False
    return alive.nonzero()[0]


def _offsets(flat: Tensor, found: Indices, shape: tuple[int, ...]) -> Positions:
    """(m, 3): from each voxel to the maximum of the quadratic through its neighbourhood, within
    half a voxel.

    Second derivatives are central differences, exact for a quadratic. Where it has no maximum
    nearby, each axis is fit alone; along an axis where a neighbour is missing or masked out nothing
    moves.
    """
    around, inside = _neighbours(found, shape)
    values = flat[torch.from_numpy(around).to(flat.device)].double().cpu().numpy()
    known = inside & np.isfinite(values)
    cube = np.where(known, values, values[:, 13:14]).reshape(-1, 3, 3, 3)
    known = known.reshape(-1, 3, 3, 3)
    slope, bend = np.zeros((len(found), 3)), np.zeros((len(found), 3, 3))
    for axis in range(3):
        below, above = _at(axis, 0), _at(axis, 2)
        whole = known[below] & known[above]
        slope[:, axis] = np.where(whole, (cube[above] - cube[below]) / 2, 0)
        bend[:, axis, axis] = np.where(whole, cube[above] + cube[below] - 2 * cube[:, 1, 1, 1], -1)
        for other in range(axis):
            corners = [_at(axis, a, other, b) for a in (0, 2) for b in (0, 2)]
            low, mixed, mixed2, high = (cube[corner] for corner in corners)
            whole = np.logical_and.reduce([known[corner] for corner in corners])
            bend[:, axis, other] = bend[:, other, axis] = np.where(
                whole, (low + high - mixed - mixed2) / 4, 0
            )
    diagonal = np.diagonal(bend, axis1=1, axis2=2)
    alone = np.where(diagonal < 0, -slope / np.where(diagonal < 0, diagonal, -1), 0)
    scale = np.abs(diagonal).max(axis=1, initial=1e-300)
    unit = bend / scale[:, None, None]
    minor = unit[:, 0, 0] * unit[:, 1, 1] - unit[:, 0, 1] ** 2
    whole = (unit[:, 0, 0] < 0) & (minor > 1e-6) & (np.linalg.det(unit) < -1e-6)
    unit[~whole] = -np.eye(3)
    together = np.linalg.solve(unit, -(slope / scale[:, None])[:, :, None])[:, :, 0]
    whole &= (np.abs(together) <= 1).all(axis=1)
    moved: Positions = np.clip(np.where(whole[:, None], together, alone), -0.5, 0.5)
    return moved


def _at(axis: int, place: int, other: int | None = None, other_place: int = 1) -> tuple[Any, ...]:
    """Index of the neighbour at ``place`` (0, 1, 2) along one axis, and at ``other_place`` along
    another.
    """
    index: list[Any] = [1, 1, 1]
    index[axis] = place
    if other is not None:
        index[other] = other_place
    return (slice(None), *index)

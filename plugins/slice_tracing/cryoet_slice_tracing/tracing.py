"""Detections in slices to particles: linked from slice to slice by gated assignment, z treated as
time.

As in particle tracking (Crocker and Grier 1996, doi 10.1006/jcis.1996.0217): the links between two
slices are those of the smallest total squared displacement, none longer than the search range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True)
class Detections:
    """z (n,) slices, places (n, 2) y and x in voxels, confidence (n,)."""

    z: np.ndarray
    places: np.ndarray
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.z)


def link(found: Detections, search_range: float, memory: int) -> list[list[int]]:
    """Traces: rows of ``found`` by rising z, no row in two. A trace may miss ``memory`` slices in a
    row.
    """
    closed: list[list[int]] = []
    open_: list[list[int]] = []
    order = np.lexsort((found.places[:, 1], found.places[:, 0], found.z))
    for z in np.unique(found.z):
        still = [trace for trace in open_ if z - found.z[trace[-1]] <= memory + 1]
        closed += [trace for trace in open_ if z - found.z[trace[-1]] > memory + 1]
        here = order[found.z[order] == z]
        pairs = _assigned(
            found.places[[trace[-1] for trace in still]], found.places[here], search_range
        )
        for trace, row in pairs:
            still[trace].append(int(here[row]))
        taken = {row for _, row in pairs}
        open_ = still + [[int(row)] for place, row in enumerate(here) if place not in taken]
    return closed + open_


def _assigned(ends: np.ndarray, starts: np.ndarray, reach: float) -> list[tuple[int, int]]:
    """Pairs (trace, detection) within reach of the smallest total squared distance; an unlinked end
    counts reach².
    """
    if not len(ends) or not len(starts):
        return []
    squared = ((ends[:, None] - starts[None]) ** 2).sum(-1)
    gain = np.minimum(squared - reach**2, 0.0)
    rows, columns = linear_sum_assignment(gain)
    return [(int(a), int(b)) for a, b in zip(rows, columns, strict=True) if gain[a, b] < 0]


def centres(
    found: Detections, traces: Sequence[Sequence[int]], min_length: float, max_length: float
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (m, 3) z, y, x in voxels and scores (m,), the mean confidence, of the traces that
    are long enough.

    Lengths count slices. A trace that is too long shows several particles above each other and is
    split evenly. The position is the mean weighted by confidence: the plain mean is biased where a
    trace is cut off at one end.
    """
    positions, scores = [], []
    for trace in traces:
        extent = found.z[trace[-1]] - found.z[trace[0]] + 1
        for part in _split(np.array(trace), found.z, max(1, int(np.ceil(extent / max_length)))):
            if not len(part) or found.z[part[-1]] - found.z[part[0]] + 1 < min_length:
                continue
            weight = found.confidence[part] / found.confidence[part].sum()
            place = np.concatenate([found.z[part, None], found.places[part]], axis=1)
            positions.append(weight @ place)
            scores.append(found.confidence[part].mean())
    return np.array(positions).reshape(-1, 3), np.array(scores, dtype=np.float32)


def _split(trace: np.ndarray, z: np.ndarray, parts: int) -> list[np.ndarray]:
    """A trace in pieces that cover equally many slices."""
    first, last = z[trace[0]], z[trace[-1]]
    which = np.minimum((z[trace] - first) * parts // (last - first + 1), parts - 1)
    return [trace[which == part] for part in range(parts)]

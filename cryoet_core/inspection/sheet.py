"""Contact sheets: slices of picks side by side, and the average of each group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryoet_core.particles.cutting import boxes
from cryoet_core.picks.table import Picks
from cryoet_core.report.drawing import images
from cryoet_core.tomograms import Tomograms

SHOWN, AVERAGED = 24, 200
COLUMNS = 12
_ACROSS = 1.7
"""Width of a box in diameters."""
_LEAST, _MOST = 12, 48
_CUT = 4.0
"""Half widths of the distribution above its middle at which a sheet's grey scale ends."""


@dataclass(frozen=True)
class SheetGroup:
    """Picks of one kind.

    Attributes
    ----------
    title : str
        The heading.
    scores : numpy.ndarray
        (n,), one for each tile.
    tiles : numpy.ndarray
        (n, p, p), slices across z, smoothed for the eye.
    average : numpy.ndarray
        (p, p, p), the mean of the first ``averaged`` picks.
    averaged : int
        The number of picks in the average.
    voxel_size : float
        Å.
    """

    title: str
    scores: np.ndarray
    tiles: np.ndarray
    average: np.ndarray
    averaged: int
    voxel_size: float


def groups(tomograms: Tomograms, picks: Picks, diameter: float) -> list[SheetGroup]:
    """Group picks by score: best, middle and worst; one random group where scores say nothing.

    Parameters
    ----------
    tomograms : Tomograms
        The tomograms.
    picks : Picks
        The picks; those outside of their tomogram are left out.
    diameter : float
        Å, of the particle.

    Returns
    -------
    list of SheetGroup
        Empty where no pick lies inside.
    """
    inside = np.zeros(len(picks), bool)
    for tomogram in tomograms:
        at = picks.positions
        inside |= (picks.tomograms == tomogram.name) & ((at >= 0) & (at <= tomogram.extent)).all(
            axis=1
        )
    rows = np.flatnonzero(inside)
    if not len(rows):
        return []
    known = rows[np.isfinite(picks.scores[rows])]
    if len(known) < 3 or np.ptp(picks.scores[known]) == 0:
        drawn = np.random.default_rng(0).permutation(rows)
        return [
            _group(
                "Picks, drawn at random" if len(rows) > SHOWN else "All picks",
                tomograms,
                picks,
                drawn,
                diameter,
            )
        ]
    order = known[np.argsort(-picks.scores[known], kind="stable")]
    third = max(1, len(order) // 3)
    middle = order[np.argsort(np.abs(np.arange(len(order)) - len(order) // 2), kind="stable")]
    named = (("Best", order[:third]), ("Middle", middle[:third]), ("Worst", order[::-1][:third]))
    return [
        _group(f"{name} by score", tomograms, picks, chosen, diameter) for name, chosen in named
    ]


def _group(
    title: str, tomograms: Tomograms, picks: Picks, rows: np.ndarray, diameter: float
) -> SheetGroup:
    """Make a group: the first ``SHOWN`` rows as tiles, the average over the first ``AVERAGED``."""
    rows = rows[:AVERAGED]
    own = max(tomogram.voxel_size for tomogram in tomograms)
    voxel = max(own, _ACROSS * diameter / _MOST)
    box = int(np.clip(round(_ACROSS * diameter / voxel), _LEAST, _MOST))
    place = {int(row): index for index, row in enumerate(rows)}
    tiles = np.zeros((min(SHOWN, len(rows)), box, box), np.float32)
    total = np.zeros((box,) * 3)
    for tomogram in tomograms:
        mine = rows[picks.tomograms[rows] == tomogram.name]
        if not len(mine):
            continue
        mean, std = tomogram.statistics()
        for part, volumes in boxes(tomogram, picks.positions[mine], box, voxel):
            total += ((volumes - mean) / std).sum(axis=0)
            slot = np.array([place[int(row)] for row in mine[part]])
            shown = slot < len(tiles)
            if shown.any():
                tiles[slot[shown]] = images.smoothed_slices((volumes[shown] - mean) / std)[0]
    return SheetGroup(
        title, picks.scores[rows[: len(tiles)]], tiles, total / len(rows), len(rows), voxel
    )


def montage(tiles: np.ndarray, gap: int = 1) -> np.ndarray:
    """Arrange tiles in rows of ``COLUMNS`` with bright lines between; empty places are as bright.

    Values far above the others, those of gold, are cut off, for all tiles share a grey scale.

    Parameters
    ----------
    tiles : numpy.ndarray
        (n, p, p).
    gap : int
        Pixels between tiles.

    Returns
    -------
    numpy.ndarray
        (rows, columns) float32.
    """
    n, p, _ = tiles.shape
    rows = -(-n // COLUMNS)
    middle, above = np.percentile(tiles, (50, 84.13))
    tiles = np.clip(tiles, None, middle + _CUT * (above - middle))
    high = tiles.max()
    sheet = np.full((rows * (p + gap) - gap, COLUMNS * (p + gap) - gap), high, np.float32)
    for index, tile in enumerate(tiles):
        top, left = index // COLUMNS * (p + gap), index % COLUMNS * (p + gap)
        sheet[top : top + p, left : left + p] = tile
    return sheet

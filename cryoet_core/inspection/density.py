"""How dense a tomogram is at picks, under each hypothesis of what their coordinates mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cryoet_core.picks.hypotheses import (
    GIVEN,
    SCALES,
    Hypothesis,
    every_combination,
    single_changes,
)
from cryoet_core.picks.table import Picks
from cryoet_core.tomograms import Tomogram

DIAMETERS = (120.0, 250.0)
"""Å; the sizes of detail that are looked at where no diameter is given, and the one with more
contrast is taken.
"""
MOST_TOMOGRAMS, MOST_PICKS = 3, 3000
CLEAR = 5.0
"""Standard errors that a reading must stand out by to be believed."""
_MORE = 1.5
"""So many more where it differs in several respects: of 700 such readings the largest by chance is
4 to 5.
"""
BETTER = 1.15
"""A reading beats the given one only if the contrast there is larger by this factor."""
_COARSE_VOXELS = 1 << 22
_CANDIDATES, _OFFSETS = 30, 48
_CLIP = 4.0


@dataclass(frozen=True)
class Scored:
    """How well one reading of the coordinates fits the density.

    Attributes
    ----------
    hypothesis : Hypothesis
        The reading.
    contrast : float
        Mean density at the picks inside, in standard deviations of that at random places.
    errors : float
        How far the sum over all picks (0 where one lies outside) stands out from the sums that the
        same pattern of points gives a little way off, in their standard deviations. Picks that lie
        in clusters do not deceive it.
    inside : float
        The fraction of the picks inside.
    """

    hypothesis: Hypothesis
    contrast: float
    errors: float
    inside: float


@dataclass(frozen=True)
class PlacementVerdict:
    """Which reading of the coordinates fits the density best.

    Attributes
    ----------
    rows : list of Scored
        As given, then everything that differs in one respect.
    best : Scored
        The best of all combinations.
    diameter : float
        Å, the size of detail that was looked at.
    n_picks : int
        The number of picks that were looked at.
    """

    rows: list[Scored]
    best: Scored
    diameter: float
    n_picks: int

    @property
    def given(self) -> Scored:
        """The coordinates as they were given."""
        return self.rows[0]

    @property
    def clear(self) -> bool:
        """Whether anything stands out from chance."""
        return abs(self.best.errors) >= CLEAR

    @property
    def given_is_best(self) -> bool:
        """Whether no other reading fits better than the given one."""
        return self.best.hypothesis == GIVEN

    @property
    def dark(self) -> bool:
        """Whether the picks that fit lie on dark density, where protein should be bright."""
        return self.clear and self.best.errors < 0

    def words(self) -> str:
        """Return the verdict in a sentence or two."""
        given = (
            f"as given, the density at the picks is {self.given.contrast:+.2f} standard deviations"
        )
        if not self.clear:
            return (
                f"Nothing stands out: {given} ({self.given.errors:+.1f} standard errors), and no "
                "other reading of the "
                f"coordinates does better than chance. Too few picks ({self.n_picks:,}), too noisy "
                "a tomogram, or the "
                "wrong tomogram."
            )
        dark = (
            " Protein is dark there: if the picks are right, the contrast of the tomogram is the "
            "other one."
            if self.dark
            else ""
        )
        if self.given_is_best:
            return (
                f"The coordinates fit as they are: {given} ({self.given.errors:+.1f} standard "
                f"errors).{dark}"
            )
        found = f"{self.best.contrast:+.2f} ({self.best.errors:+.1f} standard errors)"
        return (
            f"The coordinates seem to mean something else ({self.best.hypothesis}): then the "
            "density at the picks is "
            f"{found}; {given} ({self.given.errors:+.1f}).{dark}"
        )


def judge(
    tomograms: Sequence[Tomogram], picks: Picks, diameter: float | None = None
) -> PlacementVerdict:
    """Compare every reading of the picks' coordinates by the density there.

    The density is that of the scale of the particle: smoothed, less its surroundings, so that
    gradients of the ice do not matter.

    Parameters
    ----------
    tomograms : sequence of Tomogram
        The ``MOST_TOMOGRAMS`` with the most picks are looked at.
    picks : Picks
        At most ``MOST_PICKS`` in each tomogram are looked at.
    diameter : float, optional
        Å, of the particle; ``DIAMETERS`` are tried without it.

    Returns
    -------
    PlacementVerdict
        Every reading with its score, and the best one.
    """
    counted = sorted(
        ((int((picks.tomograms == t.name).sum()), t) for t in tomograms), key=lambda pair: -pair[0]
    )
    parts = [
        (t, _sample(picks.within(t.name).positions))
        for count, t in counted[:MOST_TOMOGRAMS]
        if count
    ]
    coarse = [(_coarse(tomogram), positions) for tomogram, positions in parts]
    found = [_judge(coarse, size) for size in ([diameter] if diameter else DIAMETERS)]
    return max(found, key=lambda verdict: abs(verdict.best.errors))


def _sample(positions: np.ndarray) -> np.ndarray:
    if len(positions) <= MOST_PICKS:
        return positions
    return positions[np.random.default_rng(0).choice(len(positions), MOST_PICKS, replace=False)]


def _coarse(tomogram: Tomogram) -> Tomogram:
    """Read the tomogram into memory, slab by slab, with few enough voxels."""
    from cryoet_core.tomograms import ArrayVolume

    factor = max(1.0, (np.prod(tomogram.shape) / _COARSE_VOXELS) ** (1 / 3))
    view = tomogram.at(tomogram.voxel_size * factor)
    depth, everything = view.shape[0], slice(None)
    slabs = [
        view.read((slice(z, min(z + 16, depth)), everything, everything))
        for z in range(0, depth, 16)
    ]
    return replace(view, volume=ArrayVolume(np.concatenate(slabs)), density_sign=1)


@dataclass(frozen=True)
class _Part:
    """A tomogram's local density and the picks in it."""

    density: np.ndarray
    voxel_size: float
    positions: np.ndarray

    def moved(self, hypothesis: Hypothesis) -> np.ndarray:
        """Positions in voxels under a hypothesis."""
        shape = np.array(self.density.shape)
        return hypothesis.positions(self.positions, shape, self.voxel_size) / self.voxel_size

    def summed(self, voxels: np.ndarray) -> tuple[float, int]:
        """Return the density summed over the places (n, 3) inside, and their number."""
        index = np.rint(voxels).astype(np.int64)
        kept = index[((index >= 0) & (index < self.density.shape)).all(axis=1)]
        return float(self.density[tuple(kept.T)].sum(dtype=np.float64)), len(kept)

    def cells(self, voxels: np.ndarray, diameter: float) -> int:
        """Return how many boxes of a diameter's edge hold the places.

        So many of the places are independent at most.
        """
        return len(np.unique(np.floor(voxels * self.voxel_size / diameter), axis=0))


def _judge(tomograms: Sequence[tuple[Tomogram, np.ndarray]], diameter: float) -> PlacementVerdict:
    parts = [
        _Part(_local(tomogram, diameter), tomogram.voxel_size, positions)
        for tomogram, positions in tomograms
    ]
    cells = {
        scale: sum(p.cells(p.positions * scale / p.voxel_size, diameter) for p in parts)
        for scale in SCALES
    }
    rough = [
        (abs(sum(p.summed(p.moved(one))[0] for p in parts)) * cells[one.scale] ** 0.5, one)
        for one in every_combination()
    ]
    rows = [_scored(parts, one, diameter) for one in single_changes()]
    likely = sorted(rough, key=lambda pair: -pair[0])[:_CANDIDATES]
    best = rows[0]
    for one in sorted(
        (_scored(parts, one, diameter) for _, one in likely), key=lambda one: one.hypothesis.changes
    ):
        # of equally good ones the simplest; what was given has to be beaten clearly
        needed = BETTER if best.hypothesis == GIVEN else 1.0
        enough = CLEAR + (_MORE if one.hypothesis.changes > 1 else 0.0)
        if abs(one.errors) > abs(best.errors) * needed and abs(one.errors) >= enough:
            best = one
    return PlacementVerdict(rows, best, diameter, sum(len(positions) for _, positions in tomograms))


def _scored(parts: Sequence[_Part], hypothesis: Hypothesis, diameter: float) -> Scored:
    total, inside, count, cells, aside = 0.0, 0, 0, 0, np.zeros(_OFFSETS)
    random = np.random.default_rng(0)
    direction = random.normal(size=(_OFFSETS, 3))
    away = (
        direction
        / np.linalg.norm(direction, axis=1, keepdims=True)
        * random.uniform(1.5, 4, (_OFFSETS, 1))
    )
    for part in parts:
        voxels = part.moved(hypothesis)
        found, kept = part.summed(voxels)
        cells += part.cells(voxels, diameter)
        total, inside, count = total + found, inside + kept, count + len(voxels)
        aside += [part.summed(voxels + offset)[0] for offset in away * diameter / part.voxel_size]
    # picks nearer to each other than the detail's size see the same density: they are not
    # independent
    spread = max(float(aside.std()), inside / max(cells, 1) ** 0.5)
    return Scored(
        hypothesis,
        total / max(inside, 1),
        float(total - aside.mean()) / spread if inside else 0.0,
        inside / max(count, 1),
    )


def _local(tomogram: Tomogram, diameter: float) -> np.ndarray:
    """Return the density at the scale of a diameter less that around it.

    Without outliers it has mean 0 and standard deviation 1.
    """
    from scipy.ndimage import gaussian_filter

    sigma = diameter / 4 / tomogram.voxel_size
    values = tomogram.read()
    mean, std = tomogram.statistics()
    values = np.clip((values - mean) / std, -_CLIP, _CLIP)
    band = gaussian_filter(values, sigma, mode="reflect") - gaussian_filter(
        values, 2.5 * sigma, mode="reflect"
    )
    low, middle, high = np.percentile(band, (15.87, 50, 84.13))
    band = np.clip((band - middle) / max((high - low) / 2, 1e-12), -_CLIP, _CLIP)
    standard: np.ndarray = (band - band.mean()) / max(float(band.std()), 1e-12)
    return standard

"""Subtomograms cut about picks, into a store that clustering methods take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from cryoet_core.particles import placement
from cryoet_core.particles.cutting import boxes, covered, inside
from cryoet_core.picks.table import Picks
from cryoet_core.store import SubtomogramWriter
from cryoet_core.store.statistics import volume_statistics
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import Tomogram, Tomograms

Normalise: TypeAlias = Literal["none", "volume", "tomogram"]
Edge: TypeAlias = Literal["drop", "pad", "refuse"]


@dataclass(frozen=True)
class Cut:
    """How boxes are cut.

    Attributes
    ----------
    box : int
        Box size in voxels.
    voxel_size : float or None
        Å, None for the tomograms' own.
    normalise : {"tomogram", "volume", "none"}
        What is brought to mean 0 and standard deviation 1: each tomogram, each box, or nothing.
    edge : {"drop", "pad", "refuse"}
        What becomes of a box that reaches beyond the tomogram: it is dropped, filled up with the
        mean of its part inside, or refused.
    drop_outside : bool
        Leave out centres that lie outside, which are refused otherwise.
    min_score : float or None
        Keep only picks at or above this score.
    limit : int or None
        Keep at most so many of these, the best first.

    Raises
    ------
    UserError
        A value is out of range.
    """

    box: int
    voxel_size: float | None = None
    normalise: Normalise = "tomogram"
    edge: Edge = "drop"
    drop_outside: bool = False
    min_score: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("normalise", self.normalise, Normalise),
            ("edge", self.edge, Edge),
        ):
            if value not in get_args(known):
                raise UserError(f"`{name}` {value}: expected {', '.join(get_args(known))}")
        if self.box < 4:
            raise UserError(f"`box` {self.box}: expected at least 4 voxels")
        if self.voxel_size is not None and not (
            np.isfinite(self.voxel_size) and self.voxel_size > 0
        ):
            raise UserError(f"`voxel_size` {self.voxel_size:g}: expected a number of Å above 0")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"`limit` {self.limit}: expected at least 1")


Watch: TypeAlias = Callable[[list[str]], Iterable[str]]


def extract(
    tomograms: Tomograms,
    picks: Picks,
    out: Path,
    cut: Cut,
    *,
    provenance: Mapping[str, Any] | None = None,
    watch: Watch = iter,
) -> dict[str, Any]:
    """Cut a box about every pick and write a store.

    Rows keep the order of the tomograms and, in each, of the picks. Carried along: position,
    rotation, tomogram, class as label, score, row in ``picks`` and the picks' further columns (as
    extras). The volumes are protein bright. Memory is bounded whatever the number of picks.

    Parameters
    ----------
    tomograms : Tomograms
        The tomograms.
    picks : Picks
        The centres, in these tomograms.
    out : Path
        The store to write.
    cut : Cut
        How boxes are cut.
    provenance : mapping, optional
        What the store says of its origin.
    watch : callable
        Wraps the list of the tomograms' names (a progress bar).

    Returns
    -------
    dict
        The facts of what was done, with all that was left out.

    Raises
    ------
    UserError
        Picks lie in unknown tomograms or outside theirs, no tomogram can hold a box, voxel sizes
        differ without ``cut.voxel_size``, or nothing is left to write.
    """
    placed = placement.rows_in(picks, tomograms)
    chosen = chosen_rows(picks, cut)
    work = Work(
        picks,
        cut,
        cut.voxel_size or Tomograms(tuple(t for t in tomograms if t.name in placed)).voxel_size,
    )
    plan = {
        t.name: work.kept(t, placed[t.name][chosen[placed[t.name]]])
        for t in tomograms
        if t.name in placed
    }
    if not any(len(rows) for rows in plan.values()):
        raise UserError(
            f"no box can be cut: {'; '.join(work.left_out_words()) or 'no picks'}; {work.cure()}"
        )
    with SubtomogramWriter(
        out,
        cut.box,
        work.voxel_size,
        density_sign=1,
        dtype="float32" if cut.normalise == "none" else "float16",
        class_names=picks.class_names,
        tilt_range=_tilt_range([tomograms.named(name) for name in plan], work.notes),
        provenance=provenance,
    ) as writer:
        for name in watch(list(plan)):
            work.write(tomograms.named(name), plan[name], writer)
        if not writer.count:
            raise UserError(f"no box can be cut: {'; '.join(work.left_out_words())}")
        return work.facts(writer, len(picks), int((~chosen).sum()))


def chosen_rows(picks: Picks, cut: Cut) -> np.ndarray:
    """Return which picks score high enough and are among the best.

    Parameters
    ----------
    picks : Picks
        The picks.
    cut : Cut
        Its ``min_score`` and ``limit`` count.

    Returns
    -------
    numpy.ndarray
        (n,) bool.

    Raises
    ------
    UserError
        The picks have no scores, or none scores high enough.
    """
    chosen = np.ones(len(picks), bool)
    if cut.min_score is not None:
        if not np.isfinite(picks.scores).any():
            raise UserError(
                f"`min_score` {cut.min_score:g}: the picks have no scores; leave the option out"
            )
        chosen = picks.scores >= cut.min_score
        if not chosen.any():
            best = float(np.nanmax(picks.scores))
            raise UserError(
                f"`min_score` {cut.min_score:g}: no pick scores as high; the best has {best:g}"
            )
    if cut.limit is not None:
        keys = np.where(chosen, np.nan_to_num(picks.scores.astype(np.float64), nan=-1e300), -np.inf)
        best_rows = np.argsort(-keys, kind="stable")[: cut.limit]
        chosen &= np.isin(np.arange(len(picks)), best_rows)
    return chosen


class Work:
    """The state of one extraction: what is left out, what has to be said, and the steps.

    Parameters
    ----------
    picks : Picks
        The centres.
    cut : Cut
        How boxes are cut.
    voxel_size : float
        Å per voxel of the boxes.
    """

    def __init__(self, picks: Picks, cut: Cut, voxel_size: float) -> None:
        self.picks, self.cut, self.voxel_size = picks, cut, voxel_size
        self.left_out = {"outside": 0, "at the edge": 0, "in constant density": 0}
        self.notes: list[str] = []
        self.padded = 0
        self.counts = np.zeros(len(picks.class_names) + 1, np.int64)
        self.rotated = picks.rotations is not None and bool(np.isfinite(picks.rotations).all())
        if picks.rotations is not None and not self.rotated:
            lacking = int((~np.isfinite(picks.rotations).all(axis=(1, 2))).sum())
            self.notes.append(
                f"picks without a rotation: {lacking:,} of {len(picks):,}; no rotations are stored"
            )

    def kept(self, tomogram: Tomogram, rows: np.ndarray) -> np.ndarray:
        """Return the rows of picks whose boxes can be cut.

        Parameters
        ----------
        tomogram : Tomogram
            A tomogram.
        rows : numpy.ndarray
            (m,), rows of the picks in it.

        Raises
        ------
        UserError
            A pick lies outside, or a box reaches beyond the tomogram, where that is refused.
        """
        positions = self.picks.positions[rows]
        beyond = placement.outside(positions, tomogram)
        if beyond.any():
            if not self.cut.drop_outside:
                raise UserError(
                    f"`picks`: {placement.describe_outside(positions, beyond, tomogram)}; see "
                    "`cryoet data inspect`, "
                    "or leave them out with `drop_outside`"
                )
            self.left_out["outside"] += int(beyond.sum())
            rows, positions = rows[~beyond], positions[~beyond]
        whole = inside(tomogram, positions, self.cut.box, self.voxel_size)
        if whole.all():
            return rows
        self._refuse_too_large(tomogram)
        count = int((~whole).sum())
        if self.cut.edge == "refuse":
            verb = "reaches" if count == 1 else "reach"
            raise UserError(
                f"`edge` refuse: {count:,} of {len(rows):,} boxes {verb} beyond tomogram "
                f"{tomogram.name}; expected all inside; give `edge` drop or pad, or a smaller `box`"
            )
        if self.cut.edge == "pad":
            self.padded += count
            return rows
        self.left_out["at the edge"] += count
        inner: np.ndarray = rows[whole]
        return inner

    def _refuse_too_large(self, tomogram: Tomogram) -> None:
        held = np.floor(
            np.array(tomogram.shape) * tomogram.voxel_size / self.voxel_size + 1e-6
        ).astype(int)
        if self.cut.edge != "pad" and held.min() < self.cut.box:
            shape = " × ".join(map(str, held))
            raise UserError(
                f"`box` {self.cut.box}: larger than tomogram {tomogram.name}, {shape} voxels (z, "
                "y, x) of "
                f"{self.voxel_size:g} Å; expected at most {held.min()}; give a smaller `box`, or "
                "`edge` pad"
            )

    def write(self, tomogram: Tomogram, rows: np.ndarray, writer: SubtomogramWriter) -> None:
        """Cut the boxes of one tomogram and append them to the store.

        Parameters
        ----------
        tomogram : Tomogram
            The tomogram.
        rows : numpy.ndarray
            (m,), rows of the picks to cut.
        writer : SubtomogramWriter
            The open store.
        """
        picks, cut = self.picks, self.cut
        level = tomogram.statistics() if cut.normalise == "tomogram" and len(rows) else (0.0, 1.0)
        for part, volumes in boxes(tomogram, picks.positions[rows], cut.box, self.voxel_size):
            taken = rows[part]
            if cut.edge == "pad":
                self._fill(tomogram, taken, volumes)
            mean, std = volume_statistics(volumes)
            if cut.normalise == "volume":
                volumes -= mean[:, None, None, None]
                volumes /= np.where(std > 0, std, 1)[:, None, None, None]
            elif cut.normalise == "tomogram":
                volumes -= np.float32(level[0])
                volumes /= np.float32(level[1])
            varied = std > 0
            self.left_out["in constant density"] += int((~varied).sum())
            taken = taken[varied]
            self.counts += np.bincount(
                picks.classes[taken] % len(self.counts), minlength=len(self.counts)
            )
            writer.append(
                volumes[varied],
                labels=picks.classes[taken],
                positions=picks.positions[taken],
                rotations=picks.rotations[taken]
                if self.rotated and picks.rotations is not None
                else None,
                tomogram=picks.tomograms[taken],
                **self._extras(taken),
            )

    def _fill(self, tomogram: Tomogram, rows: np.ndarray, volumes: np.ndarray) -> None:
        """Give what lies beyond the tomogram the mean of what lies inside, box by box."""
        whole = inside(tomogram, self.picks.positions[rows], self.cut.box, self.voxel_size)
        for index in np.flatnonzero(~whole):
            z, y, x = covered(
                tomogram, self.picks.positions[rows[index]], self.cut.box, self.voxel_size
            )
            part = z[:, None, None] & y[:, None] & x
            volumes[index][~part] = volumes[index][part].mean()

    def _extras(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        extras: dict[str, np.ndarray] = {"pick": rows}
        if np.isfinite(self.picks.scores).any():
            extras["score"] = self.picks.scores[rows]
        for name, values in self.picks.extra.items():
            extras.setdefault(name.replace("/", "_"), values[rows])
        return extras

    # ---- what is said ----------------------------------------------------------------------------

    def left_out_words(self) -> list[str]:
        """Return phrases that say how many picks were left out, and why."""
        return [f"{count:,} {where}" for where, count in self.left_out.items() if count]

    def cure(self) -> str:
        """Return what the user can do where nothing is left."""
        return (
            "give a smaller `box` or `edge` pad"
            if self.left_out["at the edge"]
            else "see `cryoet data inspect`"
        )

    def facts(self, writer: SubtomogramWriter, given: int, not_chosen: int) -> dict[str, Any]:
        """Return what was done, for the closing line.

        Parameters
        ----------
        writer : SubtomogramWriter
            The store that was written.
        given : int
            The number of picks.
        not_chosen : int
            How many of them scored too low or were beyond the limit.
        """
        notes = list(self.notes)
        if any(self.left_out.values()):
            notes.insert(0, f"picks left out: {', '.join(self.left_out_words())}")
        if self.padded:
            notes.append(
                f"boxes that reach beyond their tomogram: {self.padded:,}; they were filled up "
                "with their mean"
            )
        return {
            "out": str(writer.path),
            "n": writer.count,
            "picks": given,
            "not_chosen": not_chosen,
            "left_out": {where: count for where, count in self.left_out.items() if count},
            "box": self.cut.box,
            "voxel_size": self.voxel_size,
            "normalise": self.cut.normalise,
            "classes": dict(zip(self.picks.class_names, self.counts[:-1].tolist(), strict=True)),
            "notes": notes,
        }


def _tilt_range(tomograms: list[Tomogram], notes: list[str]) -> tuple[float, float] | None:
    ranges = {tomogram.tilt_range for tomogram in tomograms}
    if any(tomogram.tilt_axis != "y" for tomogram in tomograms):
        notes.append("a tomogram's tilt axis is not y: the store says no tilt range")
        return None
    if len(ranges) > 1:
        known = [f"{low:g} to {high:g}" for low, high in sorted(found for found in ranges if found)]
        notes.append(
            f"tilt ranges differ ({', '.join(known)}{', unknown' if None in ranges else ''}): none "
            "is stored"
        )
        return None
    return next(iter(ranges))

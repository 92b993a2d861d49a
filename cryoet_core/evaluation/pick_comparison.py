"""Which picks are compared with which particles, by tomogram and class, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cryoet_core.evaluation.pick_matching import PARTICLE_ID, Match, Rule, match
from cryoet_core.picks.table import Picks
from cryoet_core.support.errors import UserError

_ROW = "row given"


@dataclass(frozen=True)
class PickGroup:
    """Picks and particles that are compared with each other, and their match.

    Attributes
    ----------
    name : str
        The class.
    picks, truth : Picks
        The picks and the known particles of this class.
    match : Match
        Which pick found which particle.
    """

    name: str
    picks: Picks
    truth: Picks
    match: Match

    @property
    def hit(self) -> np.ndarray:
        """Which of the picks found a particle, (n,) bool."""
        hit = np.zeros(len(self.picks), bool)
        hit[self.match.picks] = True
        return hit


@dataclass(frozen=True)
class Compared:
    """Picks and particles, compared class by class.

    Attributes
    ----------
    groups : list of PickGroup
        One for each class.
    tomograms : list of str
        Tomograms whose particles are known.
    left_out : dict
        What was not compared, and how much of it.
    """

    groups: list[PickGroup]
    tomograms: list[str]
    left_out: dict[str, Any]

    @property
    def hits(self) -> np.ndarray:
        """Rows of the picks that found a particle, (n,) int."""
        return np.concatenate([group.picks.extra[_ROW][group.hit] for group in self.groups])

    @property
    def false(self) -> np.ndarray:
        """Rows of the picks that found none, (n,) int."""
        return np.concatenate([group.picks.extra[_ROW][~group.hit] for group in self.groups])

    @property
    def missed(self) -> np.ndarray:
        """Rows of the truth that no pick found, (n,) int."""
        return np.concatenate(
            [np.delete(group.truth.extra[_ROW], group.match.truth) for group in self.groups]
        )


def compared(
    picks: Picks,
    truth: Picks,
    radius: float,
    *,
    rule: Rule = "optimal",
    voxel_size: float | None = None,
    particle: str | None = None,
    masks: Mapping[str, np.ndarray] | None = None,
    tomograms: Sequence[str] | None = None,
) -> Compared:
    """Match picks and particles as ``detection_report`` counts them.

    Parameters
    ----------
    picks : Picks
        What a picker found.
    truth : Picks
        The known particles.
    radius : float
        How far a pick may lie from a particle, in Å.
    rule : {"optimal", "greedy", "r1.5", "shrec"}
        How picks and particles are paired; see ``match``.
    voxel_size : float, optional
        Å; needed by the rules ``"r1.5"`` and ``"shrec"``.
    particle : str, optional
        The class of the known particles to compare with; by default all common classes.
    masks : mapping of str to array, optional
        Occupancy mask (z, y, x) of each tomogram by name; needed by the rule ``"shrec"``.
    tomograms : sequence of str, optional
        Tomograms whose particles are known; by default those in the truth.

    Returns
    -------
    Compared
        The matches by class, and what was left out.

    Raises
    ------
    UserError
        Nothing can be compared: no common tomogram, no common class, or no such class.
    """
    more = {PARTICLE_ID: _ids(truth)} if masks else {}
    truth = replace(truth, extra={**truth.extra, **more, _ROW: np.arange(len(truth))})
    picks = replace(picks, extra={**picks.extra, _ROW: np.arange(len(picks))})
    picks, truth, left_out = _known_tomograms(picks, truth, tomograms)
    pairs, left_classes = _groups(picks, truth, particle)
    groups = [
        PickGroup(
            name,
            mine,
            theirs,
            match(mine, theirs, radius, rule, voxel_size=voxel_size, masks=masks),
        )
        for name, (mine, theirs) in pairs.items()
    ]
    return Compared(
        groups, sorted({*truth.tomograms, *(tomograms or ())}), {**left_out, **left_classes}
    )


def _ids(truth: Picks) -> np.ndarray:
    """Numbers of the particles in their tomogram's mask, before any are left out."""
    if PARTICLE_ID in truth.extra:
        return np.asarray(truth.extra[PARTICLE_ID])
    ids = np.zeros(len(truth), np.int64)
    for name in set(truth.tomograms):
        rows = truth.tomograms == name
        ids[rows] = np.arange(1, rows.sum() + 1)
    return ids


def _known_tomograms(
    picks: Picks, truth: Picks, tomograms: Sequence[str] | None
) -> tuple[Picks, Picks, dict[str, Any]]:
    known = set(truth.tomograms) if tomograms is None else set(tomograms)
    if not known:
        raise UserError("no particles are known, so there is nothing to compare picks with")
    if len(picks) and not known & set(picks.tomograms):
        raise UserError(
            f"none of the {len(picks):,} picks is in a tomogram whose particles are known: the "
            "picks are in "
            f"{_few(picks.tomograms)}, the particles in {_few(known)}; rename one or the other"
        )
    inside = np.isin(picks.tomograms.astype(str), sorted(known))
    elsewhere = sorted(set(picks.tomograms) - known)
    left = {"tomograms": elsewhere, "picks_there": int((~inside).sum())} if elsewhere else {}
    return (
        picks.select(inside),
        truth.select(np.isin(truth.tomograms.astype(str), sorted(known))),
        left,
    )


def _groups(
    picks: Picks, truth: Picks, particle: str | None
) -> tuple[dict[str, tuple[Picks, Picks]], dict[str, Any]]:
    """Class name -> picks and particles of it, and what is in no group."""
    in_truth = present(truth)
    if particle is not None:
        theirs = truth.of_class(particle)
        mine = picks.of_class(particle) if particle in picks.class_names else _only(picks, particle)
        return {particle: (mine, theirs)}, _left(
            {particle}, picks if len(mine) < len(picks) else None, truth
        )
    shared = [name for name in in_truth if name in picks.class_names]
    if shared:
        return {name: (picks.of_class(name), truth.of_class(name)) for name in shared}, _left(
            set(shared), picks, truth
        )
    if len(in_truth) <= 1 and len(present(picks)) <= 1:
        return {(in_truth or picks.class_names or ("particle",))[0]: (picks, truth)}, {}
    raise UserError(
        f"the picks are of {_few(picks.class_names) or 'no class'}, the particles of "
        f"{_few(in_truth)}; expected a "
        "common class; give `particle`"
    )


def present(picks: Picks) -> list[str]:
    """Names of the classes that occur."""
    numbers = np.unique(picks.classes)
    return [picks.class_names[number] for number in numbers if number >= 0]


def _only(picks: Picks, particle: str) -> Picks:
    if len(present(picks)) > 1:
        raise UserError(
            f"`particle` {particle}: the picks are of {_few(picks.class_names)}; expected this "
            "class or one"
        )
    return picks


def _left(compared: set[str], picks: Picks | None, truth: Picks) -> dict[str, Any]:
    """How many rows of which classes are compared with nothing."""
    found: dict[str, Any] = {}
    for what, rows in (("picks", picks), ("truth", truth)):
        if rows is not None:
            names = np.array([*rows.class_names, "no class"], dtype=object)[rows.classes]
            counts = {
                str(name): int((names == name).sum()) for name in sorted(set(names) - compared)
            }
            found |= {what: counts} if counts else {}
    return found


def _few(names: Any, most: int = 4) -> str:
    ordered = sorted(set(names))
    return ", ".join(ordered[:most]) + (
        f" and {len(ordered) - most} more" if len(ordered) > most else ""
    )

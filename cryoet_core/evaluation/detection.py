"""How well picks agree with known particles: precision, recall, F1, average precision and curves.

Counts are summed over all tomograms before ratios are taken. A ratio that is undefined is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cryoet_core.evaluation.pick_comparison import compared, present
from cryoet_core.evaluation.pick_matching import RULES, Match, Rule, match
from cryoet_core.evaluation.precision_recall import (
    average_precision,
    curve,
    histogram,
    number,
    scores_of_counts,
    thinned_curve,
)
from cryoet_core.picks.table import Picks, join

__all__ = [
    "RULES",
    "Match",
    "Rule",
    "average_precision",
    "compared",
    "curve",
    "detection_report",
    "match",
    "scores_of_counts",
]


def detection_report(
    picks: Picks,
    truth: Picks,
    radius: float,
    *,
    rule: Rule = "optimal",
    voxel_size: float | None = None,
    particle: str | None = None,
    masks: Mapping[str, np.ndarray] | None = None,
    tomograms: Sequence[str] | None = None,
    truncate: float | None = None,
) -> dict[str, Any]:
    """All scores of picks as plain numbers, lists and text, ready for JSON.

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
        The class of the known particles to compare with: with the picks of this class, or with all
        picks where they have one class. Without it, classes that both have are compared class by
        class and summed.
    masks : mapping of str to array, optional
        Occupancy mask (z, y, x) of each tomogram by name; needed by the rule ``"shrec"``.
    tomograms : sequence of str, optional
        Tomograms whose particles are known, where some may hold none; by default those in the
        truth. Picks elsewhere are left out.
    truncate : float, optional
        Also give the average precision of the picks at or above this score alone.

    Returns
    -------
    dict
        n_picks, n_truth, hits, precision, recall, f1, f_beta4, ap (None where no pick has a score),
        best_f1 with best_threshold, mean_distance (Å), rule, radius, radius_voxels, voxel_size,
        particle, per_class, per_tomogram, curve (thinned), histogram (scores of hits and of false
        picks), left_out. With ``"shrec"`` also repeats and, for several classes, classification;
        with ``truncate`` ap_truncated. What is undefined is None.

    Raises
    ------
    UserError
        Nothing can be compared: no common tomogram, no common class, or no such class.
    """
    found = compared(
        picks,
        truth,
        radius,
        rule=rule,
        voxel_size=voxel_size,
        particle=particle,
        masks=masks,
        tomograms=tomograms,
    )
    mine = join([group.picks for group in found.groups])
    theirs = join([group.truth for group in found.groups])
    ranked = np.concatenate([group.match.ranked for group in found.groups])
    hits = np.concatenate([group.hit for group in found.groups])
    distance = np.sort(np.concatenate([group.match.distance for group in found.groups]))
    report: dict[str, Any] = {
        **_scored(mine.scores, ranked, hits, len(theirs)),
        "mean_distance": float(distance.mean()) if len(distance) else None,
        "rule": rule,
        "radius": float(radius),
        "radius_voxels": radius / voxel_size if voxel_size else None,
        "voxel_size": voxel_size,
        "particle": particle,
        "per_class": [
            {
                "class": group.name,
                **_scored(group.picks.scores, group.match.ranked, group.hit, len(group.truth)),
            }
            for group in found.groups
        ],
        "per_tomogram": [
            {
                "tomogram": name,
                **_counts(mine.tomograms == name, hits, int((theirs.tomograms == name).sum())),
            }
            for name in found.tomograms
        ],
        "curve": thinned_curve(mine.scores, ranked, len(theirs)),
        "histogram": histogram(mine.scores, hits),
        "left_out": found.left_out,
    }
    if truncate is not None:
        kept = mine.scores >= truncate
        ap = average_precision(mine.scores[kept], ranked[kept], len(theirs))
        report["ap_truncated"] = {"threshold": float(truncate), "ap": ap}
    if rule == "shrec":
        report["repeats"] = int(sum(group.match.repeats.sum() for group in found.groups))
        report |= _classified(picks, truth, radius, voxel_size, masks) if particle is None else {}
    return report


def _scored(
    scores: np.ndarray, ranked: np.ndarray, hits: np.ndarray, n_truth: int
) -> dict[str, Any]:
    n, count = len(scores), int(hits.sum())
    points = curve(scores, ranked, n_truth)
    best = int(points["f1"].argmax()) if n else None
    known = not n or bool(np.isfinite(scores).any())
    return {
        "n_picks": n,
        "n_truth": n_truth,
        "hits": count,
        **scores_of_counts(count, n, n_truth),
        "ap": average_precision(scores, ranked, n_truth) if known else None,
        "best_f1": float(points["f1"][best]) if best is not None else 0.0,
        "best_threshold": number(points["threshold"][best]) if best is not None else None,
    }


def _counts(rows: np.ndarray, hits: np.ndarray, n_truth: int) -> dict[str, Any]:
    n, count = int(rows.sum()), int(hits[rows].sum())
    return {"n_picks": n, "n_truth": n_truth, "hits": count, **scores_of_counts(count, n, n_truth)}


def _classified(
    picks: Picks,
    truth: Picks,
    radius: float,
    voxel_size: float | None,
    masks: Mapping[str, np.ndarray] | None,
) -> dict[str, Any]:
    """SHREC's second task: the class of each particle's first hit, "not found" without one."""
    if len(present(truth)) < 2:
        return {}
    from cryoet_core.evaluation.metrics import classification_report

    found = match(picks, truth, radius, "shrec", voxel_size=voxel_size, masks=masks)
    number = {name: index for index, name in enumerate(truth.class_names)}
    table = np.array([*(number.get(name, -1) for name in picks.class_names), -1])
    predicted = np.full(len(truth), -1)
    predicted[found.truth] = table[picks.classes[found.picks]]
    return {"classification": classification_report(truth.classes, predicted, truth.class_names)}

"""How well picks agree with known particles: precision, recall, F1, average precision, the curve over thresholds.

Counts are summed over all tomograms before ratios are taken. A ratio that is undefined is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cryoet_core.errors import UserError
from cryoet_core.pick_matching import PARTICLE_ID, RULES, Match, Rule, match
from cryoet_core.picks import Picks, join
from cryoet_core.precision_recall import (
    average_precision,
    curve,
    histogram,
    number,
    scores_of_counts,
    thinned_curve,
)

__all__ = ["RULES", "Match", "Rule", "average_precision", "curve", "detection_report", "match", "scores_of_counts"]


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
    """All scores of picks as plain numbers, lists and text, ready for JSON; what is undefined is None.

    radius: Å; rule, voxel_size, masks: see ``match``. particle: the class of the truth to compare with; the picks' own
    class of this name, or all picks where they have one class. Without it, classes that both have are compared class by
    class and summed. tomograms: those whose particles are known, where some may hold none; by default those in the
    truth; picks elsewhere are left out. truncate: AP of the picks at or above this score alone, besides that of all.

    Keys: n_picks, n_truth, hits, precision, recall, f1, f_beta4, ap (None where no pick has a score), best_f1 with
    best_threshold, mean_distance (Å), rule, radius, radius_voxels, voxel_size, per_class, per_tomogram, curve
    (thinned), histogram (scores of hits and of false picks), left_out. With "shrec" also repeats and, for several
    classes, classification; with ``truncate`` ap_truncated.

    UserError where nothing can be compared: no common tomogram, no common class, a class that is not there.
    """
    truth = replace(truth, extra={**truth.extra, PARTICLE_ID: _ids(truth)}) if masks else truth
    picks, truth, left_out = _known_tomograms(picks, truth, tomograms)
    names = sorted({*truth.tomograms, *(tomograms or ())})
    groups, left_classes = _groups(picks, truth, particle)
    options = {"rule": rule, "voxel_size": voxel_size, "masks": masks}
    found = {name: match(mine, theirs, radius, **options) for name, (mine, theirs) in groups.items()}  # type: ignore[arg-type]
    mine = join([a for a, _ in groups.values()])
    theirs = join([b for _, b in groups.values()])
    ranked = np.concatenate([found[name].ranked for name in groups])
    hits = np.concatenate([_is_hit(found[name], len(a)) for name, (a, _) in groups.items()])
    distance = np.sort(np.concatenate([found[name].distance for name in groups]))
    report: dict[str, Any] = {
        **_scored(mine.scores, ranked, hits, len(theirs)),
        "mean_distance": float(distance.mean()) if len(distance) else None,
        "rule": rule,
        "radius": float(radius),
        "radius_voxels": radius / voxel_size if voxel_size else None,
        "voxel_size": voxel_size,
        "per_class": [
            {"class": name, **_scored(a.scores, found[name].ranked, _is_hit(found[name], len(a)), len(b))}
            for name, (a, b) in groups.items()
        ],
        "per_tomogram": [
            {"tomogram": name, **_counts(mine.tomograms == name, hits, int((theirs.tomograms == name).sum()))}
            for name in names
        ],
        "curve": thinned_curve(mine.scores, ranked, len(theirs)),
        "histogram": histogram(mine.scores, hits),
        "left_out": {**left_out, **left_classes},
    }
    if truncate is not None:
        kept = mine.scores >= truncate
        ap = average_precision(mine.scores[kept], ranked[kept], len(theirs))
        report["ap_truncated"] = {"threshold": float(truncate), "ap": ap}
    if rule == "shrec":
        report["repeats"] = int(sum(part.repeats.sum() for part in found.values()))
        report |= _classified(picks, truth, radius, options) if particle is None else {}
    return report


# ---- what is compared with what --------------------------------------------------------------------------------------


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
            f"none of the {len(picks):,} picks is in a tomogram whose particles are known: the picks are in "
            f"{_few(picks.tomograms)}, the particles in {_few(known)}; rename one or the other"
        )
    inside = np.isin(picks.tomograms.astype(str), sorted(known))
    elsewhere = sorted(set(picks.tomograms) - known)
    left = {"tomograms": elsewhere, "picks_there": int((~inside).sum())} if elsewhere else {}
    return picks.select(inside), truth.select(np.isin(truth.tomograms.astype(str), sorted(known))), left


def _groups(picks: Picks, truth: Picks, particle: str | None) -> tuple[dict[str, tuple[Picks, Picks]], dict[str, Any]]:
    """Class name -> picks and particles of it, and what is in no group."""
    in_truth = _present(truth)
    if particle is not None:
        theirs = truth.of_class(particle)
        mine = picks.of_class(particle) if particle in picks.class_names else _only(picks, particle)
        return {particle: (mine, theirs)}, _left({particle}, picks if len(mine) < len(picks) else None, truth)
    shared = [name for name in in_truth if name in picks.class_names]
    if shared:
        return {name: (picks.of_class(name), truth.of_class(name)) for name in shared}, _left(set(shared), picks, truth)
    if len(in_truth) <= 1 and len(_present(picks)) <= 1:
        return {(in_truth or picks.class_names or ("particle",))[0]: (picks, truth)}, {}
    raise UserError(
        f"the picks are of {_few(picks.class_names) or 'no class'}, the particles of {_few(in_truth)}; expected a "
        "common class; give --particle"
    )


def _present(picks: Picks) -> list[str]:
    numbers = np.unique(picks.classes)
    return [picks.class_names[number] for number in numbers if number >= 0]


def _only(picks: Picks, particle: str) -> Picks:
    if len(_present(picks)) > 1:
        raise UserError(
            f"--particle {particle}: the picks are of {_few(picks.class_names)}; expected this class or one"
        )
    return picks


def _left(compared: set[str], picks: Picks | None, truth: Picks) -> dict[str, Any]:
    """How many rows of which classes are compared with nothing."""
    found: dict[str, Any] = {}
    for what, rows in (("picks", picks), ("truth", truth)):
        if rows is not None:
            names = np.array([*rows.class_names, "no class"], dtype=object)[rows.classes]
            counts = {str(name): int((names == name).sum()) for name in sorted(set(names) - compared)}
            found |= {what: counts} if counts else {}
    return found


def _few(names: Any, most: int = 4) -> str:
    ordered = sorted(set(names))
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


# ---- the numbers -----------------------------------------------------------------------------------------------------


def _is_hit(found: Match, n: int) -> np.ndarray:
    hit = np.zeros(n, bool)
    hit[found.picks] = True
    return hit


def _scored(scores: np.ndarray, ranked: np.ndarray, hits: np.ndarray, n_truth: int) -> dict[str, Any]:
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


def _classified(picks: Picks, truth: Picks, radius: float, options: Mapping[str, Any]) -> dict[str, Any]:
    """SHREC's second task: the class of each particle's first hit, "not found" where there is none."""
    if len(_present(truth)) < 2:
        return {}
    from cryoet_core.metrics import classification_report

    found = match(picks, truth, radius, **options)
    number = {name: index for index, name in enumerate(truth.class_names)}
    table = np.array([*(number.get(name, -1) for name in picks.class_names), -1])
    predicted = np.full(len(truth), -1)
    predicted[found.truth] = table[picks.classes[found.picks]]
    return {"classification": classification_report(truth.classes, predicted, truth.class_names)}

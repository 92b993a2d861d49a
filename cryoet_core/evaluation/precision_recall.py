"""Precision, recall and F1 over the thresholds of a score, from which picks are hits."""

from __future__ import annotations

from typing import Any

import numpy as np

CURVE_POINTS = 200
HISTOGRAM_BINS = 40


def scores_of_counts(hits: int, n_picks: int, n_truth: int) -> dict[str, float]:
    """Precision, recall, F1 and F-beta for beta = 4 from counts.

    F-beta for beta = 4 counts a missed particle as much as 16 false picks.

    Parameters
    ----------
    hits : int
        Picks that found a particle.
    n_picks : int
        All picks.
    n_truth : int
        All particles.

    Returns
    -------
    dict
        ``precision``, ``recall``, ``f1`` and ``f_beta4``; 0 where undefined.

    Examples
    --------
    >>> scores_of_counts(5, 10, 20)["precision"], scores_of_counts(5, 10, 20)["recall"]
    (0.5, 0.25)
    """
    precision, recall = hits / n_picks if n_picks else 0.0, hits / n_truth if n_truth else 0.0
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * hits / (n_picks + n_truth) if hits else 0.0,
        "f_beta4": 17 * hits / (16 * n_truth + n_picks) if hits else 0.0,
    }


def curve(scores: np.ndarray, hit: np.ndarray, n_truth: int) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of the picks at or above each score that occurs, highest first.

    Parameters
    ----------
    scores : array of float, shape (n,)
        Equal scores are one point. Picks without a score (NaN) are the last point, of threshold
        NaN.
    hit : array of bool, shape (n,)
        Which picks found a particle.
    n_truth : int
        Number of particles.

    Returns
    -------
    dict of str to array
        ``threshold``, ``hits``, ``precision``, ``recall`` and ``f1``.
    """
    keys = np.nan_to_num(scores.astype(np.float64), nan=-np.inf)
    order = np.argsort(-keys, kind="stable")
    keys, hits = keys[order], np.cumsum(hit[order])
    last = (
        np.flatnonzero(np.append(keys[1:] != keys[:-1], True))
        if len(keys)
        else np.zeros(0, np.int64)
    )
    hits, taken = hits[last], last + 1
    threshold = np.where(np.isneginf(keys[last]), np.nan, keys[last])
    return {
        "threshold": threshold,
        "hits": hits,
        "precision": hits / taken,
        "recall": hits / n_truth if n_truth else np.zeros(len(hits)),
        "f1": 2 * hits / (taken + n_truth),
    }


def average_precision(scores: np.ndarray, hit: np.ndarray, n_truth: int) -> float:
    """The area under the steps of the precision-recall curve, not interpolated.

    It is the sum over groups of equal score of precision times newly found particles, divided by
    the number of particles.

    Parameters
    ----------
    scores : array of float, shape (n,)
        Picks without a score (NaN) come last.
    hit : array of bool, shape (n,)
        Which picks found a particle.
    n_truth : int
        Number of particles.

    Returns
    -------
    float
        0 to 1.

    Examples
    --------
    >>> average_precision(np.array([0.9, 0.5, 0.1]), np.array([True, False, True]), 2)
    0.8333333333333333
    """
    points = curve(scores, hit, n_truth)
    new = np.diff(points["hits"], prepend=0)
    return float((points["precision"] * new).sum() / n_truth) if n_truth else 0.0


def thinned_curve(
    scores: np.ndarray, ranked: np.ndarray, n_truth: int
) -> dict[str, list[float | None]]:
    """About ``CURVE_POINTS`` points, evenly along the curve, with the best F1 and both ends.

    Parameters
    ----------
    scores : array of float, shape (n,)
        Scores of the picks.
    ranked : array of bool, shape (n,)
        Which picks count as hits in a ranking by score; see ``Match``.
    n_truth : int
        Number of particles.

    Returns
    -------
    dict of str to list
        ``threshold``, ``precision``, ``recall`` and ``f1``, ready for JSON.
    """
    points = curve(scores, ranked, n_truth)
    n = len(points["f1"])
    if n > CURVE_POINTS:
        length = np.cumsum(
            np.hypot(
                *(np.diff(points[key], prepend=points[key][0]) for key in ("recall", "precision"))
            )
        )
        even = np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS - 2))
        rows = np.unique([0, *np.minimum(even, n - 1), int(points["f1"].argmax()), n - 1])
    else:
        rows = np.arange(n)
    return {
        key: [number(v) for v in points[key][rows]]
        for key in ("threshold", "precision", "recall", "f1")
    }


def histogram(scores: np.ndarray, hits: np.ndarray) -> dict[str, Any] | None:
    """Edges and counts of hits and of false picks by score; None where no pick has a score."""
    known = np.isfinite(scores)
    if not known.any():
        return None
    edges = np.histogram_bin_edges(scores[known].astype(np.float64), HISTOGRAM_BINS)
    parts = {"hits": known & hits, "false": known & ~hits}
    return {"edges": edges.tolist()} | {
        name: np.histogram(scores[x], edges)[0].tolist() for name, x in parts.items()
    }


def number(value: float) -> float | None:
    """The value, None where it is not finite."""
    return float(value) if np.isfinite(value) else None

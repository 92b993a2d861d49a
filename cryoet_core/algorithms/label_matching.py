"""Which cluster is which class, or which cluster of an earlier step: tables of counts and
one-to-one matchings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Contingency:
    """counts (c, k): how many rows have true class ``classes[i]`` and cluster ``clusters[j]``; both
    ascending.
    """

    classes: Ints
    clusters: Ints
    counts: Ints


def contingency(true: ArrayLike, predicted: ArrayLike) -> Contingency:
    """Count every pair of labels, negative ones like any other.

    ValueError when the lengths differ.
    """
    true, predicted = same_length(true, predicted)
    classes, rows = np.unique(true, return_inverse=True)
    clusters, columns = np.unique(predicted, return_inverse=True)
    flat = np.bincount(
        rows * max(len(clusters), 1) + columns, minlength=len(classes) * len(clusters)
    )
    return Contingency(
        classes, clusters, flat.reshape(len(classes), len(clusters)).astype(np.int64)
    )


def hungarian(counts: ArrayLike) -> tuple[Ints, Ints]:
    """Rows and columns of the one-to-one matching with the largest total count; rectangular tables
    are allowed.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(np.asarray(counts), maximize=True)
    return rows.astype(np.int64), columns.astype(np.int64)


def match_permutation(previous: ArrayLike, new: ArrayLike, k: int | None = None) -> Ints:
    """The permutation ``p`` (k,) of 0..k-1 for which ``p[new]`` agrees most with ``previous``.

    ``k`` is by default one more than the largest label. Among equally good ones it is one that
    keeps the most numbers. Negative labels take no part.
    """
    previous, new = same_length(previous, new)
    size = max([int(labels.max()) + 1 for labels in (previous, new) if labels.size] + [k or 0])
    both = (previous >= 0) & (new >= 0)
    counts = np.bincount(new[both] * size + previous[both], minlength=size * size).reshape(
        size, size
    )
    # A kept number is worth less than one row, even if all are kept.
    rows, columns = hungarian(counts * (size + 1) + np.eye(size, dtype=np.int64))
    permutation = np.arange(size, dtype=np.int64)
    permutation[rows] = columns
    return permutation


def match_labels(previous: ArrayLike, new: ArrayLike) -> Ints:
    """``new`` with its clusters renumbered to agree most with ``previous`` (Hungarian); -1 stays
    -1.
    """
    new = np.asarray(new, dtype=np.int64)
    permutation = match_permutation(previous, new)
    return np.where(new >= 0, permutation[np.maximum(new, 0)], new) if new.size else new


def same_length(a: ArrayLike, b: ArrayLike) -> tuple[Ints, Ints]:
    first, second = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"labels of shapes {first.shape} and {second.shape}: expected two vectors of one length"
        )
    return first, second


def best_matching(table: Contingency) -> dict[int, int]:
    """Row index -> column index of the best matching; the column of -1 matches nothing."""
    usable = np.flatnonzero(table.clusters >= 0)
    rows, columns = hungarian(table.counts[:, usable])
    return {int(row): int(usable[column]) for row, column in zip(rows, columns, strict=True)}

"""How well labels agree: clusterings up to the names of the clusters, classifications name by name.

Labels are integers. A row whose true label is negative is unlabelled: the reports leave it out and
count it. A row whose predicted label is negative was not assigned: it is an error in every
accuracy, and one group of its own in the measures of information (ARI, NMI, homogeneity,
completeness). Entropies are in nats. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryoet_core.algorithms.label_matching import (
    Contingency,
    best_matching,
    contingency,
    hungarian,
    match_labels,
    match_permutation,
    same_length,
)

__all__ = [
    "accuracy",
    "adjusted_rand_index",
    "balanced_accuracy",
    "classification_report",
    "clustering_report",
    "completeness",
    "confusion_matrix",
    "contingency",
    "homogeneity",
    "hungarian",
    "majority",
    "match_labels",
    "match_permutation",
    "matched_accuracy",
    "normalised_mutual_information",
    "purity",
    "top_k_accuracy",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


# ---- clustering ----------------------------------------------------------------------------------


def matched_accuracy(true: ArrayLike, predicted: ArrayLike) -> float:
    """The fraction of rows on which classes and clusters agree under their best matching.

    The matching is one-to-one: rows of clusters without a class are errors.

    Parameters
    ----------
    true, predicted : array_like of int, shape (n,)
        Classes and clusters. Negative predictions are not assigned.

    Returns
    -------
    float
        0 to 1; NaN without rows.

    Examples
    --------
    >>> matched_accuracy([0, 0, 1, 1], [7, 7, 7, 3])
    0.75
    """
    table = contingency(true, predicted)
    return _ratio(
        sum(int(table.counts[i, j]) for i, j in best_matching(table).items()),
        int(table.counts.sum()),
    )


def balanced_accuracy(true: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over the true classes of the fraction found, matched as in ``matched_accuracy``."""
    table = contingency(true, predicted)
    matched, totals = best_matching(table), table.counts.sum(axis=1)
    found = [
        table.counts[i, matched[i]] / totals[i] if i in matched else 0.0 for i in range(len(totals))
    ]
    return float(np.mean(found)) if found else float("nan")


def adjusted_rand_index(true: ArrayLike, predicted: ArrayLike) -> float:
    """Adjusted Rand index: 1 for equal partitions, 0 expected by chance; it may be negative.

    Parameters
    ----------
    true, predicted : array_like of int, shape (n,)
        Classes and clusters.

    Returns
    -------
    float
        The index; 1 for fewer than two rows.

    References
    ----------
    Hubert and Arabie (1985). Comparing partitions. Journal of Classification 2, 193-218.
    doi:10.1007/BF01908075

    Examples
    --------
    >>> adjusted_rand_index([0, 0, 1, 1], [1, 1, 0, 0])
    1.0
    """
    counts = contingency(true, predicted).counts
    together, in_class, in_cluster = (
        _pairs(x) for x in (counts, counts.sum(axis=1), counts.sum(axis=0))
    )
    total = _pairs(counts.sum())
    if total == 0:
        return 1.0
    expected, best = in_class * in_cluster / total, (in_class + in_cluster) / 2
    return 1.0 if best == expected else (together - expected) / (best - expected)


def homogeneity(true: ArrayLike, predicted: ArrayLike) -> float:
    """1 - H(class | cluster) / H(class): 1 when every cluster holds one class.

    It rises with the number of clusters.
    """
    return _homogeneity(contingency(true, predicted).counts)


def completeness(true: ArrayLike, predicted: ArrayLike) -> float:
    """1 - H(cluster | class) / H(cluster): 1 when every class is in one cluster.

    It falls with the number of clusters.
    """
    return _homogeneity(contingency(true, predicted).counts.T)


def normalised_mutual_information(true: ArrayLike, predicted: ArrayLike) -> float:
    """2 I / (H(class) + H(cluster)): the harmonic mean of homogeneity and completeness (V-measure).

    The normaliser is the arithmetic mean of the two entropies.
    """
    h, c = homogeneity(true, predicted), completeness(true, predicted)
    return 2 * h * c / (h + c) if h + c > 0 else 0.0


def purity(true: ArrayLike, predicted: ArrayLike) -> float:
    """The fraction of rows in the largest class of their cluster.

    It reaches 1 with enough clusters, so state the number of clusters with it.
    """
    table = contingency(true, predicted)
    largest = table.counts[:, table.clusters >= 0].max(axis=0, initial=0)
    return _ratio(int(largest.sum()), int(table.counts.sum()))


def majority(true: ArrayLike) -> float:
    """The score of a constant answer: the fraction of rows in the largest class."""
    _, counts = np.unique(np.asarray(true), return_counts=True)
    return _ratio(int(counts.max(initial=0)), int(counts.sum()))


def _pairs(counts: Any) -> float:
    counts = np.asarray(counts, dtype=np.float64)
    return float((counts * (counts - 1) / 2).sum())


def _homogeneity(counts: Ints) -> float:
    n = counts.sum()
    if n == 0:
        return 1.0
    entropy = _entropy(counts.sum(axis=1) / n)
    if entropy == 0.0:
        return 1.0
    within = counts.sum(axis=0)
    conditional = sum(w / n * _entropy(counts[:, j] / w) for j, w in enumerate(within) if w)
    return float(np.clip(1 - conditional / entropy, 0.0, 1.0))


def _entropy(fractions: Floats) -> float:
    fractions = fractions[fractions > 0]
    return float(-(fractions * np.log(fractions)).sum()) if len(fractions) > 1 else 0.0


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def clustering_report(
    true: ArrayLike,
    predicted: ArrayLike,
    class_names: Sequence[str] = (),
    cluster_names: Sequence[str] = (),
) -> dict[str, Any]:
    """All measures of a clustering as plain numbers, lists and text, ready for JSON.

    Parameters
    ----------
    true : array_like of int, shape (n,)
        Classes; negative where unknown.
    predicted : array_like of int, shape (n,)
        Clusters; negative where not assigned.
    class_names : sequence of str
        Names of the classes; a class without one is named by its number.
    cluster_names : sequence of str
        Names of the clusters.

    Returns
    -------
    dict
        ``n`` counts the labelled rows, ``k`` the clusters found in all rows. ``matching`` maps
        cluster names to class names. ``confusion["counts"]`` has a row per class and a column per
        cluster, the matched ones of both first and in the same order, so that agreement is on the
        diagonal; rows that were not assigned are the last column. What is undefined is None.
    """
    true, predicted = same_length(true, predicted)
    known = true >= 0
    k = len(np.unique(predicted[predicted >= 0]))
    unlabelled = int((~known).sum())
    true, predicted = true[known], predicted[known]
    table = contingency(true, predicted)
    matched = best_matching(table)
    rest = [j for j in range(len(table.clusters)) if j not in matched.values()]
    rows = [*matched, *(i for i in range(len(table.classes)) if i not in matched)]
    columns = [
        *matched.values(),
        *sorted(rest, key=lambda j: (table.clusters[j] < 0, table.clusters[j])),
    ]
    classes = [_name(class_names, i) for i in table.classes]
    clusters = [_name(cluster_names, j) for j in table.clusters]
    return {
        "n": int(table.counts.sum()),
        "unlabelled": unlabelled,
        "unassigned": int((predicted < 0).sum()),
        "k": k,
        "classes": len(classes),
        "matched_accuracy": _defined(matched_accuracy(true, predicted)),
        "balanced_accuracy": _defined(balanced_accuracy(true, predicted)),
        "ari": adjusted_rand_index(true, predicted) if len(true) else None,
        "nmi": normalised_mutual_information(true, predicted) if len(true) else None,
        "homogeneity": homogeneity(true, predicted) if len(true) else None,
        "completeness": completeness(true, predicted) if len(true) else None,
        "purity": _defined(purity(true, predicted)),
        "majority": _defined(majority(true)),
        "matching": {clusters[j]: classes[i] for i, j in matched.items()},
        "per_class": [
            _class_row(table, i, matched.get(i), classes, clusters) for i in range(len(classes))
        ],
        "confusion": {
            "rows": [classes[i] for i in rows],
            "columns": [clusters[j] for j in columns],
            "counts": table.counts[np.ix_(rows, columns)].tolist(),
        },
    }


def _class_row(
    table: Contingency, row: int, column: int | None, classes: list[str], clusters: list[str]
) -> dict[str, Any]:
    n = int(table.counts[row].sum())
    hits = int(table.counts[row, column]) if column is not None else 0
    size = int(table.counts[:, column].sum()) if column is not None else 0
    scores = _scores(hits, size, n)
    return {
        "class": classes[row],
        "n": n,
        "cluster": clusters[column] if column is not None else None,
        **scores,
    }


def _scores(hits: int, predicted: int, n: int) -> dict[str, float]:
    """Precision, recall and F1; 0 where undefined."""
    return {
        "precision": hits / predicted if predicted else 0.0,
        "recall": hits / n if n else 0.0,
        "f1": 2 * hits / (predicted + n) if predicted + n else 0.0,
    }


def _name(names: Sequence[str], index: int) -> str:
    return "not assigned" if index < 0 else names[index] if index < len(names) else str(index)


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value


# ---- classification ------------------------------------------------------------------------------


def accuracy(true: ArrayLike, predicted: ArrayLike) -> float:
    """The fraction of correct rows, label for label.

    Examples
    --------
    >>> accuracy([0, 1, 1, 2], [0, 1, 2, 2])
    0.75
    """
    true, predicted = same_length(true, predicted)
    return _ratio(int((true == predicted).sum()), len(true))


def confusion_matrix(true: ArrayLike, predicted: ArrayLike, size: int) -> Ints:
    """Counts of true and predicted classes.

    Parameters
    ----------
    true : array_like of int, shape (n,)
        Classes; negative rows are left out.
    predicted : array_like of int, shape (n,)
        Predicted classes; rows that were not assigned (-1) are in no column.
    size : int
        Number of classes.

    Returns
    -------
    array of int, shape (size, size)
        Rows true, columns predicted.

    Examples
    --------
    >>> confusion_matrix([0, 1, 1], [0, 1, -1], 2).tolist()
    [[1, 0], [0, 1]]
    """
    true, predicted = same_length(true, predicted)
    assigned = (true >= 0) & (predicted >= 0)
    flat = np.bincount(true[assigned] * size + predicted[assigned], minlength=size * size)
    return flat.reshape(size, size).astype(np.int64)


def top_k_accuracy(true: ArrayLike, probabilities: ArrayLike, k: int) -> float:
    """The fraction of rows whose class is among the most probable ones.

    Parameters
    ----------
    true : array_like of int, shape (n,)
        Classes.
    probabilities : array_like of float, shape (n, classes)
        Of equal ones the first counts.
    k : int
        How many classes count.

    Returns
    -------
    float
        0 to 1; NaN without rows.

    Examples
    --------
    >>> top_k_accuracy([2, 0], [[0.5, 0.3, 0.2], [0.4, 0.5, 0.1]], k=2)
    0.5
    """
    true, scores = np.asarray(true, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return _ratio(int((best == true[:, None]).any(axis=1).sum()), len(true))


def classification_report(
    true: ArrayLike,
    predicted: ArrayLike,
    class_names: Sequence[str] = (),
    probabilities: ArrayLike | None = None,
    top_k: Sequence[int] = (),
) -> dict[str, Any]:
    """All measures of a classification, ready for JSON.

    Parameters
    ----------
    true : array_like of int, shape (n,)
        Classes; negative where unknown.
    predicted : array_like of int, shape (n,)
        Predicted classes; negative where not assigned.
    class_names : sequence of str
        Names of the classes; a class without one is named by its number.
    probabilities : array_like of float, shape (n, classes), optional
        Given with ``top_k``.
    top_k : sequence of int
        The values of k for which the top-k accuracy is given, under ``top_k``.

    Returns
    -------
    dict
        Accuracy, precision, recall and F1 of each class, macro and micro means and the confusion
        matrix. Macro means run over the classes that occur as true or predicted label. A class
        that nothing was assigned to has precision 0 and ``"predicted": 0``.
    """
    true, predicted = same_length(true, predicted)
    known = true >= 0
    unlabelled = int((~known).sum())
    true, predicted = true[known], predicted[known]
    size = max([len(class_names)] + [int(x.max()) + 1 for x in (true, predicted) if x.size])
    counts, totals = confusion_matrix(true, predicted, size), np.bincount(true, minlength=size)
    names = [_name(class_names, i) for i in range(size)]
    rows: list[dict[str, Any]] = [
        {
            "class": names[i],
            "n": int(totals[i]),
            "predicted": int(counts[:, i].sum()),
            **_scores(int(counts[i, i]), int(counts[:, i].sum()), int(totals[i])),
        }
        for i in range(size)
        if totals[i] or counts[:, i].any()
    ]
    hits, assigned = int(np.trace(counts)), int(counts.sum())
    present = [row["recall"] for row in rows if row["n"]]
    report: dict[str, Any] = {
        "n": len(true),
        "unlabelled": unlabelled,
        "unassigned": len(true) - assigned,
        "classes": len(present),
        "accuracy": _defined(_ratio(hits, len(true))),
        "balanced_accuracy": float(np.mean(present)) if present else None,
        "majority": _defined(majority(true)),
        "macro": _macro(rows),
        "micro": _scores(hits, assigned, len(true)),
        "per_class": rows,
        "confusion": {"rows": names, "columns": names, "counts": counts.tolist()},
    }
    if probabilities is not None:
        scores = np.asarray(probabilities, dtype=np.float64)[known]
        report["top_k"] = {str(k): _defined(top_k_accuracy(true, scores, k)) for k in top_k}
    return report


def _macro(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    keys = ("precision", "recall", "f1")
    return {key: float(np.mean([row[key] for row in rows])) if rows else None for key in keys}

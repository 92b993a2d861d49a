"""How good labels are where the true ones are known: the metrics of the method's task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cryoet_core.evaluation.metrics import classification_report, clustering_report
from cryoet_core.store.layout import SPLITS

if TYPE_CHECKING:
    from cryoet_core.plugins.interfaces import Labels

SPLIT = "split"
"""In ``Labels.extra``: (n,) codes into ``SPLITS``, how the method used the rows of its own data."""


def comparable(true: np.ndarray) -> bool:
    """Whether labels (-1: unknown) are of two classes at least.

    With a single class, any clusters agree with it.
    """
    return len(set(true[true >= 0].tolist())) > 1


def held_out(labels: Labels) -> np.ndarray:
    """Rows that count, (n,) bool.

    Where a method learnt from some rows, these are the rows that it kept for the test; else all.
    """
    codes = labels.extra.get(SPLIT)
    if codes is None or not (codes == SPLITS.index("test")).any():
        return np.ones(len(labels), dtype=bool)
    return np.asarray(codes == SPLITS.index("test"))


def score(
    task: str, labels: Labels, true: np.ndarray, class_names: Sequence[str]
) -> dict[str, Any]:
    """Metrics of labels against the true ones, ready for JSON.

    Clusters are matched to classes; classes are compared by name, so one that the data does not
    have is an error. Of a classifier only the rows of ``held_out`` count.

    Parameters
    ----------
    task : {"clustering", "classification"}
        What the labels are.
    labels : Labels
        What a method said of n subtomograms.
    true : array of int, shape (n,)
        Index into ``class_names``, -1 where unknown.
    class_names : sequence of str
        Names of the true classes.

    Returns
    -------
    dict
        A ``clustering_report`` or a ``classification_report``; the latter has ``held_out``, the
        number of rows that count, None where all count.
    """
    if task != "classification":
        return clustering_report(true, labels.labels, class_names, labels.classes)
    rows = held_out(labels)
    report = classification_report(
        true[rows],
        in_classes(labels, class_names)[rows],
        class_names,
        probabilities_of(labels, class_names)[rows],
    )
    return report | {"held_out": None if rows.all() else int(rows.sum())}


def in_classes(labels: Labels, class_names: Sequence[str]) -> np.ndarray:
    """Labels (n,) numbered as ``class_names`` are; a class that is not among them is -1."""
    names = {name: i for i, name in enumerate(class_names)}
    table = np.array([*(names.get(name, -1) for name in labels.classes), -1])
    return np.asarray(table[labels.labels])


def probabilities_of(labels: Labels, class_names: Sequence[str]) -> np.ndarray:
    """Probabilities (n, classes) with a column for each of ``class_names``.

    A column is 0 where the method does not know the class.
    """
    found = np.zeros((len(labels), len(class_names)), np.float32)
    for column, name in enumerate(labels.classes):
        if name in class_names:
            found[:, list(class_names).index(name)] = labels.probabilities[:, column]
    return found

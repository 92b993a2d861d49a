"""Labels against true ones: what counts, and what it is compared with."""

import numpy as np
import pytest

from cryoet_core.evaluation.metrics import clustering_report
from cryoet_core.evaluation.scoring import held_out, in_classes, probabilities_of, score
from cryoet_core.plugins.interfaces import Labels

TRUE = np.array([0, 0, 1, 1, 2, -1])
NAMES = ("a", "b", "c")


def labels(
    found: list[int], classes: tuple[str, ...] = ("b", "a", "other"), **extra: np.ndarray
) -> Labels:
    probabilities = np.full((len(found), len(classes)), 0.1, np.float32)
    probabilities[np.arange(len(found)), np.maximum(found, 0)] = 0.8
    return Labels(np.array(found), probabilities, classes, extra=extra)


def test_classes_are_compared_by_name_and_a_foreign_one_is_an_error() -> None:
    given = labels([1, 1, 0, 1, 2, 0])  # a a b a other b
    np.testing.assert_array_equal(in_classes(given, NAMES), [0, 0, 1, 0, -1, 1])
    report = score("classification", given, TRUE, NAMES)
    assert report["accuracy"] == pytest.approx(3 / 5)
    assert report["unassigned"] == 1
    assert report["held_out"] is None
    np.testing.assert_allclose(probabilities_of(given, NAMES)[0], [0.8, 0.1, 0.0])


def test_only_what_was_held_out_counts() -> None:
    split = np.array([0, 2, 0, 1, 2, 2], np.int8)
    given = labels([1, 1, 1, 1, 2, 0], split=split)
    np.testing.assert_array_equal(held_out(given), split == 2)
    report = score("classification", given, TRUE, NAMES)
    assert (report["n"], report["held_out"], report["unlabelled"]) == (2, 3, 1)
    assert report["accuracy"] == pytest.approx(0.5)


def test_a_split_without_a_test_part_changes_nothing() -> None:
    given = labels([1, 1, 0, 1, 2, 0], split=np.zeros(6, np.int8))
    assert score("classification", given, TRUE, NAMES)["n"] == 5


def test_clusters_are_matched() -> None:
    given = labels([2, 2, 0, 0, 1, 1], classes=("x", "y", "z"))
    report = score("clustering", given, TRUE, NAMES)
    assert report == clustering_report(TRUE, given.labels, NAMES, given.classes)
    assert report["matched_accuracy"] == 1

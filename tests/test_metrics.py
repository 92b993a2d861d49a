"""Scores of clusterings and classifications: against scikit-learn, by hand, and at the edges."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from cryoet_core.evaluation import metrics

LABELS = st.integers(2, 60).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(0, 5), min_size=n, max_size=n) for _ in range(2)))
)


def random_labels(n: int, classes: int, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, n)
    noise = rng.integers(0, clusters, n)
    return true, np.where(rng.random(n) < 0.6, (true * 3 + 1) % clusters, noise)


@given(LABELS)
def test_information_measures_equal_those_of_scikit_learn(labels):
    true, predicted = labels
    assert metrics.adjusted_rand_index(true, predicted) == pytest.approx(
        reference.adjusted_rand_score(true, predicted), abs=1e-9
    )
    assert metrics.homogeneity(true, predicted) == pytest.approx(
        reference.homogeneity_score(true, predicted), abs=1e-9
    )
    assert metrics.completeness(true, predicted) == pytest.approx(
        reference.completeness_score(true, predicted), abs=1e-9
    )
    assert metrics.normalised_mutual_information(true, predicted) == pytest.approx(
        reference.normalized_mutual_info_score(true, predicted), abs=1e-9
    )


@given(LABELS)
def test_matched_accuracy_is_the_best_over_all_matchings(labels):
    true, predicted = np.array(labels[0]), np.array(labels[1])
    best = max(float(np.mean(np.array(p)[predicted] == true)) for p in permutations(range(6)))
    assert metrics.matched_accuracy(true, predicted) == pytest.approx(best)


@given(LABELS, st.permutations(range(6)), st.randoms())
def test_the_names_of_clusters_and_the_order_of_rows_do_not_matter(labels, names, random):
    true, predicted = labels
    order = list(range(len(true)))
    random.shuffle(order)
    renamed = [names[predicted[i]] for i in order]
    before = metrics.clustering_report(true, predicted)
    after = metrics.clustering_report([true[i] for i in order], renamed)
    for key in (
        "n",
        "k",
        "matched_accuracy",
        "ari",
        "nmi",
        "homogeneity",
        "completeness",
        "purity",
        "majority",
    ):
        assert after[key] == pytest.approx(before[key], abs=1e-12), key


def test_rectangular_tables_leave_surplus_clusters_as_errors():
    true = [0] * 6 + [1] * 4
    split = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert metrics.matched_accuracy(true, split) == pytest.approx(0.8)
    assert metrics.balanced_accuracy(true, split) == pytest.approx((4 / 6 + 1) / 2)
    assert metrics.purity(true, split) == 1.0
    merged = [0] * 10
    assert metrics.matched_accuracy(true, merged) == pytest.approx(0.6)
    assert metrics.balanced_accuracy(true, merged) == pytest.approx(0.5)
    assert metrics.majority(true) == pytest.approx(0.6)


def test_a_constant_answer_on_the_rat_neuron_classes_scores_the_majority():
    sizes = (15167, 1095, 1043, 460, 386, 268)
    true = np.repeat(np.arange(6), sizes)
    report = metrics.clustering_report(true, np.zeros_like(true))
    assert report["matched_accuracy"] == report["majority"] == pytest.approx(0.823, abs=5e-4)
    assert report["balanced_accuracy"] == pytest.approx(1 / 6)
    assert report["ari"] == pytest.approx(0.0, abs=1e-12)
    assert report["nmi"] == 0.0


def test_report_leaves_out_unlabelled_rows_and_counts_unassigned_ones_as_errors():
    true = [0, 0, 0, 1, 1, -1, -1]
    predicted = [2, 2, -1, 0, 0, 0, 1]
    report = metrics.clustering_report(true, predicted, ["ribosome", "proteasome"])
    assert (report["n"], report["unlabelled"], report["unassigned"], report["k"]) == (5, 2, 1, 3)
    assert report["matched_accuracy"] == pytest.approx(0.8)
    assert report["purity"] == pytest.approx(0.8)
    assert report["matching"] == {"2": "ribosome", "0": "proteasome"}
    assert report["confusion"] == {
        "rows": ["ribosome", "proteasome"],
        "columns": ["2", "0", "not assigned"],
        "counts": [[2, 0, 1], [0, 2, 0]],
    }
    ribosome = report["per_class"][0]
    assert ribosome == {
        "class": "ribosome", "n": 3, "cluster": "2", "precision": 1.0,
        "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8),
    }  # fmt: skip


def test_an_all_unassigned_answer_scores_nothing():
    report = metrics.clustering_report([0, 1, 1], [-1, -1, -1])
    assert (report["k"], report["matched_accuracy"], report["purity"], report["unassigned"]) == (
        0,
        0.0,
        0.0,
        3,
    )
    assert report["confusion"]["columns"] == ["not assigned"]


def test_reports_are_strict_json_even_without_any_label():
    for true, predicted in (([-1, -1], [0, 1]), ([], []), ([0], [0]), ([3, 1], [7, 7])):
        text = json.dumps([metrics.clustering_report(true, predicted), metrics.classification_report(true, predicted)],
                          allow_nan=False)  # fmt: skip
        assert len(json.loads(text)) == 2
    empty = metrics.clustering_report([-1, -1], [0, 1])
    assert (empty["n"], empty["unlabelled"], empty["k"], empty["matched_accuracy"]) == (
        0,
        2,
        2,
        None,
    )


@given(LABELS)
def test_report_agrees_with_the_single_measures(labels):
    true, predicted = labels
    report = metrics.clustering_report(true, predicted)
    assert report["matched_accuracy"] == metrics.matched_accuracy(true, predicted)
    assert report["balanced_accuracy"] == metrics.balanced_accuracy(true, predicted)
    counts = np.array(report["confusion"]["counts"])
    assert np.trace(counts) / report["n"] == pytest.approx(report["matched_accuracy"])
    assert counts.sum() == report["n"]


def test_matching_restores_a_renamed_clustering():
    previous = np.random.default_rng(0).integers(0, 7, 300)
    names = np.random.default_rng(1).permutation(7)
    assert (metrics.match_labels(previous, names[previous]) == previous).all()
    permutation = metrics.match_permutation(previous, names[previous], k=9)
    assert (permutation[names] == np.arange(7)).all()
    assert sorted(permutation) == list(range(9))


def test_matching_keeps_numbers_that_nothing_argues_against():
    assert metrics.match_permutation([0, 0, 1, 1], [0, 0, 1, 1], k=4).tolist() == [0, 1, 2, 3]
    assert metrics.match_permutation([1, 1, -1, 2], [0, 0, 0, -1]).tolist() == [1, 0, 2]
    assert metrics.match_labels([0, 0, 1, 1], [1, -1, 0, 0]).tolist() == [0, -1, 1, 1]
    assert metrics.match_labels([], []).tolist() == []


def test_matching_has_the_largest_agreement():
    for seed in range(20):
        previous, new = random_labels(200, 5, 5, seed)
        agreement = np.mean(metrics.match_labels(previous, new) == previous)
        best = max(np.mean(np.array(p)[new] == previous) for p in permutations(range(5)))
        assert agreement == pytest.approx(best)


def test_classification_report_equals_scikit_learn():
    rng = np.random.default_rng(3)
    true = rng.integers(0, 6, 400)
    scores = rng.random((400, 6)) + 0.8 * np.eye(6)[true]
    predicted = scores.argmax(axis=1)
    names = [f"class {i}" for i in range(6)]
    report = metrics.classification_report(true, predicted, names, scores, top_k=(1, 2, 6))
    precision, recall, f1, support = reference.precision_recall_fscore_support(true, predicted)
    for i, row in enumerate(report["per_class"]):
        assert (row["class"], row["n"]) == (names[i], support[i])
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(
            (precision[i], recall[i], f1[i])
        )
    macro = reference.precision_recall_fscore_support(true, predicted, average="macro")[:3]
    assert tuple(report["macro"].values()) == pytest.approx(macro)
    assert report["accuracy"] == pytest.approx(reference.accuracy_score(true, predicted))
    assert report["micro"]["f1"] == pytest.approx(report["accuracy"])
    assert report["balanced_accuracy"] == pytest.approx(
        reference.balanced_accuracy_score(true, predicted)
    )
    assert report["confusion"]["counts"] == reference.confusion_matrix(true, predicted).tolist()
    assert report["top_k"] == {
        str(k): pytest.approx(reference.top_k_accuracy_score(true, scores, k=k) if k < 6 else 1.0)
        for k in (1, 2, 6)
    }


def test_classification_counts_unassigned_rows_as_errors_and_flags_classes_never_predicted():
    report = metrics.classification_report([0, 0, 1, 2, -1], [0, -1, 0, 2, 1], ["a", "b", "c"])
    assert (report["n"], report["unlabelled"], report["unassigned"]) == (4, 1, 1)
    assert report["accuracy"] == pytest.approx(0.5)
    b = report["per_class"][1]
    assert (b["class"], b["predicted"], b["precision"], b["recall"]) == ("b", 0, 0.0, 0.0)
    assert report["micro"] == {
        "precision": pytest.approx(2 / 3), "recall": pytest.approx(0.5), "f1": pytest.approx(4 / 7)
    }  # fmt: skip


def test_labels_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="expected two vectors of one length"):
        metrics.matched_accuracy([0, 1], [0, 1, 1])


def test_a_hundred_thousand_rows_take_well_under_a_second():
    import time

    true, predicted = random_labels(100_000, 40, 60, 0)
    start = time.perf_counter()
    metrics.clustering_report(true, predicted)
    assert time.perf_counter() - start < 2.0

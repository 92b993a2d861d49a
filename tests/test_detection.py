"""Matching of picks and particles against brute force, and the scores: published values,
invariances, wrong input.
"""

from __future__ import annotations

import itertools
import json
import time

import numpy as np
import pytest

from cryoet_core.evaluation.detection import (
    RULES,
    average_precision,
    compared,
    curve,
    detection_report,
    match,
    scores_of_counts,
)
from cryoet_core.picks.table import Picks, join
from cryoet_core.support.errors import UserError

RANDOM = np.random.default_rng(0)


def picks_of(positions, scores=None, tomogram="t", names=("particle",), classes=None):
    return Picks.of(
        np.asarray(positions, float), tomogram, scores=scores, class_names=names, classes=classes
    )


def cloud(n, size=60.0, scored=True, seed=0):
    random = np.random.default_rng(seed)
    return picks_of(random.uniform(0, size, (n, 3)), random.normal(size=n) if scored else None)


def best_by_trial(a, b, radius):
    """Most pairs, then least total distance, over every injection of the smaller set into the
    larger.
    """
    distance = np.linalg.norm(a[:, None] - b[None], axis=2)
    if len(a) > len(b):
        distance = distance.T
    best = (0, 0.0)
    for columns in itertools.permutations(range(distance.shape[1]), len(distance)):
        chosen = distance[np.arange(len(distance)), columns]
        inside = chosen[chosen <= radius]
        best = max(best, (len(inside), -inside.sum()))
    return best[0], -best[1]


@pytest.mark.parametrize("seed", range(20))
def test_the_optimal_rule_finds_what_trying_everything_finds(seed):
    a, b = cloud(5, 20, seed=seed), cloud(6, 20, seed=seed + 100)
    found = match(a, b, 9.0)
    count, total = best_by_trial(a.positions, b.positions, 9.0)
    assert len(found.picks) == count
    assert found.distance.sum() == pytest.approx(total)
    assert len(set(found.truth)) == len(found.truth) == len(set(found.picks))
    gaps = np.linalg.norm(a.positions[found.picks] - b.positions[found.truth], axis=1)
    np.testing.assert_allclose(gaps, found.distance)


def test_the_ranking_of_the_optimal_rule_is_right_at_every_threshold():
    picks, truth = cloud(60, 40, seed=3), cloud(40, 40, seed=4)
    ranked = match(picks, truth, 10.0).ranked
    for threshold in np.sort(picks.scores):
        kept = picks.scores >= threshold
        assert ranked[kept].sum() == len(match(picks.select(kept), truth, 10.0).picks)


def test_greedy_takes_the_nearest_free_one_and_the_optimal_rule_never_finds_fewer():
    # the better pick takes the particle that is the other one's only chance
    truth = picks_of([[0, 0, 0], [0, 0, 10]])
    picks = picks_of([[0, 0, 4], [0, 0, -5]], scores=[2.0, 1.0])
    assert match(picks, truth, 6.0, "greedy").truth.tolist() == [0]
    assert match(picks, truth, 6.0, "optimal").truth.tolist() == [1, 0]
    for seed in range(10):
        a, b = cloud(200, seed=seed), cloud(150, seed=seed + 50)
        assert len(match(a, b, 8.0, "greedy").picks) <= len(match(a, b, 8.0).picks)


def test_a_larger_radius_never_finds_fewer():
    a, b = cloud(300, seed=1), cloud(200, seed=2)
    counts = [len(match(a, b, radius).picks) for radius in (1, 2, 4, 6, 9, 14)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize(("radius", "reach"), [(2.0, 2.83), (5.0, 11.18)])
def test_the_published_script_reaches_r_to_the_power_of_three_halves_in_voxels(radius, reach):
    truth, voxel = picks_of([[0, 0, 0]]), 10.0

    def found(distance):
        picks = picks_of([[distance * voxel, 0, 0]])
        return len(match(picks, truth, radius * voxel, "r1.5", voxel_size=voxel).picks)

    assert (found(reach - 0.01), found(reach + 0.01)) == (1, 0)
    assert found(radius**1.5) == 0
    assert match(picks_of([[radius + 0.5, 0, 0]]), truth, radius, "optimal").picks.size == 0


def test_the_published_script_weighs_pairs_by_how_near_they_are():
    # two far pairs cost -0.19 r^3 each, one pair on the spot costs -r^3
    truth = picks_of([[0, 0, 0], [0, 0, 0.9]])
    picks = picks_of([[0, 0, 0], [0, 0, -0.9]])
    found = match(picks, truth, 1.0, "r1.5", voxel_size=1.0)
    assert (found.picks.tolist(), found.truth.tolist()) == ([0], [0])
    assert len(match(picks, truth, 1.0).picks) == 2


def test_the_rule_of_shrec_looks_up_the_mask():
    mask = np.zeros((20, 20, 20), np.int16)
    mask[2:5, 2:5, 2:5], mask[10:13, 10:13, 10:13] = 1, 2
    truth = picks_of(np.array([[3, 3, 3], [11, 11, 11]]) * 10.0, names=("a", "b"), classes=[0, 1])
    at = np.array([[3, 3, 3], [5, 3, 3], [6, 3, 3], [10, 10, 10], [-4, -4, -4], [2, 2, 1]]) * 10.0
    picks = picks_of(
        at, [0.5, 0.9, 0.9, 0.1, 0.2, 0.3], names=("a", "b"), classes=[0, 1, 0, 0, 0, 0]
    )
    found = match(picks, truth, 1.0, "shrec", voxel_size=10.0, masks={"t": mask})
    assert dict(zip(found.picks.tolist(), found.truth.tolist(), strict=True)) == {1: 0, 3: 1}
    assert found.distance[0] == pytest.approx(20.0)
    assert np.flatnonzero(found.repeats).tolist() == [0, 5]
    report = detection_report(
        picks_of(at, picks.scores),
        picks_of(truth.positions),
        1.0,
        rule="shrec",
        voxel_size=10.0,
        masks={"t": mask},
    )
    assert (report["hits"], report["repeats"], report["recall"]) == (2, 2, 1.0)
    assert report["precision"] == pytest.approx(2 / 6)
    report = detection_report(picks, truth, 1.0, rule="shrec", voxel_size=10.0, masks={"t": mask})
    # the first hit of particle a says b, that of b says a
    assert report["classification"]["macro"]["f1"] == 0.0
    right = picks_of(at[:4], [0.5, 0.4, 0.9, 0.1], names=("a", "b"), classes=[0, 1, 0, 1])
    report = detection_report(right, truth, 1.0, rule="shrec", voxel_size=10.0, masks={"t": mask})
    assert report["classification"]["macro"]["f1"] == 1.0


def test_the_mask_numbers_all_particles_also_where_one_class_is_asked_for():
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[1, 1, 1], mask[5, 5, 5] = 1, 2
    truth = picks_of([[1, 1, 1], [5, 5, 5]], names=("a", "b"), classes=[0, 1])
    picks = picks_of([[1, 1, 1], [5, 5, 5]], [1.0, 2.0])
    report = detection_report(
        picks, truth, 1.0, rule="shrec", voxel_size=1.0, masks={"t": mask}, particle="b"
    )
    assert (report["n_truth"], report["hits"], report["n_picks"]) == (1, 1, 2)


def test_perfect_picks_and_no_picks():
    truth = cloud(50, seed=5)
    report = detection_report(cloud(50, seed=5), truth, 5.0)
    keys = ("precision", "recall", "f1", "f_beta4", "ap", "best_f1")
    assert [report[key] for key in keys] == [1.0] * 6
    assert report["mean_distance"] == 0.0
    report = detection_report(Picks.empty(), truth, 5.0)
    assert [report[key] for key in keys] == [0.0] * 6
    assert report["n_truth"] == 50
    assert report["best_threshold"] is None
    json.dumps(report, allow_nan=False)


def test_copies_of_a_pick_count_once():
    truth = picks_of([[0, 0, 0], [50, 50, 50]])
    picks = picks_of([[0, 0, k / 10] for k in range(5)], scores=range(5))
    for rule in ("optimal", "greedy"):
        report = detection_report(picks, truth, 5.0, rule=rule)
        assert (report["hits"], report["precision"], report["recall"]) == (1, 0.2, 0.5)


@pytest.mark.parametrize("rule", ["optimal", "greedy", "r1.5"])
def test_the_order_of_rows_changes_nothing(rule):
    picks, truth = cloud(80, 30, seed=6), cloud(50, 30, seed=7)
    picks = join([picks, picks.select(np.arange(20))])  # copies: ties in score and place
    reference = detection_report(picks, truth, 5.0, rule=rule, voxel_size=2.0)
    for seed in range(3):
        random = np.random.default_rng(seed)
        a, b = (part.select(random.permutation(len(part))) for part in (picks, truth))
        assert detection_report(a, b, 5.0, rule=rule, voxel_size=2.0) == reference


def test_average_precision_groups_ties_and_does_not_interpolate():
    hit = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3, 2, 1]), hit, 2) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([4.0, 4, 2, 1]), hit, 2) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert average_precision(np.array([1.0, 1, 1, 1]), hit, 2) == pytest.approx(0.5)
    assert average_precision(np.array([4.0, 3, 2, 1]), hit, 4) == pytest.approx((1 + 2 / 3) / 4)
    assert (
        average_precision(np.array([9.0, 8, 2, 1]), np.array([True, True, False, False]), 2) == 1.0
    )
    assert average_precision(np.zeros(0), np.zeros(0, bool), 3) == 0.0


def test_average_precision_is_that_of_scikit_learn_where_all_are_found():
    from sklearn.metrics import average_precision_score

    scores, hit = np.round(RANDOM.normal(size=300), 1), RANDOM.random(300) < 0.4
    assert average_precision(scores, hit, int(hit.sum())) == pytest.approx(
        average_precision_score(hit, scores)
    )


def test_ap_counts_the_particles_of_all_tomograms_and_is_truncated_on_request():
    truth = join(
        [picks_of([[0, 0, 0]], tomogram="a"), picks_of([[0, 0, 0], [90, 0, 0]], tomogram="b")]
    )
    picks = join(
        [picks_of([[0, 0, 0]], [0.9], "a"), picks_of([[0, 0, 0], [40, 0, 0]], [0.2, 0.5], "b")]
    )
    report = detection_report(picks, truth, 5.0, truncate=0.4)
    assert report["ap"] == pytest.approx((1 + 2 / 3) / 3)
    assert report["ap_truncated"] == {"threshold": pytest.approx(0.4), "ap": pytest.approx(1 / 3)}
    rows = {row["tomogram"]: row for row in report["per_tomogram"]}
    assert (rows["a"]["f1"], rows["b"]["hits"], rows["b"]["n_truth"]) == (1.0, 1, 2)


def test_the_best_threshold_gives_the_best_f1():
    picks, truth = cloud(400, seed=8), cloud(150, seed=9)
    report = detection_report(picks, truth, 4.0)
    above = picks.select(picks.scores >= report["best_threshold"])
    assert detection_report(above, truth, 4.0)["f1"] == pytest.approx(report["best_f1"])
    trials = [
        detection_report(picks.select(picks.scores >= t), truth, 4.0)["f1"]
        for t in picks.scores[::20]
    ]
    assert max(trials) <= report["best_f1"] + 1e-12


def test_the_curve_is_thinned_without_losing_its_ends_and_its_best():
    scores, hit = RANDOM.normal(size=5000), RANDOM.random(5000) < 0.5
    picks = picks_of(np.arange(15000).reshape(5000, 3) * 100.0, scores)
    truth = picks_of(picks.positions[hit])
    report = detection_report(picks, truth, 5.0)
    found = report["curve"]
    full = curve(picks.scores, hit, len(truth))
    assert 100 < len(found["f1"]) <= 200
    assert max(found["f1"]) == report["best_f1"] == full["f1"].max()
    assert found["recall"][-1] == 1.0
    assert found["threshold"][0] == picks.scores.max()
    assert found["recall"] == sorted(found["recall"])
    assert sum(report["histogram"]["hits"]) == hit.sum()
    assert sum(report["histogram"]["false"]) == (~hit).sum()


def test_picks_without_scores_come_last():
    truth = picks_of([[0, 0, 0], [50, 0, 0]])
    picks = picks_of([[0, 0, 0], [50, 0, 0], [90, 0, 0]], [0.5, np.nan, np.nan])
    report = detection_report(picks, truth, 5.0)
    assert report["ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert report["curve"]["threshold"] == [0.5, None]
    none = detection_report(picks_of(picks.positions), truth, 5.0)
    assert none["ap"] is None
    assert none["histogram"] is None
    assert none["f1"] == none["best_f1"] == 0.8
    json.dumps(none, allow_nan=False)


def test_classes_of_the_same_name_are_compared_with_each_other():
    truth = picks_of(
        [[0, 0, 0], [50, 0, 0], [99, 0, 0]], names=("ribosome", "tric", "bead"), classes=[0, 1, 2]
    )
    picks = picks_of([[0, 0, 0], [50, 0, 0]], [1, 2], names=("tric", "ribosome"), classes=[0, 1])
    report = detection_report(picks, truth, 5.0)
    assert report["hits"] == 0
    assert [(row["class"], row["n_truth"]) for row in report["per_class"]] == [
        ("ribosome", 1),
        ("tric", 1),
    ]
    assert report["left_out"] == {"truth": {"bead": 1}}
    right = picks_of([[50, 0, 0], [0, 0, 0]], [1, 2], names=("tric", "ribosome"), classes=[0, 1])
    assert detection_report(right, truth, 5.0)["f1"] == 1.0
    assert detection_report(right, truth, 5.0, particle="tric")["n_picks"] == 1


def test_picks_of_one_class_are_compared_with_the_class_that_is_named():
    truth = picks_of([[0, 0, 0], [50, 0, 0]], names=("ribosome", "tric"), classes=[0, 1])
    picks = picks_of([[0, 0, 0], [50, 0, 0]], [1, 2])
    report = detection_report(picks, truth, 5.0, particle="tric")
    assert (report["n_picks"], report["n_truth"], report["hits"]) == (2, 1, 1)
    with pytest.raises(
        UserError,
        match=r"the picks are of particle, the particles of ribosome, tric; .* `particle`",
    ):
        detection_report(picks, truth, 5.0)
    with pytest.raises(UserError, match="class 'actin'"):
        detection_report(picks, truth, 5.0, particle="actin")


def test_tomograms_that_are_not_known_are_left_out_and_said_so():
    truth = picks_of([[0, 0, 0]], tomogram="a")
    picks = join([picks_of([[0, 0, 0]], [1], "a"), picks_of([[0, 0, 0]], [1], "b")])
    report = detection_report(picks, truth, 5.0)
    assert (report["n_picks"], report["left_out"]) == (1, {"tomograms": ["b"], "picks_there": 1})
    report = detection_report(picks, truth, 5.0, tomograms=["a", "b"])
    assert (report["n_picks"], report["precision"]) == (2, 0.5)
    assert [row["tomogram"] for row in report["per_tomogram"]] == ["a", "b"]
    with pytest.raises(UserError, match=r"none of the 1 picks .* are in b, the particles in a"):
        detection_report(picks.within("b"), truth, 5.0)
    with pytest.raises(UserError, match="no particles are known"):
        detection_report(picks, Picks.empty(), 5.0)


@pytest.mark.parametrize(
    ("radius", "rule", "message"),
    [
        (0.0, "optimal", "`radius` 0: expected"),
        (float("nan"), "optimal", "`radius` nan"),
        (5.0, "nearest", "`rule` nearest: expected one of optimal, greedy, r1.5, shrec"),
        (5.0, "r1.5", "`rule` r1.5: counts in voxels"),
        (5.0, "shrec", "`rule` shrec: counts in voxels"),
    ],
)
def test_what_cannot_be_matched_is_refused(radius, rule, message):
    with pytest.raises(UserError, match=message):
        match(cloud(3), cloud(3), radius, rule)


def test_shrec_without_a_mask_is_refused():
    with pytest.raises(UserError, match="tomogram t has no occupancy mask"):
        match(cloud(3), cloud(3), 5.0, "shrec", voxel_size=1.0)
    with pytest.raises(UserError, match="float64 of shape"):
        match(cloud(3), cloud(3), 5.0, "shrec", voxel_size=1.0, masks={"t": np.zeros((4, 4, 4))})


def test_f_beta_weighs_recall():
    scores = scores_of_counts(30, 40, 60)
    p, r = 0.75, 0.5
    assert scores["f_beta4"] == pytest.approx(17 * p * r / (16 * p + r))
    assert scores["f1"] == pytest.approx(0.6)
    assert RULES == ("optimal", "greedy", "r1.5", "shrec")


def test_ten_thousand_picks_take_seconds():
    a, b = cloud(10_000, 1000, seed=10), cloud(10_000, 1000, seed=11)
    started = time.monotonic()
    assert detection_report(a, b, 40.0)["hits"] > 7500
    assert time.monotonic() - started < 10
    with pytest.raises(UserError, match="pairs of 10,000 picks"):
        match(a, b, 900.0)


def test_rows_of_hits_false_picks_and_misses_are_those_given():
    names = ("ribosome", "tric")
    truth = picks_of([[0, 0, 0], [50, 0, 0], [99, 0, 0]], names=names, classes=[0, 1, 1])
    elsewhere = picks_of([[0, 0, 0]], [1], "other", names, [0])
    picks = join(
        [
            elsewhere,
            picks_of(
                [[50, 0, 0], [0, 0, 0], [20, 0, 0]], [1, 2, 3], names=names, classes=[1, 0, 0]
            ),
        ]
    )
    found = compared(picks, truth, 5.0)
    assert (found.hits.tolist(), found.false.tolist(), found.missed.tolist()) == ([2, 1], [3], [2])
    assert found.left_out == {"tomograms": ["other"], "picks_there": 1}

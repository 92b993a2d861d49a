"""t-tests against scipy and against the p value that a paper prints, Holm's correction, intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cryoet_core import statistics

# Mean accuracies (%) of "Self-supervised learning for macromolecular structure classification based on cryo-electron
# tomograms": table 1 (rows: 100, 75, 50, 25 % of the labels, each at SNR inf, 0.05, 0.03), then table 2.
RANDOM = [59.1, 47.9, 47.1, 37.7, 35.7, 37.6, 24.0, 23.5, 21.7, 16.0, 12.9, 15.1, 97.0, 97.0, 94.3, 46.5]
MOCO = [68.6, 67.3, 57.5, 59.9, 59.6, 60.7, 53.0, 49.2, 56.5, 39.3, 27.5, 30.1, 98.5, 98.6, 98.2, 98.4]
SIMCLR = [64.4, 63.1, 54.9, 54.7, 54.1, 51.8, 51.4, 50.1, 49.8, 37.4, 33.9, 31.4]
SWAV = [66.7, 65.8, 58.8, 55.4, 54.7, 52.0, 50.0, 48.9, 46.5, 34.2, 34.8, 30.5]


def test_the_p_value_that_the_paper_prints_is_the_unpaired_one():
    assert statistics.pooled_t_test(MOCO, RANDOM).p == pytest.approx(0.0462, abs=5e-5)
    assert statistics.paired_t_test(MOCO, RANDOM).p == pytest.approx(2.9e-5, abs=5e-7)
    assert statistics.paired_t_test(MOCO[:12], SIMCLR).p == pytest.approx(0.0454, abs=5e-5)
    assert statistics.paired_t_test(MOCO[:12], SWAV).p == pytest.approx(0.0806, abs=5e-5)


@pytest.mark.parametrize("seed", range(5))
def test_all_three_equal_scipy(seed):
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(0, 1, 9), rng.normal(0.5, 3, 9), rng.normal(0.2, 2, 14)
    pairs = [
        (statistics.paired_t_test(a, b), stats.ttest_rel(a, b)),
        (statistics.pooled_t_test(a, c), stats.ttest_ind(a, c)),
        (statistics.welch_t_test(a, c), stats.ttest_ind(a, c, equal_var=False)),
    ]
    for ours, theirs in pairs:
        assert (ours.t, ours.df, ours.p) == pytest.approx((theirs.statistic, theirs.df, theirs.pvalue))


def test_the_difference_has_the_sign_of_a_minus_b():
    better = statistics.welch_t_test([3.0, 3.1, 2.9], [1.0, 1.2, 0.9])
    assert better.difference > 0
    assert better.t > 0


def test_no_spread_is_certain():
    assert statistics.paired_t_test([1, 2, 3], [1, 2, 3]).p == 1.0
    certain = statistics.paired_t_test([2, 3, 4], [1, 2, 3])
    assert (certain.p, certain.t, certain.difference) == (0.0, np.inf, 1.0)
    assert statistics.welch_t_test([1, 1], [2, 2]).p == 0.0


@pytest.mark.parametrize("bad", [[1.0], [], [[1.0, 2.0]], [1.0, np.nan]])
def test_too_little_or_undefined_data_is_refused(bad):
    with pytest.raises(ValueError, match="needs"):
        statistics.pooled_t_test(bad, [1.0, 2.0])


def test_pairs_must_match():
    with pytest.raises(ValueError, match="as many of both"):
        statistics.paired_t_test([1.0, 2.0], [1.0, 2.0, 3.0])


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert len(statistics.holm([])) == 0


def test_holm_controls_the_family_wise_error():
    rng = np.random.default_rng(0)
    p = rng.random((4000, 8))
    rejected = np.mean([(statistics.holm(row) <= 0.05).any() for row in p])
    assert rejected < 0.06


def test_mean_and_interval():
    mean, half = statistics.mean_and_interval([0.8, 0.9, 1.0])
    assert (mean, half) == pytest.approx((0.9, 1.96 * 0.1 / np.sqrt(3)))
    assert np.isnan(statistics.mean_and_interval([0.5])[1])

"""t tests and Holm's correction, on published tables and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cryoet_core.evaluation.significance import holm, paired_t, unpaired_t

# accuracies (%) of a published comparison of contrastive pretraining with random initialisation:
# twelve simulated cells (labels 100, 75, 50, 25 %; SNR infinite, 0.05, 0.03 in each) and four with
# real data
RANDOM = [
    59.1,
    47.9,
    47.1,
    37.7,
    35.7,
    37.6,
    24.0,
    23.5,
    21.7,
    16.0,
    12.9,
    15.1,
    97.0,
    97.0,
    94.3,
    46.5,
]
SIMCLR = [64.4, 63.1, 54.9, 54.7, 54.1, 51.8, 51.4, 50.1, 49.8, 37.4, 33.9, 31.4]
SWAV = [66.7, 65.8, 58.8, 55.4, 54.7, 52.0, 50.0, 48.9, 46.5, 34.2, 34.8, 30.5]
MOCO = [
    68.6,
    67.3,
    57.5,
    59.9,
    59.6,
    60.7,
    53.0,
    49.2,
    56.5,
    39.3,
    27.5,
    30.1,
    98.5,
    98.6,
    98.2,
    98.4,
]


def test_the_published_p_value_is_that_of_the_unpaired_test() -> None:
    found = unpaired_t(MOCO, RANDOM)
    assert found.p == pytest.approx(0.0462, abs=5e-5)
    assert found.degrees == 30
    assert found.difference == pytest.approx(np.mean(MOCO) - np.mean(RANDOM))


def test_paired_tests_on_the_same_tables() -> None:
    assert paired_t(MOCO, RANDOM).p == pytest.approx(2.9e-5, abs=1e-6)
    assert paired_t(MOCO[:12], SIMCLR).p == pytest.approx(0.0454, abs=1e-4)
    assert paired_t(MOCO[:12], SWAV).p == pytest.approx(0.0806, abs=1e-4)


def test_paired_by_hand() -> None:
    found = paired_t([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])  # differences 2, 3, 1: mean 2, deviation 1
    assert found.t == pytest.approx(2 / (1 / np.sqrt(3)))
    assert found.degrees == 2
    assert paired_t([1.0, 2.0, 3.0], [3.0, 5.0, 4.0]).p == pytest.approx(found.p)


def test_differences_that_do_not_vary() -> None:
    assert paired_t([2.0, 3.0], [1.0, 2.0]).p == 0
    same = paired_t([1.0, 2.0], [1.0, 2.0])
    assert same.p == 1
    assert np.isnan(same.t)


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    assert holm([]).size == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_t([1.0, 2.0], [1.0]), "2 and 1 values"),
        (lambda: paired_t([1.0], [1.0]), "two or more pairs"),
        (lambda: unpaired_t([1.0], [1.0, 2.0]), "samples of 1 and 2"),
        (lambda: holm([0.1, 1.2]), "from 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]

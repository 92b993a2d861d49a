"""Whether a difference between methods is more than chance.

There are t tests, paired and unpaired, and Holm's correction for many of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedTest:
    """The result of a t test; NaN where nothing varies.

    Attributes
    ----------
    difference : float
        Mean of a - b.
    t : float
        The statistic.
    degrees : int
        Degrees of freedom.
    p : float
        Two-sided p value.
    """

    difference: float
    t: float
    degrees: int
    p: float


def paired_t(a: ArrayLike, b: ArrayLike) -> PairedTest:
    """Student's t test of the differences over matched conditions.

    The same difference everywhere, other than 0, gives p = 0.

    Parameters
    ----------
    a, b : array_like of float, shape (n,)
        Values of the two methods under the same n conditions.

    Returns
    -------
    PairedTest
        With n - 1 degrees of freedom.

    Raises
    ------
    ValueError
        Unequal lengths, or fewer than two pairs.

    Examples
    --------
    >>> paired_t([0.9, 0.8, 0.7], [0.8, 0.7, 0.7]).degrees
    2
    """
    one, other = _vector(a), _vector(b)
    if len(one) != len(other) or len(one) < 2:
        raise ValueError(
            f"paired_t: {len(one)} and {len(other)} values; expected two or more pairs"
        )
    gains = one - other
    mean, spread = float(gains.mean()), float(gains.std(ddof=1))
    if spread <= 1e-12 * max(1.0, abs(mean)):
        certain = abs(mean) > 1e-12
        return PairedTest(
            mean,
            float(np.inf * np.sign(mean)) if certain else float("nan"),
            len(gains) - 1,
            1.0 - certain,
        )
    found = stats.ttest_rel(one, other)
    return PairedTest(mean, float(found.statistic), len(gains) - 1, float(found.pvalue))


def unpaired_t(a: ArrayLike, b: ArrayLike) -> PairedTest:
    """Student's t test of two samples that have the same variance.

    Parameters
    ----------
    a, b : array_like of float
        The samples, of n1 and n2 values.

    Returns
    -------
    PairedTest
        With n1 + n2 - 2 degrees of freedom.

    Raises
    ------
    ValueError
        Fewer than two values in a sample.
    """
    one, other = _vector(a), _vector(b)
    if min(len(one), len(other)) < 2:
        raise ValueError(
            f"unpaired_t: samples of {len(one)} and {len(other)}; expected two or more values in "
            "each"
        )
    found = stats.ttest_ind(one, other, equal_var=True)
    return PairedTest(
        float(one.mean() - other.mean()),
        float(found.statistic),
        len(one) + len(other) - 2,
        float(found.pvalue),
    )


def holm(p_values: Sequence[float]) -> Floats:
    """Correct p values for their number.

    Rejecting what is below 0.05 then errs in one or more of the tests with a probability of at most
    0.05.

    Parameters
    ----------
    p_values : sequence of float
        Uncorrected p values, 0 to 1.

    Returns
    -------
    array of float
        Corrected p values in the given order; at most 1, never below the uncorrected.

    Raises
    ------
    ValueError
        A value outside 0 to 1.

    References
    ----------
    Holm (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of
    Statistics 6, 65-70.

    Examples
    --------
    >>> holm([0.01, 0.04]).tolist()
    [0.02, 0.04]
    """
    p = _vector(p_values)
    if len(p) and not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError(f"holm: p values {p.tolist()}; expected numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(raised, 1.0)
    return corrected


def _vector(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).ravel()

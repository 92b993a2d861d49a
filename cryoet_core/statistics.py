"""Is a difference between two methods more than chance: t-tests, Holm's correction, intervals.

All tests are two-sided. Use the paired test for two methods on the same conditions.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class TTest:
    """difference: mean(a) - mean(b). t: the statistic. df: degrees of freedom. p: two-sided."""

    difference: float
    t: float
    df: float
    p: float


def paired_t_test(a: ArrayLike, b: ArrayLike) -> TTest:
    """t = mean(d) / (s_d / sqrt(n)) of the differences d = a - b of matched conditions, n - 1 degrees of freedom."""
    first, second = _sample(a), _sample(b)
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values: a paired test needs as many of both")
    d = first - second
    return _test(float(d.mean()), float(d.std(ddof=1)) / sqrt(len(d)), len(d) - 1)


def pooled_t_test(a: ArrayLike, b: ArrayLike) -> TTest:
    """Two independent samples of equal variance (Student), n1 + n2 - 2 degrees of freedom."""
    first, second = _sample(a), _sample(b)
    n, m = len(first), len(second)
    pooled = ((n - 1) * first.var(ddof=1) + (m - 1) * second.var(ddof=1)) / (n + m - 2)
    return _test(float(first.mean() - second.mean()), float(np.sqrt(pooled * (1 / n + 1 / m))), n + m - 2)


def welch_t_test(a: ArrayLike, b: ArrayLike) -> TTest:
    """Two independent samples of any variances (Welch), degrees of freedom after Satterthwaite."""
    first, second = _sample(a), _sample(b)
    u, v = float(first.var(ddof=1)) / len(first), float(second.var(ddof=1)) / len(second)
    spread = u**2 / (len(first) - 1) + v**2 / (len(second) - 1)
    df = (u + v) ** 2 / spread if spread else float(len(first) + len(second) - 2)
    return _test(float(first.mean() - second.mean()), sqrt(u + v), df)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjustment: rejecting where the result is <= alpha keeps the family-wise error <= alpha."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def mean_and_interval(values: ArrayLike, z: float = 1.96) -> tuple[float, float]:
    """Mean and half-width z s / sqrt(n) (s with n - 1) of repeats or episodes; the half-width of one value is NaN."""
    x = np.asarray(values, dtype=np.float64)
    half = z * float(x.std(ddof=1)) / sqrt(len(x)) if len(x) > 1 else float("nan")
    return float(x.mean()), half


def _sample(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"values of shape {x.shape}: a t-test needs a vector of two or more finite numbers")
    return x


def _test(difference: float, error: float, df: float) -> TTest:
    """With no spread at all, p is 1 for equal means and 0 for different ones."""
    from scipy.stats import t as student

    if error == 0.0:
        t = 0.0 if difference == 0.0 else inf if difference > 0 else -inf
    else:
        t = difference / error
    return TTest(difference, t, float(df), float(2 * student.sf(abs(t), df)))

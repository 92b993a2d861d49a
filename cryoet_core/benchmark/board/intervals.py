"""Means with their 95 % intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Attributes
    ----------
    value : float
        The mean.
    half : float or None
        Half of the 95 % interval (Student's t); None for a single value.
    n : int
        How many seeds.
    """

    value: float
    half: float | None
    n: int


def mean_of(values: Sequence[float]) -> Mean | None:
    """Return the mean of values with its interval; None for no values."""
    if not values:
        return None
    array = np.array(values, dtype=np.float64)
    if len(array) == 1:
        return Mean(float(array[0]), None, 1)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return Mean(float(array.mean()), half, len(array))

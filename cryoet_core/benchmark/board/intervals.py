"""Means with their 95 % intervals, and paired differences: what the leaderboard and the comparison
say of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mean:
    """A mean over seeds. half: of the 95 % interval (Student's t); None for a single value."""

    value: float
    half: float | None
    n: int


def mean_of(values: Sequence[float]) -> Mean | None:
    """None for no values."""
    if not values:
        return None
    array = np.array(values, dtype=np.float64)
    if len(array) == 1:
        return Mean(float(array[0]), None, 1)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return Mean(float(array.mean()), half, len(array))

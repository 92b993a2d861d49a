"""The score that noise alone exceeds a given number of times."""

from __future__ import annotations

import math

from scipy.special import erfcinv


def noise_threshold(
    square: float, voxels: int, rotations: int, false_positives: float = 1.0
) -> float:
    """sqrt(2) s erfc^-1(2 n / N) of Gaussian scores: s^2 = ``square``, their mean square, N =
    voxels * rotations.

    Neighbouring voxels and rotations are alike, so fewer than ``false_positives`` are to be
    expected.
    """
    return math.sqrt(2 * square) * float(
        erfcinv(min(1.0, 2 * false_positives / (voxels * rotations)))
    )

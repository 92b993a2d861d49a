"""How strong the noise in a score map is, and above which score a peak is no noise."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq

from cryoet_core.algorithms.peaks import parting_value
from cryoet_dog.filter import RATIO

SAMPLED = 1 << 20
FALSE = 5.0
"""Picks of mere noise that are put up with in a tomogram."""


def noise_level(scores: np.ndarray) -> float:
    """Standard deviation of a map's noise: 1.4826 times the median distance from its median; 1 for
    a constant map.
    """
    flat = scores.reshape(-1)
    sample = flat[:: max(1, flat.size // SAMPLED)]
    level = 1.4826 * float(np.median(np.abs(sample - np.median(sample))))
    return level or 1.0


def automatic_threshold(values: np.ndarray, volume: float) -> float:
    """The larger of two bounds for the values of peaks, in standard deviations of the noise.

    What peaks of noise alone exceed ``FALSE`` times in a map of ``volume`` (see ``noise_peaks``),
    and what parts the peaks best in two.
    """
    return max(noise_bound(volume), parting_value(values))


def noise_peaks(height: float, volume: float) -> float:
    """Expected peaks above ``height`` standard deviations of white noise, filtered; ``volume`` in
    cubes of sigma1.

    The Euler characteristic of a Gaussian field's excursion set (Adler 1981; Worsley 1994): V
    L^(3/2) / (2 pi)^2 (h^2 - 1) exp(-h^2 / 2). L, the variance of the slope along an axis, is 7 /
    (6 sigma^2) for the power spectrum k^4 exp(-k^2 sigma^2) of a Laplacian of a Gaussian, and
    sigma^2 of a difference of Gaussians is sigma1 * sigma2.
    """
    slope = 7 / (6 * RATIO)
    expected: float = (
        volume * slope**1.5 / (2 * math.pi) ** 2 * (height**2 - 1) * math.exp(-(height**2) / 2)
    )
    return expected


def noise_bound(volume: float) -> float:
    """The height above which ``FALSE`` peaks of noise are expected; at least that of the most
    peaks, sqrt(3).
    """
    lowest = math.sqrt(3)
    if noise_peaks(lowest, volume) <= FALSE:
        return lowest
    return float(brentq(lambda height: noise_peaks(height, volume) - FALSE, lowest, 30))

"""The debiased mean similarity to negatives, in the log domain (Chuang et al., NeurIPS 2020; paper
004, eq. 9).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NOTHING = 1e-12


def log_negatives(log_mixed: Tensor, log_own: Tensor, own: float, temperature: float) -> Tensor:
    """log g with g = max{(mixed - own * same) / (1 - own), e^(-1/t)}, elementwise.

    log_mixed: log of the mean of exp(s / t) over vectors of any class. log_own: the same over
    vectors of the anchor's class, whose prior is ``own``. Where the difference is at or below the
    floor, or nothing is known of the class (-inf), the gradient is 0 respectively that of the mixed
    mean alone.
    """
    difference = (
        log_own + math.log(own) - log_mixed if own > 0 else torch.full_like(log_mixed, -torch.inf)
    )
    positive = difference < -NOTHING
    safe = torch.where(positive, difference, -1.0)
    value = log_mixed + torch.log(-torch.expm1(safe)) - math.log1p(-own)
    floor = -1 / temperature
    return torch.where(positive, value, floor).clamp(min=floor)

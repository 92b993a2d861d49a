"""Supervised contrast between the voxels of labelled centres and unlabelled ones, debiased for
unlabelled particles.

Paper 004, equations 8 and 9, with the temperature that the printed exponents omit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from cryoet_pu_picker.losses.debias import log_negatives
from cryoet_pu_picker.losses.row_sums import row_log_sums


def supervised_contrast(
    features: Tensor,
    positive: Tensor,
    other: Tensor,
    prior: float,
    temperature: float,
    *,
    debiased: bool = True,
) -> Tensor:
    """-mean log[P / (P + g)] over positive anchors i, with all vectors of both views side by side.

    features (n, f): unit vectors. positive, other (n,) bool: labelled centres, and what they are
    held against. P: mean of exp(s_ij / t) over the other positives, g: debiased mean over
    ``other``. Without ``debiased`` it is the contrast of Khosla et al.: all of these vectors stand
    in the denominator, unweighted. 0 where there are fewer than two positives or no others.
    """
    anchors, others = features[positive], features[other]
    count = len(anchors)
    if count < 2 or not len(others):
        return features.sum() * 0.0
    itself = torch.arange(count, device=features.device)[:, None]
    log_same = row_log_sums(anchors, anchors, 1 / temperature, itself)
    log_other = row_log_sums(anchors, others, 1 / temperature)
    if not debiased:
        pairs = (anchors @ anchors.T).fill_diagonal_(0).sum(1) / (temperature * (count - 1))
        return (torch.logaddexp(log_same, log_other) - pairs).mean()
    log_same = log_same - math.log(count - 1)
    log_g = log_negatives(log_other - math.log(len(others)), log_same, prior, temperature)
    return softplus(log_g - log_same).mean()

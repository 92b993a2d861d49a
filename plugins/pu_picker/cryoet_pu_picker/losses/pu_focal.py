"""The non-negative positive-unlabelled risk with focal losses, and the plain focal loss of its
ablation.

Paper 004, equations 3 to 7, with the minus signs that its equation 6 lacks; Kiryo et al., NeurIPS
2017, for the maximum with 0; Zhou et al., "Objects as points", for the plain loss.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

ALPHA, BETA = 2, 4


class Terms(NamedTuple):
    """Means over their own voxels, each (c,) and >= 0; 0 where there is no such voxel."""

    true_positive: Tensor  # of true centres (y = 1), taken as positive
    soft_positive: Tensor  # of their surroundings (0 < y < 1), taken as positive
    true_negative: Tensor  # of true centres, taken as negative
    soft_negative: Tensor  # of their surroundings, taken as negative
    unlabelled: Tensor  # of the rest (y = -1), taken as negative


def focal_terms(logits: Tensor, targets: Tensor) -> Terms:
    """The five means of equation 6, from logits and targets (b, c, d, h, w)."""
    log_p, log_q, p = logsigmoid(logits), logsigmoid(-logits), logits.sigmoid()
    y = targets.clamp(min=0)
    as_negative = -(p**ALPHA) * log_q
    as_positive = -((1 - p) ** ALPHA) * log_p
    true, unlabelled = targets == 1, targets < 0
    soft = ~(true | unlabelled)
    return Terms(
        _mean(as_positive, true),
        _mean((1 - y) ** BETA * as_negative, soft),
        _mean(as_negative, true),
        _mean(y**BETA * as_positive, soft),
        _mean(as_negative, unlabelled),
    )


def pu_risk(terms: Terms, prior: Tensor, left: Tensor, usual: Terms | None = None) -> Tensor:
    """(c,): prior (R_tp+ + R_sp+) + max(0, R_u- - left (R_tp- + R_sp-)) of each species.

    prior (c,): the share of positive voxels; left (c,): their share among the voxels without a
    label, over which R_u- is averaged. The paper averages over all voxels and has one prior, which
    is the same as long as few of the particles are labelled. Both sets of positives have weight 1,
    as in the reference code: the paper's shares are not given.

    usual: means of the terms over many steps. The maximum belongs to expectations: taken in each
    step it would only ever press unlabelled particles down, in steps that hold more of them than
    usual, and never let them up again. With ``usual``, whether the second part counts is decided by
    these means.
    """
    positive = prior * (terms.true_positive + terms.soft_positive)
    negative = _bracket(terms, left)
    counts = _bracket(terms if usual is None else usual, left) > 0
    return positive + torch.where(counts, negative, 0.0)


def _bracket(terms: Terms, left: Tensor) -> Tensor:
    return terms.unlabelled - left * (terms.true_negative + terms.soft_negative)


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """(c,): everything without a label counts as negative; sums over voxels, per labelled particle.

    This is the ablation without positive-unlabelled learning.
    """
    log_p, log_q, p = logsigmoid(logits), logsigmoid(-logits), logits.sigmoid()
    true = targets == 1
    weight = (1 - targets.clamp(min=0)) ** BETA
    losses = torch.where(true, -((1 - p) ** ALPHA) * log_p, -weight * p**ALPHA * log_q)
    return losses.sum((0, 2, 3, 4)) / true.sum((0, 2, 3, 4)).clamp(min=1)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the voxels of the mask, per species."""
    axes = (0, 2, 3, 4)
    return torch.where(mask, values, 0.0).sum(axes) / mask.sum(axes).clamp(min=1)

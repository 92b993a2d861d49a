"""Self-supervised contrast of unlabelled voxels between two views, debiased for either class.

Paper 004, equations 10 to 13. Equations 12 and 13 print the priors swapped: what is subtracted is
the share of the anchor's own class, as here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from cryoet_pu_picker.losses.debias import log_negatives
from cryoet_pu_picker.losses.row_sums import row_log_sums


def unsupervised_contrast(
    features: Tensor,
    anchors: Tensor,
    probability: Tensor,
    prior: float,
    temperature: float,
    *,
    debiased: bool = True,
) -> Tensor:
    """Mean over anchors of y L^p + (1 - y) L^n, where L = -log[E+ / (E+ + g)].

    features (2 n, f): unit vectors, the partner of row i in the other view is row i + n (mod 2 n).
    anchors (a,): rows. probability (a,): y, that the anchor is a particle; a weight, so no gradient
    flows into it. g comes from the mean over all vectors but the two, with the prior of the
    anchor's own class. Without ``debiased``: InfoNCE.
    """
    if not len(anchors):
        return features.sum() * 0.0
    total = len(features)
    partners = (anchors + total // 2) % total
    own = features[anchors]
    log_partner = (own * features[partners]).sum(1) / temperature
    rest = row_log_sums(own, features, 1 / temperature, torch.stack((anchors, partners), 1))
    if not debiased:
        return softplus(rest - log_partner).mean()
    log_mean = rest - math.log(total - 2)
    as_positive = softplus(log_negatives(log_mean, log_partner, prior, temperature) - log_partner)
    as_negative = softplus(
        log_negatives(log_mean, log_partner, 1 - prior, temperature) - log_partner
    )
    y = probability.detach().to(features.dtype)
    return (y * as_positive + (1 - y) * as_negative).mean()

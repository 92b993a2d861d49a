"""The objective of a step: risk of the heat map, contrast of the features, consistency of two views
(eq. 15).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from cryoet_pu_picker.config import PUPickerConfig
from cryoet_pu_picker.losses.consistency import consistency
from cryoet_pu_picker.losses.pu_focal import Terms, focal_loss, focal_terms, pu_risk
from cryoet_pu_picker.losses.supervised import supervised_contrast
from cryoet_pu_picker.losses.unsupervised import unsupervised_contrast
from cryoet_pu_picker.network import HybridNetwork
from cryoet_pu_picker.prior import Prior

BOUND = 1e-3
"""Priors stay this far from 0 and 1, since the debiased terms divide by them."""


class RunningTerms:
    """Means of the terms of the risk over about 1 / (1 - memory) steps; ``values`` (5, c) is their
    state.
    """

    def __init__(self, memory: float) -> None:
        self.memory, self.values = memory, torch.zeros(0)

    def updated(self, terms: Terms) -> Terms:
        """The means with the terms of one more step."""
        new = torch.stack([term.detach() for term in terms])
        seen = self.values.numel() > 0
        self.values = self.memory * self.values.to(new) + (1 - self.memory) * new if seen else new
        return Terms(*self.values)


def objective(
    network: HybridNetwork,
    volumes: Tensor,
    targets: Tensor,
    prior: Prior,
    config: PUPickerConfig,
    generator: torch.Generator,
    usual: RunningTerms,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Tensor]:
    """The terms and their weighted sum ``loss`` for crops (b, 1, d, h, w) and their targets (b, c,
    d, h / 2, w / 2).

    The second view is the crops turned over along y or x, one choice for the step; its maps are
    turned back, so both views have the same targets.
    """
    axis = 3 + int(torch.randint(2, (), generator=generator))
    with autocast():
        logits, features = network(torch.cat((volumes, volumes.flip(axis))))
    first, second = logits.chunk(2)
    second = second.flip(axis)
    both, targets2 = torch.cat((first, second)), torch.cat((targets, targets))
    terms = {"risk": _risk(both, targets2, prior, config, usual)}
    terms["consistency"] = consistency(first, second)
    loss = terms["risk"] + config.lambda3 * terms["consistency"]
    if config.variant != "no-contrast" and config.lambda1 > 0:
        one, other = features.chunk(2)
        vectors = torch.cat((_rows(one), _rows(other.flip(axis))))
        terms |= _contrast(vectors, first, second, targets, prior, config, generator)
        loss = loss + config.lambda1 * (
            terms["supervised"] + config.lambda2 * terms["unsupervised"]
        )
    return terms | {"loss": loss}


def _risk(
    logits: Tensor, targets: Tensor, prior: Prior, config: PUPickerConfig, usual: RunningTerms
) -> Tensor:
    """Mean over species."""
    if config.variant == "no-pu":
        return focal_loss(logits, targets).mean()
    share, left = (
        torch.tensor(values, device=logits.device) for values in (prior.share, prior.left)
    )
    terms = focal_terms(logits, targets)
    risk = pu_risk(terms, share, left, usual.updated(terms))
    return (risk / share if config.scale_risk else risk).mean()


def _contrast(
    vectors: Tensor,
    first: Tensor,
    second: Tensor,
    targets: Tensor,
    prior: Prior,
    config: PUPickerConfig,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    debiased, t = config.variant != "no-pu", config.temperature
    labelled = torch.cat((_rows(targets), _rows(targets)))  # (2 n, c)
    # a centre is not held against its own surroundings, which are alike and would be most of what
    # counts
    supervised = [
        supervised_contrast(
            vectors, labelled[:, c] == 1, labelled[:, c] < 0, _bounded(left), t, debiased=debiased
        )
        for c, left in enumerate(prior.left)
    ]
    anchors = (labelled < 0).all(1).nonzero()[:, 0]
    if config.anchors and len(anchors) > config.anchors:
        chosen = torch.randperm(len(anchors), generator=generator)[: config.anchors]
        anchors = anchors[chosen.to(anchors.device)]
    # a voxel of any species counts as positive: at most one species is at a place
    probability = (
        torch.cat((_rows(first), _rows(second)))[anchors].detach().sigmoid().sum(1).clamp(max=1)
    )
    share = _bounded(sum(prior.share))
    unsupervised = unsupervised_contrast(vectors, anchors, probability, share, t, debiased=debiased)
    return {"supervised": torch.stack(supervised).mean(), "unsupervised": unsupervised}


def _bounded(prior: float) -> float:
    return min(max(prior, BOUND), 1 - BOUND)


def _rows(maps: Tensor) -> Tensor:
    """(b, c, d, h, w) as vectors (n, c)."""
    return maps.movedim(1, -1).flatten(0, -2)

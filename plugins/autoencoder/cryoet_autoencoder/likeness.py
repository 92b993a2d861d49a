"""Suggest which clusters look like particles, from the pictures of their centres alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cryoet_core.algorithms.centring import soft_sphere

RADII = (0.12, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4)
"""Of the balls that a centre is compared with, as fractions of the box."""
LEAST_LIKENESS = 0.45
LEAST_CONTRAST, MOST_CONTRAST = 0.6, 2.5
"""As fractions of the contrast that a third of the members exceed."""


@dataclass(frozen=True)
class Scores:
    """Scores of each cluster (k,).

    Attributes
    ----------
    likeness : Tensor
        Correlation with the best of the balls.
    contrast : Tensor
        Mean inside that ball less the mean outside, in standard deviations of a subtomogram.
    radius : Tensor
        Radius of the ball in voxels.
    suggested : Tensor
        Whether it is a particle.
    """

    likeness: Tensor
    contrast: Tensor
    radius: Tensor
    suggested: Tensor


def particle_scores(pictures: Tensor, counts: Tensor) -> Scores:
    """Score decoded centres (k, s, s, s), protein bright, of clusters with ``counts`` (k,) members.

    A particle is a compact bright thing in the middle of its box: its picture correlates with a
    ball about the centre (at least ``LEAST_LIKENESS``), and the ball stands out about as much as
    in the clusters that stand out most: noise that was picked has a bright middle too, but a faint
    one (``LEAST_CONTRAST``), and gold is far brighter than protein (``MOST_CONTRAST``).
    """
    size, flat = pictures.shape[-1], pictures.flatten(1).double()
    balls = (
        torch.stack([soft_sphere(size, share * size) for share in RADII])
        .flatten(1)
        .double()
        .to(flat)
    )
    centred, ball_centred = flat - flat.mean(1, keepdim=True), balls - balls.mean(1, keepdim=True)
    norms = centred.norm(dim=1)[:, None] * ball_centred.norm(dim=1)[None]
    correlations = centred @ ball_centred.T / norms.clamp(min=1e-12)
    likeness, best = correlations.max(1)
    inside = balls / balls.sum(1, keepdim=True)
    outside = (1 - balls) / (1 - balls).sum(1, keepdim=True)
    contrast = (flat @ (inside - outside).T).gather(1, best[:, None])[:, 0]
    radius = torch.tensor(RADII, dtype=torch.float64, device=flat.device)[best] * size
    level = _upper_third(contrast, counts)
    as_bright = (
        (contrast >= LEAST_CONTRAST * level) & (contrast <= MOST_CONTRAST * level) & (contrast > 0)
    )
    suggested = (likeness >= LEAST_LIKENESS) & as_bright & (counts > 0)
    return Scores(likeness, contrast, radius, suggested)


def _upper_third(values: Tensor, counts: Tensor) -> Tensor:
    """Return the value that a third of the members exceed."""
    order = torch.argsort(values, descending=True)
    above = counts[order].double().cumsum(0)
    place = int(torch.searchsorted(above, above[-1:] / 3)[0])
    return values[order[min(place, len(order) - 1)]]

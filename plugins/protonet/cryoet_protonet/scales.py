"""Measure on the training classes how far members lie from prototypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cryoet_protonet.metric import whitening
from cryoet_protonet.space import Space

_MOST_DOUBT = 100.0


@dataclass(frozen=True)
class Scales:
    """What held-out volumes of the training classes say.

    Attributes
    ----------
    variance : float
        Variance of a class's points about their mean, all dimensions together.
    members : Tensor
        Squared distances (m,) of volumes from the prototype of the others of their class
        (``member_distances``), in units of their mean, rising.
    """

    variance: float
    members: Tensor


def member_distances(points: Tensor, classes: Tensor) -> Tensor:
    """Return squared distances of points (m, d) from the means of the others of their class (m,).

    They are divided by 1 + 1 / (others), so that the expected value is the variance within a
    class. Points that are alone in their class are left out.
    """
    counts = torch.bincount(classes)
    sums = points.new_zeros(len(counts), points.shape[1]).index_add_(0, classes, points)
    left = (counts - 1)[classes]
    some = left > 0
    others = (sums[classes] - points)[some] / left[some, None]
    return (points[some] - others).square().sum(1) / (1 + 1 / left[some])


def gaussian_logits(logits: Tensor, expected: Tensor | float, dim: int) -> Tensor:
    """Turn minus squared distances into log-likelihoods of classes with equal scatter.

    Parameters
    ----------
    logits : Tensor
        Minus squared distances (n, k).
    expected : Tensor | float
        Squared distance of a member, all dimensions together.
    dim : int
        Number of dimensions.

    Returns
    -------
    Tensor
        Log-likelihoods (n, k), up to a constant.
    """
    return logits / (2 * expected / dim)


def left_out_distances(
    space: Space,
    features: Tensor,
    described: Tensor | None,
    rows: tuple[Tensor, Tensor],
    classes: Tensor,
) -> Tensor:
    """Return ``member_distances`` of held-out volumes as if their class had been unseen.

    The whitening fits the classes that it was made of; without this, members of new classes would
    seem far away.

    Parameters
    ----------
    space : Space
        The embedding.
    features : Tensor
        Features (n, f) of the encoder.
    described : Tensor | None
        Descriptors (n, g) of all volumes; None where they are not joined.
    rows : tuple[Tensor, Tensor]
        Rows trained on and rows held out.
    classes : Tensor
        Class of each row (n,).

    Returns
    -------
    Tensor
        Distances (m,).
    """
    known, found = torch.cat(rows), []
    for number in classes[rows[1]].unique():
        own = rows[1][classes[rows[1]] == number]
        others = known[classes[known] != number]
        points = space.network(features[own])
        if described is not None:
            linear = (
                whitening(described[others], classes[others]) if len(others) else space.described
            )
            assert linear is not None
            points = torch.cat([points, linear(described[own])], 1)
        found.append(member_distances(points.double(), torch.zeros_like(own)))
    return torch.cat(found)


def fit_scales(squares: Tensor, points: Tensor, held: Mapping[str, Tensor]) -> Scales:
    """Fit the scales.

    Parameters
    ----------
    squares : Tensor
        Distances (m,) of ``left_out_distances``.
    points : Tensor
        Embeddings (n, d) of the volumes.
    held : Mapping[str, Tensor]
        Held-out rows by class.
    """
    variance = max(float(squares.mean()), 1e-12) if len(squares) else 1.0
    rows = torch.cat(list(held.values())).to(points.device)
    classes = torch.cat(
        [torch.full_like(some, number) for number, some in enumerate(held.values())]
    ).to(points.device)
    members = member_distances(points[rows], classes)
    return Scales(variance, (members / members.mean().clamp(min=1e-12)).sort().values.float().cpu())


def temperature(centres: Tensor, counts: Tensor, variance: float) -> float:
    """Return the divisor of logits that makes probabilities say how often a label is right.

    It is 1 + variance / between / n. A prototype of n examples errs by variance / n, which
    inflates the distances between prototypes and, where classes lie close together, leaves little
    in them that is true. ``between`` is the variance between classes, from the distances of the
    prototypes less that error. The result is at most 101, where nothing is left.

    Parameters
    ----------
    centres : Tensor
        Prototypes (k, d).
    counts : Tensor
        Examples of each (k,).
    variance : float
        Variance within a class, all dimensions together.
    """
    share = variance * float((1 / counts.double()).mean())
    if len(centres) < 2:
        return 1.0
    between = float(torch.pdist(centres.double()).square().mean()) / 2 - share
    return 1 + (min(share / between, _MOST_DOUBT) if between > 0 else _MOST_DOUBT)

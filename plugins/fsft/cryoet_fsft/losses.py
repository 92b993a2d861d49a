"""What the stages minimise, as corrected in the README: CORAL, sliced Wasserstein, domain-class
confusion.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

(
    SAME_DOMAIN_SAME_CLASS,
    CROSS_DOMAIN_SAME_CLASS,
    SAME_DOMAIN_OTHER_CLASS,
    CROSS_DOMAIN_OTHER_CLASS,
) = range(4)
"""The pair groups G1 to G4, in the numbering of FADA."""


def covariance(features: Tensor) -> Tensor:
    """Unbiased covariance (d, d) of features (n, d). ValueError for n < 2."""
    if len(features) < 2:
        raise ValueError(f"covariance: {len(features)} rows, expected at least 2")
    centred = features - features.mean(0)
    return centred.T @ centred / (len(features) - 1)


def coral(source: Tensor, target: Tensor, squared: bool = True) -> Tensor:
    """Difference of the covariances of features (n, d) and (m, d): ||Cs - Ct||_F^2 / (4 d^2), paper
    001 eq. (5).

    ``squared=False`` is the norm itself over 4 d^2, as in the reference code; its gradient at 0 is
    0.
    """
    difference = covariance(source) - covariance(target)
    size = difference.square().sum() if squared else torch.linalg.vector_norm(difference)
    return size / (4 * source.shape[1] ** 2)


def sliced_wasserstein(
    source: Tensor, target: Tensor, directions: Tensor, power: float = 2.0
) -> Tensor:
    """SWD_p^p: mean over directions (d, L) of the mean |difference|^p of the sorted projections of
    (n, d) and (m, d).

    The p-th power, not its root, whose gradient is infinite at equal sets. Where n and m differ,
    the smaller set's quantile function is interpolated at the quantiles of the larger.
    """
    x, y = (source @ directions).sort(dim=0).values, (target @ directions).sort(dim=0).values
    size = max(len(x), len(y))
    return (_quantiles(x, size) - _quantiles(y, size)).abs().pow(power).mean()


def _quantiles(ordered: Tensor, size: int) -> Tensor:
    """Ordered columns (n, L) at the mid-quantiles (i + 1/2) / size, linear between those of the n
    values.
    """
    n = len(ordered)
    if n == size:
        return ordered
    place = (
        (torch.arange(size, device=ordered.device, dtype=ordered.dtype) + 0.5) * n / size - 0.5
    ).clamp(0, n - 1)
    below = place.floor().long()
    share = (place - below)[:, None]
    return ordered[below] * (1 - share) + ordered[(below + 1).clamp(max=n - 1)] * share


def random_directions(
    d: int,
    count: int,
    generator: torch.Generator,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """``count`` directions (d, count) uniform on the unit sphere."""
    drawn = torch.randn(d, count, generator=generator, dtype=dtype).to(device)
    directions: Tensor = drawn / drawn.norm(dim=0)
    return directions


def domain_class_confusion(same_class: Tensor, other_class: Tensor) -> Tensor:
    """Paper 001 eq. (8) with a plus: cross-domain pairs are to look as if they were of one domain.

    Logits (a, 4) of pairs of G2 and (b, 4) of G4: -E log D(G2)[G1] - E log D(G4)[G3], each mean
    over its pairs.
    """
    first = same_class.new_full((len(same_class),), SAME_DOMAIN_SAME_CLASS, dtype=torch.long)
    third = other_class.new_full((len(other_class),), SAME_DOMAIN_OTHER_CLASS, dtype=torch.long)
    return cross_entropy(same_class, first) + cross_entropy(other_class, third)

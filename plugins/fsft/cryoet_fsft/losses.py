"""Define what the stages minimise: CORAL, sliced Wasserstein and domain-class confusion.

The formulas are corrected as the README says.
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
    """Return the unbiased covariance (d, d) of features (n, d).

    Raises
    ------
    ValueError
        For fewer than 2 rows.
    """
    if len(features) < 2:
        raise ValueError(f"covariance: {len(features)} rows, expected at least 2")
    centred = features - features.mean(0)
    return centred.T @ centred / (len(features) - 1)


def coral(source: Tensor, target: Tensor, squared: bool = True) -> Tensor:
    """Compare the covariances of two sets of features: ||Cs - Ct||_F^2 / (4 d^2), eq. (5) of FSFT.

    Parameters
    ----------
    source : Tensor
        Features (n, d).
    target : Tensor
        Features (m, d).
    squared : bool, optional
        True for the squared norm; False for the norm itself over 4 d^2, as in the reference code;
        its gradient at 0 is 0.

    Returns
    -------
    Tensor
        The loss, a scalar.

    References
    ----------
    Sun and Saenko (2016). Deep CORAL: correlation alignment for deep domain adaptation.
    doi:10.1007/978-3-319-49409-8_35.
    """
    difference = covariance(source) - covariance(target)
    size = difference.square().sum() if squared else torch.linalg.vector_norm(difference)
    return size / (4 * source.shape[1] ** 2)


def sliced_wasserstein(
    source: Tensor, target: Tensor, directions: Tensor, power: float = 2.0
) -> Tensor:
    """Average |difference|^p of sorted projections over directions: the sliced Wasserstein SWD_p^p.

    It is the p-th power, not its root, whose gradient is infinite at equal sets. Where n and m
    differ, the smaller set's quantile function is interpolated at the quantiles of the larger.

    Parameters
    ----------
    source : Tensor
        Features (n, d).
    target : Tensor
        Features (m, d).
    directions : Tensor
        Unit vectors (d, L) to project on.
    power : float, optional
        The exponent p.

    Returns
    -------
    Tensor
        The loss, a scalar.
    """
    x, y = (source @ directions).sort(dim=0).values, (target @ directions).sort(dim=0).values
    size = max(len(x), len(y))
    return (_quantiles(x, size) - _quantiles(y, size)).abs().pow(power).mean()


def _quantiles(ordered: Tensor, size: int) -> Tensor:
    """Interpolate ordered columns (n, L) at the mid-quantiles (i + 1/2) / size."""
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
    """Draw directions uniformly on the unit sphere.

    Parameters
    ----------
    d : int
        Dimensions.
    count : int
        Number of directions.
    generator : torch.Generator
        Source of random numbers, on the CPU.
    device : torch.device
        Device of the result.
    dtype : torch.dtype, optional
        Type of the result.

    Returns
    -------
    Tensor
        Unit vectors (d, count).
    """
    drawn = torch.randn(d, count, generator=generator, dtype=dtype).to(device)
    directions: Tensor = drawn / drawn.norm(dim=0)
    return directions


def domain_class_confusion(same_class: Tensor, other_class: Tensor) -> Tensor:
    """Ask cross-domain pairs to look as if they were of one domain: eq. (8) of FSFT with a plus.

    Logits (a, 4) of pairs of G2 and (b, 4) of G4 give -E log D(G2)[G1] - E log D(G4)[G3], each
    mean over its pairs.
    """
    first = same_class.new_full((len(same_class),), SAME_DOMAIN_SAME_CLASS, dtype=torch.long)
    third = other_class.new_full((len(other_class),), SAME_DOMAIN_OTHER_CLASS, dtype=torch.long)
    return cross_entropy(same_class, first) + cross_entropy(other_class, third)

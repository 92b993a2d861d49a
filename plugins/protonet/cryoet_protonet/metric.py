"""Scale the embedding: how far members of a class lie apart, on the training classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

_MOST = 20_000
"""Volumes that a scatter is estimated from, at most."""


@dataclass(frozen=True)
class Linear:
    """Map x (n, f) to (x - mean) @ matrix, (n, d).

    Attributes
    ----------
    mean : Tensor
        Mean (f,).
    matrix : Tensor
        Matrix (f, d).
    """

    mean: Tensor
    matrix: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Map features (n, f) to (n, d)."""
        return (features - self.mean.to(features)) @ self.matrix.to(features)

    @classmethod
    def identity(cls, dim: int) -> Linear:
        """Return the map that changes nothing."""
        return cls(torch.zeros(dim), torch.eye(dim))


def residuals(features: Tensor, classes: Tensor) -> Tensor:
    """Subtract the class mean from features (n, f), times sqrt(n / (n - classes)).

    So second moments are unbiased.
    """
    found, index = classes.unique(return_inverse=True)
    means = features.new_zeros(len(found), features.shape[1]).index_add_(0, index, features)
    means = means / torch.bincount(index, minlength=len(found))[:, None]
    freedom = max(len(features) - len(found), 1)
    scale: float = (len(features) / freedom) ** 0.5
    return (features - means[index]) * scale


def whitening(features: Tensor, classes: Tensor) -> Linear:
    """Return the map that makes the scatter within classes the identity.

    Features are (n, f), classes (n,). The scatter is that of standardised features, shrunk as
    Ledoit and Wolf say. A feature that does not vary within classes counts for nothing.

    References
    ----------
    Ledoit and Wolf (2004). A well-conditioned estimator for large-dimensional covariance matrices.
    doi:10.1016/S0047-259X(03)00096-4.
    """
    features = features[:_MOST].double().cpu()
    inner = residuals(features, classes[:_MOST].cpu())
    spread = inner.square().mean(0).sqrt()
    steady = spread <= 1e-6 * features.std(0, correction=0).clamp(min=1e-12)
    scale = torch.where(
        steady, torch.zeros_like(spread), 1 / torch.where(steady, torch.ones_like(spread), spread)
    )
    scatter = torch.from_numpy(ledoit_wolf((inner * scale).numpy(), assume_centered=True)[0])
    values, axes = torch.linalg.eigh(scatter)
    return Linear(
        features.mean(0).float(), (scale[:, None] * axes / values.clamp(min=1e-9).sqrt()).float()
    )


def isotropic(features: Tensor, classes: Tensor, variance: float) -> Linear:
    """Scale all features as one, so that the variance within classes becomes ``variance``.

    Parameters
    ----------
    features : Tensor
        Features (n, f).
    classes : Tensor
        Class of each row (n,).
    variance : float
        Variance wanted, all features together.
    """
    inner = float(residuals(features.double(), classes).square().sum(1).mean())
    scale = (variance / inner) ** 0.5 if inner > 0 else 0.0
    return Linear(features.mean(0).cpu(), scale * torch.eye(features.shape[1]))

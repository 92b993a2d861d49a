"""Features to clusters: scaling, PCA and the choice of the number of components by BIC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cryoet_core.algorithms.mixtures.gmm import Mixture, fit_mixtures
from cryoet_core.support.errors import UserError

Reduce = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Projection:
    """Centre, scale and rotate features (n, f) to their principal components (n, dim); unit total
    scale.
    """

    mean: Tensor
    axes: Tensor  # (f, dim), scaled so that the projected points have mean square 1 per dimension

    @classmethod
    def fit(cls, features: Tensor, dim: int, reduce: Reduce = lambda tensor: tensor) -> Projection:
        """Principal axes from summed second moments; at most ``dim`` and at most as many as the
        features have.
        """
        x = features.double()
        n = reduce(torch.tensor(float(len(x)), dtype=torch.float64, device=x.device))
        mean = reduce(x.sum(0)) / n
        covariance = reduce((x - mean).T @ (x - mean)) / n
        values, vectors = torch.linalg.eigh(covariance)
        axes = vectors[:, -dim:].flip(1)
        # the sign of an eigenvector is arbitrary: fix it, so that the same data give the same
        # coordinates
        axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        scale = values[-dim:].mean().clamp(min=1e-12).sqrt()
        return cls(mean.float(), (axes / scale).float())

    def __call__(self, features: Tensor) -> Tensor:
        return (features.float() - self.mean.to(features.device)) @ self.axes.to(features.device)


@dataclass(frozen=True)
class Scaling:
    """Each feature to mean 0 and standard deviation 1, each block of features to the same total
    weight.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, blocks: Sequence[Tensor], reduce: Reduce = lambda tensor: tensor) -> Scaling:
        x = torch.cat(list(blocks), 1).double()
        n = reduce(torch.tensor(float(len(x)), dtype=torch.float64, device=x.device))
        mean = reduce(x.sum(0)) / n
        spread = (reduce((x - mean).square().sum(0)) / n).sqrt()
        width = torch.cat([x.new_full((b.shape[1],), float(b.shape[1])) for b in blocks]).sqrt()
        # a feature that does not vary says nothing
        scale = torch.where(
            spread > 1e-9, 1 / (spread.clamp(min=1e-9) * width), torch.zeros_like(spread)
        )
        return cls(mean.float(), scale.float())

    def __call__(self, blocks: Sequence[Tensor]) -> Tensor:
        x = torch.cat(list(blocks), 1)
        return (x - self.mean.to(x.device)) * self.scale.to(x.device)


def candidates(k_min: int, k_max: int, n: int) -> list[int]:
    """The numbers of clusters to try. UserError where there are fewer volumes than clusters."""
    if k_min > k_max:
        raise UserError(f"`k_min` {k_min}: larger than `k_max` {k_max}; give a range in order")
    if n < k_max:
        raise UserError(
            f"`k_max` {k_max}: the data set has only {n} volumes; lower `k_max` or give more data"
        )
    return list(range(k_min, k_max + 1))


def choose(mixtures: Mapping[int, Mixture]) -> int:
    """The number of components with the lowest BIC."""
    return min(mixtures, key=lambda k: mixtures[k].bic)


def search(
    points: Tensor,
    ks: Sequence[int],
    generator: torch.Generator,
    *,
    restarts: int = 5,
    reg: float = 1e-5,
    warm_labels: Tensor | None = None,
    reduce: Reduce = lambda tensor: tensor,
    seed_points: Tensor | None = None,
) -> dict[int, Mixture]:
    """The best mixture for every K."""
    fitted = fit_mixtures(
        points,
        ks,
        generator,
        restarts=restarts,
        reg=reg,
        warm_labels=warm_labels,
        reduce=reduce,
        seed_points=seed_points,
    )
    return dict(zip(ks, fitted, strict=True))


def selection(mixtures: Mapping[int, Mixture], chosen: int) -> dict[str, object]:
    """What model_selection.json holds."""
    return {"k": list(mixtures), "bic": [mixtures[k].bic for k in mixtures], "chosen": chosen}

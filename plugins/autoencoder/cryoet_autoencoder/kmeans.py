"""Cluster by k-means: scikit-learn's on a CPU, all restarts at once on a GPU or for many points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MANY = 50_000
"""Points from which on restarts are computed together on a CPU too: scikit-learn takes them one by
one.
"""
TOLERANCE = 1e-4
"""Squared movement of the centres, as a fraction of the points' mean variance, that ends the
iterations.
"""
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Clusters:
    """Clusters of points.

    Attributes
    ----------
    centres : Tensor
        Centres (k, d), those with most points first.
    variance : float
        Variance of the points about their centres, the mean per axis.
    inertia : float
        Sum of squared distances.
    history : tuple[float, ...]
        Inertia of each iteration, where it is known.
    """

    centres: Tensor
    variance: float
    inertia: float
    history: tuple[float, ...] = ()

    def assign(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return nearest centres (n,) and probabilities (n, k).

        Probabilities are those of Gaussians of equal weight and of this variance.
        """
        distances = _squared(points.double(), self.centres.to(points.device).double())
        shares = torch.softmax(-0.5 * distances / max(self.variance, 1e-12), 1)
        return distances.argmin(1), shares.float()


def fit_kmeans(points: Tensor, k: int, restarts: int, seed: int) -> Clusters:
    """Return the best of several k-means++ starts.

    Parameters
    ----------
    points : Tensor
        Points (n, d).
    k : int
        Clusters; fewer where fewer than k points differ.
    restarts : int
        Number of starts.
    seed : int
        Seed of the random numbers.
    """
    k = min(k, len(torch.unique(points, dim=0)))
    history: tuple[float, ...] = ()
    if points.device.type == "cpu" and len(points) <= MANY:
        from sklearn.cluster import KMeans

        found = KMeans(k, n_init=restarts, random_state=seed % 2**32, tol=TOLERANCE).fit(
            points.double().numpy()
        )
        centres = torch.from_numpy(found.cluster_centers_).float()
        inertia = float(found.inertia_)
    else:
        generator = torch.Generator(points.device).manual_seed(seed)
        centres, history = batched_kmeans(points, k, restarts, generator)
        inertia = history[-1]
    counts = _squared(points, centres.to(points)).argmin(1).bincount(minlength=k)
    order = torch.argsort(counts, descending=True, stable=True).cpu()
    return Clusters(centres.cpu()[order], inertia / max(points.numel(), 1), inertia, history)


def batched_kmeans(
    points: Tensor, k: int, restarts: int, generator: torch.Generator, iterations: int = 300
) -> tuple[Tensor, tuple[float, ...]]:
    """Run Lloyd's iterations of all restarts at once.

    A centre that loses its last point stays where it is.

    Parameters
    ----------
    points : Tensor
        Points (n, d).
    k : int
        Clusters.
    restarts : int
        Number of starts.
    generator : torch.Generator
        Source of random numbers, on the device of the points.
    iterations : int, optional
        Iterations at most.

    Returns
    -------
    tuple[Tensor, tuple[float, ...]]
        Centres (k, d) of the best start and its inertia by iteration.
    """
    d = points.shape[1]
    centres = _plus_plus(points, k, restarts, generator)  # (r, k, d)
    limit = TOLERANCE * float(points.var(0, correction=0).mean())
    history: list[Tensor] = []
    for _ in range(iterations):
        sums = torch.zeros(restarts * k, d, device=points.device, dtype=torch.float64)
        counts = torch.zeros(restarts * k, device=points.device, dtype=torch.float64)
        inertia = torch.zeros(restarts, device=points.device, dtype=torch.float64)
        offset = torch.arange(restarts, device=points.device)[:, None] * k
        for part in points.split(max(1, _CHUNK // (restarts * k))):
            distances, nearest = _squared(part.expand(restarts, -1, -1), centres).min(2)
            inertia += distances.sum(1, dtype=torch.float64)
            flat = (nearest + offset).flatten()
            sums.index_add_(0, flat, part.double().expand(restarts, -1, -1).reshape(-1, d))
            counts.index_add_(0, flat, torch.ones_like(flat, dtype=torch.float64))
        history.append(inertia)
        means = (sums / counts.clamp(min=1)[:, None]).view(restarts, k, d).to(points)
        moved = torch.where(counts.view(restarts, k, 1) > 0, means, centres)
        shift = (moved - centres).square().sum((1, 2))
        centres = moved
        if float(shift.max()) <= limit:
            break
    table = torch.stack(history)
    best = int(table[-1].argmin())
    return centres[best], tuple(table[:, best].tolist())


def _plus_plus(points: Tensor, k: int, restarts: int, generator: torch.Generator) -> Tensor:
    """Draw starts (r, k, d): each next centre by its squared distance to the nearest so far."""
    n, device = len(points), points.device
    rows = torch.randint(n, (restarts,), generator=generator, device=device)
    chosen = [points[rows]]
    nearest = _squared(points.expand(restarts, -1, -1), chosen[0][:, None])[..., 0]  # (r, n)
    for _ in range(k - 1):
        steps = nearest.double().cumsum(1)
        draws = (
            torch.rand(restarts, 1, generator=generator, device=device, dtype=torch.float64)
            * steps[:, -1:]
        )
        rows = torch.searchsorted(steps, draws, right=True)[:, 0].clamp(max=n - 1)
        chosen.append(points[rows])
        nearest = torch.minimum(
            nearest, _squared(points.expand(restarts, -1, -1), chosen[-1][:, None])[..., 0]
        )
    return torch.stack(chosen, 1)


def _squared(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distances (..., n, k) of points (..., n, d) and centres (..., k, d)."""
    cross = points @ centres.transpose(-1, -2)
    squares = points.square().sum(-1)[..., None] + centres.square().sum(-1)[..., None, :]
    return (squares - 2 * cross).clamp(min=0)


def seed_of(generator: torch.Generator) -> int:
    """Return a seed for what takes no generator."""
    return int(np.int64(generator.initial_seed()) & 0x7FFFFFFF)

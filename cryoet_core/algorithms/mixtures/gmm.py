"""Full-covariance Gaussian mixtures: every candidate K and every restart as one batched
computation.

``fit_mixtures`` takes its starts from ``gmm_starts``, iterates all of them side by side
(``gmm_em``) and gives the best ``Mixture`` of each K.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cryoet_core.algorithms.mixtures.em import Em, Fitted, Models, Reduce
from cryoet_core.algorithms.mixtures.starts import plus_plus, screened, started

__all__ = ["Mixture", "bic", "fit_mixtures", "plus_plus"]

_BLOCK_BYTES = 8 << 20
_FEW_POINTS = 20_000
_SEED_POINTS = 4096
_SAMPLE_PER_PARAMETER = 3
_RACE = {1: 2, 2: 1}


@dataclass(frozen=True)
class Mixture:
    """weights (k,), means (k, d), covariances (k, d, d); log_likelihood is the total over the n
    points of the fit.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    log_likelihood: float
    n: int
    converged: bool = True
    iterations: int = 0

    @property
    def k(self) -> int:
        return len(self.weights)

    @property
    def bic(self) -> float:
        """-2 log L + p log n with p = (K - 1) + K d + K d (d + 1) / 2; lower is better."""
        return bic(self.log_likelihood, self.k, self.means.shape[1], self.n)

    def log_joint(self, x: Tensor) -> Tensor:
        """log(weight_k N(x; mean_k, covariance_k)) for points (n, d), (n, k)."""
        found = self.means.new_empty(len(x), self.k)
        for rows, joint in self._joints(x):
            found[rows] = joint
        return found

    def posterior(self, x: Tensor) -> Tensor:
        """Probability of each component for points (n, d), (n, k); rows sum to 1."""
        found = self.means.new_empty(len(x), self.k)
        for rows, joint in self._joints(x):
            found[rows] = joint.softmax(1)
        return found

    def predict(self, x: Tensor) -> Tensor:
        """The most probable component of points (n, d), (n,) int64."""
        found = torch.empty(len(x), dtype=torch.int64, device=self.means.device)
        for rows, joint in self._joints(x):
            found[rows] = joint.argmax(1)
        return found

    def _joints(self, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The log-joint of a block of points at a time, so that nothing but the caller's result
        grows with n.
        """
        d = self.means.shape[1]
        factor = torch.linalg.cholesky(self.covariances)
        log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = self.weights.log() - 0.5 * (log_det + d * math.log(2 * math.pi))
        # whitening about a common centre is one matrix product for all components
        white = torch.linalg.solve_triangular(factor, torch.eye(d).to(factor), upper=False)
        centre = self.weights @ self.means
        shift = (white @ (self.means - centre)[..., None]).flatten()
        width = max(1, _BLOCK_BYTES // (8 * self.k * d))
        for rows in (slice(i, i + width) for i in range(0, len(x), width)):
            whitened = (x[rows].to(self.means) - centre) @ white.flatten(0, 1).T - shift
            yield rows, constant - 0.5 * whitened.square_().view(-1, self.k, d).sum(2)

    def select(self, components: Tensor) -> Mixture:
        """The mixture of some components, in the given order, weights made to sum to 1."""
        weights = self.weights[components]
        return Mixture(
            weights / weights.sum(),
            self.means[components],
            self.covariances[components],
            self.log_likelihood,
            self.n,
            self.converged,
            self.iterations,
        )


def bic(log_likelihood: float, k: int, d: int, n: int) -> float:
    """Bayesian information criterion of a full-covariance mixture; log_likelihood is a total, in
    nats.
    """
    return -2 * log_likelihood + _parameters(k, d) * math.log(n)


def _parameters(k: int, d: int) -> int:
    return (k - 1) + k * d + k * d * (d + 1) // 2


def fit_mixtures(
    x: Tensor,
    candidates: Sequence[int],
    generator: torch.Generator,
    *,
    restarts: int = 5,
    warm_labels: Tensor | None = None,
    max_iter: int = 100,
    tol: float = 1e-3,
    reg: float = 1e-5,
    reduce: Reduce = lambda tensor: tensor,
    seed_points: Tensor | None = None,
) -> list[Mixture]:
    """The best mixture of ``restarts`` for each number of components in ``candidates``, in that
    order.

    Up to 20,000 points, every start runs on all of them. With more, the starts run on a sample,
    where each K also tries its neighbours' best models with a component split or two merged; the
    three best of each K go on to all points, the worse two leave in the first two iterations, and
    the last converges on all points.

    x (n, d): points, this process's share where ``reduce`` sums over processes (then
    ``seed_points``, the same on all, supplies the starting means and the sample). warm_labels (n,):
    one more start from these labels, on all points, for the candidate equal to their number. tol:
    gain in mean log-likelihood per point below which a start has converged. reg: added to the
    diagonals, as a share of the mean variance of the points (so that scaling them changes nothing).
    Raises ValueError for fewer points than the largest candidate, or points that are not finite.
    """
    n = int(reduce(torch.tensor(float(len(x)), dtype=torch.float64)))
    if not candidates or min(candidates) < 1 or max(candidates) > n:
        raise ValueError(
            f"fit_mixtures: candidates are {list(candidates)}, expected numbers from 1 to the {n} "
            "points"
        )
    if not bool(torch.isfinite(x).all()):
        raise ValueError("fit_mixtures: some points are not finite")
    origin = reduce(x.double().sum(0)) / n
    centred = x.double() - origin
    scale = float((reduce(centred.square().sum()) / (n * x.shape[1])).sqrt()) or 1.0
    points = (centred / scale).to(_precision(x, n))
    seeds = points if seed_points is None else ((seed_points.double() - origin) / scale).to(points)
    em = Em(points, n, reg, reduce)
    size = max(_SEED_POINTS, _SAMPLE_PER_PARAMETER * _parameters(max(candidates), em.d))
    sample = seeds[torch.randperm(len(seeds), generator=generator)[:size].to(seeds.device)]
    if n <= max(_FEW_POINTS, 2 * size) or len(sample) < size:
        sizes = [k for k in candidates for _ in range(restarts)]
        fitted = em.run(started(em, sample[:_SEED_POINTS], sizes, generator), max_iter, tol)
    else:
        on_sample = Em(sample, len(sample), reg)
        starts = screened(
            on_sample, sample[:_SEED_POINTS], candidates, restarts, generator, max_iter, tol
        )
        fitted = em.run(starts, max_iter, tol, _RACE)
    warm = None if warm_labels is None else _from_labels(em, warm_labels, candidates)
    if warm is not None:
        fitted = fitted.joined(em.run(warm, max_iter, tol))
    return _mixtures(em, fitted, candidates, origin, scale)


def _from_labels(em: Em, labels: Tensor, candidates: Sequence[int]) -> Models | None:
    """The start from labels (n,) where their number, counted over all processes, is a candidate."""
    top = max(candidates)
    # one of the processes may not have the last cluster among its points
    count = torch.bincount(labels.clamp(max=top), minlength=top + 1)
    used = int(em.reduce(count.to(em.columns.device)).nonzero().max()) + 1
    return em.from_labels([labels.to(em.columns.device)], [used]) if used in candidates else None


def _mixtures(
    em: Em, fitted: Fitted, candidates: Sequence[int], origin: Tensor, scale: float
) -> list[Mixture]:
    """The likeliest model of each candidate, in the units of the caller's points."""
    places = [fitted.best(k)[0] for k in candidates]
    likelihoods = [fitted.likelihoods[place] for place in places]
    if em.columns.dtype != torch.float64:
        likelihoods = em.likelihoods(fitted.models.pick(places))
    mixtures = []
    for place, likelihood in zip(places, likelihoods, strict=True):
        model = fitted.models[place]
        mixtures.append(
            Mixture(
                model.weights,
                model.means * scale + origin,
                model.covariances * scale**2,
                em.n * (likelihood - em.d * math.log(scale)),
                em.n,
                fitted.converged[place],
                fitted.iterations[place],
            )
        )
    return mixtures


def _precision(x: Tensor, n: int) -> torch.dtype:
    """Double where it costs little; single precision keeps the means of a million points to 1e-5
    deviations.

    ``n`` counts the points of all processes, so that their number does not decide.
    """
    return torch.float64 if x.device.type == "cpu" and n <= _FEW_POINTS else torch.float32

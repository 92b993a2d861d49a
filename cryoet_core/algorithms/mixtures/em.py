"""Expectation maximisation of many Gaussian mixtures side by side, on the points of one or several
processes.

log N(x; mu, S) is linear in phi(x) = (all products x_i x_j, x, 1). Stacking the coefficients of all
components of all models makes the expectation step of a whole search one matrix product, (sum K, q)
@ phi (q, n), and the maximisation step another, shares (sum K, n) @ phi.T. Both run over blocks of
points that stay in the cache. Points lie in columns, so that sums over the components of a model
are sums of contiguous rows. What the maximisation needs are sums over points, which shards of the
data may add up (``reduce``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]

_BLOCK_BYTES = {"cpu": 8 << 20}
_BLOCK_BYTES_OF_A_GPU = 256 << 20


@dataclass(frozen=True)
class Models:
    """Mixtures of ``sizes`` components, stacked: weights (c,), means (c, d), covariances (c, d, d),
    all float64.
    """

    sizes: tuple[int, ...]
    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __getitem__(self, place: int) -> Models:
        """One of the models."""
        return self.pick([place])

    def pick(self, places: Sequence[int]) -> Models:
        """Some of the models, in the order of ``places``."""
        rows = _components(self.sizes, places).to(self.weights.device)
        sizes = tuple(self.sizes[place] for place in places)
        return Models(sizes, self.weights[rows], self.means[rows], self.covariances[rows])

    @staticmethod
    def join(parts: Sequence[Models]) -> Models:
        """The models of all parts, in order."""
        return Models(
            tuple(size for part in parts for size in part.sizes),
            torch.cat([part.weights for part in parts]),
            torch.cat([part.means for part in parts]),
            torch.cat([part.covariances for part in parts]),
        )


@dataclass(frozen=True)
class Fitted:
    """Models and, for each, the mean log-likelihood per point, whether it converged, and after how
    many iterations.
    """

    models: Models
    likelihoods: tuple[float, ...]
    converged: tuple[bool, ...]
    iterations: tuple[int, ...]

    def best(self, size: int, count: int = 1) -> list[int]:
        """Places of the ``count`` likeliest models of a size, the likeliest first."""
        places = [place for place, k in enumerate(self.models.sizes) if k == size]
        return sorted(places, key=lambda place: -self.likelihoods[place])[:count]

    def joined(self, other: Fitted) -> Fitted:
        """These models and, after them, others."""
        return Fitted(
            Models.join([self.models, other.models]),
            self.likelihoods + other.likelihoods,
            self.converged + other.converged,
            self.iterations + other.iterations,
        )


class Em:
    """Points (n, d) of this process and what the two steps need. ``n`` counts the points of all
    processes.
    """

    def __init__(
        self, points: Tensor, n: int, reg: float, reduce: Reduce = lambda tensor: tensor
    ) -> None:
        self.columns = points.T.contiguous()
        self.n, self.reg, self.reduce = n, reg, reduce
        self.d = points.shape[1]
        self.row, self.column = torch.triu_indices(self.d, self.d, device=points.device)

    def from_labels(self, labels: Sequence[Tensor], sizes: Sequence[int]) -> Models:
        """One model for each labelling (n,) of this process's points with numbers below its
        size.
        """
        total = self._zeros(sum(sizes))
        for block in self._blocks(sum(sizes)):
            shares = [
                torch.nn.functional.one_hot(part[block], k).T
                for part, k in zip(labels, sizes, strict=True)
            ]
            total += (
                torch.cat(shares).to(self.columns) @ self._features(block, self.columns.dtype).T
            )
        return self._maximise(self.reduce(total), sizes)

    def run(
        self, models: Models, max_iter: int, tol: float, race: Mapping[int, int] | None = None
    ) -> Fitted:
        """Iterate each model until its mean log-likelihood per point gains less than ``tol``.

        race {iteration: count}: at that iteration only the ``count`` likeliest models of each size
        go on.
        """
        active = list(range(len(models.sizes)))
        previous = [-math.inf] * len(active)
        ended: dict[int, tuple[Models, float, bool, int]] = {}
        for iteration in range(1, max_iter + 1):
            total, likelihoods = self._expect(models)
            converged = [
                value - previous[m] < tol for m, value in zip(active, likelihoods, strict=True)
            ]
            leading = _leading(models.sizes, likelihoods, (race or {}).get(iteration))
            still = []
            for place, m in enumerate(active):
                previous[m] = likelihoods[place]
                if converged[place] or place not in leading or iteration == max_iter:
                    ended[m] = (models[place], likelihoods[place], converged[place], iteration)
                else:
                    still.append(place)
            if not still:
                break
            active = [active[place] for place in still]
            rows = _components(models.sizes, still).to(total.device)
            models = self._maximise(total[rows], [models.sizes[place] for place in still])
        found, values, settled, iterations = zip(*(ended[m] for m in sorted(ended)), strict=True)
        return Fitted(Models.join(found), values, settled, iterations)

    def likelihoods(self, models: Models) -> list[float]:
        """The mean log-likelihood per point of each model, in double precision whatever the points
        are in.
        """
        return self._expect(models, exact=True)[1]

    # ---- the two steps

    def _expect(self, models: Models, exact: bool = False) -> tuple[Tensor, list[float]]:
        """Sums for the maximisation, (sum K, q), and each model's mean log-likelihood; if exact,
        the latter alone.
        """
        coefficients = self._coefficients(models)
        coefficients = coefficients if exact else coefficients.to(self.columns.dtype)
        total = self._zeros(len(coefficients))
        likelihood = total.new_zeros(len(models.sizes))
        for block in self._blocks(len(coefficients)):
            features = self._features(block, coefficients.dtype)
            joint = coefficients @ features
            for places, rows, size in _runs(models.sizes):
                # models of one size at once: (models, size, points of the block), made shares in
                # place
                part = joint[rows].view(-1, size, joint.shape[1])
                top = part.amax(1, keepdim=True)
                norm = part.sub_(top).exp2_().sum(1, keepdim=True)
                part.div_(norm)
                likelihood[places] += top.add_(norm.log2_()).sum((1, 2), dtype=torch.float64)
            if not exact:
                total += joint @ features.T
        return self.reduce(total), (self.reduce(likelihood) * (math.log(2) / self.n)).tolist()

    def _maximise(self, total: Tensor, sizes: Sequence[int]) -> Models:
        """Models from the sums of phi(x) under each component's shares, (sum K, q)."""
        mass = total[:, -1].clamp(min=1e-8)
        means = total[:, -1 - self.d : -1] / mass[:, None]
        second = total.new_zeros(len(total), self.d, self.d)
        products = total[:, : len(self.row)] / mass[:, None]
        second[:, self.row, self.column] = products
        second[:, self.column, self.row] = products
        covariances = second - means[:, :, None] * means[:, None, :]
        identity = torch.eye(self.d, dtype=total.dtype, device=total.device)
        # A component with fewer points than dimensions has no covariance of its own: it gets the
        # whole set's shape.
        thin = (mass < self.d + 1)[:, None, None]
        covariances = torch.where(thin, covariances + identity, covariances) + self.reg * identity
        weights = torch.cat([part / part.sum() for part in mass.split(list(sizes))])
        return Models(tuple(sizes), weights, means, _positive(covariances, self.reg))

    def _coefficients(self, models: Models) -> Tensor:
        """The vectors c_k with log2(weight_k N(x; k)) = c_k . phi(x), (sum K, q).

        In base 2, because exp of a number that underflows is twenty times slower in the CPU's
        library, and most do.
        """
        factor = torch.linalg.cholesky(models.covariances)
        precision = torch.cholesky_inverse(factor)
        linear = (precision @ models.means[..., None])[..., 0]
        log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = models.weights.log() - 0.5 * (
            (linear * models.means).sum(1) + log_det + self.d * math.log(2 * math.pi)
        )
        twice = torch.where(self.row == self.column, -0.5, -1.0).double()
        quadratic = precision[:, self.row, self.column] * twice
        return torch.cat([quadratic, linear, constant[:, None]], 1) / math.log(2)

    # ---- blocks of points

    def _features(self, block: slice, dtype: torch.dtype) -> Tensor:
        """phi(x) of a block of points, (q, points): the products in the order of
        ``torch.triu_indices``.
        """
        x = self.columns[:, block].to(dtype)
        features = x.new_empty(len(self.row) + self.d + 1, x.shape[1])
        begin = 0
        for i in range(self.d):
            torch.mul(x[i], x[i:], out=features[begin : begin + self.d - i])
            begin += self.d - i
        features[begin:-1] = x
        features[-1] = 1
        return features

    def _blocks(self, components: int) -> Iterator[slice]:
        budget = _BLOCK_BYTES.get(self.columns.device.type, _BLOCK_BYTES_OF_A_GPU)
        width = max(
            1, budget // (self.columns.element_size() * (components + len(self.row) + self.d + 1))
        )
        return (slice(i, i + width) for i in range(0, self.columns.shape[1], width))

    def _zeros(self, components: int) -> Tensor:
        return self.columns.new_zeros(components, len(self.row) + self.d + 1, dtype=torch.float64)


def _components(sizes: Sequence[int], places: Sequence[int]) -> Tensor:
    """Rows of the components of the models at ``places``, where models of ``sizes`` are stacked."""
    offsets = [0, *itertools.accumulate(sizes)]
    return torch.cat([torch.arange(offsets[place], offsets[place + 1]) for place in places])


def _leading(sizes: Sequence[int], likelihoods: Sequence[float], count: int | None) -> set[int]:
    """Places of the ``count`` likeliest models of each size; of all without a count."""
    order = sorted(range(len(sizes)), key=lambda place: -likelihoods[place])
    return {
        place for size in set(sizes) for place in [p for p in order if sizes[p] == size][:count]
    }


def _runs(sizes: Sequence[int]) -> Iterator[tuple[slice, slice, int]]:
    """Stretches of models of equal size: which models, which components, and the size."""
    place = row = 0
    for size, group in itertools.groupby(sizes):
        count = len(list(group))
        yield slice(place, place + count), slice(row, row + count * size), size
        place, row = place + count, row + count * size


def _positive(covariances: Tensor, floor: float) -> Tensor:
    """Lift eigenvalues that rounding left below ``floor``; a no-op for healthy matrices."""
    _, failed = torch.linalg.cholesky_ex(covariances)
    if not bool(failed.any()):
        return covariances
    values, vectors = torch.linalg.eigh(covariances)
    lifted: Tensor = vectors @ torch.diag_embed(values.clamp(min=floor)) @ vectors.transpose(1, 2)
    return lifted

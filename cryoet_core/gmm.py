"""Full-covariance Gaussian mixtures: every candidate K and every restart as one batched computation.

log N(x; mu, S) is linear in phi(x) = (all products x_i x_j, x, 1). Stacking the coefficients of all components of all
models makes the expectation step of the whole search one matrix product, phi (n, q) @ (q, sum K), and the maximisation
step its transpose; both run in blocks of rows, so memory does not grow with n. What the maximisation needs are
sums over points, which shards of the data may add up (``reduce``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]

_BLOCK_BYTES = 96 << 20
_SEED_POINTS = 4096


@dataclass(frozen=True)
class Mixture:
    """weights (k,), means (k, d), covariances (k, d, d); log_likelihood is the total over the n points of the fit."""

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
        factor = torch.linalg.cholesky(self.covariances)
        centred = x.to(self.means)[:, None, :] - self.means
        solved = torch.linalg.solve_triangular(factor, centred.permute(1, 2, 0), upper=False)
        log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        d = self.means.shape[1]
        log_density: Tensor = -0.5 * (solved.square().sum(1).T + log_det + d * math.log(2 * math.pi))
        return self.weights.log() + log_density

    def posterior(self, x: Tensor) -> Tensor:
        """Probability of each component for points (n, d), (n, k); rows sum to 1."""
        return self.log_joint(x).softmax(1)

    def predict(self, x: Tensor) -> Tensor:
        """The most probable component of points (n, d), (n,) int64."""
        return self.log_joint(x).argmax(1)

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
    """Bayesian information criterion of a full-covariance mixture; log_likelihood is a total, in nats."""
    parameters = (k - 1) + k * d + k * d * (d + 1) // 2
    return -2 * log_likelihood + parameters * math.log(n)


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
    """The best mixture of ``restarts`` for each number of components in ``candidates``, in that order.

    x (n, d): points, this process's share where ``reduce`` sums over processes (then ``seed_points``, the same on all,
    supplies the starting means). warm_labels (n,): one more start from these labels for the candidate equal to their
    number. tol: gain in mean log-likelihood per point below which a start has converged. reg: added to the
    diagonals, as a share of the mean variance of the points (so that scaling the points changes nothing).
    Raises ValueError for fewer points than the largest candidate, or points that are not finite.
    """
    n = int(reduce(torch.tensor(float(len(x)), dtype=torch.float64)))
    if not candidates or min(candidates) < 1 or max(candidates) > n:
        raise ValueError(f"fit_mixtures: candidates are {list(candidates)}, expected numbers from 1 to the {n} points")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("fit_mixtures: some points are not finite")
    origin = reduce(x.double().sum(0)) / n
    scale = float((reduce((x.double() - origin).square().sum()) / (n * x.shape[1])).sqrt()) or 1.0
    points = ((x.double() - origin) / scale).to(_precision(x, n))
    seeds = points if seed_points is None else ((seed_points.double() - origin) / scale).to(points)
    search = _Search(points, n, reg, reduce)
    sizes = [k for k in candidates for _ in range(restarts)]
    search.start(sizes, seeds, generator, warm_labels)
    search.run(max_iter, tol)
    return [search.best(k, origin, scale) for k in candidates]


def _precision(x: Tensor, n: int) -> torch.dtype:
    """Double where it costs little; single precision keeps the means of a million points to 1e-5 deviations.

    ``n`` counts the points of all processes, so that their number does not decide.
    """
    return torch.float64 if x.device.type == "cpu" and n <= 20_000 else torch.float32


class _Search:
    """All models of a search side by side. Components are stored flat; ``owner`` says which model each belongs to."""

    def __init__(self, x: Tensor, n: int, reg: float, reduce: Reduce) -> None:
        self.x, self.n, self.reg, self.reduce = x, n, reg, reduce
        self.d = x.shape[1]
        row, column = torch.triu_indices(self.d, self.d, device=x.device)
        self.row, self.column = row, column
        self.sizes: list[int] = []
        self.weights = self.means = self.covariances = x.new_zeros(0)

    # ---- starts

    def start(self, sizes: list[int], seeds: Tensor, generator: torch.Generator, warm: Tensor | None) -> None:
        self.sizes = list(sizes)
        pick = torch.randperm(len(seeds), generator=generator)[:_SEED_POINTS].to(seeds.device)
        centres = plus_plus(seeds[pick], sizes, generator)
        # Every other start goes by way of k-means. Neither kind is best: k-means finds round clusters reliably, and
        # the same poor optimum each time where they are not round.
        better = lloyd(seeds[pick], centres[1::2]) if len(centres) > 1 else []
        centres[1::2] = better
        blocks = [_nearest(self.x, c) for c in centres]
        if warm is not None:
            # counted over all processes: one of them may not have the last cluster among its points
            count = torch.bincount(warm.clamp(max=max(sizes)), minlength=max(sizes) + 1)
            used = int(self.reduce(count.to(self.x.device)).nonzero().max()) + 1
            if used in sizes:
                self.sizes.append(used)
                blocks.append(warm.to(self.x.device))
        total = self._accumulate(
            lambda rows: torch.cat(
                [torch.nn.functional.one_hot(b[rows], k).to(self.x) for b, k in zip(blocks, self.sizes, strict=True)], 1
            )
        )
        self._maximise(total)

    # ---- iterations

    def run(self, max_iter: int, tol: float) -> None:
        models = len(self.sizes)
        done = [False] * models
        previous = [-math.inf] * models
        kept: list[tuple[Tensor, Tensor, Tensor, float, bool, int] | None] = [None] * models
        active = list(range(models))
        for iteration in range(1, max_iter + 1):
            total, likelihood = self._expect()
            parts = [
                part.split([self.sizes[m] for m in active]) for part in (self.weights, self.means, self.covariances)
            ]
            for place, m in enumerate(active):
                done[m] = likelihood[place] - previous[m] < tol or iteration == max_iter
                if done[m]:
                    converged = likelihood[place] - previous[m] < tol
                    weights, means, covariances = (part[place] for part in parts)
                    kept[m] = (weights, means, covariances, likelihood[place] * self.n, converged, iteration)
                previous[m] = likelihood[place]
            if all(done):
                break
            still = [place for place, m in enumerate(active) if not done[m]]
            columns = _columns([self.sizes[m] for m in active], still, self.x.device)
            active = [active[place] for place in still]
            self._active = active
            self._maximise(total[columns])
        self.models = [entry for entry in kept if entry is not None]

    def best(self, k: int, origin: Tensor, scale: float) -> Mixture:
        """The likeliest model of size k, in the units of the caller's points."""
        weights, means, covariances, likelihood, converged, iterations = max(
            (m for m, size in zip(self.models, self.sizes, strict=True) if size == k), key=lambda m: m[3]
        )
        return Mixture(
            weights.double(),
            means.double() * scale + origin,
            covariances.double() * scale**2,
            likelihood - self.n * self.d * math.log(scale),
            self.n,
            converged,
            iterations,
        )

    # ---- the two steps

    def _features(self, rows: slice) -> Tensor:
        x = self.x[rows]
        return torch.cat([x[:, self.row] * x[:, self.column], x, torch.ones_like(x[:, :1])], 1)

    def _blocks(self, columns: int) -> list[slice]:
        width = max(1, int(_BLOCK_BYTES / (self.x.element_size() * (2 * columns + len(self.row) + self.d + 1))))
        return [slice(i, i + width) for i in range(0, len(self.x), width)]

    def _accumulate(self, responsibilities: Callable[[slice], Tensor]) -> Tensor:
        """Sums of phi(x) under each component's responsibilities, (sum K, q), over all processes."""
        total = None
        for rows in self._blocks(sum(self.sizes)):
            part = (responsibilities(rows).T @ self._features(rows)).double()
            total = part if total is None else total + part
        assert total is not None
        return self.reduce(total)

    def _expect(self) -> tuple[Tensor, list[float]]:
        """Sums for the next maximisation and the mean log-likelihood of each active model."""
        active = getattr(self, "_active", list(range(len(self.sizes))))
        sizes = [self.sizes[m] for m in active]
        coefficients = self._coefficients()
        likelihood = self.x.new_zeros(len(sizes), dtype=torch.float64)
        total = coefficients.new_zeros(coefficients.shape, dtype=torch.float64)
        for rows in self._blocks(sum(sizes)):
            features = self._features(rows)
            joint = features @ coefficients.T
            shares = []
            for place, part in enumerate(joint.split(sizes, 1)):
                top = part.logsumexp(1, keepdim=True)
                likelihood[place] += top.sum(dtype=torch.float64)
                shares.append((part - top).exp_())
            total += (torch.cat(shares, 1).T @ features).double()
        likelihood = self.reduce(likelihood) / self.n
        return self.reduce(total), likelihood.tolist()

    def _coefficients(self) -> Tensor:
        """The vectors c_k with log(weight_k N(x; k)) = phi(x) . c_k, (sum K, q)."""
        covariances = self.covariances.double()
        factor = torch.linalg.cholesky(covariances)
        precision = torch.cholesky_inverse(factor)
        linear = (precision @ self.means.double()[..., None])[..., 0]
        log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = self.weights.double().log() - 0.5 * (
            (linear * self.means.double()).sum(1) + log_det + self.d * math.log(2 * math.pi)
        )
        twice = torch.where(self.row == self.column, -0.5, -1.0).double()
        quadratic = precision[:, self.row, self.column] * twice
        return torch.cat([quadratic, linear, constant[:, None]], 1).to(self.x.dtype)

    def _maximise(self, total: Tensor) -> None:
        active = getattr(self, "_active", list(range(len(self.sizes))))
        mass = total[:, -1].clamp(min=1e-8)
        means = total[:, -1 - self.d : -1] / mass[:, None]
        second = total.new_zeros(len(total), self.d, self.d)
        products = total[:, : len(self.row)] / mass[:, None]
        second[:, self.row, self.column] = products
        second[:, self.column, self.row] = products
        covariances = second - means[:, :, None] * means[:, None, :]
        identity = torch.eye(self.d, dtype=total.dtype, device=total.device)
        # A component with fewer points than dimensions has no covariance of its own: it gets the whole set's shape.
        thin = (mass < self.d + 1)[:, None, None]
        covariances = torch.where(thin, covariances + identity, covariances) + self.reg * identity
        self.means, self.covariances = means, _positive(covariances, self.reg)
        shares = [part / part.sum() for part in mass.split([self.sizes[m] for m in active])]
        self.weights = torch.cat(shares)


def _positive(covariances: Tensor, floor: float) -> Tensor:
    """Lift eigenvalues that rounding left below ``floor``; a no-op for healthy matrices."""
    _, failed = torch.linalg.cholesky_ex(covariances)
    if not bool(failed.any()):
        return covariances
    values, vectors = torch.linalg.eigh(covariances)
    lifted: Tensor = vectors @ torch.diag_embed(values.clamp(min=floor)) @ vectors.transpose(1, 2)
    return lifted


def lloyd(points: Tensor, centres: list[Tensor], rounds: int = 15) -> list[Tensor]:
    """k-means from each set of starting means, side by side: starts from raw seeds end in poor optima too often."""
    sizes = [len(part) for part in centres]
    stacked = torch.cat(centres)
    for _ in range(rounds):
        closeness = points @ stacked.T - 0.5 * stacked.square().sum(1)
        members = torch.cat(
            [torch.nn.functional.one_hot(part.argmax(1), part.shape[1]) for part in closeness.split(sizes, 1)], 1
        ).to(points)
        count = members.sum(0)
        means = members.T @ points / count.clamp(min=1)[:, None]
        stacked = torch.where((count > 0)[:, None], means, stacked)
    return list(stacked.split(sizes))


def _nearest(x: Tensor, centres: Tensor) -> Tensor:
    return torch.cat([torch.cdist(part, centres).argmin(1) for part in x.split(65536)])


def _columns(sizes: list[int], chosen: list[int], device: torch.device) -> Tensor:
    offsets = [0]
    for size in sizes:
        offsets.append(offsets[-1] + size)
    return torch.cat([torch.arange(offsets[p], offsets[p + 1], device=device) for p in chosen])


def plus_plus(points: Tensor, sizes: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """k-means++ starting means for each size (Arthur and Vassilvitskii 2007), all starts drawn side by side.

    points (n, d) -> one tensor (size, d) per entry of ``sizes``. Points chosen twice are possible only where all
    points coincide with a mean.
    """
    models, n = len(sizes), len(points)
    chosen = torch.randint(0, n, (models, 1), generator=generator)
    norm = points.square().sum(1)
    distance = torch.full((models, n), math.inf, dtype=points.dtype, device=points.device)
    for _ in range(max(sizes) - 1):
        latest = points[chosen[:, -1].to(points.device)]
        away = (norm[None] - 2 * latest @ points.T + latest.square().sum(1)[:, None]).clamp(min=0)
        distance = torch.minimum(distance, away)
        share = (distance + 1e-12 * norm.mean().clamp(min=1e-12)).double().cpu()
        chosen = torch.cat([chosen, torch.multinomial(share, 1, generator=generator)], 1)
    return [points[chosen[m, :k].to(points.device)] for m, k in enumerate(sizes)]

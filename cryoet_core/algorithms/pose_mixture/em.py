"""The two steps of expectation maximisation for densities seen in unknown orientations.

Model: particle n shows density k in pose R, x_n(F) = W(F) T_k(R^-1 F) + noise, W the measured
region of the tilt series, noise Gaussian with variance s2 per Fourier shell, poses uniform on
SO(3). T_k has a Gaussian prior whose variance per shell is estimated from the signal-to-noise ratio
of the average itself (Scheres, J Mol Biol 2012, doi 10.1016/j.jmb.2011.11.010, for single
particles; Bharat et al., Structure 2015, for subtomograms).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryoet_core.algorithms.pose_mixture.band import FrequencyBand, measured

Reduce = Callable[[Tensor], Tensor]
_CHUNK_BYTES = 64 << 20


@dataclass
class PoseWeights:
    """What the expectation step knows: log p(x_n | k) up to a constant of n, and the best poses of
    each particle.
    """

    # (n, k), pose integrated out; the empty component, where there is one, comes last with 0
    log_evidence: Tensor
    component: Tensor  # (n, p) component of the p best (component, rotation) pairs
    rotation: Tensor  # (n, p) their row in the rotation set
    weight: Tensor  # (n, p) their posterior share, rows sum to at most 1


def expectation(
    band: FrequencyBand,
    small: Tensor,
    templates: Tensor,
    weights: Tensor,
    noise: Tensor,
    rotations: Tensor,
    best: int = 6,
) -> PoseWeights:
    """Evidence of every component for cropped volumes ``small`` (n, s, s, s), all ``rotations`` (r,
    3, 3) tried.

    templates (k, s, s, s); weights (k,) or (k + 1,) mixing shares, the extra one for an empty
    component; noise (radius + 1,) variance per shell. Cost: one matrix product of n by k * r by the
    points of the band.
    """
    return views(band, small, templates, noise, rotations, best).poses(weights)


@dataclass
class ReferenceViews:
    """Every component's evidence and best rotations for every particle, before the components'
    shares enter.
    """

    log_evidence: Tensor  # (n, k)
    top: Tensor  # (n, k, p) log-likelihood ratios of the p best rotations
    where: Tensor  # (n, k, p) their rows in the rotation set
    rotations: int  # size of that set

    def poses(self, weights: Tensor) -> PoseWeights:
        """The best (component, rotation) pairs under mixing shares (k,), or (k + 1,) with an empty
        component.
        """
        n, k, best = self.top.shape
        evidence, prior = self.log_evidence, weights.log()
        if len(weights) > k:
            evidence = torch.cat([evidence, evidence.new_zeros(n, 1)], 1)
        total = (evidence + prior).logsumexp(1, keepdim=True) + math.log(self.rotations)
        top, pair = (self.top + prior[:k, None]).flatten(1).topk(best, dim=1)
        return PoseWeights(
            evidence, pair // best, self.where.flatten(1).gather(1, pair), (top - total).exp()
        )


def views(
    band: FrequencyBand,
    small: Tensor,
    templates: Tensor,
    noise: Tensor,
    rotations: Tensor,
    best: int = 6,
) -> ReferenceViews:
    """As ``expectation``, for any mixing shares."""
    k, n = len(templates), len(small)
    precision = (1 / noise)[band.shell[band.seen]]
    data = _real(band.coefficients(small)[:, band.seen]) * precision.repeat(2)
    running = torch.full((n, k), -torch.inf, device=small.device)
    top = torch.full((n, k, best), -torch.inf, device=small.device)
    where = torch.zeros((n, k, best), dtype=torch.long, device=small.device)
    spectrum = band.spectrum(templates).flatten(0, 1)[None]
    step = max(1, _CHUNK_BYTES // (4 * k * max(n, 16 * int(band.seen.sum()))))
    for start in range(0, len(rotations), step):
        score = _scores(
            band, spectrum, data, precision, rotations[start : start + step]
        )  # (n, k, r)
        running = torch.logaddexp(running, score.logsumexp(2))
        values, index = score.topk(min(best, score.shape[2]), dim=2)
        top, order = torch.cat([top, values], 2).topk(best, dim=2)
        where = torch.cat([where, index + start], 2).gather(2, order)
    return ReferenceViews(running - math.log(len(rotations)), top, where, len(rotations))


def balanced(log_evidence: Tensor, rounds: int, reduce: Reduce) -> Tensor:
    """Shares (k,) under which every component explains the same number of particles, from
    log_evidence (n, k).

    Densities that are still noise differ in how much they can explain of anything: the one with the
    least energy costs the least, the one that got more particles is the less noisy, and would soon
    explain all of them.
    """
    k = log_evidence.shape[1]
    bias = log_evidence.new_zeros(k)
    for _ in range(rounds):
        share = reduce((log_evidence + bias).softmax(1).sum(0))
        bias = bias - (share / share.sum() * k).clamp(min=1e-6).log()
    return bias.softmax(0)


def _scores(
    band: FrequencyBand, spectrum: Tensor, data: Tensor, precision: Tensor, rotations: Tensor
) -> Tensor:
    """log-likelihood ratio of each (component, rotation) against noise alone, (n, k, r)."""
    k, r = spectrum.shape[1] // 2, len(rotations)
    points = (band.points[band.seen] @ rotations).reshape(1, -1, 3)  # R^-1 F
    views = band.sample(spectrum, points).view(k, 2, r, -1)
    energy = (views.square().sum(1) * precision).sum(-1)  # (k, r)
    views = views.permute(0, 2, 1, 3).reshape(k * r, -1)
    return (data @ views.T).view(len(data), k, r) - 0.5 * energy


@dataclass
class Sums:
    """Sufficient statistics of the maximisation step; sums over particles, so those of shards add
    up.
    """

    signal: (
        Tensor  # (k, m) complex: posterior-weighted coefficients turned into the component's frame
    )
    coverage: Tensor  # (k, m): posterior-weighted number of particles that measured the point
    power: Tensor  # (radius + 1,): total power per shell within the measured region
    share: Tensor  # (k,) or (k + 1,): posterior mass of each component

    def tensors(self) -> list[Tensor]:
        return [torch.view_as_real(self.signal), self.coverage, self.power, self.share]


def sums(
    band: FrequencyBand,
    small: Tensor,
    poses: PoseWeights,
    weights: Tensor,
    rotations: Tensor,
    batch: int = 128,
) -> Sums:
    """Turn every particle back by its best poses and add it up per component, measured regions
    likewise.
    """
    k = len(weights) - int(poses.log_evidence.shape[1] < len(weights))
    m, device = len(band.points), small.device
    signal = torch.zeros(k, m, dtype=torch.complex64, device=device)
    coverage = torch.zeros(k, m, device=device)
    for start in range(0, len(small), batch):
        cut = slice(start, start + batch)
        spectrum = band.spectrum(small[cut])
        for place in range(poses.weight.shape[1]):
            # PoseWeights below 1e-3 change nothing but cost as much as the best one.
            rows = (poses.weight[cut, place] > 1e-3).nonzero()[:, 0]
            if not len(rows):
                continue
            weight = poses.weight[cut, place][rows, None]
            component = poses.component[cut, place][rows]
            points = band.points @ rotations[poses.rotation[cut, place][rows]].transpose(
                1, 2
            )  # R F
            values = band.sample(
                spectrum if len(rows) == len(spectrum) else spectrum[rows], points
            )[:, 0]
            seen = measured(points, band.tilt_range, band.tilt_axis) * weight
            signal.index_add_(0, component, torch.complex(values[:, 0] * seen, values[:, 1] * seen))
            coverage.index_add_(0, component, seen)
    power = band.shell_mean(band.coefficients(small)[:, band.seen].abs().square(), band.seen).sum(0)
    posterior = (poses.log_evidence + weights.log()[: poses.log_evidence.shape[1]]).softmax(1)
    return Sums(signal, coverage, power, posterior.sum(0))


@dataclass
class Parameters:
    """Component densities (k, s, s, s), mixing weights and the noise variance per shell."""

    templates: Tensor
    weights: Tensor
    noise: Tensor


def maximisation(
    band: FrequencyBand, stats: Sums, mask: Tensor, noise: Tensor, n: int
) -> Parameters:
    """Regularised averages signal / (coverage + noise / prior); the prior variance is the average's
    excess power.
    """
    k = len(stats.signal)
    covered = band.shell_mean(stats.coverage).clamp(min=1e-3)
    raw = band.shell_mean((stats.signal / stats.coverage.clamp(min=1e-3)).abs().square())
    prior = (raw - noise / covered).clamp(min=1e-3 * raw.max().clamp(min=1e-12))
    coefficients = stats.signal / (stats.coverage + (noise / prior)[:, band.shell])
    weights = (stats.share / stats.share.sum()).clamp(min=1e-4)
    weights = weights / weights.sum()
    explained = band.shell_mean(coefficients.abs().square())
    power = stats.power / n
    # A floor keeps the likelihood from becoming so sharp that the rotation grid's own error
    # decides.
    residual = (power - (weights[:k, None] * explained).sum(0)).clamp(min=0.02 * power)
    residual = torch.where(power > 0, residual, residual[1])
    return Parameters(band.volumes(coefficients) * mask, weights, residual.clamp(min=1e-12))


def _real(values: Tensor) -> Tensor:
    return torch.cat([values.real, values.imag], -1)

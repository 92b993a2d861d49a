"""Where expectation maximisation of Gaussian mixtures starts: k-means++, k-means, and a search on a
sample.

Most starts end in a poor optimum, and which ones do shows on few points. So with many points the
restarts run on a sample. Each size then tries the neighbours' best models with a component split or
two merged (compare Ueda et al., "SMEM algorithm for mixture models", Neural Computation 12, 2109,
2000), which frees it of an optimum that no step of EM leaves. The few best of each size go on to
all points (``gmm.fit_mixtures``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cryoet_core.algorithms.mixtures.em import Em, Models

_KEEP = 3
_COARSE = 10
_OFFERING = 2
_PROPOSALS = 2
_PROPOSALS_RACE = {3: 1}


def started(
    em: Em,
    seeds: Tensor,
    sizes: Sequence[int],
    generator: torch.Generator,
    trials: int = 1,
    rounds: int = 15,
) -> Models:
    """One start for each of ``sizes``, from starting means among ``seeds`` (m, d).

    Every other start goes by way of k-means. Neither kind is best: k-means finds round clusters
    reliably, and the same poor optimum each time where they are not round.
    """
    centres = plus_plus(seeds, sizes, generator, trials)
    if len(centres) > 1:
        centres[1::2] = lloyd(seeds, centres[1::2], rounds)
    return em.from_labels(nearest(em.columns, centres), sizes)


def screened(
    em: Em,
    seeds: Tensor,
    candidates: Sequence[int],
    restarts: int,
    generator: torch.Generator,
    max_iter: int,
    tol: float,
) -> Models:
    """The three best models of each candidate size on the sample of points that ``em`` holds; fewer
    where they agree.

    First come the restarts. Then every size, upwards, offers its two best models split to the next
    size, and downwards the two merged. All run to ten times ``tol``, since they go on to all
    points. Models whose likelihoods differ by less than ``tol`` pass for the same.
    """
    sizes = [k for k in candidates for _ in range(restarts)]
    found = em.run(
        started(em, seeds, sizes, generator, trials=3, rounds=3), max_iter, _COARSE * tol
    )
    shelf: dict[int, list[tuple[float, Models]]] = {}

    def offer(likelihood: float, model: Models) -> None:
        held = shelf.setdefault(model.sizes[0], [])
        if all(abs(likelihood - other) > tol for other, _ in held):
            held.append((likelihood, model))
            held.sort(key=lambda entry: -entry[0])
            del held[_KEEP:]

    def propose(models: list[Models]) -> None:
        tried = em.run(Models.join(models), max_iter, _COARSE * tol, _PROPOSALS_RACE)
        best = tried.best(tried.models.sizes[0])[0]
        offer(tried.likelihoods[best], tried.models[best])

    for place, likelihood in enumerate(found.likelihoods):
        offer(likelihood, found.models[place])
    rungs = sorted({rung for k in candidates for rung in (k, k + 1)})
    for k in rungs:
        if k + 1 in rungs:
            propose([m for _, base in shelf[k][:_OFFERING] for m in split(base, _PROPOSALS)])
    for k in reversed(rungs):
        if k - 1 in rungs:
            propose([m for _, base in shelf[k][:_OFFERING] for m in merged(base, _PROPOSALS)])
    return Models.join([model for k in dict.fromkeys(candidates) for _, model in shelf[k]])


def split(model: Models, count: int) -> Iterator[Models]:
    """One model with each of its ``count`` broadest components split in two along its longest axis.

    The broadest carries the most variance along one axis. The halves have the component's mean and
    covariance together.
    """
    values, vectors = torch.linalg.eigh(model.covariances)
    lengths = values[:, -1].clamp(min=0)
    for broad in (model.weights * lengths).argsort(descending=True, stable=True)[:count].tolist():
        step = 0.8 * lengths[broad].sqrt() * vectors[broad, :, -1]
        narrow = model.covariances[broad] - step[:, None] * step
        yield _replaced(
            model,
            [broad],
            model.weights[broad].expand(2) / 2,
            torch.stack([model.means[broad] + step, model.means[broad] - step]),
            torch.stack([narrow, narrow]),
        )


def merged(model: Models, count: int) -> Iterator[Models]:
    """One model with two of its components made one of the same moments: the ``count`` pairs that
    lose the least.

    What is lost is log-likelihood, for components that do not overlap; where they do, the loss is
    smaller.
    """
    first, second = torch.triu_indices(
        model.sizes[0], model.sizes[0], 1, device=model.weights.device
    )
    weight = model.weights[first] + model.weights[second]
    share = (model.weights[first] / weight)[:, None]
    apart = model.means[first] - model.means[second]
    mean = share * model.means[first] + (1 - share) * model.means[second]
    share = share[:, :, None]
    covariance = share * model.covariances[first] + (1 - share) * model.covariances[second]
    covariance = covariance + share * (1 - share) * apart[:, :, None] * apart[:, None, :]
    own = model.weights * (model.weights.log() - 0.5 * torch.logdet(model.covariances))
    loss = own[first] + own[second] - weight * (weight.log() - 0.5 * torch.logdet(covariance))
    for pair in loss.argsort(stable=True)[:count].tolist():
        gone = [int(first[pair]), int(second[pair])]
        yield _replaced(model, gone, weight[pair, None], mean[pair, None], covariance[pair, None])


def _replaced(
    model: Models, gone: Sequence[int], weights: Tensor, means: Tensor, covariances: Tensor
) -> Models:
    """The model with some components taken out and others added."""
    kept = [i for i in range(model.sizes[0]) if i not in gone]
    return Models(
        (len(kept) + len(weights),),
        torch.cat([model.weights[kept], weights]),
        torch.cat([model.means[kept], means]),
        torch.cat([model.covariances[kept], covariances]),
    )


def lloyd(points: Tensor, centres: list[Tensor], rounds: int = 15) -> list[Tensor]:
    """k-means from each set of starting means, side by side: starts from raw seeds end in poor
    optima too often.
    """
    sizes = [len(part) for part in centres]
    stacked = torch.cat(centres)
    for _ in range(rounds):
        labels = nearest(points.T, list(stacked.split(sizes)))
        members = torch.cat(
            [
                torch.zeros(k, len(points)).to(points).scatter_(0, part[None], 1)
                for part, k in zip(labels, sizes, strict=True)
            ]
        )
        count = members.sum(1)
        means = members @ points / count.clamp(min=1)[:, None]
        stacked = torch.where((count > 0)[:, None], means, stacked)
    return list(stacked.split(sizes))


def nearest(columns: Tensor, centres: Sequence[Tensor]) -> list[Tensor]:
    """For each set of means (k, d), which of them is nearest to each point of ``columns`` (d, n);
    (n,) int64 each.
    """
    sizes = [len(part) for part in centres]
    stacked = torch.cat(list(centres))
    labels = []
    for block in columns.split(16384, 1):
        closeness = stacked @ block - 0.5 * stacked.square().sum(1, keepdim=True)
        labels.append(torch.stack([part.max(0).indices for part in closeness.split(sizes)]))
    return list(torch.cat(labels, 1))


def plus_plus(
    points: Tensor, sizes: Sequence[int], generator: torch.Generator, trials: int = 1
) -> list[Tensor]:
    """k-means++ starting means for each size (Arthur and Vassilvitskii 2007), all starts drawn side
    by side.

    points (n, d) -> one tensor (size, d) per entry of ``sizes``. Each mean is the best of
    ``trials`` draws. Points chosen twice are possible only where all points coincide with a mean.
    """
    models, n = len(sizes), len(points)
    norm = points.square().sum(1)

    def away(drawn: Tensor) -> Tensor:
        """Squared distances of all points from drawn ones (models, draws): (models, draws, n)."""
        centre = points[drawn.to(points.device)]
        return (norm - 2 * centre @ points.T + centre.square().sum(2, keepdim=True)).clamp_(min=0)

    chosen = torch.randint(0, n, (models, 1), generator=generator)
    distance = torch.full((models, n), math.inf, dtype=points.dtype, device=points.device)
    for _ in range(max(sizes) - 1):
        distance = torch.minimum(distance, away(chosen[:, -1:])[:, 0])
        share = (distance + 1e-12 * norm.mean().clamp(min=1e-12)).double().cpu()
        drawn = torch.multinomial(share, trials, replacement=trials > 1, generator=generator)
        if trials > 1:
            left = torch.minimum(away(drawn), distance[:, None]).sum(2)
            drawn = drawn.gather(1, left.argmin(1, keepdim=True).cpu())
        chosen = torch.cat([chosen, drawn], 1)
    return [points[chosen[m, :k].to(points.device)] for m, k in enumerate(sizes)]

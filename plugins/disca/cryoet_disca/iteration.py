"""One round: features, mixture, matching, score, training. ``disca.Disca.fit`` runs the rounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from cryoet_core.algorithms.centring import Centring
from cryoet_core.algorithms.descriptors import Invariants
from cryoet_core.algorithms.label_matching import match_permutation
from cryoet_core.algorithms.mixtures.gmm import Mixture
from cryoet_core.algorithms.mixtures.selection import candidates, choose, search, selection
from cryoet_core.runs.run import Run
from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_disca.config import DiscaConfig
from cryoet_disca.ddbi import ddbi
from cryoet_disca.features import FeatureSpace, fit_space, network_features, refresh_norms
from cryoet_disca.training import new_head, train_epoch, train_head

COLLAPSED = 0.95
"""One cluster with more than this share of all cubes is a collapse, where more than one was
possible.
"""


@dataclass
class Clustering:
    """What an iteration found. Enough, saved together, to label new cubes."""

    space: FeatureSpace
    mixture: Mixture
    points: Tensor  # (n, d) of this process
    labels: Tensor  # (n,) of this process
    score: float
    selection: dict[str, Any]


@dataclass
class Rounds:
    """What one round hands to the next."""

    network: nn.Module
    head: nn.Linear | None = None
    done: int = 0
    labels: Tensor | None = None
    k: int = 0
    best: float = float("inf")
    best_round: int = -1
    finished: bool = False
    notes: list[str] = field(default_factory=list)


def cluster(
    rounds: Rounds,
    volumes: DeviceVolumes,
    invariants: Invariants | None,
    descriptors: list[Tensor],
    centring: Centring,
    config: DiscaConfig,
    run: Run,
) -> tuple[Clustering, float | None]:
    """Steps 1 to 5: the clusters of this round, numbered like the last one's, and the share of
    labels that stayed.

    The share is None where there is nothing to compare: in the first round, and when K has changed.
    """
    first = rounds.done == 0 and config.init == "invariants" and config.weights is None
    if not first:
        refresh_norms(rounds.network, volumes, run)
    use_invariants = invariants if first or config.join_invariants else None
    space, points = fit_space(
        None if first else rounds.network,
        use_invariants,
        centring,
        volumes,
        descriptors,
        config.dimensions,
        run,
    )
    total = int(run.all_reduce(torch.tensor(float(len(points)))))
    ks = candidates(config.k_min, config.k_max, total)
    every = run.all_gather(points)
    mixtures = search(
        points,
        ks,
        run.generator("mixture", rounds.done),
        restarts=config.restarts,
        reg=config.reg_covar,
        warm_labels=rounds.labels if rounds.k in ks else None,
        reduce=run.all_reduce,
        seed_points=every,
    )
    k = choose(mixtures)
    mixture = mixtures[k]
    labels = mixture.predict(every)
    used = torch.bincount(labels, minlength=k) > 0
    if not bool(used.all()):  # no point prefers it: the number of clusters is one less
        mixture = mixture.select(used.nonzero()[:, 0])
        labels = mixture.predict(every)
    agreement = None
    if rounds.labels is not None and mixture.k == rounds.k:
        previous = run.all_gather(rounds.labels)
        order = torch.from_numpy(
            match_permutation(previous.cpu().numpy(), labels.cpu().numpy(), mixture.k)
        )
        mixture = mixture.select(order.argsort().to(labels.device))
        labels = order.to(labels.device)[labels]
        agreement = float((labels == previous).float().mean())
    score = ddbi(every, labels, mixture.k, config.reg_covar)
    chosen = selection(mixtures, mixture.k)
    return Clustering(space, mixture, points, mixture.predict(points), score, chosen), agreement


def train(
    rounds: Rounds, found: Clustering, volumes: DeviceVolumes, config: DiscaConfig, run: Run
) -> float:
    """Steps 7 to 9: one epoch on the clusters of this round; the mean loss. A new head is trained
    alone first.
    """
    alpha = config.smoothing * 0.9 ** (rounds.done + 1)
    k = found.mixture.k
    if rounds.head is None or rounds.head.out_features != k:
        run.reseed("head", rounds.done)
        rounds.head = new_head(cast(int, rounds.network.dim), k, run.device)
        features = network_features(rounds.network, volumes, run)
        train_head(rounds.head, features, found.labels, alpha, config, run, rounds.done)
    rate = config.learning_rate * config.decay**rounds.done
    return train_epoch(
        rounds.network, rounds.head, volumes, found.labels, alpha, rate, config, run, rounds.done
    )


def collapse(found: Clustering, config: DiscaConfig, run: Run) -> str | None:
    """What has gone wrong where the clusters say nothing, in words; None where they are sound."""
    counts = run.all_reduce(torch.bincount(found.labels, minlength=found.mixture.k).double())
    share = float(counts.max() / counts.sum())
    if found.mixture.k > 1 and share > COLLAPSED:
        return f"one cluster took {share:.0%} of all subtomograms"
    spread = run.all_gather(found.points).double().var(0)
    rank = float(spread.sum() ** 2 / spread.square().sum().clamp(min=1e-12))
    if rank < 1.5 and found.points.shape[1] > 2:
        return f"the features vary along {rank:.1f} directions only"
    return None

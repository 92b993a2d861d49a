"""Take the accuracy over thousands of episodes, by index arithmetic on finished embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cryoet_protonet.attention import Attention
from cryoet_protonet.episodes import Episodes, draw_episodes
from cryoet_protonet.losses import adapted_logits, prototypes, squared_distances, targets

_CHUNK = 1 << 22
"""Numbers that are gathered at once."""


def episode_logits(
    points: Tensor, episodes: Episodes, attention: Attention | None = None
) -> Tensor:
    """Return minus the squared distances of the queries from the prototypes.

    Parameters
    ----------
    points : Tensor
        Embeddings (n, d) of the volumes.
    episodes : Episodes
        Episodes of these volumes.
    attention : Attention | None, optional
        Attention block of ProtoNet-CE; None without a second stage.

    Returns
    -------
    Tensor
        Logits (e, way * query, way).
    """
    centres = prototypes(points[episodes.support])
    queries = points[episodes.queries].flatten(1, 2)
    if attention is None:
        return -squared_distances(queries, centres)
    return adapted_logits(queries, centres, attention)[0]


@torch.no_grad()
def episode_accuracies(
    points: Tensor, episodes: Episodes, attention: Attention | None = None
) -> Tensor:
    """Return the fraction of queries that are nearest to their own class's prototype.

    Parameters
    ----------
    points : Tensor
        Embeddings (n, d) of the volumes.
    episodes : Episodes
        Episodes of these volumes.
    attention : Attention | None, optional
        Attention block of ProtoNet-CE; None without a second stage.

    Returns
    -------
    Tensor
        Fraction of each episode (e,).
    """
    tokens = 1 if attention is None else 8 * (episodes.way + 1)
    size = max(1, _CHUNK // (episodes.rows.shape[1] * points.shape[1] * tokens))
    parts = []
    for part in episodes.split(size):
        found = episode_logits(points, part, attention).argmax(-1)
        true = targets(len(part), part.way, part.queries.shape[2], found.device)
        parts.append((found == true).double().mean(1))
    return torch.cat(parts)


def interval(accuracies: Tensor) -> tuple[float, float]:
    """Return mean and 1.96 s / sqrt(E) of E accuracies, s with E - 1; 0 for a single one."""
    accuracies = accuracies.double()
    half = 1.96 * float(accuracies.std()) / len(accuracies) ** 0.5 if len(accuracies) > 1 else 0.0
    return float(accuracies.mean()), half


def evaluate(
    points: Mapping[str, Tensor],
    rows: Mapping[str, Tensor],
    way: int,
    shot: int,
    query: int,
    count: int,
    generator: torch.Generator,
    attention: Attention | None = None,
) -> list[dict[str, Any]]:
    """Evaluate several embeddings on the same episodes.

    Parameters
    ----------
    points : Mapping[str, Tensor]
        Embeddings (n, d) by name.
    rows : Mapping[str, Tensor]
        Volumes of each class.
    way : int
        Classes in an episode.
    shot : int
        Support volumes of each class in an episode.
    query : int
        Query volumes of each class in an episode.
    count : int
        Number of episodes.
    generator : torch.Generator
        Source of random numbers, on the CPU.
    attention : Attention | None, optional
        Changes the first embedding only, for which it was trained; None for none.

    Returns
    -------
    list[dict[str, Any]]
        A row of facts for each embedding.
    """
    episodes = draw_episodes(rows, count, way, shot, query, generator)
    facts = []
    for number, (name, embedding) in enumerate(points.items()):
        accuracy, half = interval(
            episode_accuracies(embedding, episodes, attention if number == 0 else None)
        )
        facts.append(
            {"embedding": name, "way": way, "shot": shot, "query": query, "episodes": count}
        )
        facts[-1] |= {"accuracy": accuracy, "interval": half}
    return facts

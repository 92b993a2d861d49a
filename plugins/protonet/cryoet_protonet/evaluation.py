"""Accuracy over thousands of episodes: index arithmetic on embeddings that were computed once."""

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
    """(e, way * query, way): minus the squared distances of the queries from the prototypes; points
    (n, d).
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
    """(e,) share of the queries of each episode that are nearest to their own class's prototype."""
    tokens = 1 if attention is None else 8 * (episodes.way + 1)
    size = max(1, _CHUNK // (episodes.rows.shape[1] * points.shape[1] * tokens))
    parts = []
    for part in episodes.split(size):
        found = episode_logits(points, part, attention).argmax(-1)
        true = targets(len(part), part.way, part.queries.shape[2], found.device)
        parts.append((found == true).double().mean(1))
    return torch.cat(parts)


def interval(accuracies: Tensor) -> tuple[float, float]:
    """Mean and 1.96 s / sqrt(E) of E accuracies, s with E - 1; 0 for a single one."""
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
    """The same episodes for each of several embeddings ``points`` (name -> (n, d)); one row of
    facts for each.

    ``attention`` changes the first of them only, for which it was trained.
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

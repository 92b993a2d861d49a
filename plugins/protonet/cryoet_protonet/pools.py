"""The steps of an epoch: which volumes each encodes, and which episodes it draws among these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cryoet_protonet.episodes import Episodes, draw_episodes, queries_of


@dataclass(frozen=True)
class Step:
    """One optimiser step: rows (m,) of the volumes that are encoded; ``episodes`` count from 0
    within these.
    """

    rows: Tensor
    episodes: Episodes


def training_steps(
    rows: Mapping[str, Tensor], config: Any, pool: int, generator: torch.Generator
) -> Iterator[Step]:
    """``episodes_per_epoch`` episodes of the classes in ``rows``, ``episodes_per_step`` to a step.

    pool: volumes that a step encodes once and that its episodes share. 0, or where the episodes of
    a step need no more than that: every episode has volumes of its own, as published.
    """
    count, size = config.episodes_per_epoch, config.episodes_per_step
    query = queries_of(rows, config.shot, config.query)
    shape = (config.way, config.shot, query)
    if not pool or size * config.way * (config.shot + query) <= pool:
        yield from (own(part) for part in draw_episodes(rows, count, *shape, generator).split(size))
        return
    for first in range(0, count, size):
        members = draw_pool(rows, pool, config.way, config.shot + query, generator)
        places = torch.arange(sum(map(len, members))).split([len(some) for some in members])
        numbered = {str(number): some for number, some in enumerate(places)}
        episodes = draw_episodes(numbered, min(size, count - first), *shape, generator)
        yield Step(torch.cat(members), episodes)


def own(episodes: Episodes) -> Step:
    """A step whose episodes share nothing: a volume that is in two of them is encoded twice."""
    rows = episodes.rows
    places = torch.arange(rows.numel()).view_as(rows)
    supported = episodes.support[0].numel()
    support, queries = places[:, :supported], places[:, supported:]
    return Step(
        rows.flatten(),
        Episodes(support.view_as(episodes.support), queries.view_as(episodes.queries)),
    )


def draw_pool(
    rows: Mapping[str, Tensor], pool: int, way: int, each: int, generator: torch.Generator
) -> list[Tensor]:
    """About ``pool`` volumes: at least ``each`` of some classes, of ``way`` classes at least,
    without replacement.
    """
    classes = min(len(rows), max(way, pool // each))
    chosen = torch.randperm(len(rows), generator=generator)[:classes].tolist()
    members = [list(rows.values())[number] for number in chosen]
    return [
        some[torch.randperm(len(some), generator=generator)[: max(each, pool // classes)]]
        for some in members
    ]

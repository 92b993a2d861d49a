"""Draw the steps of an epoch: which volumes each encodes, and which episodes it draws of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cryoet_protonet.episodes import Episodes, draw_episodes, queries_of


@dataclass(frozen=True)
class Step:
    """One optimiser step.

    Attributes
    ----------
    rows : Tensor
        Rows (m,) of the volumes that are encoded.
    episodes : Episodes
        Episodes, counted from 0 within these rows.
    """

    rows: Tensor
    episodes: Episodes


def training_steps(
    rows: Mapping[str, Tensor], config: Any, pool: int, generator: torch.Generator
) -> Iterator[Step]:
    """Draw ``episodes_per_epoch`` episodes, ``episodes_per_step`` to a step.

    Parameters
    ----------
    rows : Mapping[str, Tensor]
        Volumes of each class.
    config : Any
        Options of the run.
    pool : int
        Volumes that a step encodes once and that its episodes have in common. With 0, or where the
        episodes of a step need no more than that, every episode has volumes of its own, as
        published.
    generator : torch.Generator
        Source of random numbers, on the CPU.

    Returns
    -------
    Iterator[Step]
        The steps.
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
    """Return a step whose episodes have no volumes in common.

    A volume that is in two of them is encoded twice.
    """
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
    """Draw volumes of some classes, without replacement.

    Parameters
    ----------
    rows : Mapping[str, Tensor]
        Volumes of each class.
    pool : int
        Volumes to draw, about.
    way : int
        Classes to draw from, at least.
    each : int
        Volumes of each drawn class, at least.
    generator : torch.Generator
        Source of random numbers, on the CPU.

    Returns
    -------
    list[Tensor]
        Volumes of each drawn class.
    """
    classes = min(len(rows), max(way, pool // each))
    chosen = torch.randperm(len(rows), generator=generator)[:classes].tolist()
    members = [list(rows.values())[number] for number in chosen]
    return [
        some[torch.randperm(len(some), generator=generator)[: max(each, pool // classes)]]
        for some in members
    ]

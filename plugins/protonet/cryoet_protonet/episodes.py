"""Draw episodes: which volumes are support and which are queries, many at once, as indices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cryoet_core.support.errors import UserError

_CHUNK = 1 << 23
"""Random keys that are drawn at once."""


@dataclass(frozen=True)
class Episodes:
    """Row numbers of e episodes, class by class.

    Attributes
    ----------
    support : Tensor
        Support rows (e, way, shot) int64.
    queries : Tensor
        Query rows (e, way, query) int64.
    """

    support: Tensor
    queries: Tensor

    def __len__(self) -> int:
        return len(self.support)

    @property
    def way(self) -> int:
        """Classes in an episode."""
        return self.support.shape[1]

    @property
    def rows(self) -> Tensor:
        """Rows (e, way * (shot + query)): the support of an episode, then its queries."""
        return torch.cat([self.support.flatten(1), self.queries.flatten(1)], 1)

    def split(self, size: int) -> Iterator[Episodes]:
        """Split into parts of ``size`` episodes, the last one smaller."""
        parts = zip(self.support.split(size), self.queries.split(size), strict=True)
        return (Episodes(support, queries) for support, queries in parts)


def draw_episodes(
    rows: Mapping[str, Tensor],
    count: int,
    way: int,
    shot: int,
    query: int,
    generator: torch.Generator,
) -> Episodes:
    """Draw episodes: some classes, and support and query rows of each, without replacement.

    Parameters
    ----------
    rows : Mapping[str, Tensor]
        Volumes of each class.
    count : int
        Number of episodes.
    way : int
        Classes in an episode.
    shot : int
        Support volumes of each class in an episode.
    query : int
        Query volumes of each class in an episode.
    generator : torch.Generator
        Source of random numbers, on the CPU.

    Returns
    -------
    Episodes
        The episodes.

    Raises
    ------
    UserError
        Where there are fewer classes or volumes than an episode needs.
    """
    check_episode(rows, way, shot, query)
    sizes = torch.tensor([len(r) for r in rows.values()])
    table = torch.zeros(len(rows), int(sizes.max()), dtype=torch.long)
    for i, members in enumerate(rows.values()):
        table[i, : len(members)] = members
    chunk = max(1, _CHUNK // (way * table.shape[1]))
    parts = [
        _draw(table, sizes, min(chunk, count - i), way, shot + query, generator)
        for i in range(0, count, chunk)
    ]
    drawn = torch.cat(parts)
    return Episodes(drawn[..., :shot].contiguous(), drawn[..., shot:].contiguous())


def check_episode(rows: Mapping[str, Tensor], way: int, shot: int, query: int) -> None:
    """Check that the classes suffice for one episode.

    Parameters
    ----------
    rows : Mapping[str, Tensor]
        Volumes of each class.
    way : int
        Classes in an episode.
    shot : int
        Support volumes of each class in an episode.
    query : int
        Query volumes of each class in an episode.

    Raises
    ------
    UserError
        Where they do not.
    """
    if len(rows) < way:
        raise UserError(
            f"`way` {way}: episodes have {len(rows)} classes to draw from; lower `way` or give "
            "more classes"
        )
    small = {name: len(r) for name, r in rows.items() if len(r) < shot + query}
    if small:
        name, found = next(iter(small.items()))
        raise UserError(
            f"{shot} shots and {query} queries need {shot + query} volumes of a class, {name!r} "
            f"has {found}; "
            "lower `shot`, `evaluation_shots` or `held_out`, or give more of them"
        )


def queries_of(rows: Mapping[str, Tensor], shot: int, most: int) -> int:
    """Return how many queries of each class an episode can have.

    Parameters
    ----------
    rows : Mapping[str, Tensor]
        Volumes of each class.
    shot : int
        Support volumes of each class, which the smallest class has to spare.
    most : int
        Queries wanted.
    """
    return min(most, max(min((len(r) for r in rows.values()), default=0) - shot, 1))


def _draw(
    table: Tensor, sizes: Tensor, count: int, way: int, each: int, generator: torch.Generator
) -> Tensor:
    """Draw rows (count, way, each) by the largest random keys, of classes, then of rows."""
    classes = torch.rand(count, len(table), generator=generator).topk(way).indices
    keys = torch.rand(count, way, table.shape[1], generator=generator)
    keys.masked_fill_(torch.arange(table.shape[1]) >= sizes[classes][..., None], -1.0)
    return table[classes].gather(2, keys.topk(each).indices)

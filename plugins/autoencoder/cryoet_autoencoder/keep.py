"""Read which clusters a user keeps and what they are called.

The option is ``keep``, such as "3,7:ribosome;12:proteasome", or "auto".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cryoet_core.support.errors import UserError

AUTO, UNNAMED, BACKGROUND = "auto", "particle", "background"
EXAMPLE = 'such as "3,7:ribosome;12:proteasome", or auto'


class Kept(NamedTuple):
    """Clusters that are kept.

    Attributes
    ----------
    names : tuple[str, ...]
        Names of the classes, in order.
    classes : np.ndarray
        Of each cluster (k,) int64: 1 + index into names, 0 where it is not kept.
    """

    names: tuple[str, ...]
    classes: np.ndarray


def kept_clusters(keep: str, clusters: Sequence[str], suggested: np.ndarray) -> Kept:
    """Read what the option ``keep`` says of clusters.

    Groups are parted by semicolons; each has cluster numbers or names, also ranges such as 3-7,
    parted by commas, and after a colon the name of their class (default: particle).

    Parameters
    ----------
    keep : str
        The option's value.
    clusters : Sequence[str]
        Names of the clusters (k,).
    suggested : np.ndarray
        Whether each cluster looks like particles (k,) bool.

    Raises
    ------
    UserError
        Where ``keep`` cannot be read, names a cluster that does not exist or one twice, or where
        nothing is suggested.
    """
    classes = np.zeros(len(clusters), np.int64)
    if keep.strip() == AUTO:
        if not suggested.any():
            raise UserError(
                "`keep` auto: no cluster looks like a particle; look at the pictures and name "
                f"some, {EXAMPLE}"
            )
        return Kept((UNNAMED,), suggested.astype(np.int64))
    names: list[str] = []
    for group in filter(None, (part.strip() for part in keep.split(";"))):
        numbers, _, name = (part.strip() for part in group.partition(":"))
        name = name or UNNAMED
        if name == BACKGROUND:
            raise UserError(
                f"`keep` {group}: {BACKGROUND} is what is not kept; expected another name"
            )
        names += [] if name in names else [name]
        for index in _indices(numbers, clusters, group):
            if classes[index]:
                raise UserError(
                    f"`keep` {keep}: {clusters[index]} is named twice; expected each cluster once"
                )
            classes[index] = 1 + names.index(name)
    if not names:
        raise UserError(f"`keep` {keep!r}: names no cluster; expected clusters, {EXAMPLE}")
    if len(names) > 127:
        raise UserError(f"`keep`: {len(names)} classes; expected at most 127, as labels are bytes")
    return Kept(tuple(names), classes)


def _indices(numbers: str, clusters: Sequence[str], group: str) -> list[int]:
    found: list[int] = []
    for word in (word.strip() for word in numbers.split(",")):
        first, dash, last = word.removeprefix("cluster").partition("-")
        last = last.strip().removeprefix("cluster") if dash else first
        if not (first.strip().isdecimal() and last.strip().isdecimal()):
            raise UserError(f"`keep` {group}: {word!r} is no cluster; expected numbers, {EXAMPLE}")
        low, high = int(first), int(last)
        if not 1 <= low <= high <= len(clusters):
            raise UserError(
                f"`keep` {group}: no cluster {word}; there are {clusters[0]} to {clusters[-1]}"
            )
        found += range(low - 1, high)
    return found

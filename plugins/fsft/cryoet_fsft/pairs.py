"""Draw pairs of subtomograms in four groups, for all shots at once as index tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """Pairs (p,) of places.

    Attributes
    ----------
    first : Tensor
        Places in the source.
    second : Tensor
        Places in the source where ``group`` is G1 or G3, else among the shots.
    group : Tensor
        0 to 3, the groups G1 to G4 of ``losses``.
    """

    first: Tensor
    second: Tensor
    group: Tensor

    def __len__(self) -> int:
        return len(self.group)

    def select(self, rows: Tensor) -> Pairs:
        """Return the pairs at ``rows`` (indices or a mask)."""
        return Pairs(self.first[rows], self.second[rows], self.group[rows])


class PairSampler:
    """Draw, for each shot, one pair of every group (reference code of FSFT, section 2.2).

    Parameters
    ----------
    source_labels : Tensor
        Classes (n,), 0 to k - 1, at least two of each.
    shot_labels : Tensor
        Classes (m,), 0 to k - 1, each of them.
    """

    def __init__(self, source_labels: Tensor, shot_labels: Tensor) -> None:
        self.shot_labels, self.k = shot_labels, int(source_labels.max()) + 1
        self.order = source_labels.argsort(stable=True)
        self.counts = torch.bincount(source_labels, minlength=self.k)
        self.starts = self.counts.cumsum(0) - self.counts
        if int(self.counts.min()) < 2 or self.k < 2:
            raise ValueError(
                "PairSampler: expected two classes and two source subtomograms of each"
            )

    def draw(self, generator: torch.Generator) -> Pairs:
        """Draw 4 m pairs, the m of each group in turn.

        Pair i of G2 and of G4 has shot i; source subtomograms are fresh draws. The other class is
        the next one of a random cycle.
        """
        m, own = len(self.shot_labels), self.shot_labels
        cycle = torch.randperm(self.k, generator=generator)
        after = torch.empty_like(cycle)
        after[cycle] = cycle.roll(-1)
        before = torch.empty_like(cycle)
        before[cycle] = cycle.roll(1)
        uniform = torch.rand(6, m, generator=generator, dtype=torch.float64)
        place = self._place(own, uniform[0])
        away = ((uniform[1] * (self.counts[own] - 1)).long() + 1 + place) % self.counts[
            own
        ]  # never the subtomogram itself
        shots = torch.arange(m)
        first = [
            self._row(own, place),
            *(self._source(own, uniform[i]) for i in (2, 3)),
            self._source(before[own], uniform[4]),
        ]
        second = [self._row(own, away), shots, self._source(after[own], uniform[5]), shots]
        return Pairs(torch.cat(first), torch.cat(second), torch.arange(4).repeat_interleave(m))

    def _place(self, labels: Tensor, uniform: Tensor) -> Tensor:
        """Return a place within each class, from numbers in [0, 1)."""
        return (uniform * self.counts[labels]).long()

    def _row(self, labels: Tensor, place: Tensor) -> Tensor:
        return self.order[self.starts[labels] + place]

    def _source(self, labels: Tensor, uniform: Tensor) -> Tensor:
        return self._row(labels, self._place(labels, uniform))

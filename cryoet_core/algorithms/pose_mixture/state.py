"""What a fit of the pose mixture is made of: its schedule, its state between iterations, its share
of the particles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cryoet_core.algorithms.pose_mixture.em import Parameters

Source = Callable[[Tensor], Tensor]  # row indices (b,) -> volumes (b, 1, box, box, box)
Reduce = Callable[[Tensor], Tensor]  # sums a tensor over the processes that share the data


@dataclass(frozen=True)
class RefinementStage:
    """``iterations`` at one resolution ``radius`` (Fourier voxels) with rotations ``step`` degrees
    apart.

    merge: the share of its evidence that a component may lose to the others before it counts as a
    copy of them; 0: nothing is merged. split: first try to take each component apart; one that
    caught two structures early cannot let go of either. move: let particles move, if they are to;
    while the densities are noise, they would move to fit that. balance: every density explains
    equally many particles; while they are noise, one would soon explain all.
    """

    radius: int
    step: float
    iterations: int
    merge: float = 0.0
    split: bool = False
    move: bool = True
    balance: bool = False


# Components need a few iterations to become different from one another before it can be judged
# which are the same. Measured on eight complexes of 375 to 516 kDa: copies of one complex lose up
# to 0.12 at radius 6 and 0.18 at radius 8, the two most alike complexes 0.23 and 0.52
# (plugins/disca/README.md has the table).
SCHEDULE = (
    RefinementStage(6, 24.0, 5, move=False, balance=True),
    RefinementStage(6, 24.0, 3, merge=0.15),
    RefinementStage(6, 24.0, 3, merge=0.15, split=True),
    RefinementStage(8, 20.0, 2),
    RefinementStage(8, 20.0, 3, merge=0.25),
)


@dataclass
class State:
    """All that an iteration hands to the next, so that saving it after each makes an interrupted
    fit continue.
    """

    iteration: int
    parameters: Parameters
    shifts: Tensor  # (n, 3) voxels: where each particle's centre lies relative to its box centre
    # standard deviation of shifts per axis, voxels: their prior; 0 where particles stay where they
    # are
    spread: float
    labels: Tensor  # (n,) the best component of each particle
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Assignment:
    """probabilities (n, k) or (n, k + 1); rotations (n, 3, 3) from density to particle; shifts (n,
    3) voxels.
    """

    probabilities: Tensor
    rotations: Tensor
    shifts: Tensor


@dataclass(frozen=True)
class ParticleShard:
    """The particles that this process holds: ``source(rows)`` gives volumes, rows counted within
    the shard.
    """

    source: Source
    n: int
    first: int
    total: int
    reduce: Reduce

    def everywhere(self, values: Tensor) -> Tensor:
        """One value per particle of this shard -> of all particles, on every process."""
        whole = values.new_zeros(self.total)
        whole[self.first : self.first + self.n] = values
        return self.reduce(whole)

    def part(self, rows: Tensor) -> ParticleShard:
        """Some particles, by their rows in the whole set."""
        mine = (rows >= self.first) & (rows < self.first + self.n)
        local = (rows[mine] - self.first).cpu()
        before = int((rows < self.first).sum())
        return ParticleShard(
            lambda part: self.source(local[part]), len(local), before, len(rows), self.reduce
        )

    def gather(self, rows: Tensor, box: int, device: torch.device) -> Tensor:
        """Volumes (m, 1, box, box, box) of rows of the whole set, on every process."""
        volumes = torch.zeros(len(rows), 1, box, box, box, device=device)
        mine = ((rows >= self.first) & (rows < self.first + self.n)).nonzero()[:, 0]
        if len(mine):
            volumes[mine.to(device)] = self.source((rows[mine] - self.first).cpu())
        return self.reduce(volumes)


def plan(schedule: Sequence[RefinementStage]) -> Iterator[tuple[RefinementStage, bool]]:
    """Every iteration's stage and whether it is the stage's first."""
    for stage in schedule:
        for i in range(stage.iterations):
            yield stage, i == 0

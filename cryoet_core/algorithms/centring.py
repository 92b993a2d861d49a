"""Where a particle lies in its box, found before anything is known of its class or pose.

The average over all particles, made radially symmetric, looks the same from every side: its
cross-correlation with a particle peaks at the particle's centre whatever the pose. Template and
centres are improved in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cryoet_core.algorithms.fourier import lowpass, shell_index

Reduce = Callable[[Tensor], Tensor]
LEAST_SPREAD = 0.3
"""Voxels; particles are never known to be centred better than this."""
_TOP_SHELL = 0.06
"""Cycles per voxel up to which shells are used. Finer detail depends on the pose: on five complexes
off-centre by up to 4 voxels (box 32, SNR 0.1) the error per axis is 1.0 voxel at 0.06, 1.4 at 0.12
and 1.9 at 0.25."""


class Centring:
    """Finds shifts (n, 3) in voxels (z, y, x) from the box centre to the particle's centre, at most
    ``max_shift`` long.

    ``spread`` is the standard deviation of shifts per axis, voxels: a Gaussian prior that keeps a
    particle whose own signal is too weak to tell near the centre. It is learnt with the template.
    """

    def __init__(
        self, template: Tensor, whitening: Tensor, max_shift: float, spread: float
    ) -> None:
        self.template, self.whitening, self.max_shift, self.spread = (
            template,
            whitening,
            max_shift,
            spread,
        )

    @classmethod
    def fit(
        cls,
        batches: Callable[[], Iterator[Tensor]],
        box: int,
        max_shift: float,
        device: torch.device | str,
        rounds: int = 2,
        reduce: Reduce = lambda tensor: tensor,
    ) -> Centring:
        """``batches()`` gives volumes (b, 1, box, box, box) anew at each call; this process's share
        if ``reduce`` sums.

        The spread shrinks from round to round where the shifts found are no larger than their own
        error, and stays where the particles do lie off centre; more rounds lock on to bright lobes.
        A few hundred volumes are enough.
        """
        shells = shell_index(box).to(device)
        power = torch.zeros(int(shells.max()) + 1, device=device)
        mean = torch.zeros((box,) * 3, device=device)
        count = torch.zeros((), device=device)
        for batch in batches():
            spectrum = torch.fft.rfftn(batch[:, 0], dim=(1, 2, 3))
            power.index_add_(0, shells.flatten(), spectrum.abs().square().sum(0).flatten())
            mean += batch[:, 0].sum(0)
            count += len(batch)
        level = reduce(power) / torch.bincount(shells.flatten(), minlength=len(power)).clamp(min=1)
        band = lowpass(box, 1.0, 1 / _TOP_SHELL).to(device)
        band[0, 0, 0] = (
            0  # standardised volumes have rounding errors there, which whitening would blow up
        )
        total = reduce(count)
        whitening = band * total / level[shells].clamp(min=1e-12)
        centring = cls(
            _radial(reduce(mean) / total), whitening, max_shift, max(max_shift, 1e-3) / 2
        )
        for _ in range(rounds if max_shift > 0 else 0):
            moved, squares = torch.zeros_like(mean), torch.zeros((), device=device)
            for batch in batches():
                shifts = centring.shifts(batch)
                moved += translate(batch[:, 0], -shifts).sum(0)
                squares += shifts.square().sum()
            spread = float((reduce(squares) / (3 * total)).sqrt())
            centring = cls(
                _radial(reduce(moved) / total), whitening, max_shift, max(spread, LEAST_SPREAD)
            )
        return centring

    def shifts(self, volumes: Tensor) -> Tensor:
        """Shifts (b, 3) of volumes (b, 1, d, h, w); 0 where ``max_shift`` is 0."""
        if self.max_shift <= 0:
            return volumes.new_zeros(len(volumes), 3)
        template = torch.fft.rfftn(self.template).conj() * self.whitening
        maps = torch.fft.irfftn(
            torch.fft.rfftn(volumes[:, 0], dim=(1, 2, 3)) * template,
            s=volumes.shape[-3:],
            dim=(1, 2, 3),
        )
        # half of the log-likelihood ratio, see pose_mixture.em
        return peak(0.5 * maps.numel() / len(maps) * maps, self.max_shift, self.spread)

    def centred(self, volumes: Tensor) -> Tensor:
        """Volumes (b, 1, d, h, w) moved so that their particles lie at the box centre."""
        if self.max_shift <= 0:
            return volumes
        return translate(volumes[:, 0], -self.shifts(volumes))[:, None]


def sample_rows(n: int, share: slice | None = None, most: int = 500) -> Tensor:
    """Rows of at most ``most`` of n volumes to learn from; with ``share``, those in it, counted
    from its start.

    Drawn at random, for a data set may be in the order of its classes; the same ones whatever the
    number of processes.
    """
    rows = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:most].sort().values
    return (
        rows if share is None else rows[(rows >= share.start) & (rows < share.stop)] - share.start
    )


def _radial(volume: Tensor) -> Tensor:
    """The mean over each shell about voxel n // 2, faded out towards the faces of the box."""
    size = volume.shape[-1]
    line = torch.arange(size, device=volume.device, dtype=torch.float32) - size // 2
    radius = (line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2).sqrt()
    shell = radius.round().long().flatten()
    total = volume.new_zeros(int(shell.max()) + 1).index_add_(0, shell, volume.flatten())
    profile = total / torch.bincount(shell).clamp(min=1)
    inside = profile[: size // 2]
    smooth = torch.sigmoid((size / 2 - 2 - radius) * 2)
    return (profile - inside[-1])[shell].view(volume.shape) * smooth


def soft_sphere(
    size: int, radius: float, edge: float = 1.0, device: torch.device | str = "cpu"
) -> Tensor:
    """(size, size, size): 1 within ``radius`` voxels of voxel size // 2, falling to 0 over about
    ``edge`` voxels.
    """
    line = torch.arange(size, device=device, dtype=torch.float32) - size // 2
    distance = (
        line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2
    ).sqrt()
    return torch.sigmoid((radius - distance) * (4 / edge))


def translate(volumes: Tensor, shifts: Tensor) -> Tensor:
    """Move volumes (n, s, s, s) by shifts (n, 3) voxels with a Fourier phase; what leaves on one
    side comes back.
    """
    size = volumes.shape[-1]
    whole = torch.fft.fftfreq(size, device=volumes.device)
    half = torch.fft.rfftfreq(size, device=volumes.device)
    turns = [
        torch.exp(-2j * torch.pi * f * shifts[:, a : a + 1])
        for a, f in enumerate((whole, whole, half))
    ]
    phase = turns[0][:, :, None, None] * turns[1][:, None, :, None] * turns[2][:, None, None, :]
    moved: Tensor = torch.fft.irfftn(
        torch.fft.rfftn(volumes, dim=(1, 2, 3)) * phase, s=(size,) * 3, dim=(1, 2, 3)
    )
    return moved


def peak(
    maps: Tensor, reach: float, spread: float, origin: Tensor | None = None, voxel: float = 1.0
) -> Tensor:
    """The most probable shifts (n, 3), sub-voxel, given log-likelihood maps (n, s, s, s) with zero
    shift at voxel 0.

    The prior is Gaussian of standard deviation ``spread`` about -``origin`` (n, 3), the shift that
    has already been applied. ``reach``, ``spread``, ``origin`` and the answer are in voxels, of
    which the map's are ``voxel`` large.
    """
    n, size = len(maps), maps.shape[-1]
    line = torch.fft.fftfreq(size, device=maps.device) * size
    near = (
        line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2
    ) * voxel**2 <= reach**2
    start = maps.new_zeros(n, 3) if origin is None else origin
    terms = [-((line * voxel + start[:, a : a + 1]) ** 2) / (2 * spread**2) for a in range(3)]
    maps = (
        maps + terms[0][:, :, None, None] + terms[1][:, None, :, None] + terms[2][:, None, None, :]
    )
    index = maps.masked_fill(~near, -torch.inf).flatten(1).argmax(1)
    place = torch.stack([index // size**2, index // size % size, index % size], 1)
    rows = torch.arange(n, device=maps.device)
    centre = maps[rows, place[:, 0], place[:, 1], place[:, 2]]
    offset = torch.zeros(n, 3, device=maps.device)
    for axis in range(3):
        below, above = place.clone(), place.clone()
        below[:, axis] = (below[:, axis] - 1) % size
        above[:, axis] = (above[:, axis] + 1) % size
        left = maps[rows, below[:, 0], below[:, 1], below[:, 2]]
        right = maps[rows, above[:, 0], above[:, 1], above[:, 2]]
        curve = (left - 2 * centre + right).clamp(max=-1e-12)
        offset[:, axis] = (0.5 * (left - right) / curve).clamp(-0.5, 0.5)
    found: Tensor = (line[place] + offset) * voxel
    return found

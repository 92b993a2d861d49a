"""Rotation-invariant descriptors: what can be said of a particle without aligning it."""

from __future__ import annotations

import torch
from torch import Tensor

from cryoet_core.algorithms.fourier import frequency_grid, shell_index, wedge_mask

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Invariants:
    """Descriptors (n, dim) of volumes (n, 1, d, h, w) with the particle at the box centre.

    Radial profile and radial second moment of the volume smoothed by one voxel (Gaussian sigma),
    log power per Fourier shell inside the region that the tilt series has measured, intensity
    quantiles inside the particle sphere.
    """

    def __init__(
        self,
        box: int,
        tilt_range: tuple[float, float] | None,
        tilt_axis: str = "y",
        device: torch.device | str = "cpu",
    ) -> None:
        line = torch.arange(box, dtype=torch.float32) - box // 2
        radius = (
            line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2
        ).sqrt()
        shell = radius.round().long().flatten()
        self.inside = (shell <= box // 2).nonzero()[:, 0].to(device)
        self.shell = shell[self.inside.cpu()].to(device)
        self.mean = _averaging(self.shell.cpu(), box // 2 + 1).to(device)
        core = (radius.flatten() <= box // 2 - 2).nonzero()[:, 0]
        self.core = core[:: max(1, len(core) // 3000)].to(device)
        # two constants for the smoothing: exp(-2 (pi k sigma)^2) with sigma of one voxel
        self.smooth = torch.exp(-2 * torch.pi**2 * frequency_grid(box).square().sum(0)).to(device)
        frequency = shell_index(box).flatten()
        seen = torch.ones_like(frequency, dtype=torch.bool)
        if tilt_range is not None:
            seen = wedge_mask(box, tilt_range, tilt_axis).flatten() > 0.5
        use = (seen & (frequency <= box // 2) & (frequency > 0)).nonzero()[:, 0]
        self.frequencies = use.to(device)
        self.power = _averaging(frequency[use] - 1, box // 2).to(device)

    def __call__(self, volumes: Tensor) -> list[Tensor]:
        """The blocks (b, f) of descriptors of a batch."""
        spectrum = torch.fft.rfftn(volumes[:, 0], dim=(1, 2, 3))
        smooth = torch.fft.irfftn(
            spectrum * self.smooth, s=volumes.shape[-3:], dim=(1, 2, 3)
        ).flatten(1)
        ball = smooth[:, self.inside]
        profile = ball @ self.mean
        moment = (ball - profile[:, self.shell]).square() @ self.mean
        power = spectrum.flatten(1)[:, self.frequencies].abs().square() @ self.power
        quantiles = torch.quantile(
            smooth[:, self.core], torch.tensor(_QUANTILES, device=smooth.device), dim=1
        ).T
        return [profile, moment, (power + 1e-6).log(), quantiles]


def _averaging(group: Tensor, groups: int) -> Tensor:
    """(m, groups) matrix that turns values (n, m) into group means (n, groups)."""
    matrix = torch.nn.functional.one_hot(group, groups).float()
    return matrix / matrix.sum(0).clamp(min=1)

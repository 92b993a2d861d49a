"""Placed structures as densities in cubes.

Densities are sampled from a template on finer voxels than the cube's, limited to the cube's Nyquist frequency, so that
turning a particle costs no resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from cryoet_core.fourier import frequency_grid
from cryoet_core.simulate.crowding import Placed
from cryoet_core.simulate.settings import Settings
from cryoet_core.simulate.structures import Structure
from cryoet_core.transforms import sampling_grid


def template(structure: Structure, voxel_size: float) -> Tensor:
    """The density as it is sampled: nothing above the final Nyquist frequency, trilinear blur made up for."""
    density = pad(torch.from_numpy(structure.density), (4,) * 6)
    frequency = frequency_grid(len(density))  # cycles per template voxel
    relative = frequency.square().sum(0).sqrt() * 2 * voxel_size / structure.voxel_size
    window = 0.5 + 0.5 * torch.cos(np.pi * ((relative - 0.9) / 0.1).clamp(0, 1))
    sharpen = torch.sinc(frequency).square().prod(0)
    values: Tensor = torch.fft.irfftn(torch.fft.rfftn(density) * window / sharpen, s=density.shape)
    return values


def render(
    items: list[tuple[int, Placed]],
    rows: int,
    structures: Sequence[Structure],
    templates: list[Tensor],
    settings: Settings,
) -> Tensor:
    """Densities (rows, box, box, box): each (row, placed) added to its row, all of one class sampled in one call.

    A structure smaller than the cube is sampled in a window of its own size, which is then added at its place.
    """
    box, device = settings.box, templates[0].device
    scene = torch.zeros((rows, box, box, box), device=device)
    for label in sorted({placed.label for _, placed in items}):
        mine = [(row, placed) for row, placed in items if placed.label == label]
        side = min(2 * math.ceil(structures[label].radius / settings.voxel_size + 3), box)
        shifts = np.array([p.centre for _, p in mine]) / settings.voxel_size
        whole = np.round(shifts) if side < box else np.zeros_like(shifts)
        grid = sampling_grid(
            templates[label].shape,
            (side,) * 3,
            torch.from_numpy(np.array([p.rotation for _, p in mine], dtype=np.float32)).to(device),
            torch.from_numpy((shifts - whole).astype(np.float32)).to(device),
            scale=settings.voxel_size / structures[label].voxel_size,
        )
        source = templates[label].expand(len(mine), 1, -1, -1, -1)
        drawn = grid_sample(source, grid, mode="bilinear", padding_mode="zeros", align_corners=True)[:, 0]
        starts = (whole.astype(int) + box // 2 - side // 2).tolist()
        for (row, _), window, start in zip(mine, drawn, starts, strict=True):
            to = tuple(slice(max(s, 0), max(min(s + side, box), 0)) for s in start)
            of = tuple(slice(max(-s, 0), max(min(side, box - s), 0)) for s in start)
            scene[row][to] += window[of]
    return scene

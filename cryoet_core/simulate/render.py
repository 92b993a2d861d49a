"""Placed structures as densities in boxes.

Densities are sampled from a template on finer voxels than those of the box. The template is limited
to the Nyquist frequency of the box, so that rotating a particle costs no resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from cryoet_core.algorithms.fourier import frequency_grid
from cryoet_core.algorithms.transforms import sampling_grid
from cryoet_core.simulate.scene.crowding import Placed
from cryoet_core.simulate.settings import SimulationSettings
from cryoet_core.simulate.shapes.structures import Structure


def template(structure: Structure, voxel_size: float) -> Tensor:
    """Return the density of a structure as it is sampled.

    It holds nothing above the final Nyquist frequency, and the blur of trilinear sampling is
    corrected.

    Parameters
    ----------
    structure : Structure
        The structure on fine voxels.
    voxel_size : float
        Å per voxel of what is simulated.

    Returns
    -------
    Tensor, shape (n, n, n)
        On the voxels of the structure.
    """
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
    settings: SimulationSettings,
) -> Tensor:
    """Draw placed structures into boxes, all of one class in one call.

    A structure smaller than the box is sampled in a window of its own size, which is then added at
    its place.

    Parameters
    ----------
    items : list of (int, Placed)
        The row of each structure, and where it is placed.
    rows : int
        How many boxes.
    structures : sequence of Structure
        The classes, in the order of their labels.
    templates : list of Tensor
        Of each structure, see ``template``.
    settings : SimulationSettings
        Box size and voxel size.

    Returns
    -------
    Tensor, shape (rows, box, box, box)
        The densities.
    """
    box, device = settings.box, templates[0].device
    scene = torch.zeros((rows, box, box, box), device=device)
    for label in sorted({placed.label for _, placed in items}):
        mine = [(row, placed) for row, placed in items if placed.label == label]
        side = min(window_side(structures[label], settings.voxel_size), box)
        shifts = np.array([p.centre for _, p in mine]) / settings.voxel_size
        whole = np.round(shifts) if side < box else np.zeros_like(shifts)
        scale = settings.voxel_size / structures[label].voxel_size
        drawn = _sampled(templates[label], [p for _, p in mine], shifts - whole, side, scale)
        starts = (whole.astype(int) + box // 2 - side // 2).tolist()
        for (row, _), window, start in zip(mine, drawn, starts, strict=True):
            _add(scene[row], window, start)
    return scene


def render_into(
    volume: Tensor,
    items: Sequence[Placed],
    structures: Sequence[Structure],
    templates: list[Tensor],
    voxel_size: float,
    batch_voxels: int = 1 << 21,
) -> None:
    """Add the densities of placed structures to a volume, a few of a class at a time.

    Parameters
    ----------
    volume : Tensor, shape (z, y, x)
        Changed in place.
    items : sequence of Placed
        Structures, placed in Å from voxel 0.
    structures : sequence of Structure
        The classes, in the order of their labels.
    templates : list of Tensor
        Of each structure, see ``template``.
    voxel_size : float
        Å per voxel of the volume.
    batch_voxels : int
        Most voxels that are sampled at once.
    """
    for label in sorted({placed.label for placed in items}):
        mine = [placed for placed in items if placed.label == label]
        side = window_side(structures[label], voxel_size)
        few = max(1, batch_voxels // side**3)
        for start in range(0, len(mine), few):
            some = mine[start : start + few]
            shifts = np.array([p.centre for p in some]) / voxel_size
            whole = np.round(shifts)
            drawn = _sampled(
                templates[label],
                some,
                shifts - whole,
                side,
                voxel_size / structures[label].voxel_size,
            )
            for window, corner in zip(drawn, (whole.astype(int) - side // 2).tolist(), strict=True):
                _add(volume, window, corner)


def window_side(structure: Structure, voxel_size: float) -> int:
    """Return the side of a box that holds the structure in any rotation and sub-voxel shift.

    Parameters
    ----------
    structure : Structure
        The structure.
    voxel_size : float
        Å per voxel of what is simulated.

    Returns
    -------
    int
        Voxels.
    """
    return 2 * math.ceil(structure.radius / voxel_size + 3)


def _sampled(
    template: Tensor, items: Sequence[Placed], shifts: np.ndarray, side: int, scale: float
) -> Tensor:
    """(n, side, side, side): the template rotated as each item is, its centre at side // 2 + shift
    (voxels).
    """
    rotations = torch.from_numpy(np.array([p.rotation for p in items], dtype=np.float32)).to(
        template.device
    )
    moved = torch.from_numpy(shifts.astype(np.float32)).to(template.device)
    grid = sampling_grid(template.shape, (side,) * 3, rotations, moved, scale=scale)
    source = template.expand(len(items), 1, -1, -1, -1)
    return grid_sample(source, grid, mode="bilinear", padding_mode="zeros", align_corners=True)[
        :, 0
    ]


def _add(volume: Tensor, window: Tensor, start: list[int]) -> None:
    """Add a window to a volume from voxel ``start`` on, less what lies outside."""
    sides = list(zip(start, window.shape, volume.shape, strict=True))
    to = tuple(slice(max(s, 0), max(min(s + side, box), 0)) for s, side, box in sides)
    of = tuple(slice(max(-s, 0), max(min(side, box - s), 0)) for s, side, box in sides)
    volume[to] += window[of]

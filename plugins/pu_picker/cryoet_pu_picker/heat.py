"""The heat map of a whole tomogram, in tiles where the network sees what it would see in one
piece.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from cryoet_core.runs.run import Run
from cryoet_core.tomograms import Tomogram
from cryoet_core.tomograms.tiles import score_map
from cryoet_pu_picker.network import STRIDE, HybridNetwork

LARGEST_SLICE = 1 << 18
"""Voxels of a slice up to which slices stay whole: beyond it tiles would be mostly margin along z.
"""


def heat_map(
    network: HybridNetwork, tomogram: Tomogram, run: Run, *, turns: bool = False
) -> np.ndarray:
    """Scores (c, d, ceil(h / 2), ceil(w / 2)) in (0, 1) of a tomogram on the network's voxels.

    Because of its pooling the network gives the same for a tile as for the whole only where the
    tile starts at a multiple of its strides, and with ``turns`` where it ends at one. So the tiles'
    unit is a block of that size in y and x, whose heat map is carried in the channels; or, where a
    slice is small enough, the whole slice, which needs no margin in y and x at all.
    """
    _, h, w = tomogram.shape
    deep, reach, _ = network.margin
    step = network.alignment
    whole = h * w <= LARGEST_SLICE
    unit = (_up(h, step), _up(w, step)) if whole else (step, step)
    margin = (deep, 0, 0) if whole else (deep, reach, reach)
    across = (unit[0] // STRIDE[1], unit[1] // STRIDE[2])

    def blocks(volume: Tensor) -> Tensor:
        with run.autocast():
            heat = network.logits(volume, turns)[0].sigmoid()  # (c, d, h, w)
        d = heat.shape[1]
        parts = heat.unflatten(3, (-1, across[1])).unflatten(
            2, (-1, across[0])
        )  # (c, d, m, across, n, across)
        cells: Tensor = parts.permute(0, 3, 5, 1, 2, 4).reshape(1, -1, d, *parts.shape[2:5:2])
        return cells

    species = network.heat.out_channels
    packed = score_map(
        tomogram,
        blocks,
        margin=margin,
        run=run,
        channels=species * across[0] * across[1],
        stride=(1, *unit),
    )
    parts = packed.reshape(species, *across, *packed.shape[1:])  # (c, across, across, d, m, n)
    d, m, n = packed.shape[1:]
    heat = parts.transpose(0, 3, 4, 1, 5, 2).reshape(species, d, m * across[0], n * across[1])
    return np.ascontiguousarray(heat[:, :, : -(-h // STRIDE[1]), : -(-w // STRIDE[2])])


def _up(size: int, step: int) -> int:
    return -(-size // step) * step

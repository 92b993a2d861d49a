"""Soft targets on the heat map: 1 at a centre, a Gaussian about it, -1 where nothing is
labelled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryoet_pu_picker.network import STRIDE

REACH = 3.0
"""Standard deviations at which the Gaussian ends."""


def splat(
    positions: Tensor,
    species: Tensor,
    rows: Tensor,
    sigmas: Tensor,
    shape: tuple[int, int, int, int, int],
) -> Tensor:
    """Targets (b, c, d, h, w) of labelled centres; where particles overlap the larger value stands.

    positions (n, 3): (z, y, x) in voxels of the input crop, rows (n,): which crop, species (n,):
    which channel. sigmas (c, 3): standard deviations in cells of the heat map, so a particle that
    is round in Å is round there too although z has another stride. Cell j of an axis with stride 2
    covers voxels 2 j and 2 j + 1. A centre outside its crop still shows its Gaussian inside.
    """
    stride = torch.tensor(STRIDE, dtype=positions.dtype)
    cells = torch.floor((positions + 0.5) / stride).long()
    reach = torch.ceil(REACH * sigmas.amax(0)).long()
    axes = [torch.arange(-int(r), int(r) + 1) for r in reach]
    offsets = torch.cartesian_prod(*axes)
    squares = (offsets.to(sigmas.dtype) / sigmas[species][:, None]).square().sum(-1)
    values = torch.exp(-squares / 2)
    places = cells[:, None] + offsets
    size = torch.tensor(shape[2:])
    kept = ((places >= 0) & (places < size)).all(-1) & (squares <= REACH**2)
    head = (rows * shape[1] + species)[:, None].expand(kept.shape)
    flat = ((head * size[0] + places[..., 0]) * size[1] + places[..., 1]) * size[2] + places[..., 2]
    target = torch.full((int(torch.tensor(shape).prod()),), -1.0, dtype=values.dtype)
    target.scatter_reduce_(0, flat[kept], values[kept], "amax")
    return target.reshape(shape)

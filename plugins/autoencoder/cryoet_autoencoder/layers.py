"""Build the layers of both networks, initialised Glorot uniform with zero biases."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, interpolate, pad

_Layer = TypeVar("_Layer", nn.Conv3d, nn.Linear)

STEP = 4
"""Two poolings: the networks' edges are multiples of this."""


def convolution(before: int, after: int, size: int = 3, circular: bool = False) -> nn.Conv3d:
    """Build a convolution that keeps the edges.

    Parameters
    ----------
    before : int
        Channels of the input.
    after : int
        Channels of the output.
    size : int, optional
        Edge of the kernel in voxels.
    circular : bool, optional
        Whether beyond a face lies the opposite face; else zeros.
    """
    mode: Literal["circular", "zeros"] = "circular" if circular else "zeros"
    return _glorot(nn.Conv3d(before, after, size, padding=size // 2, padding_mode=mode))


def dense(before: int, after: int) -> nn.Linear:
    """Build a dense layer."""
    return _glorot(nn.Linear(before, after))


def _glorot(layer: _Layer) -> _Layer:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def doubled(volumes: Tensor) -> Tensor:
    """Upsample by 2, each voxel by its nearest neighbour."""
    return interpolate(volumes, scale_factor=2, mode="nearest")


def binned(volumes: Tensor, bin: int) -> Tensor:
    """Average over ``bin`` voxels per axis; what is left over at the end is dropped."""
    return avg_pool3d(volumes, bin) if bin > 1 else volumes


def padded(volumes: Tensor) -> Tensor:
    """Pad volumes (n, c, d, h, w) with zeros, evenly, up to multiples of ``STEP``."""
    widths = []
    for size in reversed(volumes.shape[2:]):
        more = -size % STEP
        widths += [more // 2, more - more // 2]
    return pad(volumes, widths) if any(widths) else volumes


def cropped(volumes: Tensor, size: int) -> Tensor:
    """Undo ``padded`` for volumes of edge ``size``."""
    first = (volumes.shape[-1] - size) // 2
    part = slice(first, first + size)
    return volumes[:, :, part, part, part]


def channels_last(volumes: Tensor) -> Tensor:
    """Change to the memory format in which 3-D convolutions are fastest, on CPUs and GPUs."""
    return volumes.contiguous(memory_format=torch.channels_last_3d)

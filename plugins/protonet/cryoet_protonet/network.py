"""ProtoNet3D: the encoder of paper 002's few-shot classification, for cubes of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryoet_core.support.errors import UserError

BLOCKS = 4
"""As published."""


def blocks_for(box: int, bin: int) -> int:
    """As many blocks as published, fewer where the cube cannot be halved as often; at least one."""
    return max(1, min(BLOCKS, (box // bin).bit_length() - 1))


class ProtoNet3D(nn.Module):
    """Volumes (n, 1, d, h, w) of edge ``box`` -> features (n, dim), dim = width * floor(box / bin /
    2^blocks)^3.

    ``blocks`` times: 3x3x3 convolution (padding 1, bias), batch normalisation, ReLU, maximum over
    2x2x2. No dense layer and no dropout, PyTorch's own initial weights. With 4 blocks of 64
    channels: 334,272 parameters and 64 features at 28^3, 512 at 32^3 and 40^3. ``bin`` voxels per
    axis are averaged first. UserError where the cube is too small.
    """

    def __init__(self, box: int, width: int = 64, blocks: int = BLOCKS, bin: int = 1) -> None:
        super().__init__()
        left = box // bin // 2**blocks
        if left < 1:
            raise UserError(
                f"`blocks` {blocks} with `bin` {bin} needs cubes of at least {bin * 2**blocks} "
                "voxels, the data set "
                f"has {box}; lower `blocks` or `bin`, or cut larger cubes"
            )
        self.bin, self.dim = bin, width * left**3
        before = [1, *[width] * (blocks - 1)]
        self.blocks = nn.Sequential(*(_block(channels, width) for channels in before))
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs lack the overload

    def forward(self, volumes: Tensor) -> Tensor:
        # the binned voxels of a standardised cube keep a deviation near 1 where its noise is white
        x = nn.functional.avg_pool3d(volumes, self.bin) * self.bin if self.bin > 1 else volumes
        features: Tensor = self.blocks(x.contiguous(memory_format=torch.channels_last_3d)).flatten(
            1
        )
        return features


def _block(before: int, after: int) -> nn.Sequential:
    # the published order is ReLU, then pooling: the maximum of a rising function is the same, for
    # an eighth of the work
    pooled = (nn.MaxPool3d(2), nn.ReLU(inplace=True))
    return nn.Sequential(nn.Conv3d(before, after, 3, padding=1), nn.BatchNorm3d(after), *pooled)

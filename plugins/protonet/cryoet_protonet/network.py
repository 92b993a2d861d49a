"""Define ProtoNet3D, the encoder of few-shot classification, for subtomograms of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryoet_core.support.errors import UserError

BLOCKS = 4
"""As published."""


def blocks_for(box: int, bin: int) -> int:
    """Return as many blocks as published, fewer for small subtomograms; at least one."""
    return max(1, min(BLOCKS, (box // bin).bit_length() - 1))


class ProtoNet3D(nn.Module):
    """Encode volumes (n, 1, d, h, w) to features (n, dim).

    There are dim = width * floor(box / bin / 2^blocks)^3 features. ``blocks`` times: 3x3x3
    convolution (padding 1, bias), batch normalisation, ReLU, maximum over 2x2x2. There is no dense
    layer and no dropout; initial weights are PyTorch's own. With 4 blocks of 64 channels: 334,272
    parameters and 64 features at 28^3, 512 at 32^3 and 40^3.

    Parameters
    ----------
    box : int
        Box size in voxels.
    width : int, optional
        Channels of each block.
    blocks : int, optional
        Number of blocks.
    bin : int, optional
        Voxels averaged per axis before the network.

    Raises
    ------
    UserError
        Where the subtomogram is too small.

    References
    ----------
    Few-shot learning for classification of novel macromolecular structures in cryo-electron
    tomograms (2020). PLOS Computational Biology. doi:10.1371/journal.pcbi.1008227.
    """

    def __init__(self, box: int, width: int = 64, blocks: int = BLOCKS, bin: int = 1) -> None:
        super().__init__()
        left = box // bin // 2**blocks
        if left < 1:
            raise UserError(
                f"`blocks` {blocks} with `bin` {bin} needs subtomograms of at least "
                f"{bin * 2**blocks} voxels, the data set has {box}; "
                "lower `blocks` or `bin`, or cut larger subtomograms"
            )
        self.bin, self.dim = bin, width * left**3
        before = [1, *[width] * (blocks - 1)]
        self.blocks = nn.Sequential(*(_block(channels, width) for channels in before))
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs lack the overload

    def forward(self, volumes: Tensor) -> Tensor:
        """Apply the module; the class says the shapes."""
        # binned voxels keep a standard deviation near 1 where the noise is white
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

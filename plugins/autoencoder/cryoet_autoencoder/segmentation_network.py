"""Define the encoder-decoder network that labels every voxel (EDSS3D; Uddin 2021, section II-A)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool3d

from cryoet_autoencoder.layers import binned, channels_last, convolution, doubled, padded

MARGIN = 12
"""Binned voxels around a voxel that its label depends on, at most, where tiles begin at multiples
of 4 (it is 11).
"""


class EncoderDecoder3D(nn.Module):
    """Map volumes (n, 1, d, h, w) to logits (n, classes, d / bin, h / bin, w / bin).

    Class 0 is background. Edges that are no multiples of 4 after binning are padded with zeros,
    the mean, and cut again. Beyond a face lies the opposite one: with zeros the network learns
    that particles are so many voxels from a face of their subtomogram, which is true of
    subtomograms only, and finds nothing in tomograms.

    Parameters
    ----------
    classes : int
        Number of classes, background included.
    width : int, optional
        Channels of the convolutions.
    bin : int, optional
        Voxels averaged per axis before the network.
    """

    def __init__(self, classes: int, width: int = 32, bin: int = 1) -> None:
        super().__init__()
        self.bin = bin
        self.down1, self.down2 = (
            convolution(1, width, circular=True),
            convolution(width, width, circular=True),
        )
        self.middle = convolution(width, width, circular=True)
        self.up2, self.up1 = (
            convolution(width, width, circular=True),
            convolution(width, width, circular=True),
        )
        self.last = convolution(width, classes, 1)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs lack the overload

    def forward(self, volumes: Tensor) -> Tensor:
        """Apply the module; the class says the shapes."""
        seen = binned(volumes, self.bin)
        x = channels_last(padded(seen))
        x = max_pool3d(self.down1(x).relu(), 2)
        x = max_pool3d(self.down2(x).relu(), 2)
        x = self.middle(x).relu()
        x = self.up2(doubled(x)).relu()
        x = self.last(self.up1(doubled(x)).relu())
        first = [(have - want) // 2 for have, want in zip(x.shape[2:], seen.shape[2:], strict=True)]
        z, y, x_ = (
            slice(start, start + size) for start, size in zip(first, seen.shape[2:], strict=True)
        )
        logits: Tensor = x[:, :, z, y, x_]
        return logits

"""The hybrid network: every slice alone through a 2-D encoder and decoder, slices joined by a few 3-D layers.

Paper 004, section 3.3 and figure 2; layer by layer after its reference code (nextpyp/cet_pick, BSD).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from cryoet_pu_picker.bands import Bands
from cryoet_pu_picker.resnet import ResNetSlices
from cryoet_pu_picker.unet import UNetSlices

STRIDE = (1, 2, 2)
"""Voxels (z, y, x) of the input for one of the heat map."""
LOWEST_START = 0.05
"""Where the heat map starts at least: from a prior of 1e-3 it would need hundreds of steps to rise."""


class HybridNetwork(nn.Module):
    """Bands of volumes (b, k, d, h, w) to a heat map (b, c, d, ceil(h / 2), ceil(w / 2)); ``bands`` makes the k of one.

    priors: of each of the c species; the heat map starts there. features: channels of what the heads look at, and of
    the projection for the contrast.
    """

    def __init__(
        self, backbone: str, width: int, levels: int, features: int, priors: Sequence[float], bands: Bands
    ) -> None:
        super().__init__()
        self.bands = bands
        self.unet = backbone == "unet"
        self.slices = (
            UNetSlices(bands.channels, width, levels, features)
            if self.unet
            else ResNetSlices(bands.channels, width, features)
        )
        dilations = (4, 4) if self.unet else (1,)
        self.fusion = nn.Sequential(*(layer for step in dilations for layer in _joined(features, step)))
        self.deep = 1 if self.unet else 0
        self.heat = Columns(features, len(priors), 2 * self.deep + 1)
        self.projection = Columns(features, features, 2 * self.deep + 1, bias=False)
        nn.init.normal_(self.heat.weight, std=1e-3)
        start = torch.tensor([min(max(prior, LOWEST_START), 0.5) for prior in priors])
        with torch.no_grad():
            self.heat.bias.copy_(start.logit())  # type: ignore[union-attr]

    @property
    def alignment(self) -> int:
        """Moving the input by this many voxels in y or x moves the heat map alike."""
        return self.slices.stride

    @property
    def margin(self) -> tuple[int, int, int]:
        """How far (z, y, x) the heat map looks, in voxels of the tomogram, at most."""
        planes = self.slices.reach + 2 * sum(layer.dilation[1] for layer in self.fusion if isinstance(layer, nn.Conv3d))
        slices = sum(isinstance(layer, nn.Conv3d) for layer in self.fusion) + self.deep
        return slices + self.bands.reach, planes + self.bands.reach, planes + self.bands.reach

    def joined(self, bands: Tensor) -> Tensor:
        """(b, features, d, ceil(h / 2), ceil(w / 2))."""
        b, _, d, h, w = bands.shape
        flat = bands.transpose(1, 2).reshape(b * d, -1, h, w)
        maps = self.slices(flat.contiguous(memory_format=torch.channels_last))
        stacked = maps.unflatten(0, (b, d)).transpose(1, 2)
        joined: Tensor = self.fusion(stacked)
        return joined

    def forward(self, bands: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the heat map, and features of unit length over channels (b, features, ...), both float32."""
        joined = self.joined(bands)
        return self.heat(joined).float(), normalize(self.projection(joined).float(), dim=1)

    def logits(self, volumes: Tensor) -> Tensor:
        """The logits of the heat map of volumes (b, 1, d, h, w), mean 0 and deviation 1."""
        heat: Tensor = self.heat(self.joined(self.bands(volumes))).float()
        return heat


class Columns(nn.Conv2d):
    """A 3-D convolution that is one voxel wide in y and x: (b, f, d, h, w) -> (b, g, d, h, w).

    As a 2-D convolution over (d, h w) it is three times faster on a CPU.
    """

    def __init__(self, before: int, after: int, depth: int, bias: bool = True) -> None:
        super().__init__(before, after, (depth, 1), padding=(depth // 2, 0), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(3)).unflatten(3, x.shape[3:])


def _joined(features: int, dilation: int) -> list[nn.Module]:
    layer = nn.Conv3d(
        features, features, 3, padding=(1, dilation, dilation), dilation=(1, dilation, dilation), bias=False
    )
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return [layer, nn.ReLU(inplace=True)]

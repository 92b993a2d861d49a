"""The encoders: RB3D with both published heads, CB3D and DSRF3D.

Che et al., "Improved deep learning-based macromolecules structure classification from electron
cryo-tomograms" (2018) for all three; RB3D with pooling instead of dense layers is the later
version, of the time of the contrastive methods. None has batch normalisation, so a cube's features
do not depend on its company. All run in the channels-last layout, in which the convolutions of a
CPU are twice as fast.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool3d, max_pool3d, relu_

from cryoet_core.support.errors import UserError

Head = Literal["pool", "dense"]
LAST = torch.channels_last_3d


class Unit(nn.Module):
    """32 channels to 32: a 3^3 convolution beside a 1-3-1 bottleneck, 16 channels each, put side by
    side, not added.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.shortcut = nn.Conv3d(32, 16, 3, padding=1)
        self.narrow = nn.Conv3d(32, 16, 1)
        self.middle = nn.Conv3d(16, 32, 3, padding=1)
        self.last = nn.Conv3d(32, 16, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        main = self.last(relu_(self.middle(relu_(self.narrow(x)))))
        return relu_(torch.cat([self.shortcut(x), self.dropout(main)], 1))


class Rb3d(nn.Module):
    """Volumes (n, 1, b, b, b) -> features (n, dim): a stem and four units, 115,904 parameters, then
    the head.

    head "pool": averages over the eight octants, dim 256, the same weights for any box of 4 voxels
    or more. "dense": two dense layers of 1024, for one box only; 135 million parameters at 32^3.
    Dropout (0.7 in the units, 0.5 between the dense layers) belongs to the dense version.
    """

    def __init__(self, box: int, head: Head = "pool") -> None:
        super().__init__()
        _need(box, 4, "cssl.rb3d")
        dense = head == "dense"
        self.stem = nn.Conv3d(1, 32, 3, padding=1)
        self.units = nn.Sequential(*(Unit(0.7 if dense else 0.0) for _ in range(4)))
        self.head: nn.Module = _dense(32 * (box // 2) ** 3, 1024, 0.5) if dense else nn.Identity()
        self.dim = 1024 if dense else 256
        self.pooled = not dense
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d) and layer.bias is not None and not dense:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        if dense:
            _glorot(self)

    def forward(self, volumes: Tensor) -> Tensor:
        x = self.units(
            relu_(max_pool3d(self.stem(volumes), 2))
        )  # the maximum of relu is the relu of the maximum
        x = adaptive_avg_pool3d(x, 2) if self.pooled else x
        features: Tensor = self.head(x.flatten(1))
        return features

    @property
    def last_block(self) -> nn.Module:
        """What class activation maps look at: (n, 32, b / 2, b / 2, b / 2)."""
        return self.units[-1]


class Stack(nn.Module):
    """Volumes (n, 1, b, b, b) -> features (n, dim): blocks of convolutions and poolings, then two
    dense layers.
    """

    def __init__(self, blocks: list[nn.Module], flat: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.head = _dense(flat, dim, dropout)
        self.dim = dim
        _glorot(self)

    def forward(self, volumes: Tensor) -> Tensor:
        features: Tensor = self.head(self.blocks(volumes).flatten(1))
        return features

    @property
    def last_block(self) -> nn.Module:
        """What class activation maps look at: the last convolution's activations."""
        return [layer for layer in self.blocks if isinstance(layer, nn.ReLU)][-1]


def rb3d(box: int, head: Head = "pool") -> nn.Module:
    """RB3D for cubes of ``box`` voxels; see ``Rb3d``. UserError for boxes below 4 or an unknown
    head.
    """
    if head not in ("pool", "dense"):
        raise UserError(f"encoder cssl.rb3d: head {head!r}; expected pool or dense")
    return _channels_last(Rb3d(box, head))


def cb3d(box: int) -> nn.Module:
    """CB3D, the C3D network: 64, 128, 2 x 256, 2 x 512, 2 x 512 channels, features (n, 4096). Boxes
    from 16 voxels.

    The first pooling leaves the beam axis as it is; before the last, the other two are padded by
    one voxel a side.
    """
    _need(box, 16, "cssl.cb3d")
    blocks = [
        *_convolutions(1, 64),
        nn.MaxPool3d((1, 2, 2)),
        *_convolutions(64, 128),
        nn.MaxPool3d(2),
        *_convolutions(128, 256, 256),
        nn.MaxPool3d(2),
        *_convolutions(256, 512, 512),
        nn.MaxPool3d(2),
        *_convolutions(512, 512, 512),
        nn.ConstantPad3d((1, 1, 1, 1, 0, 0), 0.0),
        nn.MaxPool3d(2),
    ]
    flat = 512 * (box // 16) * ((box // 16 + 2) // 2) ** 2
    return _channels_last(Stack(blocks, flat, 4096, 0.5))


def dsrf3d(box: int) -> nn.Module:
    """DSRF3D, second version: 2 x 32, 2 x 64, 2 x 128 channels (858,400 parameters), features (n,
    1024).

    Boxes from 8 voxels. Convolutions are padded; the publication does not say.
    """
    _need(box, 8, "cssl.dsrf3d")
    blocks: list[nn.Module] = []
    for before, after in ((1, 32), (32, 64), (64, 128)):
        blocks += [*_convolutions(before, after, after), nn.MaxPool3d(2)]
    return _channels_last(Stack(blocks, 128 * (box // 8) ** 3, 1024, 0.7))


def _channels_last(network: nn.Module) -> nn.Module:
    network.to(memory_format=LAST)  # type: ignore[call-overload]  # torch's stubs lack the overload
    return network


def _convolutions(*channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv3d(before, after, 3, padding=1), nn.ReLU()]
    return layers


def _dense(flat: int, dim: int, dropout: float) -> nn.Sequential:
    first, second = nn.Linear(flat, dim), nn.Linear(dim, dim)
    return nn.Sequential(
        first, nn.ReLU(), nn.Dropout(dropout), second, nn.ReLU(), nn.Dropout(dropout)
    )


def _glorot(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, (nn.Conv3d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _need(box: int, least: int, name: str) -> None:
    if box < least:
        raise UserError(
            f"encoder {name}: cubes of {box} voxels; expected {least} or more; cut larger ones or "
            "take another encoder"
        )

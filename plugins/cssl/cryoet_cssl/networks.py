"""Define the encoders: RB3D with both published heads, CB3D and DSRF3D.

All three are from Che et al. (2017), arXiv:1707.04885; RB3D with pooling instead of dense layers
is the later version, of the time of the contrastive methods. None has batch normalisation, so the
features of a subtomogram do not depend on the others of its batch. All run in the channels-last
layout, in which the convolutions of a CPU are twice as fast.
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
    """Map 32 channels to 32: a 3^3 convolution beside a 1-3-1 bottleneck, 16 channels each.

    The two are put side by side, not added.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.shortcut = nn.Conv3d(32, 16, 3, padding=1)
        self.narrow = nn.Conv3d(32, 16, 1)
        self.middle = nn.Conv3d(16, 32, 3, padding=1)
        self.last = nn.Conv3d(32, 16, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; the class says the shapes."""
        main = self.last(relu_(self.middle(relu_(self.narrow(x)))))
        return relu_(torch.cat([self.shortcut(x), self.dropout(main)], 1))


class Rb3d(nn.Module):
    """Encode volumes (n, 1, b, b, b) to features (n, dim): a stem, four units, then the head.

    Stem and units have 115,904 parameters. Dropout (0.7 in the units, 0.5 between the dense
    layers) belongs to the dense version.

    Parameters
    ----------
    box : int
        Box size in voxels, 4 at least.
    head : Head, optional
        "pool": averages over the eight octants, dim 256, the same weights for any box. "dense":
        two dense layers of 1024, for one box only; 135 million parameters at 32^3.
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
        """Apply the module; the class says the shapes."""
        x = self.units(
            relu_(max_pool3d(self.stem(volumes), 2))
        )  # the maximum of relu is the relu of the maximum
        x = adaptive_avg_pool3d(x, 2) if self.pooled else x
        features: Tensor = self.head(x.flatten(1))
        return features

    @property
    def last_block(self) -> nn.Module:
        """Block for class activation maps: (n, 32, b / 2, b / 2, b / 2)."""
        return self.units[-1]


class Stack(nn.Module):
    """Encode volumes (n, 1, b, b, b) with blocks of convolutions, then two dense layers.

    Parameters
    ----------
    blocks : list[nn.Module]
        Convolutions and poolings.
    flat : int
        Numbers that the blocks make of a volume.
    dim : int
        Features (n, dim) of the result.
    dropout : float
        Probability of dropout after each dense layer.
    """

    def __init__(self, blocks: list[nn.Module], flat: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.head = _dense(flat, dim, dropout)
        self.dim = dim
        _glorot(self)

    def forward(self, volumes: Tensor) -> Tensor:
        """Apply the module; the class says the shapes."""
        features: Tensor = self.head(self.blocks(volumes).flatten(1))
        return features

    @property
    def last_block(self) -> nn.Module:
        """Layer for class activation maps: the last convolution's activations."""
        return [layer for layer in self.blocks if isinstance(layer, nn.ReLU)][-1]


def rb3d(box: int, head: Head = "pool") -> nn.Module:
    """Build RB3D for subtomograms of ``box`` voxels; see ``Rb3d``.

    Raises
    ------
    UserError
        For boxes below 4 voxels or an unknown head.
    """
    if head not in ("pool", "dense"):
        raise UserError(f"encoder cssl.rb3d: head {head!r}; expected pool or dense")
    return _channels_last(Rb3d(box, head))


def cb3d(box: int) -> nn.Module:
    """Build CB3D, the C3D network: 64, 128, 2 x 256, 2 x 512, 2 x 512 channels, features (n, 4096).

    The first pooling leaves the beam axis as it is; before the last, the other two are padded by
    one voxel a side.

    Raises
    ------
    UserError
        For boxes below 16 voxels.
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
    """Build DSRF3D, second version: 2 x 32, 2 x 64, 2 x 128 channels, features (n, 1024).

    The convolutions have 858,400 parameters. They are padded; the publication does not say.

    Raises
    ------
    UserError
        For boxes below 8 voxels.
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
            f"encoder {name}: subtomograms of {box} voxels; expected {least} or more; cut larger "
            "ones or take another encoder"
        )

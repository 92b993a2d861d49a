"""Define Autoencoder3D: two convolutions, a short non-negative code, and the way back.

See Uddin 2021, section II-A.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryoet_autoencoder.layers import (
    STEP,
    binned,
    channels_last,
    convolution,
    cropped,
    dense,
    doubled,
    padded,
)
from cryoet_core.support.errors import UserError


class Encoder3D(nn.Module):
    """Encode volumes (n, 1, b, b, b) to codes (n, dim), none negative.

    Any box size will do: what is left after binning is padded with zeros, the mean, to a multiple
    of 4.

    Parameters
    ----------
    box : int
        Box size in voxels.
    width : int, optional
        Channels of the convolutions.
    code : int, optional
        Length of the code.
    bin : int, optional
        Voxels averaged per axis before the network.

    Raises
    ------
    UserError
        For a box of which binning leaves nothing.
    """

    def __init__(self, box: int, width: int = 32, code: int = 32, bin: int = 1) -> None:
        super().__init__()
        self.size = box // bin
        if self.size < 1:
            raise UserError(
                f"`bin` {bin}: subtomograms have {box} voxels; expected at most as many"
            )
        self.box, self.bin, self.dim = box, bin, code
        self.coarse = -(-self.size // STEP)
        self.first, self.second = convolution(1, width), convolution(width, width)
        self.code = dense(width * self.coarse**3, code)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs lack the overload

    def seen(self, volumes: Tensor) -> Tensor:
        """Return what the network sees and what is to be decoded: (n, 1, size, size, size)."""
        return binned(volumes, self.bin)

    def forward(self, volumes: Tensor) -> Tensor:
        """Apply the module; the class says the shapes."""
        x = channels_last(padded(self.seen(volumes)))
        x = nn.functional.max_pool3d(self.first(x).relu(), 2)
        x = nn.functional.max_pool3d(self.second(x).relu(), 2)
        codes: Tensor = self.code(x.flatten(1)).relu()
        return codes


class Decoder3D(nn.Module):
    """Decode codes (n, dim) to volumes (n, 1, size, size, size).

    Parameters
    ----------
    size : int
        Edge of the result in voxels.
    width : int, optional
        Channels of the convolutions.
    code : int, optional
        Length of the code.
    """

    def __init__(self, size: int, width: int = 32, code: int = 32) -> None:
        super().__init__()
        self.size, self.width, self.coarse = size, width, -(-size // STEP)
        self.expand = dense(code, width * self.coarse**3)
        self.first, self.second = convolution(width, width), convolution(width, width)
        self.last = convolution(width, 1)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs lack the overload

    def forward(self, codes: Tensor) -> Tensor:
        """Apply the module; the class says the shapes."""
        x = channels_last(self.expand(codes).relu().unflatten(1, (self.width, *(self.coarse,) * 3)))
        x = self.first(doubled(x)).relu()
        x = self.second(doubled(x)).relu()
        return cropped(self.last(x), self.size)


class Autoencoder3D(nn.Module):
    """Encode and decode; ``forward`` gives what is decoded and the codes.

    Parameters
    ----------
    box : int
        Box size in voxels.
    width : int, optional
        Channels of the convolutions.
    code : int, optional
        Length of the code.
    bin : int, optional
        Voxels averaged per axis before the network.
    """

    def __init__(self, box: int, width: int = 32, code: int = 32, bin: int = 1) -> None:
        super().__init__()
        self.encoder = Encoder3D(box, width, code, bin)
        self.decoder = Decoder3D(self.encoder.size, width, code)

    def forward(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the module; the class says the shapes."""
        codes = self.encoder(volumes)
        return self.decoder(codes), codes

"""Map volumes to points: the network's features and the descriptors, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cryoet_core.algorithms.centring import Centring, sample_rows
from cryoet_core.algorithms.descriptors import Invariants
from cryoet_core.runs.run import Run
from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_protonet.metric import Linear, isotropic, whitening

BATCH = 256
_HOST_BATCH = 32
"""Smaller, so that the feature maps of the published network stay near 300 MB and those of a small
one in the cache.
"""


@dataclass
class Descriptors:
    """Compute rotation-invariant descriptors (n, f) of centred volumes.

    Attributes
    ----------
    centring : Centring
        Centring of the volumes.
    invariants : Invariants
        Descriptors of centred volumes.
    """

    centring: Centring
    invariants: Invariants

    @classmethod
    def fit(cls, data: Any, volumes: DeviceVolumes, max_shift: float, run: Run) -> Descriptors:
        """Learn the centring from 500 volumes, without labels.

        Parameters
        ----------
        data : Any
            Subtomograms, all of one box size.
        volumes : DeviceVolumes
            Standardised volumes of the data set, for the device.
        max_shift : float
            How far a particle may lie from the box centre, in voxels.
        run : Run
            The run: device, random numbers, log and checkpoints.
        """
        some = sample_rows(len(data))
        centring = Centring.fit(
            lambda: volumes.batches(BATCH, some), data.box, max_shift, run.device
        )
        return cls(centring, Invariants(data.box, data.tilt_range, data.tilt_axis, run.device))

    def __call__(self, volumes: DeviceVolumes) -> Tensor:
        """Compute the descriptors (n, f) of all volumes."""
        batches = volumes.batches(BATCH)
        return torch.cat(
            [torch.cat(self.invariants(self.centring.centred(batch)), 1) for batch in batches]
        )


@dataclass
class Space:
    """The embedding (n, dim) in which prototypes are compared.

    Where descriptors are joined, squared distances are in units of the variance within a class:
    the descriptors are whitened within the training classes, the network's features scaled as a
    whole to ``network_share`` of that. Alone, the network's features are left as they are.

    Attributes
    ----------
    encoder : nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, f).
    network : Linear
        Scale of the features.
    descriptors : Descriptors | None
        Descriptors; None where they are not joined.
    described : Linear | None
        Whitening of the descriptors; None where they are not joined.
    """

    encoder: nn.Module
    network: Linear
    descriptors: Descriptors | None = None
    described: Linear | None = None

    @property
    def dim(self) -> int:
        """Length of a point."""
        return self.network.matrix.shape[1] + (
            0 if self.described is None else self.described.matrix.shape[1]
        )

    @property
    def width(self) -> int:
        """How many of the numbers are the network's; they come first."""
        return self.network.matrix.shape[1]

    def points(self, volumes: DeviceVolumes, run: Run) -> Tensor:
        """Return points (n, dim) float32, each volume by itself."""
        features = encoded(self.encoder, volumes, run)
        return self.joined(
            features, None if self.descriptors is None else self.descriptors(volumes)
        )

    def joined(self, features: Tensor, descriptors: Tensor | None) -> Tensor:
        """Join features (n, f) of the encoder and descriptors (n, g) to points."""
        points = self.network(features)
        if descriptors is None or self.described is None:
            return points
        return torch.cat([points, self.described(descriptors)], 1)


def fit_space(
    encoder: nn.Module,
    features: Tensor,
    descriptors: Descriptors | None,
    described: Tensor | None,
    rows: tuple[Tensor, Tensor],
    classes: Tensor,
    network_share: float,
) -> Space:
    """Fit the scales of the embedding.

    The encoder has seen the rows trained on, which lie closer together for it than new ones would:
    its scale is that of the rows held out. The descriptors have seen nothing, and use both.

    Parameters
    ----------
    encoder : nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, dim).
    features : Tensor
        Features (n, f) of all volumes.
    descriptors : Descriptors | None
        How descriptors are computed; None where they are not joined.
    described : Tensor | None
        Descriptors (n, g) of all volumes; None where they are not joined.
    rows : tuple[Tensor, Tensor]
        Rows trained on and rows held out.
    classes : Tensor
        Class of each row (n,).
    network_share : float
        Weight of the network's features beside the descriptors.
    """
    if descriptors is None or described is None:
        return Space(encoder, Linear.identity(features.shape[1]))
    known, held = torch.cat(rows), rows[1]
    linear = whitening(described[known], classes[known])
    variance = network_share * linear.matrix.shape[1]
    return Space(encoder, isotropic(features[held], classes[held], variance), descriptors, linear)


def encoded(
    encoder: nn.Module, volumes: DeviceVolumes, run: Run, rows: Tensor | None = None
) -> Tensor:
    """Compute features (n, f) float32 in eval mode, so that a volume's are the same in any company.

    Parameters
    ----------
    encoder : nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, dim).
    volumes : DeviceVolumes
        Standardised volumes of the data set, for the device.
    run : Run
        The run: device, random numbers, log and checkpoints.
    rows : Tensor | None, optional
        Rows to encode; None for all.
    """
    encoder.eval()
    size = _HOST_BATCH if run.device.type == "cpu" else BATCH
    parts = []
    with torch.no_grad():
        for batch in volumes.batches(size, rows):
            with run.autocast():
                parts.append(encoder(batch).float())
    return torch.cat(parts)

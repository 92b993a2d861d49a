"""Volumes to the points that are clustered: centring, network, descriptors, projection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cryoet_core.algorithms.centring import Centring
from cryoet_core.algorithms.descriptors import Invariants
from cryoet_core.algorithms.mixtures.selection import Projection, Scaling
from cryoet_core.runs.run import Run
from cryoet_core.runs.volumes import DeviceVolumes

BATCH = 256


@dataclass
class FeatureSpace:
    """How a volume becomes a point (dim,): what ``predict`` needs of an iteration, and all it
    needs.
    """

    network: nn.Module | None  # None: descriptors alone
    invariants: Invariants | None
    centring: Centring
    scaling: Scaling | None
    projection: Projection

    def points(self, volumes: DeviceVolumes, run: Run) -> Tensor:
        """(n, dim) for all volumes, in batches."""
        blocks = []
        if self.network is not None:
            blocks.append(network_features(self.network, volumes, run))
        if self.invariants is not None:
            blocks += described(self.invariants, self.centring, volumes)
        return self.project(blocks)

    def project(self, blocks: list[Tensor]) -> Tensor:
        joined = self.scaling(blocks) if self.scaling is not None else torch.cat(blocks, 1)
        return self.projection(joined)


def network_features(network: nn.Module, volumes: DeviceVolumes, run: Run) -> Tensor:
    """Features (n, dim) in eval mode, so that a volume's are the same in any batch."""
    network.eval()
    parts = []
    with torch.no_grad():
        for batch in volumes.batches(BATCH):
            with run.autocast():
                parts.append(network(batch).float())
    return torch.cat(parts)


def described(invariants: Invariants, centring: Centring, volumes: DeviceVolumes) -> list[Tensor]:
    """Blocks (n, f) of descriptors of the centred volumes."""
    rows = [invariants(centring.centred(batch)) for batch in volumes.batches(BATCH)]
    return [torch.cat(parts) for parts in zip(*rows, strict=True)]


def fit_space(
    network: nn.Module | None,
    invariants: Invariants | None,
    centring: Centring,
    volumes: DeviceVolumes,
    descriptors: list[Tensor],
    dim: int,
    run: Run,
) -> tuple[FeatureSpace, Tensor]:
    """Scaling and principal axes from this process's volumes and the others' sums; the points (n,
    dim) of ours.

    ``descriptors`` are what ``described`` gives, computed once for all rounds; used where
    ``invariants`` is given.
    """
    blocks = [] if network is None else [network_features(network, volumes, run)]
    if invariants is not None:
        blocks += descriptors
    scaling = Scaling.fit(blocks, run.all_reduce) if invariants is not None else None
    joined = scaling(blocks) if scaling is not None else torch.cat(blocks, 1)
    projection = Projection.fit(joined, min(dim, joined.shape[1]), run.all_reduce)
    return FeatureSpace(network, invariants, centring, scaling, projection), projection(joined)


def refresh_norms(network: nn.Module, volumes: DeviceVolumes, run: Run, most: int = 2048) -> None:
    """Set the running statistics of batch normalisation to the data's: they start at (0, 1) and lag
    behind training.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    network.eval()
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
        norm.train()
    with torch.no_grad():
        for batch in volumes.batches(BATCH, torch.arange(min(most, len(volumes)))):
            if len(batch) > 1:
                with run.autocast():
                    network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None  # these layers keep running statistics
            statistic.copy_(run.all_reduce(statistic.clone()) / run.world_size)
    network.eval()

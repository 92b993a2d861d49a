"""Train the segmentation network on voxel labels that come from an autoencoder's clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cryoet_autoencoder.edss3d_config import Edss3dConfig
from cryoet_autoencoder.fitting import Schedule, fit
from cryoet_autoencoder.keep import Kept
from cryoet_autoencoder.labeller import ClusterLabeller
from cryoet_autoencoder.overlap import Overlap, unlearnt
from cryoet_autoencoder.segmentation_network import EncoderDecoder3D
from cryoet_autoencoder.segmenting import on_one_scale
from cryoet_autoencoder.targets import foreground, training_rows, voxel_labels
from cryoet_core.plugins.interfaces import Labels
from cryoet_core.runs.run import Run
from cryoet_core.runs.volumes import DeviceVolumes

BATCH = 64
LEVEL, SPREAD = 0.1, 0.15
"""Standard deviations of what is added to subtomograms, and of the logarithm of their factor."""
POWERS = {"equal": 0.0, "root": 0.5, "balanced": 1.0}


def voxel_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Average the cross-entropy over voxels, each times the weight of its class.

    Parameters
    ----------
    logits : Tensor
        Logits (n, c, d, h, w).
    labels : Tensor
        Labels (n, d, h, w), 0 to c - 1.
    weights : Tensor
        Weights of the classes (c,).

    Returns
    -------
    Tensor
        The loss, a scalar.
    """
    return cross_entropy(logits, labels.long(), weights.to(logits), reduction="none").mean()


def class_weights(counts: Tensor, kind: str) -> Tensor:
    """Return weights (c,) of classes with ``counts`` (c,) voxels; their mean over all voxels is 1.

    The weight is 0 for a class without voxels.
    """
    shares = counts.double() / counts.sum()
    weights = torch.where(counts > 0, shares.clamp(min=1e-12) ** -POWERS[kind], 0.0)
    return weights / (weights * shares).sum()


def train(
    labeller: ClusterLabeller,
    data: Any,
    found: Labels,
    kept: Kept,
    config: Edss3dConfig,
    run: Run,
    name: str,
) -> tuple[EncoderDecoder3D, list[float], list[str]]:
    """Train the segmentation network.

    Parameters
    ----------
    labeller : ClusterLabeller
        The finished autoencoder with its clusters.
    data : Any
        Subtomograms to learn from.
    found : Labels
        Their clusters, codes and poses.
    kept : Kept
        Which clusters are kept.
    config : Edss3dConfig
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    name : str
        Name of the checkpoint.

    Returns
    -------
    tuple[EncoderDecoder3D, list[float], list[str]]
        The network, the median volume of a particle of each class in its voxels, and notes.
    """
    classes = kept.classes[found.labels]
    rows = training_rows(classes, run.generator("background"))
    notes = _remarks(classes, rows, kept)
    mine = rows[run.shard(len(rows))]
    targets = _targets(labeller, data.box, found, classes, mine, config, run)
    torch.manual_seed(run.generator("edss3d").initial_seed())
    network = EncoderDecoder3D(len(kept.names) + 1, config.width, config.bin).to(run.device)
    volumes = DeviceVolumes(
        data, run.device, max(run.max_memory // 2, 0), indices=mine, standardise=False
    )
    level, spread = on_one_scale(data)
    counts = run.all_reduce(
        targets.flatten().long().bincount(minlength=len(kept.names) + 1).double()
    )
    weights = class_weights(counts, config.weights)
    held = Overlap(run)

    def loss(part: Tensor, random: torch.Generator | None) -> Tensor:
        batch, labels = (volumes[part] - level) / spread, targets[part.to(targets.device)]
        if random is not None and config.augment:
            batch, labels = augmented(batch, labels, random)
        with run.autocast():
            logits = network(batch).float()
        if random is None:
            held.add(logits - excess(weights).to(logits).view(-1, 1, 1, 1), labels)
        return voxel_loss(logits, labels, weights)

    schedule = Schedule(
        config.epochs,
        config.patience,
        config.batch_size,
        config.learning_rate,
        least_updates=config.least_updates,
    )
    fit(
        network,
        len(mine),
        loss,
        schedule,
        run,
        name,
        phase="segmentation",
        watch=lambda: {"dice": held.dice()},
    )
    unweigh(network, weights)
    learnt = Overlap(run)  # of its own subtomograms: also where there are too few to hold any out
    with torch.no_grad():
        for part in torch.arange(len(mine)).split(config.batch_size):
            learnt.add(network((volumes[part] - level) / spread), targets[part.to(targets.device)])
    return network, _volumes(targets, len(kept.names), run), notes + unlearnt(learnt.dice(), run)


@torch.no_grad()
def unweigh(network: EncoderDecoder3D, weights: Tensor) -> None:
    """Make probabilities those of voxels as they occur.

    A network trained with weights w says p w / sum(p w).
    """
    bias = network.last.bias
    assert bias is not None
    bias -= excess(weights).to(bias)


def excess(weights: Tensor) -> Tensor:
    """Return what training with weights (c,) adds to logits.

    It is 0 for a class without voxels, of which nothing was learnt.
    """
    return torch.where(weights > 0, weights, torch.ones_like(weights)).log()


def augmented(batch: Tensor, labels: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Move volumes and labels round and mirror them along axes, as drawn for the batch.

    Each volume becomes brighter or darker and of more or less contrast. The missing wedge looks
    the same in these mirrors, and moved by any number of voxels particles meet the poolings in any
    phase.

    Parameters
    ----------
    batch : Tensor
        Volumes (n, 1, d, h, w).
    labels : Tensor
        Labels (n, d / bin, h / bin, w / bin).
    random : torch.Generator
        Source of random numbers, on the CPU.
    """
    size = labels.shape[-1]
    bin = batch.shape[-1] // size
    axes = [axis for axis in (-3, -2, -1) if torch.rand((), generator=random) < 0.5]
    steps = torch.randint(size, (3,), generator=random)
    draws = torch.randn(2, len(batch), 1, 1, 1, 1, generator=random).to(batch)
    batch = batch[..., : size * bin, : size * bin, : size * bin]
    batch = (batch * (SPREAD * draws[0]).exp() + LEVEL * draws[1]).roll(
        (steps * bin).tolist(), (-3, -2, -1)
    )
    return batch.flip(axes), labels.roll(steps.tolist(), (-3, -2, -1)).flip(axes)


def _targets(
    labeller: ClusterLabeller,
    box: int,
    found: Labels,
    classes: np.ndarray,
    rows: np.ndarray,
    config: Edss3dConfig,
    run: Run,
) -> Tensor:
    """Return labels (n, s, s, s) uint8 of ``rows``: what their codes decode to."""
    assert found.embedding is not None
    codes = torch.from_numpy(found.embedding)
    turns = (
        torch.from_numpy(found.extra["rotations"])
        if "rotations" in found.extra
        else torch.eye(3).expand(len(codes), 3, 3)
    )
    shifts = (
        torch.from_numpy(found.extra["shifts"])
        if "shifts" in found.extra
        else torch.zeros(len(codes), 3)
    )
    numbers = torch.from_numpy(classes.astype(np.uint8))
    parts = []
    for part in torch.from_numpy(rows).split(BATCH):
        decoded = labeller.decoded(codes[part]).to(run.device)
        bin = labeller.model.encoder.bin
        inside = foreground(
            decoded, box, bin, config.iso, turns[part].to(run.device), shifts[part].to(run.device)
        )
        parts.append(voxel_labels(inside, numbers[part].to(run.device), config.bin))
    return torch.cat(parts)


def _volumes(targets: Tensor, classes: int, run: Run) -> list[float]:
    """Return the median voxels of a particle of each class in a subtomogram; 0 without any."""
    found = []
    for index in range(1, classes + 1):
        counts = run.all_gather((targets == index).flatten(1).sum(1))
        counts = counts[counts > 0]
        found.append(float(counts.float().median()) if len(counts) else 0.0)
    return found


def _remarks(classes: np.ndarray, rows: np.ndarray, kept: Kept) -> list[str]:
    counts = [int((classes == index + 1).sum()) for index in range(len(kept.names))]
    backgrounds = len(rows) - sum(counts)
    shown = ", ".join(
        f"{count:,} of {name}" for name, count in zip(kept.names, counts, strict=True)
    )
    said = [f"trained on {shown} and {backgrounds:,} subtomograms of clusters that were not kept"]
    if not backgrounds:
        said.append(
            "every cluster was kept, so only what surrounds particles in their subtomograms was "
            "shown as background"
        )
    return said

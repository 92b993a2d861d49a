"""Fine-tune an encoder and a linear classifier on labels; the best validation epoch counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cryoet_core.runs.run import Run
from cryoet_core.runs.training_state import optimiser_tensors, restore_optimiser
from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_cssl.optimisers import (
    cosine,
    named,
    optimiser_of,
    set_rate,
    under,
)
from cryoet_cssl.parts import Parts
from cryoet_cssl.views import Views

CHECKPOINT, PHASE, BATCH = "fine-tuning", "fine-tune", 256

WEIGHT_DECAY = 1e-4
"""Of fine-tuning, as published."""


class Classifier(nn.Module):
    """Score volumes (n, 1, b, b, b) by encoder and linear layer: (n, k) before the softmax."""

    def __init__(self, encoder: nn.Module, k: int) -> None:
        super().__init__()
        self.encoder = encoder
        dim: Any = encoder.dim  # an int in every encoder, which torch's types do not know
        self.head = nn.Linear(dim, k)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    @torch.no_grad()
    def start_from(self, weights: Tensor, biases: Tensor) -> None:
        """Give the classifier weights (k, dim) and biases (k,)."""
        self.head.weight.copy_(weights)
        self.head.bias.copy_(biases)

    def forward(self, volumes: Tensor) -> Tensor:
        """Apply the module; the class says the shapes."""
        scores: Tensor = self.head(self.encoder(volumes))
        return scores


def fine_tune(
    network: Classifier,
    volumes: DeviceVolumes,
    labels: np.ndarray,
    parts: Parts,
    views: Views,
    rate: float,
    config: Any,
    run: Run,
) -> list[str]:
    """Train on ``parts.learnt`` and keep the weights of the best validation epoch.

    The best epoch is that of the highest validation accuracy, then the lowest loss.

    The weights at the start are a candidate too. Without validation subtomograms the last epoch
    counts.

    Parameters
    ----------
    network : Classifier
        Encoder and classifier, changed in place.
    volumes : DeviceVolumes
        Standardised volumes of the data set, for the device.
    labels : np.ndarray
        Class of each subtomogram (n,), -1 where it is unknown.
    parts : Parts
        Which rows are trained on, which choose the epoch and which only count.
    views : Views
        How random views are drawn, where ``fine_tune_views`` asks for them.
    rate : float
        Learning rate of the first epoch; it falls along a cosine.
    config : Any
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.

    Returns
    -------
    list[str]
        Notes for the report.
    """
    trained = network.head.parameters() if config.freeze_encoder else network.parameters()
    optimiser = optimiser_of(config.fine_tune_optimiser, trained, rate, WEIGHT_DECAY)
    targets = torch.from_numpy(labels)
    best, state = _resume(network, optimiser, run)
    if not best:
        accuracy, val_loss = _validated(network, volumes, targets, parts.val, run)
        best, state["best"] = _copied(network), [accuracy or 0.0, -(val_loss or 0.0)]
    for epoch in run.progress(range(state["epochs"], config.fine_tune_epochs), "fine-tuning"):
        set_rate(optimiser, cosine(rate, epoch / config.fine_tune_epochs))
        with run.timer("fine-tune"):
            loss = _epoch(network, optimiser, volumes, targets, parts, views, config, run, epoch)
            accuracy, val_loss = _validated(network, volumes, targets, parts.val, run)
        if accuracy is None or [accuracy, -(val_loss or 0.0)] >= state["best"]:
            best = _copied(network)
            state |= {"best": [accuracy or 0.0, -(val_loss or 0.0)], "best_epoch": epoch}
        state["epochs"] = epoch + 1
        run.log(phase=PHASE, step=epoch, loss=loss, val_loss=val_loss, val_accuracy=accuracy)
        tensors = (
            named("network", network.state_dict())
            | named("best", best)
            | optimiser_tensors(optimiser)
        )
        run.save(CHECKPOINT, tensors, state)
    network.load_state_dict(best)
    network.eval()
    if not len(parts.val):
        return [
            "no labelled subtomogram was left for validation, so the last epoch of "
            "fine-tuning counts"
        ]
    return []


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def scores_of(
    network: nn.Module, volumes: DeviceVolumes, rows: np.ndarray | None, run: Run
) -> Tensor:
    """Compute scores or features (n, k) in eval mode.

    The values of a subtomogram do not depend on the others of its batch.

    Parameters
    ----------
    network : nn.Module
        Encoder or classifier.
    volumes : DeviceVolumes
        Standardised volumes of the data set, for the device.
    rows : np.ndarray | None
        Rows of the data set; None for all.
    run : Run
        The run: device, random numbers, log and checkpoints.

    Returns
    -------
    Tensor
        Float32, on the CPU.
    """
    network.eval()
    parts = []
    with torch.no_grad():
        for batch in volumes.batches(BATCH, rows):
            with run.autocast():
                parts.append(network(batch).float().cpu())
    return torch.cat(parts)


def _resume(
    network: Classifier, optimiser: torch.optim.Optimizer, run: Run
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the best weights so far and where an interrupted run stands."""
    saved = run.load(CHECKPOINT)
    if saved is None:
        return {}, {"epochs": 0, "best": [-1.0, 0.0], "best_epoch": -1}
    tensors, state = saved
    network.load_state_dict(under("network", tensors))
    restore_optimiser(optimiser, tensors)
    return {name: value.to(run.device) for name, value in under("best", tensors).items()}, state


def _epoch(
    network: Classifier,
    optimiser: torch.optim.Optimizer,
    volumes: DeviceVolumes,
    targets: Tensor,
    parts: Parts,
    views: Views,
    config: Any,
    run: Run,
    epoch: int,
) -> float:
    network.train()
    run.reseed("fine-tune", epoch)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    total = torch.zeros(1, dtype=torch.float64)
    batches = _batches(parts, config, run, epoch)
    for step, rows in enumerate(batches):
        cubes = volumes[rows]
        if config.fine_tune_views:
            cubes = views(cubes, run.generator("fine-tune views", epoch, step, run.rank))
        with run.autocast():
            if config.freeze_encoder:
                network.encoder.eval()
                with torch.no_grad():
                    features = network.encoder(cubes)
                scores = network.head(features)
            else:
                scores = network(cubes)
        loss = nn.functional.cross_entropy(scores.float(), targets[rows].to(scores.device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        run.average_gradients(parameters)
        optimiser.step()
        total += float(loss.detach())
    return float(run.all_reduce(total)) / (len(batches) * run.world_size)


def _batches(parts: Parts, config: Any, run: Run, epoch: int) -> list[Tensor]:
    """Draw batches of this process: learnt rows in new orders, until enough are drawn."""
    rows = torch.from_numpy(parts.learnt)
    wanted = len(parts.labelled) if config.same_steps else len(rows)
    generator = run.generator("fine-tune", epoch)
    orders = [
        torch.randperm(len(rows), generator=generator) for _ in range(-(-wanted // len(rows)))
    ]
    drawn = rows[torch.cat(orders)[:wanted]]
    steps = max(1, min(round(wanted / config.fine_tune_batch), wanted // run.world_size))
    return [batch[run.rank :: run.world_size] for batch in drawn.tensor_split(steps)]


def _validated(
    network: Classifier, volumes: DeviceVolumes, targets: Tensor, rows: np.ndarray, run: Run
) -> tuple[float | None, float | None]:
    """Accuracy and loss on the validation rows; None where there are none."""
    if not len(rows):
        return None, None
    scores, truth = scores_of(network, volumes, rows, run), targets[rows]
    loss = nn.functional.cross_entropy(scores, truth)
    return float((scores.argmax(1) == truth).float().mean()), float(loss)

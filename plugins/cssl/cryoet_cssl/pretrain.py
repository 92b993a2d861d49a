"""Pretrain on two views of each subtomogram, without labels.

An interrupted pretraining resumes at its last finished epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryoet_core.runs.run import Run
from cryoet_core.runs.training_state import optimiser_tensors, restore_optimiser
from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_cssl.losses import unit
from cryoet_cssl.objectives import Objective
from cryoet_cssl.optimisers import (
    cosine,
    named,
    optimiser_of,
    set_rate,
    under,
)
from cryoet_cssl.views import Views

CHECKPOINT, PHASE = "pretraining", "pretrain"
COLLAPSED = 0.1
"""Standard deviation of features, as a fraction of that of evenly spread unit vectors, below which
they say next to nothing.
"""

WEAKEST = 0.1

Monitor = Callable[[int], dict[str, float]]


def pretrain(
    objective: Objective,
    volumes: DeviceVolumes,
    rows: np.ndarray,
    views: Views,
    config: Any,
    run: Run,
    monitor: Monitor,
) -> list[str]:
    """Train on the subtomograms ``rows``, all processes together.

    The key of every random number is the epoch and step.

    Parameters
    ----------
    objective : Objective
        The module that is trained.
    volumes : DeviceVolumes
        Standardised volumes of the data set, for the device.
    rows : np.ndarray
        Rows (m,) to learn from.
    views : Views
        How random views are drawn.
    config : Any
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    monitor : Monitor
        Function of the epoch that gives further numbers for the log.

    Returns
    -------
    list[str]
        Notes about what went wrong.
    """
    optimiser = _optimiser(objective, config)
    done, spread = _resume(objective, optimiser, run)
    mine = torch.from_numpy(rows[run.shard(len(rows))])
    for epoch in run.progress(range(done, config.epochs), "pretraining"):
        rate = (
            cosine(config.learning_rate, epoch / config.epochs)
            if config.schedule == "cosine"
            else None
        )
        set_rate(optimiser, rate or config.learning_rate)
        objective.done = epoch / config.epochs
        views.strength = strength(objective.done, config.growth)
        with run.timer("pretrain"):
            loss, found = _epoch(objective, optimiser, volumes, mine, views, config, run, epoch)
        spread = feature_spread(run.all_gather(objective.features.detach().float()))
        numbers = {
            "loss": loss,
            "partner_found": found,
            "feature_std": spread[0],
            "feature_rank": spread[1],
        }
        run.log(phase=PHASE, step=epoch, **numbers, **monitor(epoch))
        tensors = named("objective", objective.state_dict()) | optimiser_tensors(optimiser)
        run.save(CHECKPOINT, tensors, {"epochs": epoch + 1, "spread": spread})
    objective.eval()
    if spread[0] < COLLAPSED:
        return [
            f"the features have collapsed: their standard deviation is {spread[0]:.2f} of "
            "that of evenly spread ones"
        ]
    return []


def strength(done: float, growth: float) -> float:
    """Return how much of crop, rotation, shift and scale is drawn, 0.1 to 1.

    It grows from a tenth to all while the run's fraction ``done`` rises to ``growth``.
    """
    return 1.0 if done >= growth else WEAKEST + (1 - WEAKEST) * done / growth


def feature_spread(features: Tensor) -> tuple[float, float]:
    """Return two signs of collapse, of features (n, f) brought to length 1.

    The first is their standard deviation per dimension times sqrt(f): 1 for evenly spread ones, 0
    when all are equal. The second is the number of directions along which they vary, (sum of
    variances)^2 / sum of squares.
    """
    vectors = unit(features.double())
    spread = vectors.std(0, correction=0)
    values = torch.linalg.eigvalsh(
        (vectors - vectors.mean(0)).T @ (vectors - vectors.mean(0))
    ).clamp(min=0)
    rank = values.sum() ** 2 / values.square().sum().clamp(min=1e-30)
    return float(spread.square().mean().sqrt() * vectors.shape[1] ** 0.5), float(rank)


def _optimiser(objective: Objective, config: Any) -> torch.optim.Optimizer:
    trained = [p for p in objective.parameters() if p.requires_grad]
    return optimiser_of(config.optimiser, trained, config.learning_rate, config.weight_decay)


def _resume(
    objective: Objective, optimiser: torch.optim.Optimizer, run: Run
) -> tuple[int, tuple[float, float]]:
    """Epochs that an interrupted run has finished, and how its features were spread."""
    saved = run.load(CHECKPOINT)
    if saved is None:
        return 0, (1.0, 1.0)
    tensors, state = saved
    objective.load_state_dict(under("objective", tensors))
    restore_optimiser(optimiser, tensors)
    return int(state["epochs"]), tuple(state["spread"])


def _epoch(
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    volumes: DeviceVolumes,
    rows: Tensor,
    views: Views,
    config: Any,
    run: Run,
    epoch: int,
) -> tuple[float, float]:
    """Make one pass; return the mean loss and fraction of partners found over the processes."""
    objective.train()
    run.reseed("pretrain", epoch)
    sums = torch.zeros(2, dtype=torch.float64, device=run.device)
    batches = shuffled(rows, config.batch_size, run, "pretrain", epoch)
    for step, batch in enumerate(batches):
        cubes = volumes[batch]
        generator = run.generator("views", epoch, step, run.rank)
        first, second = views(cubes, generator), views(cubes, generator)
        with run.autocast():
            loss, found = objective(first, second)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        run.average_gradients(objective.parameters())
        objective.before_step()
        optimiser.step()
        objective.after_step()
        sums += torch.stack((loss.detach(), found)).double()
    sums = run.all_reduce(sums) / (len(batches) * run.world_size)
    return float(sums[0]), float(sums[1])


def shuffled(rows: Tensor, size: int, run: Run, *key: str | int) -> list[Tensor]:
    """Put this process's rows in a new order and into batches, as many on every process.

    Where a process has two rows, so has each of its batches: batch normalisation needs them.

    Parameters
    ----------
    rows : Tensor
        Rows (m,) of this process.
    size : int
        Least rows in a batch, over all processes.
    run : Run
        The run: device, random numbers, log and checkpoints.
    *key : str | int
        Key of the random numbers.

    Returns
    -------
    list[Tensor]
        Batches of rows.
    """
    total = int(run.all_reduce(torch.tensor(float(len(rows)), device=run.device)))
    steps = max(1, min(total // size, total // run.world_size // 2))
    order = torch.randperm(len(rows), generator=run.generator(*key, run.rank))
    return list(rows[order].tensor_split(steps))

"""Train either stage on episodes, several to a step; keep the best validation epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cryoet_core.runs.run import Run
from cryoet_protonet.classes import Parts
from cryoet_protonet.pools import Step, training_steps

Loss = Callable[[Step, torch.Generator], Tensor]
"""The mean loss of a step's episodes; the generator is for augmentation."""


@dataclass
class Stage:
    """One stage of training.

    Attributes
    ----------
    name : str
        Name in the log and of the checkpoint.
    modules : nn.ModuleDict
        What is trained.
    loss : Loss
        Its loss.
    accuracy : Callable[[], float]
        How good it is on volumes held out.
    epochs : int
        Number of epochs at most.
    pool : int
        Volumes of a pool.
    """

    name: str
    modules: nn.ModuleDict
    loss: Loss
    accuracy: Callable[[], float]
    epochs: int
    pool: int


@dataclass
class Progress:
    """Where a stage is.

    Attributes
    ----------
    epoch : int
        The next epoch.
    best : float
        The best accuracy.
    since : int
        Epochs since it was reached.
    finished : bool
        Whether training has ended.
    """

    epoch: int = 0
    best: float = -1.0
    since: int = 0
    finished: bool = False


def learning_rate(config: Any, epoch: int) -> float:
    """Return the learning rate of an epoch, halved every ``halve_every`` epochs."""
    rate: float = config.learning_rate * 0.5 ** (epoch // config.halve_every)
    return rate


def train(stage: Stage, parts: Parts, config: Any, run: Run) -> None:
    """Train the stage's modules, or resume, and keep the best epoch's weights, in eval mode.

    A checkpoint with the stage's name is saved after each epoch.

    Parameters
    ----------
    stage : Stage
        The stage.
    parts : Parts
        Which rows are trained on, which choose the epoch and which only count.
    config : Any
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    """
    modules = stage.modules.to(run.device)
    optimiser = torch.optim.Adam(modules.parameters(), lr=1.0)
    best = {name: value.clone() for name, value in modules.state_dict().items()}
    at = _restored(stage, optimiser, best, run)
    for epoch in run.progress(range(at.epoch, stage.epochs), f"training the {stage.name}"):
        if at.finished:
            break
        loss = _epoch(stage, optimiser, epoch, parts, config, run)
        modules.eval()
        accuracy = stage.accuracy()
        at.since = 0 if accuracy > at.best else at.since + 1
        if accuracy >= at.best:
            at.best = accuracy
            best = {name: value.clone() for name, value in modules.state_dict().items()}
        at.epoch, at.finished = epoch + 1, at.since >= config.patience
        rate = learning_rate(config, epoch)
        run.log(phase=stage.name, step=epoch, loss=loss, accuracy=accuracy, learning_rate=rate)
        _save(stage, optimiser, best, at, run)
    modules.load_state_dict(best)
    modules.eval()


def _epoch(
    stage: Stage, optimiser: torch.optim.Optimizer, epoch: int, parts: Parts, config: Any, run: Run
) -> float:
    """One epoch; the mean loss of its episodes."""
    generator = run.generator(stage.name, epoch)
    run.reseed(stage.name, epoch)
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(config, epoch)
    stage.modules.train()
    total = torch.zeros((), device=run.device)
    for step in training_steps(parts.train, config, stage.pool, generator):
        loss = stage.loss(step, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += loss.detach() * len(step.episodes)
    count: int = config.episodes_per_epoch
    return float(total) / count


# ---- checkpoints ---------------------------------------------------------------------------------


def _save(
    stage: Stage, optimiser: torch.optim.Optimizer, best: dict[str, Tensor], at: Progress, run: Run
) -> None:
    tensors = {f"now.{name}": value for name, value in stage.modules.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for number, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": value for name, value in moments.items()}
    run.save(stage.name, tensors, vars(at))


def _restored(
    stage: Stage, optimiser: torch.optim.Optimizer, best: dict[str, Tensor], run: Run
) -> Progress:
    """Return what the last epoch of an interrupted run left, else the beginning."""
    saved = run.load(stage.name)
    if saved is None:
        return Progress()
    tensors, state = saved
    stage.modules.load_state_dict(_with_prefix(tensors, "now."))
    for name, value in _with_prefix(tensors, "best.").items():
        best[name] = value.to(run.device)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _with_prefix(tensors, "adam.").items():
        number, _, moment = name.partition(".")
        moments.setdefault(int(number), {})[moment] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
    return Progress(**state)


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }

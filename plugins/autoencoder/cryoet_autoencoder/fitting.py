"""Train either network with early stopping; the best epoch's weights are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cryoet_core.runs.run import Run
from cryoet_core.support.errors import RunError

HELD_OUT = 0.1
"""Fraction of the volumes that is not trained on, but decides when to stop."""

Loss = Callable[[Tensor, "torch.Generator | None"], Tensor]
"""Rows (b,) and, while training, where random numbers come from, to the mean loss over these rows.
"""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes
    ----------
    epochs : int
        Epochs at most.
    patience : int
        Epochs without a new lowest validation loss after which training ends.
    batch_size : int
        Volumes in an update, all processes together.
    learning_rate : float
        Learning rate of Adam.
    decay : float
        After t updates the learning rate is ``learning_rate`` / (1 + decay t).
    least_updates : int
        Updates in an epoch, at least; of few volumes it is several passes, for neither training
        nor patience can be measured in passes of two or three updates.
    """

    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    decay: float = 0.0
    least_updates: int = 1


@dataclass
class _State:
    epoch: int = 0
    updates: int = 0
    best: float = math.inf
    best_epoch: int = -1
    weights: dict[str, Tensor] = field(default_factory=dict)


def split(n: int, run: Run) -> tuple[Tensor, Tensor]:
    """Draw rows to train on and rows held out; of fewer than 10 volumes all are both."""
    order = torch.randperm(n, generator=run.generator("split", run.rank))
    held = int(HELD_OUT * n)
    return (order[held:], order[:held]) if held else (order, order)


def fit(
    model: nn.Module,
    n: int,
    loss: Loss,
    schedule: Schedule,
    run: Run,
    name: str,
    *,
    phase: str | None = None,
    watch: Callable[[], Mapping[str, Any]] = dict,
) -> dict[str, Any]:
    """Train on this process's volumes and keep the weights of the best epoch, in eval mode.

    Each epoch is a row of metrics.jsonl and a checkpoint.

    Parameters
    ----------
    model : nn.Module
        The network, changed in place.
    n : int
        Number of volumes of this process.
    loss : Loss
        Function from rows (b,) and, while training, a generator to the mean loss.
    schedule : Schedule
        How long and how fast to train.
    run : Run
        The run: device, random numbers, log and checkpoints.
    name : str
        Name of the checkpoint.
    phase : str | None, optional
        Phase in the log; None for none.
    watch : Callable[[], Mapping[str, Any]], optional
        Function that gives further numbers for the log.

    Returns
    -------
    dict[str, Any]
        ``epochs``, ``best_epoch`` (from 1) and ``validation_loss``.

    Raises
    ------
    RunError
        Where the loss is no number.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=schedule.learning_rate)
    state = _restored(model, optimiser, run.load(name), run)
    train, held = split(n, run)
    said = {} if phase is None else {"phase": phase}
    for epoch in run.progress(range(state.epoch, schedule.epochs), phase or "training"):
        if _stops(state, schedule):
            break
        with run.timer(name):
            trained = _epoch(model, optimiser, loss, train, schedule, state, run, (name, epoch))
            validation = _mean(model, loss, held, schedule, run)
        if not math.isfinite(trained + validation):
            raise RunError(
                f"{name}: the loss is no number in epoch {epoch + 1}; give a lower `learning_rate`"
            )
        state.epoch = epoch + 1
        if validation < state.best:
            state.best, state.best_epoch = validation, epoch
            state.weights = {
                key: value.detach().clone() for key, value in model.state_dict().items()
            }
        run.log(step=epoch, **said, loss=trained, validation_loss=validation, **watch())
        run.save(name, *_packed(model, optimiser, state))
    model.load_state_dict(state.weights)
    model.eval()
    return {
        "epochs": state.epoch,
        "best_epoch": state.best_epoch + 1,
        "validation_loss": state.best,
    }


def _stops(state: _State, schedule: Schedule) -> bool:
    return state.epoch - 1 - state.best_epoch >= schedule.patience and state.epoch > 0


def _epoch(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss: Loss,
    rows: Tensor,
    schedule: Schedule,
    state: _State,
    run: Run,
    key: tuple[str, int],
) -> float:
    """One pass over the rows, or several; the mean loss of all processes."""
    model.train()
    steps = _steps(len(rows), schedule, run)
    passes = -(-schedule.least_updates // steps)
    shuffle = run.generator(*key, "order", run.rank)
    order = torch.cat([rows[torch.randperm(len(rows), generator=shuffle)] for _ in range(passes)])
    random = run.generator(*key, "loss", run.rank)
    total = torch.zeros(2, dtype=torch.float64, device=run.device)
    for part in order.tensor_split(steps * passes):
        for group in optimiser.param_groups:
            group["lr"] = schedule.learning_rate / (1 + schedule.decay * state.updates)
        optimiser.zero_grad(set_to_none=True)
        value = loss(part, random)
        value.backward()
        run.average_gradients(model.parameters())
        optimiser.step()
        state.updates += 1
        total += torch.stack(
            (value.detach() * len(part), value.new_tensor(float(len(part))))
        ).double()
    run.all_reduce(total)
    return float(total[0] / total[1])


def _steps(n: int, schedule: Schedule, run: Run) -> int:
    """Return the updates in a pass: as many on every process."""
    everywhere = int(run.all_reduce(torch.tensor(float(n))))
    return max(1, round(everywhere / schedule.batch_size))


@torch.no_grad()
def _mean(model: nn.Module, loss: Loss, rows: Tensor, schedule: Schedule, run: Run) -> float:
    model.eval()
    total = torch.zeros(2, dtype=torch.float64, device=run.device)
    for part in rows.split(schedule.batch_size):
        value = loss(part, None)
        total += torch.stack((value * len(part), value.new_tensor(float(len(part))))).double()
    run.all_reduce(total)
    return float(total[0] / total[1])


# ---- files ---------------------------------------------------------------------------------------


def _packed(
    model: nn.Module, optimiser: torch.optim.Optimizer, state: _State
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {f"now.{key}": value for key, value in model.state_dict().items()}
    tensors |= {f"best.{key}": value for key, value in state.weights.items()}
    for index, parameter in optimiser.state_dict()["state"].items():
        tensors |= {
            f"adam.{index}.{key}": torch.as_tensor(value) for key, value in parameter.items()
        }
    facts = {
        "epoch": state.epoch,
        "updates": state.updates,
        "best": state.best,
        "best_epoch": state.best_epoch,
    }
    return tensors, facts


def _restored(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    saved: tuple[dict[str, Tensor], dict[str, Any]] | None,
    run: Run,
) -> _State:
    """Where an interrupted training was, else its beginning."""
    if saved is None:
        return _State()
    tensors, facts = saved

    def of(prefix: str) -> dict[str, Tensor]:
        return {
            key.removeprefix(prefix): value
            for key, value in tensors.items()
            if key.startswith(prefix)
        }

    model.load_state_dict(of("now."))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in of("adam.").items():
        index, name = key.split(".", 1)
        moments.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict(
        {"state": moments, "param_groups": optimiser.state_dict()["param_groups"]}
    )
    weights = {key: value.to(run.device) for key, value in of("best.").items()}
    return _State(weights=weights, **facts)

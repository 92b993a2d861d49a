"""Run a stage epoch by epoch: log, save, resume, and stop on a loss that is no number."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cryoet_core.runs import checkpoint, runfolder
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import RunError, UserError

SAVE_SECONDS = 20.0
"""An interrupted stage loses at most about this much work."""
POINTS = 5
"""Times that a stage's accuracy is taken on the way, at most."""


class Stage(Protocol):
    """Say what one stage of a method has to offer.

    ``name`` is its phase in the log and its checkpoint, which holds ``modules``. ``moves`` says
    whether it changes what the encoders say, so that the accuracy is worth taking on the way.
    """

    name: str
    title: str
    epochs: int
    moves: bool
    optimisers: list[torch.optim.Optimizer]

    @property
    def modules(self) -> Mapping[str, nn.Module]: ...

    @property
    def record(self) -> Mapping[str, Any]: ...

    def epoch(self, number: int) -> float:
        """Train for one epoch and return the mean loss."""

    def finish(self) -> None:
        """Do what is done once after the last epoch."""


def run_stage(
    stage: Stage, run: Run, score: Callable[[], float | None], *, best: bool = False
) -> dict[str, Any]:
    """Run a stage, or what is left of it.

    Parameters
    ----------
    stage : Stage
        The stage.
    run : Run
        The run: device, random numbers, log and checkpoints.
    score : Callable[[], float | None]
        Function that gives the target accuracy as the networks stand, None where it is not known.
    best : bool, optional
        Whether to keep the epoch with the highest accuracy instead of the last.

    Returns
    -------
    dict[str, Any]
        Facts: name, title, epochs, loss and accuracy.

    Raises
    ------
    RunError
        When the loss is no number any more.
    """
    tensors, state = run.load(stage.name) or ({}, {"done": 0})
    done, loss, highest = int(state["done"]), state.get("loss"), state.get("highest")
    if tensors:
        _restore(stage, tensors)
    if state.get(
        "finished"
    ):  # of another run: its accuracy was that of another target or other shots
        return (
            {**state["facts"], "accuracy": score()} if state.get("taken") else dict(state["facts"])
        )
    chosen = {name: value for name, value in tensors.items() if name.startswith("best.")}
    every = 1 if best else max(1, math.ceil(stage.epochs / POINTS))
    saved = time.monotonic()
    for number in run.progress(range(done, stage.epochs), stage.title):
        with run.timer(stage.name):
            loss = stage.epoch(number)
        if not math.isfinite(loss):
            raise RunError(
                f"stage {stage.title}: the loss is {loss} in epoch {number + 1}; lower its "
                "learning rate"
            )
        due = (
            stage.moves and (number + 1) % every == 0 and number + 1 < stage.epochs
        )  # the last one's is taken below
        accuracy = score() if due or best else None
        if best and accuracy is not None and (highest is None or accuracy > highest):
            highest, chosen = (
                accuracy,
                {f"best.{name}": t.clone() for name, t in _weights(stage).items()},
            )
        run.log(phase=stage.name, step=number, loss=loss, accuracy=accuracy)
        if time.monotonic() - saved > SAVE_SECONDS and number + 1 < stage.epochs:
            state = {"done": number + 1, "loss": loss, "highest": highest}
            run.save(stage.name, _weights(stage) | _momenta(stage) | chosen, state)
            saved = time.monotonic()
    if chosen:
        _restore(stage, {name.removeprefix("best."): value for name, value in chosen.items()})
    stage.finish()
    facts = {
        "name": stage.name,
        "title": stage.title,
        "epochs": stage.epochs,
        "loss": loss,
        "accuracy": score(),
    }
    run.save(
        stage.name,
        _weights(stage),
        {"done": stage.epochs, "finished": True, "facts": facts, **stage.record},
    )
    return facts


def take_over(stage: Stage, folder: Path, run: Run, *, required: bool) -> bool:
    """Give a run the finished stage of another one; return whether it could.

    Parameters
    ----------
    stage : Stage
        The stage to take over.
    folder : Path
        Folder of the other run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    required : bool
        Whether it is an error where that run does not fit.

    Raises
    ------
    UserError
        Where required, when that run has none, or of other data, networks or options.
    """
    if run.load(stage.name) is not None:
        return True
    runfolder.read(folder)
    found = checkpoint.load(folder / runfolder.CHECKPOINTS / f"{stage.name}.safetensors")
    if found is None or not found[1].get("finished"):
        if required:
            raise UserError(
                f"`start` {folder}: has no finished {stage.name!r}; expected a run of one of these "
                "methods"
            )
        return False
    tensors, state = found
    for what, value in stage.record.items():
        if state.get(what) != value:
            if required:
                raise UserError(
                    f"`start` {folder}: its {what} is {state.get(what)}; expected {value}; leave "
                    "`start` out"
                )
            return False
    run.save(stage.name, tensors, state | {"taken": True})
    return True


def _weights(stage: Stage) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, module in stage.modules.items():
        found |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    return found


def _momenta(stage: Stage) -> dict[str, Tensor]:
    return {
        f"optimiser{place}.{index}.{key}": value
        for place, optimiser in enumerate(stage.optimisers)
        for index, values in optimiser.state_dict()["state"].items()
        for key, value in values.items()
    }


def _restore(stage: Stage, tensors: Mapping[str, Tensor]) -> None:
    for name, module in stage.modules.items():
        prefix = f"{name}."
        module.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
    for place, optimiser in enumerate(stage.optimisers):
        values: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(f"optimiser{place}."):
                _, index, key = name.split(".")
                values.setdefault(int(index), {})[key] = value
        if values:
            optimiser.load_state_dict({**optimiser.state_dict(), "state": values})


def batches(n: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """Shuffle places 0 to n - 1 into batches.

    What is left over is spread over them, none is dropped.

    So no batch is so small that its statistics or covariance are undefined.

    Parameters
    ----------
    n : int
        Number of places.
    size : int
        Least places in a batch, where n allows.
    generator : torch.Generator
        Source of random numbers, on the CPU.

    Returns
    -------
    list[Tensor]
        Batches of places.
    """
    return list(torch.randperm(n, generator=generator).tensor_split(max(1, n // size)))


def step(optimiser: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """Make one step down the loss and return its value."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.detach()

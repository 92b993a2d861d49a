"""Fit a trainer on the kit's data as ``cryoet run`` does, interrupt it, and compare what
comes out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from cryoet_core.plugins.interfaces import Trainer
from cryoet_core.testing import data as kit_data
from cryoet_core.testing.answers import Answer, answer_of

if TYPE_CHECKING:
    from cryoet_core.plugins.config import Config
    from cryoet_core.runs.run import Run

TrainerClass = type[Trainer]
Paths = Mapping[str, Path]


class Skip(SkipTest):
    """A check does not apply; the message says why. pytest and unittest count it as skipped."""


class Interrupted(BaseException):
    """Stands for the crash in the resume check; no method catches it."""


@dataclass(frozen=True)
class Fit:
    """What one fit left: the answer for the subject, the run's folder, and how often it saved or
    logged.
    """

    answer: Answer
    folder: Path
    events: int


def config_of(trainer: TrainerClass) -> Config:
    """The configuration for the kit's data: the fast preset with the trainer's ``tiny`` options."""
    return trainer.Config.from_layers("fast", {}, trainer.tiny)


def write_inputs(trainer: TrainerClass, folder: Path) -> Paths:
    """One file for each input of the trainer, each with other noise."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for seed, (name, spec) in enumerate(trainer.inputs.items()):
        path = folder / f"{name}.h5"
        if spec.kind == "tomograms":
            paths[name] = kit_data.write_tomograms(path, seed=seed)
        else:
            paths[name] = kit_data.write_subtomograms(path, trainer.tiny_box, seed=seed)
    return paths


def opened(trainer: TrainerClass, paths: Paths, *, hide: bool = True) -> dict[str, Any]:
    """The inputs as ``fit`` gets them; ``hide=False`` leaves labels that the core would take
    away.
    """
    from cryoet_core.runs.inputs import open_inputs, what_it_may_see

    data = open_inputs(trainer, {name: [path] for name, path in paths.items()})
    return what_it_may_see(trainer, data) if hide else data


def subject(trainer: TrainerClass, inputs: Mapping[str, Any]) -> Any:
    """The data that the run labels or picks in."""
    from cryoet_core.runs.inputs import subject_name

    return inputs[subject_name(trainer, inputs)]


def start(trainer: TrainerClass, paths: Paths, folder: Path) -> Run:
    """A new run on the CPU."""
    from cryoet_core.runs.run import Run

    given = {name: [path] for name, path in paths.items()}
    return Run.create(
        trainer.name, config_of(trainer), given, folder, seed=1, device="cpu", quiet=True
    )


def fit(
    trainer: TrainerClass, run: Run, inputs: Mapping[str, Any], *, stop_after: int | None = None
) -> Fit:
    """Fit, then label the subject or pick in it.

    With ``stop_after`` n, ``Interrupted`` is raised once it saved or logged n times.
    """
    events = _count_events(run, stop_after)
    try:
        learnt = trainer(config_of(trainer)).fit(inputs, run)
        answer = answer_of(learnt, subject(trainer, inputs), run)
    except BaseException as error:
        run.fail(str(error))
        raise
    run.finish()
    return Fit(answer, run.dir, len(events))


def _count_events(run: Run, stop_after: int | None) -> list[str]:
    """Note each ``run.save`` and ``run.log`` from now on, and raise after the n-th."""
    events: list[str] = []

    def watched(name: str) -> Any:
        original = getattr(run, name)

        def call(*arguments: Any, **values: Any) -> None:
            original(*arguments, **values)
            events.append(name)
            if len(events) == stop_after:
                raise Interrupted(f"after {len(events)} calls of Run.save and Run.log")

        return call

    for name in ("save", "log"):
        setattr(run, name, watched(name))
    return events


@lru_cache(maxsize=8)
def base_fit(trainer: TrainerClass, workdir: Path) -> tuple[Fit, Paths]:
    """The uninterrupted fit that the checks of one method share."""
    folder = Path(tempfile.mkdtemp(dir=workdir, prefix="base-"))
    paths = write_inputs(trainer, folder)
    return fit(trainer, start(trainer, paths, folder / "run"), opened(trainer, paths)), paths


def reopened(trainer: TrainerClass, folder: Path) -> tuple[Any, Run]:
    """What a new trainer loads from a run's folder alone."""
    from cryoet_core.runs.run import Run

    run = Run.open(folder, config=config_of(trainer), device="cpu", quiet=True)
    return trainer(config_of(trainer)).load(run), run

"""Fit a trainer on the kit's data as ``cryoet run`` does, interrupt it, and compare what comes out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import numpy as np

from cryoet_core.interfaces import Labeller, Labels, Trainer
from cryoet_core.testing import data as kit_data

if TYPE_CHECKING:
    from cryoet_core.config import Config
    from cryoet_core.run import Run
    from cryoet_core.store import Subtomograms

TrainerClass = type[Trainer]
Paths = Mapping[str, Path]


class Skip(SkipTest):
    """A check does not apply; the message says why. pytest and unittest count it as skipped."""


class Interrupted(BaseException):
    """Stands for the crash in the resume check; no method catches it."""


@dataclass(frozen=True)
class Fit:
    """What one fit left: the labels of the subject, the run's folder, and how often it saved or logged."""

    labels: Labels
    folder: Path
    events: int


def config_of(trainer: TrainerClass) -> Config:
    """The configuration for the kit's data: the fast preset with the trainer's ``tiny`` options."""
    return trainer.Config.from_layers("fast", {}, trainer.tiny)


def write_inputs(trainer: TrainerClass, folder: Path) -> Paths:
    """One file for each input of the trainer, each with other noise."""
    unknown = sorted({spec.kind for spec in trainer.inputs.values()} - {"subtomograms"})
    if unknown:
        raise Skip(f"the kit has no data of kind {', '.join(unknown)}")
    folder.mkdir(parents=True, exist_ok=True)
    names = enumerate(trainer.inputs)
    return {n: kit_data.write_subtomograms(folder / f"{n}.h5", trainer.tiny_box, seed=i) for i, n in names}


def opened(trainer: TrainerClass, paths: Paths, *, hide: bool = True) -> dict[str, Subtomograms]:
    """The inputs as ``fit`` gets them; ``hide=False`` leaves labels that the core would take away."""
    from cryoet_core.inputs import open_inputs, what_it_may_see

    data = open_inputs(trainer, {name: [path] for name, path in paths.items()})
    return what_it_may_see(trainer, data) if hide else data


def subject(trainer: TrainerClass, inputs: Mapping[str, Any]) -> Any:
    """The data that the run labels."""
    from cryoet_core.inputs import subject_name

    return inputs[subject_name(trainer, inputs)]


def start(trainer: TrainerClass, paths: Paths, folder: Path) -> Run:
    """A new run on the CPU."""
    from cryoet_core.run import Run

    given = {name: [path] for name, path in paths.items()}
    return Run.create(trainer.name, config_of(trainer), given, folder, seed=1, device="cpu", quiet=True)


def fit(trainer: TrainerClass, run: Run, inputs: Mapping[str, Any], *, stop_after: int | None = None) -> Fit:
    """Fit and label the subject. With ``stop_after`` n, ``Interrupted`` is raised once it saved or logged n times."""
    events = _count_events(run, stop_after)
    try:
        learnt = trainer(config_of(trainer)).fit(inputs, run)
        labels = labels_of(learnt, subject(trainer, inputs), run)
    except BaseException as error:
        run.fail(str(error))
        raise
    run.finish()
    return Fit(labels, run.dir, len(events))


def labels_of(learnt: Any, data: Any, run: Run) -> Labels:
    """What a labeller says of the data. Skip for a picker."""
    if not isinstance(learnt, Labeller):
        raise Skip("the method returns no labeller (an object with `classes` and `label`)")
    return learnt.label(data, run)


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
    from cryoet_core.run import Run

    run = Run.open(folder, config=config_of(trainer), device="cpu", quiet=True)
    return trainer(config_of(trainer)).load(run), run


def difference(a: Labels, b: Labels, tolerance: float = 1e-5) -> str | None:
    """How two answers differ, in words; None when they agree (probabilities and embedding within ``tolerance``)."""
    if a.classes != b.classes:
        return f"classes {a.classes} and {b.classes}"
    if len(a) != len(b):
        return f"{len(a)} and {len(b)} labels"
    differ = int((a.labels != b.labels).sum())
    if differ:
        return f"{differ} of {len(a)} labels differ"
    pairs = [("probabilities", a.probabilities, b.probabilities)]
    if a.embedding is not None and b.embedding is not None:
        pairs.append(("embedding", a.embedding, b.embedding))
    for name, one, other in pairs:
        if one.shape != other.shape:
            return f"{name} of shapes {one.shape} and {other.shape}"
        largest = float(np.abs(one - other).max(initial=0.0))
        if not largest <= tolerance * max(1.0, float(np.abs(one).max(initial=0.0))):
            return f"{name} differ by up to {largest:.2g}"
    return None

"""Fit a trainer on the kit's data as ``cryoet run`` does, interrupt it, and compare what
comes out.
"""

from __future__ import annotations

import io
import os
import random
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import numpy as np

from cryoet_core.plugins.interfaces import Trainer
from cryoet_core.testing import data as kit_data
from cryoet_core.testing.answers import Answer, answer_of, difference
from cryoet_core.testing.spies import Seen, watched_devices, watched_draws

if TYPE_CHECKING:
    from cryoet_core.plugins.config import Config
    from cryoet_core.runs.run import Run

TrainerClass = type[Trainer]
Paths = Mapping[str, Path]
FIT_FAILED = "the tiny fit failed"


class Skip(SkipTest):
    """A check does not apply; the message says why. pytest and unittest count it as skipped."""


class Interrupted(BaseException):
    """Stands for the crash in the resume check; no method catches it."""


@dataclass
class Manners:
    """What a fit did beside its work.

    Attributes
    ----------
    printed : str
        What it wrote to standard output.
    left : list of str
        What it left in the working folder.
    seeded : list of str
        The global generators that it seeded itself.
    threads : tuple of int
        The number of torch's threads before and after.
    seen : Seen
        Where it computed, and how it drew random numbers.
    """

    printed: str = ""
    left: list[str] = field(default_factory=list)
    seeded: list[str] = field(default_factory=list)
    threads: tuple[int, int] = (0, 0)
    seen: Seen = field(default_factory=Seen)


@dataclass(frozen=True)
class Fit:
    """What one fit left: the answer for the subject, the run's folder, and how often it saved or
    logged.
    """

    answer: Answer
    folder: Path
    events: int
    saves: int = 0
    manners: Manners = field(default_factory=Manners)


def config_of(trainer: TrainerClass) -> Config:
    """The configuration for the kit's data: the fast preset with the trainer's ``tiny`` options."""
    return trainer.Config.from_layers("fast", {}, trainer.tiny)


def write_inputs(trainer: TrainerClass, folder: Path, *, wrong: Collection[str] = ()) -> Paths:
    """Write one file for each input of the trainer, each with other noise.

    Parameters
    ----------
    trainer : type of Trainer
        The method.
    folder : Path
        Where the files go; it is made.
    wrong : collection of str
        Inputs of which labels or picks are wrong.

    Returns
    -------
    mapping of str to Path
        A file for each input.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for seed, (name, spec) in enumerate(trainer.inputs.items()):
        path = folder / f"{name}.h5"
        if spec.kind == "tomograms":
            paths[name] = kit_data.write_tomograms(path, seed=seed, wrong=name in wrong)
        else:
            paths[name] = kit_data.write_subtomograms(
                path, trainer.tiny_box, seed=seed, wrong=name in wrong
            )
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


def start(trainer: TrainerClass, paths: Paths, folder: Path, *, seed: int = 1) -> Run:
    """Make a new run on the CPU.

    Parameters
    ----------
    trainer : type of Trainer
        The method.
    paths : mapping of str to Path
        A file for each input.
    folder : Path
        The run's folder, which must not exist.
    seed : int
        The run's seed.

    Returns
    -------
    Run
        The run, started.
    """
    from cryoet_core.runs.run import Run

    given = {name: [path] for name, path in paths.items()}
    return Run.create(
        trainer.name, config_of(trainer), given, folder, seed=seed, device="cpu", quiet=True
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
    return Fit(answer, run.dir, len(events), events.count("save"))


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
def second_fit(trainer: TrainerClass, workdir: Path) -> str | None:
    """How a second fit with the same seed differs from the first; None when it does not."""
    fitted, paths = base_fit(trainer, workdir)
    np.random.seed(12345)  # noqa: NPY002 (what must not matter)
    again = fit(trainer, start(trainer, paths, workdir / "again"), opened(trainer, paths))
    return difference(fitted.answer, again.answer)


def need_repeatable(trainer: TrainerClass, workdir: Path) -> None:
    """Skip a check that compares two fits where two equal fits differ already."""
    if second_fit(trainer, workdir) is not None:
        raise Skip("two fits with one seed differ (check_seed), so this cannot be judged")


_failed: set[tuple[TrainerClass, Path]] = set()


@lru_cache(maxsize=8)
def base_fit(trainer: TrainerClass, workdir: Path) -> tuple[Fit, Paths]:
    """The uninterrupted fit that the checks of one method share; after it failed once, Skip."""
    if not trainer.inputs:
        raise Skip("no input is declared")
    if (trainer, workdir) in _failed:
        raise Skip(FIT_FAILED)
    folder = Path(tempfile.mkdtemp(dir=workdir, prefix="base-"))
    paths = write_inputs(trainer, folder)
    run, inputs = start(trainer, paths, folder / "run"), opened(trainer, paths)
    try:
        with watched_manners(folder / "working folder") as manners:
            fitted = fit(trainer, run, inputs)
    except Exception:
        _failed.add((trainer, workdir))
        raise
    return replace(fitted, manners=manners), paths


@contextmanager
def watched_manners(folder: Path) -> Iterator[Manners]:
    """Watch what the block prints, seeds, changes and leaves in its working folder."""
    import torch

    folder.mkdir(parents=True)
    manners, printed = Manners(), io.StringIO()
    home, threads = Path.cwd(), torch.get_num_threads()
    with ExitStack() as stack:
        stack.callback(os.chdir, home)
        os.chdir(folder)
        known = stack.enter_context(_seeds_of_the_run())
        for owner, name in ((torch, "manual_seed"), (np.random, "seed"), (random, "seed")):
            stack.enter_context(_noted(owner, name, manners.seeded, known))
        stack.enter_context(redirect_stdout(printed))
        stack.enter_context(watched_draws(manners.seen))
        stack.enter_context(watched_devices(manners.seen))
        yield manners
        manners.printed = printed.getvalue()
        manners.threads = threads, torch.get_num_threads()
        manners.left = sorted(entry.name for entry in folder.iterdir())
        torch.set_num_threads(threads)


@contextmanager
def _seeds_of_the_run() -> Iterator[set[int]]:
    """Collect the seeds that ``Run.generator`` derives from the run's: networks may start from one,
    the same in every process.
    """
    from cryoet_core.runs.run import Run

    original, found = Run.generator, set[int]()

    def generator(self: Run, *key: str | int) -> Any:
        made = original(self, *key)
        found.add(made.initial_seed())
        return made

    Run.generator = generator  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Run.generator = original  # type: ignore[method-assign]


@contextmanager
def _noted(owner: Any, name: str, calls: list[str], known: set[int]) -> Iterator[None]:
    """Note calls of a function that seeds a global generator with a number that is not the run's,
    but those of ``Run.reseed``.
    """
    original = getattr(owner, name)

    def call(*arguments: Any, **values: Any) -> Any:
        caller = sys._getframe(1).f_code.co_filename
        ours = caller.endswith(os.path.join("cryoet_core", "runs", "run.py"))
        if not ours and not (arguments and arguments[0] in known):
            calls.append(f"{owner.__name__}.{name}")
        return original(*arguments, **values)

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, original)


def reopened(trainer: TrainerClass, folder: Path) -> tuple[Any, Run]:
    """What a new trainer loads from a run's folder alone."""
    from cryoet_core.runs.run import Run

    run = Run.open(folder, config=config_of(trainer), device="cpu", quiet=True)
    return trainer(config_of(trainer)).load(run), run

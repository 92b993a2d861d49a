"""The checks. Each takes a trainer class and an empty folder; it returns, or raises Failure or Skip with the reason."""

from __future__ import annotations

import contextlib
import hashlib
import json
import typing
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cryoet_core.errors import RunError, UserError
from cryoet_core.interfaces import InputSpec, Kind, Labels
from cryoet_core.testing import data as kit_data
from cryoet_core.testing import harness
from cryoet_core.testing.harness import Interrupted, Skip, TrainerClass

Check = Callable[[TrainerClass, Path], None]
CHECKS: list[Check] = []


class Failure(AssertionError):
    """The method breaks a rule; the message says which and how."""


def require(good: bool, reason: str) -> None:
    """Fail with the reason unless ``good``. (``assert`` would vanish under ``python -O``.)"""
    if not good:
        raise Failure(reason)


def registered(check: Check) -> Check:
    """Add a check to the kit, in the order of this file."""
    CHECKS.append(check)
    return check


@registered
def check_name(trainer: TrainerClass, workdir: Path) -> None:
    """The entry point has the method's name and leads to this class."""
    from cryoet_core.plugins import load_trainer

    try:
        found = load_trainer(trainer.name)
    except UserError as error:
        raise Failure(str(error)) from error
    require(found is trainer, f"the entry point {trainer.name!r} leads to {found.__module__}.{found.__qualname__}")


@registered
def check_config(trainer: TrainerClass, workdir: Path) -> None:
    """Config builds bare and with each preset, survives JSON and describes every field."""
    from cryoet_core.config import Config

    require(issubclass(trainer.Config, Config), "Config is not a subclass of cryoet_core.config.Config")
    try:
        configs = [trainer.Config()] + [trainer.Config.from_layers(preset, {}, {}) for preset in trainer.Config.presets]
    except (UserError, ValueError) as error:
        raise Failure(f"Config cannot be built from defaults and presets: {error}") from error
    for config in configs:
        again = trainer.Config.model_validate(json.loads(config.model_dump_json()))
        require(again == config, f"Config is not the same after JSON: {config!r} became {again!r}")
    bare = [name for name, info in trainer.Config.model_fields.items() if not (info.description or "").strip()]
    require(not bare, f"Config fields without a description: {', '.join(bare)}")


@registered
def check_inputs(trainer: TrainerClass, workdir: Path) -> None:
    """The declared inputs are sound, and a file of another kind gets one clear line."""
    from cryoet_core.inputs import open_inputs

    require(len(trainer.inputs) > 0, "no input is declared")
    for name, spec in trainer.inputs.items():
        require(isinstance(spec, InputSpec), f"input {name!r} is a {type(spec).__name__}, not an InputSpec")
        require(bool(spec.help.strip()), f"input {name!r} has no help text")
        known = {"kind": typing.get_args(Kind), "labels": ("never", "optional", "required")}
        for part, allowed in known.items():
            found = getattr(spec, part)
            require(found in allowed, f"input {name!r} has {part} {found!r}; expected one of {', '.join(allowed)}")
    paths = harness.write_inputs(trainer, workdir / "data")
    for name in paths:
        wrong = kit_data.write_other_kind(workdir / f"tomograms-{name}.h5")
        given = {**{other: [path] for other, path in paths.items()}, name: [wrong]}
        try:
            open_inputs(trainer, given)
        except UserError as error:
            require(wrong.name in str(error), f"the error about {wrong.name} does not name it: {error}")
        else:
            raise Failure(f"input {name!r} took {wrong.name}, a file of another kind")


@registered
def check_fit(trainer: TrainerClass, workdir: Path) -> None:
    """A tiny fit on the CPU works and labels every volume soundly."""
    fitted, _ = harness.base_fit(trainer, workdir)
    labels, n = fitted.labels, kit_data.PER_CLASS * len(kit_data.CLASS_NAMES)
    _check_labels(labels, n)
    require(fitted.events > 0, "fit neither saved a checkpoint nor logged anything")


def _check_labels(labels: Labels, n: int) -> None:
    k = len(labels.classes)
    require(labels.labels.shape == (n,), f"labels have shape {labels.labels.shape}; expected ({n},)")
    require(labels.labels.dtype.kind == "i", f"labels are {labels.labels.dtype}; expected int64")
    probabilities = labels.probabilities
    require(probabilities.shape == (n, k), f"probabilities have shape {probabilities.shape}; expected ({n}, {k})")
    require(bool(np.isfinite(probabilities).all()), "probabilities are not finite")
    require(bool((probabilities >= 0).all()), "probabilities are negative")
    off = float(np.abs(probabilities.sum(axis=1) - 1).max())
    require(off < 1e-3, f"probabilities do not sum to 1 (off by {off:.2g})")
    low, high = int(labels.labels.min()), int(labels.labels.max())
    require(low >= -1 and high < k, f"labels reach from {low} to {high}; expected -1 to {k - 1}")
    given = labels.labels >= 0
    own = probabilities[np.flatnonzero(given), labels.labels[given]]
    require(bool((own >= probabilities[given].max(axis=1) - 1e-6).all()), "a label is not the most probable class")
    require(len(set(labels.classes)) == k, f"class names repeat: {labels.classes}")


@registered
def check_load(trainer: TrainerClass, workdir: Path) -> None:
    """What ``load`` rebuilds from the run's folder labels as what ``fit`` returned did."""
    fitted, paths = harness.base_fit(trainer, workdir)
    learnt, run = harness.reopened(trainer, fitted.folder)
    labels = harness.labels_of(learnt, harness.subject(trainer, harness.opened(trainer, paths)), run)
    different = harness.difference(fitted.labels, labels)
    require(different is None, f"after load: {different}")


@registered
def check_seed(trainer: TrainerClass, workdir: Path) -> None:
    """The same seed gives the same output."""
    fitted, paths = harness.base_fit(trainer, workdir)
    np.random.seed(12345)  # noqa: NPY002  a method must not lean on this
    again = harness.fit(trainer, harness.start(trainer, paths, workdir / "again"), harness.opened(trainer, paths))
    different = harness.difference(fitted.labels, again.labels)
    require(different is None, f"two fits with one seed: {different}")


@registered
def check_inputs_unchanged(trainer: TrainerClass, workdir: Path) -> None:
    """Fitting and labelling leave the files and the opened data as they were."""
    harness.base_fit(trainer, workdir)
    paths = harness.write_inputs(trainer, workdir / "to keep")
    inputs = harness.opened(trainer, paths, hide=False)

    def state() -> dict[str, str]:
        found: dict[str, str] = {}
        for name, path in paths.items():
            parts = {"file": path.read_bytes(), "volumes": inputs[name].read(slice(None)).tobytes()}
            parts |= {"labels": inputs[name].labels.tobytes(), "class names": repr(inputs[name].class_names).encode()}
            found |= {f"{part} of {name!r}": hashlib.sha256(content).hexdigest() for part, content in parts.items()}
        return found

    before = state()
    harness.fit(trainer, harness.start(trainer, paths, workdir / "kept"), inputs)
    changed = [what for what, digest in state().items() if digest != before[what]]
    require(not changed, f"the method changed the {', '.join(changed)}")


@registered
def check_one_by_one(trainer: TrainerClass, workdir: Path) -> None:
    """A volume's label does not depend on its company (it would with BatchNorm in training mode)."""
    fitted, paths = harness.base_fit(trainer, workdir)
    learnt, run = harness.reopened(trainer, fitted.folder)
    data = harness.subject(trainer, harness.opened(trainer, paths))
    batch = harness.labels_of(learnt, data, run)
    for index in range(0, len(data), max(1, len(data) // 6)):
        chosen = np.array([index])
        alone = harness.labels_of(learnt, data.subset(chosen), run)
        different = harness.difference(_rows(batch, chosen), alone, tolerance=1e-3)
        require(different is None, f"volume {index} alone and in a batch: {different}")
    order = np.arange(len(data))[::-1].copy()
    different = harness.difference(_rows(batch, order), harness.labels_of(learnt, data.subset(order), run), 1e-3)
    require(different is None, f"the same volumes in reverse order: {different}")


def _rows(labels: Labels, indices: np.ndarray) -> Labels:
    embedding = None if labels.embedding is None else labels.embedding[indices]
    return Labels(labels.labels[indices], labels.probabilities[indices], labels.classes, embedding)


@registered
def check_labels_unseen(trainer: TrainerClass, workdir: Path) -> None:
    """Of an input declared ``labels="never"``, labels change nothing, even when they are there to be seen."""
    if all(spec.labels != "never" for spec in trainer.inputs.values()):
        raise Skip("every input may have labels")
    fitted, paths = harness.base_fit(trainer, workdir)
    visible = harness.opened(trainer, paths, hide=False)
    seen = harness.fit(trainer, harness.start(trainer, paths, workdir / "labels seen"), visible)
    different = harness.difference(fitted.labels, seen.labels)
    require(different is None, f"with labels in sight: {different}")


@registered
def check_resume(trainer: TrainerClass, workdir: Path) -> None:
    """A fit that is interrupted anywhere and resumed ends as an uninterrupted one, with the same rows of metrics."""
    from cryoet_core.run import Run

    fitted, paths = harness.base_fit(trainer, workdir)
    expected = _steps(fitted.folder)
    last = fitted.events
    for stop in sorted({1, 2, (last + 1) // 2, last - 1, last} - {0, last + 1}):
        where = f"interrupted after {stop} of {last} calls of Run.save and Run.log, then resumed"
        run = harness.start(trainer, paths, workdir / f"stopped {stop}")
        with contextlib.suppress(Interrupted):
            harness.fit(trainer, run, harness.opened(trainer, paths), stop_after=stop)
            raise Failure(f"a second fit with the same seed made fewer than {stop} calls of Run.save and Run.log")
        run = Run.resume(run.dir, config=harness.config_of(trainer), quiet=True)
        try:
            resumed = harness.fit(trainer, run, harness.opened(trainer, paths))
        except Exception as error:
            raise Failure(f"{where}: {error!r}") from error
        different = harness.difference(fitted.labels, resumed.labels)
        require(different is None, f"{where}: {different}")
        found = _steps(run.dir)
        require(
            found == expected,
            f"{where}: metrics.jsonl has the steps {found}; expected {expected}; log a step before its checkpoint",
        )


def _steps(folder: Path) -> list[tuple[object, object]]:
    from cryoet_core.run import Run

    return [(row.get("phase"), row["step"]) for row in Run.open(folder).metrics() if "step" in row]


@registered
def check_awkward_data(trainer: TrainerClass, workdir: Path) -> None:
    """Two volumes, a box of 4 voxels, noise alone: an answer, or one clear line; never another exception."""
    harness.base_fit(trainer, workdir)
    for what, box, n in (
        ("two volumes", trainer.tiny_box, 2),
        ("a box of 4 voxels", 4, 36),
        ("noise", trainer.tiny_box, 36),
    ):
        folder = workdir / what
        folder.mkdir()
        paths = {name: kit_data.write_noise(folder / f"{name}.h5", box, n) for name in trainer.inputs}
        try:
            fitted = harness.fit(trainer, harness.start(trainer, paths, folder / "run"), harness.opened(trainer, paths))
            _check_labels(fitted.labels, n)
        except (UserError, RunError) as error:
            require("\n" not in str(error).strip(), f"{what}: the error has more than one line: {error}")
        except (Failure, Skip) as error:
            raise type(error)(f"{what}: {error}") from error
        except Exception as error:
            raise Failure(f"{what}: {type(error).__name__}: {error}; expected an answer or a UserError") from error

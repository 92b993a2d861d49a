"""The checks. Each takes a trainer class and an empty folder; it returns, or raises Failure or Skip
with the reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.picks.table import Picks
from cryoet_core.plugins.interfaces import InputSpec, Kind, Labels
from cryoet_core.support.errors import RunError, UserError
from cryoet_core.testing import data as kit_data
from cryoet_core.testing import encoders, harness, learning
from cryoet_core.testing.answers import answer_of, difference, picks_of
from cryoet_core.testing.failure import Failure, require
from cryoet_core.testing.harness import Interrupted, Skip, TrainerClass
from cryoet_core.testing.spies import watched_batches

Check = Callable[[TrainerClass, Path], None]
CHECKS: list[Check] = []


LEAST_ON_DEVICE = 0.2
"""Of the numbers that products and convolutions take; the rest may be small work on the host."""


def registered(check: Check) -> Check:
    """Add a check to the kit, in the order of this file."""
    CHECKS.append(check)
    return check


@registered
def check_name(trainer: TrainerClass, workdir: Path) -> None:
    """The entry point has the method's name and leads to this class."""
    from cryoet_core.plugins.discovery import load_trainer

    try:
        found = load_trainer(trainer.name)
    except UserError as error:
        raise Failure(str(error)) from error
    require(
        found is trainer,
        f"the entry point {trainer.name!r} leads to {found.__module__}.{found.__qualname__}",
    )


@registered
def check_config(trainer: TrainerClass, workdir: Path) -> None:
    """Config builds bare and with each preset, survives JSON and describes every field."""
    from cryoet_core.plugins.config import Config

    require(
        issubclass(trainer.Config, Config),
        "Config is not a subclass of cryoet_core.plugins.config.Config",
    )
    try:
        configs = [trainer.Config()] + [
            trainer.Config.from_layers(preset, {}, {}) for preset in trainer.Config.presets
        ]
    except (UserError, ValueError) as error:
        raise Failure(f"Config cannot be built from defaults and presets: {error}") from error
    for config in configs:
        again = trainer.Config.model_validate(json.loads(config.model_dump_json()))
        require(again == config, f"Config is not the same after JSON: {config!r} became {again!r}")
    bare = [
        name
        for name, info in trainer.Config.model_fields.items()
        if not (info.description or "").strip()
    ]
    require(not bare, f"Config fields without a description: {', '.join(bare)}")


@registered
def check_inputs(trainer: TrainerClass, workdir: Path) -> None:
    """The declared inputs are sound, and a file of another kind gets one clear line."""
    from cryoet_core.runs.inputs import open_inputs

    require(len(trainer.inputs) > 0, "no input is declared")
    for name, spec in trainer.inputs.items():
        require(
            isinstance(spec, InputSpec),
            f"input {name!r} is a {type(spec).__name__}, not an InputSpec",
        )
        require(bool(spec.help.strip()), f"input {name!r} has no help text")
        known = {"kind": typing.get_args(Kind), "labels": ("never", "optional", "required")}
        for part, allowed in known.items():
            found = getattr(spec, part)
            require(
                found in allowed,
                f"input {name!r} has {part} {found!r}; expected one of {', '.join(allowed)}",
            )
    paths = harness.write_inputs(trainer, workdir / "data")
    for name in paths:
        wrong = kit_data.write_other_kind(workdir / f"wrong-{name}.h5", trainer.inputs[name].kind)
        given = {**{other: [path] for other, path in paths.items()}, name: [wrong]}
        try:
            open_inputs(trainer, given)
        except UserError as error:
            require(
                wrong.name in str(error), f"the error about {wrong.name} does not name it: {error}"
            )
        else:
            raise Failure(f"input {name!r} took {wrong.name}, a file of another kind")


@registered
def check_fit(trainer: TrainerClass, workdir: Path) -> None:
    """A tiny fit on the CPU works and answers soundly: a label for every volume, or picks inside
    the tomograms.
    """
    fitted, _ = harness.base_fit(trainer, workdir)
    answer = fitted.answer
    if isinstance(answer, Labels):
        _check_labels(answer, kit_data.PER_CLASS * len(kit_data.CLASS_NAMES))
    else:
        _check_picks(answer, kit_data.SHAPE)
        require(len(answer) > 0, "no pick at all in tomograms of a dozen balls each")
    require(fitted.events > 0, "fit neither saved a checkpoint nor logged anything")


def _check_picks(picks: Picks, shape: tuple[int, int, int]) -> None:
    extent = (np.array(shape) - 1) * kit_data.VOXEL_SIZE
    require(bool(np.isfinite(picks.positions).all()), "positions are not finite")
    inside = (picks.positions >= -kit_data.VOXEL_SIZE) & (
        picks.positions <= extent + kit_data.VOXEL_SIZE
    )
    require(
        bool(inside.all()),
        f"{int((~inside).any(1).sum())} picks lie outside the tomogram; expected (z, y, x) in Å",
    )
    require(bool(np.isfinite(picks.scores).all()), "scores are not finite")
    require(bool((picks.classes >= 0).all()), "a pick has no class")
    if picks.rotations is not None:
        turned = picks.rotations @ picks.rotations.transpose(0, 2, 1)
        require(
            bool(np.allclose(turned, np.eye(3), atol=1e-3)), "rotations are not orthogonal matrices"
        )


def _check_labels(labels: Labels, n: int) -> None:
    k = len(labels.classes)
    require(
        labels.labels.shape == (n,), f"labels have shape {labels.labels.shape}; expected ({n},)"
    )
    require(labels.labels.dtype.kind == "i", f"labels are {labels.labels.dtype}; expected int64")
    probabilities = labels.probabilities
    require(
        probabilities.shape == (n, k),
        f"probabilities have shape {probabilities.shape}; expected ({n}, {k})",
    )
    require(
        probabilities.dtype == np.float32,
        f"probabilities are {probabilities.dtype}; expected float32",
    )
    require(bool(np.isfinite(probabilities).all()), "probabilities are not finite")
    require(bool((probabilities >= 0).all()), "probabilities are negative")
    off = float(np.abs(probabilities.sum(axis=1) - 1).max())
    require(off < 1e-3, f"probabilities do not sum to 1 (off by {off:.2g})")
    low, high = int(labels.labels.min()), int(labels.labels.max())
    require(low >= -1 and high < k, f"labels reach from {low} to {high}; expected -1 to {k - 1}")
    given = labels.labels >= 0
    own = probabilities[np.flatnonzero(given), labels.labels[given]]
    require(
        bool((own >= probabilities[given].max(axis=1) - 1e-6).all()),
        "a label is not the most probable class",
    )
    require(len(set(labels.classes)) == k, f"class names repeat: {labels.classes}")


@registered
def check_output(trainer: TrainerClass, workdir: Path) -> None:
    """A fit prints nothing to standard output, which is for what the command reports."""
    manners = harness.base_fit(trainer, workdir)[0].manners
    said = " ".join(manners.printed.split())
    require(not said, f"fit printed to standard output ({said[:60]!r}); use run.say")


@registered
def check_working_folder(trainer: TrainerClass, workdir: Path) -> None:
    """A fit leaves nothing in the working folder; its files belong into the run's folder."""
    left = harness.base_fit(trainer, workdir)[0].manners.left
    require(not left, f"fit left {', '.join(left)} in the working folder; use run.dir")


@registered
def check_global_state(trainer: TrainerClass, workdir: Path) -> None:
    """A fit seeds no global generator by itself and sets no number of threads."""
    manners = harness.base_fit(trainer, workdir)[0].manners
    seeded = ", ".join(dict.fromkeys(manners.seeded))
    require(not seeded, f"fit called {seeded}; use run.generator, or run.reseed for layers")
    before, after = manners.threads
    require(
        before == after,
        f"fit changed the number of threads from {before} to {after}; it is the user's choice",
    )


@registered
def check_load(trainer: TrainerClass, workdir: Path) -> None:
    """What ``load`` rebuilds from the run's folder labels as what ``fit`` returned did."""
    fitted, paths = harness.base_fit(trainer, workdir)
    learnt, run = harness.reopened(trainer, fitted.folder)
    again = answer_of(learnt, harness.subject(trainer, harness.opened(trainer, paths)), run)
    different = difference(fitted.answer, again)
    require(different is None, f"after load: {different}")


@registered
def check_seed(trainer: TrainerClass, workdir: Path) -> None:
    """The same seed gives the same output."""
    different = harness.second_fit(trainer, workdir)
    require(different is None, f"two fits with one seed: {different}")


@registered
def check_seed_used(trainer: TrainerClass, workdir: Path) -> None:
    """A method that draws random numbers draws others with another seed."""
    harness.need_repeatable(trainer, workdir)
    fitted, paths = harness.base_fit(trainer, workdir)
    seen = fitted.manners.seen
    if seen.asked:
        return
    if not seen.draws:
        raise Skip("the method draws no random numbers")
    other = harness.fit(
        trainer,
        harness.start(trainer, paths, workdir / "other seed", seed=2),
        harness.opened(trainer, paths),
    )
    same = difference(fitted.answer, other.answer, tolerance=0) is None
    require(
        not same or not _same_checkpoints(fitted.folder, other.folder),
        f"fit draws random numbers ({', '.join(sorted(set(seen.draws)))}), but seeds 1 and 2 give "
        "the same result; use run.generator, run.reseed or run.seed",
    )


def _same_checkpoints(one: Path, other: Path) -> bool:
    from cryoet_core.runs import checkpoint

    found = []
    for folder in (one, other):
        tensors: dict[tuple[str, str], bytes] = {}
        for path in sorted((folder / "checkpoints").glob("*.safetensors")):
            loaded = checkpoint.load(path)
            assert loaded is not None
            tensors |= {(path.name, name): t.numpy().tobytes() for name, t in loaded[0].items()}
        found.append(tensors)
    return found[0] == found[1]


@registered
def check_device(trainer: TrainerClass, workdir: Path) -> None:
    """What torch computes, it computes on the run's device (followed on the CPU by a spy)."""
    seen = harness.base_fit(trainer, workdir)[0].manners.seen
    total = seen.on_device + seen.elsewhere
    if total == 0:
        raise Skip("the method multiplies and convolves nothing with torch")
    require(
        seen.on_device >= LEAST_ON_DEVICE * total,
        f"only {100 * seen.on_device / total:.0f} % of the products and convolutions were made on "
        "run.device; use run.volumes, or .to(run.device) for networks and data",
    )


@registered
def check_batches(trainer: TrainerClass, workdir: Path) -> None:
    """Predicting does not change the batches that run.volumes hands out."""
    fitted, paths = harness.base_fit(trainer, workdir)
    learnt, run = harness.reopened(trainer, fitted.folder)
    changed: list[str] = []
    with watched_batches(changed):
        run.scratch = workdir / "batches"
        answer_of(learnt, harness.subject(trainer, harness.opened(trainer, paths)), run)
    require(
        not changed,
        f"predicting changed {len(changed)} of its batches in place, first {changed[:1]}; work on "
        "a copy",
    )


@registered
def check_learns(trainer: TrainerClass, workdir: Path) -> None:
    """Easy data gives an answer better than chance, or required labels influence what is learnt."""
    fitted, paths = harness.base_fit(trainer, workdir)
    supervised = [name for name, spec in trainer.inputs.items() if spec.labels == "required"]
    if not supervised:
        truth = harness.subject(trainer, harness.opened(trainer, paths, hide=False))
        if isinstance(fitted.answer, Labels):
            better = learning.labels_beat_chance(fitted.answer, truth.labels)
        else:
            better = learning.picks_beat_chance(fitted.answer, truth.picks, kit_data.SHAPE)
        require(
            better,
            "on easy data the answer is no better than chance; if the method needs longer to "
            "learn, give more in its `tiny` options",
        )
        return
    # a tiny fit of a network may be too short to beat chance, but the labels must have moved it
    harness.need_repeatable(trainer, workdir)
    wrong = harness.write_inputs(trainer, workdir / "wrong labels", wrong=supervised)
    other = harness.fit(
        trainer,
        harness.start(trainer, wrong, workdir / "wrong labels" / "run"),
        harness.opened(trainer, wrong),
    )
    same = difference(fitted.answer, other.answer) is None
    require(
        not same or not _same_checkpoints(fitted.folder, other.folder),
        f"with other labels of `{'`, `'.join(supervised)}` the method learns the same",
    )


@registered
def check_encoders(trainer: TrainerClass, workdir: Path) -> None:
    """Each encoder of the plugin builds for a box and maps volumes to features soundly."""
    names = encoders.names_of(trainer.name)
    if not names:
        raise Skip("the plugin offers no encoder")
    for name in names:
        encoders.check_encoder(name)


@registered
def check_inputs_unchanged(trainer: TrainerClass, workdir: Path) -> None:
    """Fitting and labelling leave the files and the opened data as they were."""
    harness.base_fit(trainer, workdir)
    paths = harness.write_inputs(trainer, workdir / "to keep")
    inputs = harness.opened(trainer, paths, hide=False)

    def state() -> dict[str, str]:
        found: dict[str, str] = {}
        for name, path in paths.items():
            parts = {"file": path.read_bytes(), **_contents(inputs[name])}
            found |= {
                f"{part} of {name!r}": hashlib.sha256(content).hexdigest()
                for part, content in parts.items()
            }
        return found

    before = state()
    harness.fit(trainer, harness.start(trainer, paths, workdir / "kept"), inputs)
    changed = [what for what, digest in state().items() if digest != before[what]]
    require(not changed, f"the method changed the {', '.join(changed)}")


def _contents(data: Any) -> dict[str, bytes]:
    """What a method must leave as it is, in bytes."""
    if data.kind == "subtomograms":
        parts = {"volumes": data.read(slice(None)), "labels": data.labels}
        return {what: values.tobytes() for what, values in parts.items()} | {
            "names": repr(data.class_names).encode()
        }
    return {
        "volumes": b"".join(volume.read().tobytes() for volume in data),
        "picks": data.picks.positions.tobytes(),
    }


@registered
def check_one_by_one(trainer: TrainerClass, workdir: Path) -> None:
    """The answer for a volume does not depend on its company (it would with BatchNorm in training
    mode).
    """
    _, paths = harness.base_fit(trainer, workdir)
    data = harness.subject(trainer, harness.opened(trainer, paths))
    (_tomograms_alone if data.kind == "tomograms" else _volumes_alone)(trainer, workdir, data)


def _volumes_alone(trainer: TrainerClass, workdir: Path, data: Any) -> None:
    fitted, _ = harness.base_fit(trainer, workdir)
    learnt, run = harness.reopened(trainer, fitted.folder)
    batch = answer_of(learnt, data, run)
    assert isinstance(batch, Labels)
    for index in range(0, len(data), max(1, len(data) // 6)):
        chosen = np.array([index])
        alone = answer_of(learnt, data.subset(chosen), run)
        different = difference(_rows(batch, chosen), alone, tolerance=1e-3)
        require(different is None, f"volume {index} alone and in a batch: {different}")
    order = np.arange(len(data))[::-1].copy()
    different = difference(_rows(batch, order), answer_of(learnt, data.subset(order), run), 1e-3)
    require(different is None, f"the same volumes in reverse order: {different}")


def _tomograms_alone(trainer: TrainerClass, workdir: Path, data: Any) -> None:
    fitted, _ = harness.base_fit(trainer, workdir)
    learnt, run = harness.reopened(trainer, fitted.folder)
    run.scratch = workdir / "scratch"
    first = next(iter(data))
    assert isinstance(fitted.answer, Picks)
    for tomogram in reversed(list(data)):
        alone = picks_of(learnt, tomogram, run)
        run.scratch = run.scratch.with_name(f"{run.scratch.name}+")
    different = difference(fitted.answer.within(first.name), alone, tolerance=1e-3)
    require(different is None, f"tomogram {first.name} after another and first: {different}")


def _rows(labels: Labels, indices: np.ndarray) -> Labels:
    embedding = None if labels.embedding is None else labels.embedding[indices]
    return Labels(labels.labels[indices], labels.probabilities[indices], labels.classes, embedding)


@registered
def check_labels_unseen(trainer: TrainerClass, workdir: Path) -> None:
    """Of an input declared ``labels="never"``, labels change nothing, even when they are there to
    be seen.
    """
    if all(spec.labels != "never" for spec in trainer.inputs.values()):
        raise Skip("every input may have labels")
    harness.need_repeatable(trainer, workdir)
    fitted, paths = harness.base_fit(trainer, workdir)
    visible = harness.opened(trainer, paths, hide=False)
    seen = harness.fit(trainer, harness.start(trainer, paths, workdir / "labels seen"), visible)
    different = difference(fitted.answer, seen.answer)
    require(different is None, f"with labels in sight: {different}")


@registered
def check_resume(trainer: TrainerClass, workdir: Path) -> None:
    """A fit that is interrupted anywhere and resumed ends as an uninterrupted one, with the same
    rows of metrics.
    """
    from cryoet_core.runs.run import Run

    harness.need_repeatable(trainer, workdir)
    fitted, paths = harness.base_fit(trainer, workdir)
    expected = _steps(fitted.folder)
    last = fitted.events
    for stop in sorted({1, 2, (last + 1) // 2, last - 1, last} - {0, last + 1}):
        where = f"interrupted after {stop} of {last} calls of Run.save and Run.log, then resumed"
        run = harness.start(trainer, paths, workdir / f"stopped {stop}")
        with contextlib.suppress(Interrupted):
            harness.fit(trainer, run, harness.opened(trainer, paths), stop_after=stop)
            raise Failure(
                f"a second fit with the same seed made fewer than {stop} calls of Run.save and "
                "Run.log"
            )
        run = Run.resume(run.dir, config=harness.config_of(trainer), quiet=True)
        try:
            resumed = harness.fit(trainer, run, harness.opened(trainer, paths))
        except Exception as error:
            raise Failure(f"{where}: {error!r}") from error
        different = difference(fitted.answer, resumed.answer)
        require(different is None, f"{where}: {different}")
        require(
            stop < last or last < 2 or not fitted.saves or resumed.events < last,
            f"{where}: it began from zero ({resumed.events} calls again); begin at the last "
            "checkpoint",
        )
        found = _steps(run.dir)
        require(
            found == expected,
            f"{where}: metrics.jsonl has the steps {found}; expected {expected}; log a step before "
            "its checkpoint",
        )


def _steps(folder: Path) -> list[tuple[object, object]]:
    from cryoet_core.runs.run import Run

    return [(row.get("phase"), row["step"]) for row in Run.open(folder).metrics() if "step" in row]


@registered
def check_awkward_data(trainer: TrainerClass, workdir: Path) -> None:
    """Next to no data, tiny boxes, noise alone: an answer, or one clear line; never another
    exception.
    """
    harness.base_fit(trainer, workdir)
    subtomograms = {
        "two volumes": (trainer.tiny_box, 2),
        "a box of 4 voxels": (4, 36),
        "noise": (trainer.tiny_box, 36),
    }
    tomograms = {
        "noise": kit_data.SHAPE,
        "a tomogram of 4 voxels": (4, 4, 4),
        "one slice": (1, 48, 48),
    }
    picking = harness.subject(trainer, trainer.inputs).kind == "tomograms"
    for what in tomograms if picking else subtomograms:
        folder = workdir / what
        folder.mkdir()
        paths = {}
        for name, spec in trainer.inputs.items():
            path = folder / f"{name}.h5"
            if spec.kind == "tomograms":
                paths[name] = kit_data.write_noise_tomogram(
                    path, tomograms.get(what, kit_data.SHAPE)
                )
            else:
                paths[name] = kit_data.write_noise(
                    path, *subtomograms.get(what, (trainer.tiny_box, 36))
                )
        try:
            fitted = harness.fit(
                trainer,
                harness.start(trainer, paths, folder / "run"),
                harness.opened(trainer, paths),
            )
            if isinstance(fitted.answer, Labels):
                _check_labels(fitted.answer, subtomograms[what][1])
            else:
                _check_picks(fitted.answer, tomograms[what])
        except (UserError, RunError) as error:
            require(
                "\n" not in str(error).strip(), f"{what}: the error has more than one line: {error}"
            )
        except (Failure, Skip) as error:
            raise type(error)(f"{what}: {error}") from error
        except Exception as error:
            raise Failure(
                f"{what}: {type(error).__name__}: {error}; expected an answer or a UserError"
            ) from error

"""From a command to a finished run: what ``cryoet run``, ``resume``, ``predict`` and ``evaluate`` do, without the CLI.

One volume's way: file -> ``open_inputs`` -> ``Trainer.fit`` -> ``Labeller.label`` -> predictions, metrics, report.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoet_core import inputs as opening
from cryoet_core.config import read_config_file, resolve_preset
from cryoet_core.errors import RunError, UserError
from cryoet_core.interfaces import Labeller, Picker
from cryoet_core.plugins import load_trainer

if TYPE_CHECKING:
    from cryoet_core.interfaces import Labels, Trainer
    from cryoet_core.run import Run
    from cryoet_core.store import Subtomograms

current_run: str | None = None
"""The folder of the run in progress, for the line that an interrupted command ends with."""

EVALUATION, AVERAGES = "evaluation.json", "averages"
YARDSTICK_SAMPLE = 5000
"""Of larger data sets the yardstick looks at a random part, so that it stays a matter of seconds."""


def run_method(
    method: str,
    inputs: Mapping[str, Sequence[Path]],
    options: Mapping[str, Any] | None = None,
    *,
    config_file: Path | None = None,
    preset: str = "auto",
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    report: bool = True,
    **run_options: Any,
) -> dict[str, Any]:
    """Run a method on data sets and return the facts of its closing line (see ``_close``).

    ``options``: the method's own, as on the command line; ``run_options``: those of ``Run.create``.
    Raises UserError (wrong input; nothing is written) or RunError (failed on the way; the run folder says so too).
    """
    from cryoet_core import devices
    from cryoet_core.run import Run

    if seed < 0:
        raise UserError(f"--seed {seed}: out of range; expected 0 or more")
    trainer = load_trainer(method)
    chosen = resolve_preset(preset, devices.resolve(device).type == "cuda")
    config = trainer.Config.from_layers(chosen, read_config_file(config_file), options)
    given = {name: [Path(path) for path in paths] for name, paths in inputs.items() if paths}
    data = opening.open_inputs(trainer, given)
    run = Run.create(method, config, given, out, seed=seed, device=device, preset=chosen, **run_options)
    why = f" (auto on {run.device.type})" if preset == "auto" else ""
    run.say(f"{method}: preset {chosen}{why}, device {run.device}, seed {seed}, folder {shown(run.dir)}")
    return _fit_and_close(trainer(config), data, run, report)


def resume_run(folder: Path, *, report: bool = True, **run_options: Any) -> dict[str, Any]:
    """Go on with an interrupted run from its last checkpoint; the facts of its closing line."""
    from cryoet_core.run import Run

    run = Run.resume(folder, **run_options)
    trainer = _trainer_of(run)
    data = opening.open_inputs(type(trainer), run.inputs)
    run.say(f"{run.method}: going on with {shown(run.dir)}")
    return _fit_and_close(trainer, data, run, report)


def predict_run(folder: Path, paths: Sequence[Path], out: Path | None = None, **run_options: Any) -> dict[str, Any]:
    """Label new data with a finished run; predictions.h5 and predictions.star go to the folder ``out``.

    Without ``out`` they go to ``predictions/<name of the first file>`` in the run's folder. UserError when there are
    some already.
    """
    from cryoet_core.predictions import HDF5_NAME, write_predictions

    run, trainer = _open_finished(folder, run_options)
    out = out or run.dir / "predictions" / Path(paths[0]).stem
    if (out / HDF5_NAME).exists() or out.is_file():
        raise UserError(f"--out {shown(out)}: exists already; expected a new folder; choose another name or remove it")
    data = opening.open_input("data", opening.subject_spec(trainer), paths, labels_required=False)
    started = time.monotonic()
    labels = _label(trainer, data, run)
    written = write_predictions(run, labels, data, out)
    facts = {"run": shown(run.dir), "method": run.method, "predictions": shown(written)}
    return facts | _evaluate(labels, data) | _describe(labels) | {"wall_seconds": round(time.monotonic() - started, 3)}


def evaluate_run(folder: Path, paths: Sequence[Path] = (), **run_options: Any) -> dict[str, Any]:
    """Compare a run's labels with the known ones: of its own data as labelled then, or of other data, labelled now."""
    from cryoet_core.predictions import read_predictions

    run, trainer = _open_finished(folder, run_options)
    files = list(paths) or run.inputs[opening.subject_name(type(trainer), run.inputs)]
    data = opening.open_input("data", opening.subject_spec(trainer), files, labels_required=False)
    if not opening.has_labels(data):
        raise UserError(f"{opening.named(files)}: has no class labels, so there is nothing to compare with")
    labels = _label(trainer, data, run) if paths else read_predictions(run.dir).labels
    if len(labels) != len(data):
        raise UserError(f"{opening.named(files)}: {len(data)} subtomograms now, but the run labelled {len(labels)}")
    return {"run": shown(run.dir), "method": run.method} | _evaluate(labels, data)


def report_run(folder: Path) -> Path:
    """Write the report of a run again; its path."""
    from cryoet_core.run import Run

    opened = Run.open(folder).dir
    from cryoet_core.report import write_report

    return write_report(opened)


def shown(path: Path) -> str:
    """A path as short as it can be said: relative to here where it lies below here."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


# ---- the steps -------------------------------------------------------------------------------------------------------


def _fit_and_close(trainer: Trainer, data: Mapping[str, Subtomograms], run: Run, report: bool) -> dict[str, Any]:
    with _recorded(run):
        seen = opening.what_it_may_see(type(trainer), data)
        with run.timer("fit"):
            fitted = trainer.fit(seen, run)
        name = opening.subject_name(type(trainer), data)
        with run.timer("label"):
            labels = _labeller(fitted).label(seen[name], run)
        return _close(run, labels, data[name], report)


def _close(run: Run, labels: Labels, data: Subtomograms, report: bool) -> dict[str, Any]:
    """Write predictions, metrics and report; the facts of the closing line (rank 0 writes, the others wait)."""
    from cryoet_core.predictions import write_predictions

    facts: dict[str, Any] = {}
    if run.rank == 0:
        facts["predictions"] = shown(write_predictions(run, labels, data))
        _write_averages(run, labels, data)
        _write_yardstick(run, data)
        scores = _evaluate(labels, data)
        if scores:
            run.write_json(EVALUATION, scores)
        facts |= scores
    facts |= _describe(labels)
    run.barrier()
    scalars = {key: value for key, value in facts.items() if not isinstance(value, (list, dict))}
    run.finish(data=opening.card(data), **scalars)
    if run.rank:
        return facts
    if report:
        from cryoet_core.report import write_report

        facts["report"] = shown(write_report(run.dir))
    closed = run.facts
    facts |= {"wall_seconds": closed["wall_seconds"], "peak_memory": closed["peak_memory"]}
    return {"run": shown(run.dir), "method": run.method, "preset": run.preset, "seed": run.seed} | facts


def _write_averages(run: Run, labels: Labels, data: Subtomograms) -> None:
    """Averages of the classes, where the method left none of its own.

    Particles are turned back by the poses that the method found (``extra`` rotations and shifts); a method whose
    configuration says ``align_averages`` and that found none gets them from a search; else they are averaged as they
    lie.
    """
    import torch

    from cryoet_core.alignment import aligned_averages
    from cryoet_core.averages import class_averages, write_averages

    folder = run.dir / AVERAGES
    if folder.exists():
        return
    poses: dict[str, Any] = {
        name: torch.from_numpy(labels.extra[name]) for name in ("rotations", "shifts") if name in labels.extra
    }
    wedge: dict[str, Any] = {"tilt_range": data.tilt_range, "tilt_axis": data.tilt_axis}
    wanted = getattr(run.config, "align_averages", "rotations" in poses)
    with run.timer("averages"):
        volumes, k = run.volumes(data), len(labels.classes)
        if wanted and "rotations" not in poses:
            averages, _ = aligned_averages(volumes, labels.labels, k, generator=run.generator("averages"), **wedge)
        else:
            averages = class_averages(volumes, labels.labels, k, **wedge, **(poses if wanted else {}))
        write_averages(folder, averages, labels.classes, data.voxel_size)


def _write_yardstick(run: Run, data: Subtomograms) -> None:
    """The score of ``invariants`` on the same data, beside which every clustering method's own must be read."""
    import numpy as np

    from cryoet_core.yardstick import Yardstick

    if run.method == "invariants" or load_trainer(run.method).task != "clustering" or not opening.has_labels(data):
        return
    if len(data) > YARDSTICK_SAMPLE:
        rows = np.sort(np.random.default_rng(run.seed).choice(len(data), YARDSTICK_SAMPLE, replace=False))
        data = data.subset(rows)
    k_max = min(15, len(data))
    with run.timer("yardstick"):
        fitted, _ = Yardstick.fit(data.without_labels(), run, k_min=min(2, k_max), k_max=k_max)
        run.write_json("yardsticks.json", {"invariants": _evaluate(fitted.label(data.without_labels(), run), data)})


@contextmanager
def _recorded(run: Run) -> Iterator[None]:
    """Keep the folder for the interruption's hint, and note in the folder when the block fails."""
    global current_run
    current_run = shown(run.dir)
    try:
        yield
    except BaseException as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        with suppress(UserError, OSError):  # a full disk: what happened first is what the user must hear
            run.fail(reason)
        raise
    current_run = None


def _open_finished(folder: Path, run_options: Mapping[str, Any]) -> tuple[Run, Trainer]:
    from cryoet_core.run import Run

    run = Run.open(folder, **run_options)
    status = run.facts["status"]
    if status != "done":
        raise UserError(
            f"{shown(run.dir)}: this run is not finished (status {status}); go on with: cryoet resume {folder}"
        )
    return run, _trainer_of(run)


def _trainer_of(run: Run) -> Trainer:
    trainer = load_trainer(run.method)
    return trainer(trainer.Config.from_record(run.record["config"], run.dir / "config.json"))


def _label(trainer: Trainer, data: Subtomograms, run: Run) -> Labels:
    """Labels of new data, without ever showing its labels; a difference from the training data is said aloud."""
    for line in opening.differences(run.facts.get("facts", {}).get("data"), data):
        run.say(f"note: {line}")
    return _labeller(trainer.load(run)).label(data.without_labels(), run)


def _labeller(fitted: Labeller | Picker) -> Labeller:
    if isinstance(fitted, Labeller):
        return fitted
    if isinstance(fitted, Picker):
        raise UserError("this method finds particles in tomograms, which this version of cryoet cannot run")
    raise RunError(f"the method returned a {type(fitted).__name__}; expected an object with classes and label()")


def _describe(labels: Labels) -> dict[str, Any]:
    counts = {name: int((labels.labels == i).sum()) for i, name in enumerate(labels.classes)}
    found = {"n": len(labels), "k": sum(count > 0 for count in counts.values()), "counts": counts}
    unassigned = int((labels.labels < 0).sum())
    return found | ({"unassigned": unassigned} if unassigned else {})


def _evaluate(labels: Labels, data: Subtomograms) -> dict[str, Any]:
    """Metrics against the known labels; empty when there are none."""
    if not opening.has_labels(data):
        return {}
    from cryoet_core.metrics import clustering_report

    return clustering_report(data.labels, labels.labels, data.class_names, labels.classes)

"""Label subtomograms with what a method has learnt.

A run leaves predictions, class averages, metrics and the score of the baseline.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoet_core.plugins.discovery import load_trainer
from cryoet_core.plugins.interfaces import FewShotLabeller, Labeller
from cryoet_core.runs import inputs as opening
from cryoet_core.runs.runfolder import DataCard
from cryoet_core.support.errors import RunError, UserError
from cryoet_core.support.files import shown

if TYPE_CHECKING:
    from cryoet_core.plugins.interfaces import Labels, Trainer
    from cryoet_core.runs.run import Run
    from cryoet_core.store import Subtomograms
    from cryoet_core.tasks.options import PickingOptions

EVALUATION, AVERAGES = "evaluation.json", "averages"
YARDSTICK_SAMPLE = 5000
"""Of larger data sets the baseline takes a random part, so that it stays a matter of seconds."""


def finish(run: Run, fitted: Any, seen: Subtomograms, data: Subtomograms) -> dict[str, Any]:
    """Label the run's data and write everything but the report; rank 0 writes.

    Parameters
    ----------
    run : Run
        The run.
    fitted : Labeller
        What the method has learnt.
    seen : Subtomograms
        The data, without what the method must not see.
    data : Subtomograms
        The same data with its labels.

    Returns
    -------
    dict
        Facts for the closing line.

    Raises
    ------
    RunError
        ``fitted`` is no labeller, or its labels do not fit the data.
    """
    from cryoet_core.runs.predictions import write_predictions

    with run.timer("label"):
        labels = _labeller(fitted).label(seen, run)
    task = task_of(fitted, load_trainer(run.method))
    facts: dict[str, Any] = {"task": task}
    if run.rank == 0:
        facts["predictions"] = shown(write_predictions(run, labels, data))
        _write_averages(run, labels, data)
        if task == "clustering":
            _write_baseline(run, data)
        scores = _evaluate(task, labels, data)
        if scores:
            run.write_json(EVALUATION, scores)
        facts |= scores
    return facts | _describe(labels)


def predict(
    run: Run,
    trainer: Trainer,
    paths: Sequence[Path],
    out: Path | None,
    options: PickingOptions,
    support: Sequence[Path] = (),
) -> dict[str, Any]:
    """Label new data; predictions.h5 and predictions.star go to a new folder.

    Parameters
    ----------
    run : Run
        A finished run.
    trainer : Trainer
        Its method.
    paths : sequence of Path
        The data.
    out : Path or None
        The folder; None for predictions/NAME in that of the run.
    options : PickingOptions
        Must be empty: they are for pickers.
    support : sequence of Path
        A few labelled examples of each class, for methods that name classes from examples.

    Returns
    -------
    dict
        Facts for the closing line.

    Raises
    ------
    UserError
        The folder holds predictions, an option is for pickers, or the method takes no examples.
    """
    from cryoet_core.runs.predictions import HDF5_NAME, write_predictions

    _refuse(options)
    out = out or run.dir / "predictions" / Path(paths[0]).stem
    if (out / HDF5_NAME).exists() or out.is_file():
        raise UserError(
            f"`out` {shown(out)}: exists already; expected a new folder; choose another name or "
            "remove it"
        )
    data = opening.open_input("data", opening.subject_spec(trainer), paths, labels_required=False)
    started = time.monotonic()
    labeller = _learnt(trainer, data, run, support)
    labels = labeller.label(data.without_labels(), run)
    facts = {"predictions": shown(write_predictions(run, labels, data, out))}
    scores = _evaluate(task_of(labeller, trainer), labels, data)
    return (
        facts | scores | _describe(labels) | {"wall_seconds": round(time.monotonic() - started, 3)}
    )


def evaluate(
    run: Run, trainer: Trainer, paths: Sequence[Path], options: PickingOptions
) -> dict[str, Any]:
    """Compare labels with the known ones: of the run's own data as labelled then, or of other data.

    Parameters
    ----------
    run : Run
        A finished run.
    trainer : Trainer
        Its method.
    paths : sequence of Path
        Data to label now; empty for the run's own.
    options : PickingOptions
        Must be empty: they are for pickers.

    Returns
    -------
    dict
        Scores.

    Raises
    ------
    UserError
        There are no labels of two classes to compare with.
    """
    from cryoet_core.evaluation.scoring import comparable
    from cryoet_core.runs.predictions import read_predictions

    _refuse(options)
    files = list(paths) or run.inputs[opening.subject_name(type(trainer), run.inputs)]
    data = opening.open_input("data", opening.subject_spec(trainer), files, labels_required=False)
    if not opening.has_labels(data):
        raise UserError(
            f"{opening.named(files)}: has no class labels, so there is nothing to compare with"
        )
    if not comparable(data.labels):
        raise UserError(
            f"{opening.named(files)}: all labels are of one class, so there is nothing to compare "
            "with"
        )
    if paths:
        labeller = _learnt(trainer, data, run)
        labels, task = labeller.label(data.without_labels(), run), task_of(labeller, trainer)
    else:
        labels, task = (
            read_predictions(run.dir).labels,
            run.outcome.task or trainer.task,
        )
    if len(labels) != len(data):
        raise UserError(
            f"{opening.named(files)}: {len(data)} subtomograms now, but the run labelled "
            f"{len(labels)}"
        )
    return _evaluate(task, labels, data)


def card(data: Subtomograms) -> DataCard:
    """What later data is compared with."""
    return DataCard(len(data), float(data.voxel_size), box=int(data.box))


# ---- the steps -----------------------------------------------------------------------------------


def _refuse(options: PickingOptions) -> None:
    given = sorted(options.given())
    if given:
        raise UserError(f"`{given[0]}`: this run labels subtomograms; the option is for pickers")


def task_of(fitted: Any, trainer: Trainer | type[Trainer]) -> str:
    """What the labels are, clustering or classification.

    A method that may do either, by its input, says on its labeller which it did.
    """
    return str(getattr(fitted, "task", trainer.task))


def _learnt(
    trainer: Trainer, data: Subtomograms, run: Run, support: Sequence[Path] = ()
) -> Labeller:
    """What labels new data; a note says how the data differs from that of training."""
    for line in _differences(run.outcome.data, data):
        run.say(f"note: {line}")
    labeller = _labeller(trainer.load(run))
    if support:
        labeller = _supported(labeller, trainer, support, run)
    return labeller


def _supported(labeller: Labeller, trainer: Trainer, paths: Sequence[Path], run: Run) -> Labeller:
    """The labeller with the classes of labelled examples in place of its own."""
    named = opening.named(paths)
    if not isinstance(labeller, FewShotLabeller):
        raise UserError(
            f"`support` {named}: {trainer.name} takes no examples; expected a run of a method such "
            "as protonet"
        )
    examples = opening.open_input(
        "support", opening.subject_spec(trainer), paths, labels_required=False
    )
    if not opening.has_labels(examples):
        raise UserError(
            f"`support` {named}: has no class labels; expected a few labelled subtomograms of each "
            "class"
        )
    return labeller.with_support(examples, run)


def _labeller(fitted: Any) -> Labeller:
    if isinstance(fitted, Labeller):
        return fitted
    raise RunError(
        f"the method returned a {type(fitted).__name__}; expected an object with classes and "
        "label()"
    )


def _differences(trained_on: DataCard | None, data: Subtomograms) -> list[str]:
    """In what new data differs from the data of training, one line each."""
    found = []
    if trained_on and abs(data.voxel_size / trained_on.voxel_size - 1) > opening.SAME_VOXELS:
        found.append(
            f"voxel size {data.voxel_size:.2f} Å, but the run was trained on "
            f"{trained_on.voxel_size:.2f} Å"
        )
    if trained_on and data.box != trained_on.box:
        found.append(f"box size {data.box}, but the run was trained on box size {trained_on.box}")
    return found


def _write_averages(run: Run, labels: Labels, data: Subtomograms) -> None:
    """Averages of the classes, where the method left none of its own.

    Particles are rotated back by the poses that the method found (``extra`` rotations and shifts);
    a method whose configuration says ``align_averages`` and that found none gets them from a
    search; else they are averaged in the orientations that they have.
    """
    import torch

    from cryoet_core.algorithms.alignment import aligned_averages
    from cryoet_core.algorithms.averages import class_averages, write_averages

    folder = run.dir / AVERAGES
    if folder.exists():
        return
    poses: dict[str, Any] = {
        name: torch.from_numpy(labels.extra[name])
        for name in ("rotations", "shifts")
        if name in labels.extra
    }
    wedge: dict[str, Any] = {"tilt_range": data.tilt_range, "tilt_axis": data.tilt_axis}
    wanted = getattr(run.config, "align_averages", "rotations" in poses)
    with run.timer("averages"):
        volumes, k = run.volumes(data), len(labels.classes)
        if wanted and "rotations" not in poses:
            averages, _ = aligned_averages(
                volumes, labels.labels, k, generator=run.generator("averages"), **wedge
            )
        else:
            averages = class_averages(
                volumes, labels.labels, k, **wedge, **(poses if wanted else {})
            )
        write_averages(folder, averages, labels.classes, data.voxel_size)


def _write_baseline(run: Run, data: Subtomograms) -> None:
    """Leave the score of the baseline on the same data, for comparison with the method's own."""
    import numpy as np

    from cryoet_core.evaluation.scoring import comparable
    from cryoet_core.tasks.baseline import Yardstick

    if load_trainer(run.method).is_baseline or not comparable(data.labels):
        return
    if len(data) > YARDSTICK_SAMPLE:
        rows = np.sort(
            np.random.default_rng(run.seed).choice(len(data), YARDSTICK_SAMPLE, replace=False)
        )
        data = data.subset(rows)
    k_max = min(15, len(data))
    with run.timer("yardstick"):
        fitted, _ = Yardstick.fit(data.without_labels(), run, k_min=min(2, k_max), k_max=k_max)
        run.write_json(
            "yardsticks.json",
            {
                Yardstick.NAME: _evaluate(
                    "clustering", fitted.label(data.without_labels(), run), data
                )
            },
        )


def _describe(labels: Labels) -> dict[str, Any]:
    counts = {name: int((labels.labels == i).sum()) for i, name in enumerate(labels.classes)}
    found = {"n": len(labels), "k": sum(count > 0 for count in counts.values()), "counts": counts}
    unassigned = int((labels.labels < 0).sum())
    return found | ({"unassigned": unassigned} if unassigned else {})


def _evaluate(task: str, labels: Labels, data: Subtomograms) -> dict[str, Any]:
    """Metrics against the known labels; empty without them, and where all are of one class."""
    from cryoet_core.evaluation.scoring import comparable, score

    if not comparable(data.labels):
        return {}
    return score(task, labels, data.labels, data.class_names)

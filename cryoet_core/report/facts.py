"""Everything that a report says, read from the run's folder and from the data file while it is
still there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryoet_core.algorithms.averages import read_averages
from cryoet_core.evaluation.scoring import comparable, held_out, in_classes, score
from cryoet_core.report.surveys import SurveyFacts, gather_surveys
from cryoet_core.runs import runfolder
from cryoet_core.support import files, journal, provenance
from cryoet_core.support.errors import RunError, UserError
from cryoet_core.support.names import file_name

if TYPE_CHECKING:
    from cryoet_core.plugins.config import OptionInfo
    from cryoet_core.runs.predictions import Predictions
    from cryoet_core.store import Subtomograms


LEAST_EVIDENCE = 1.0
"""Nats per particle that a mixture of densities must gain over noise alone to be worth looking at.
"""


@dataclass(frozen=True)
class Facts:
    """What is known of a run. None, or empty: the run did not leave it.

    data: the volumes that ``predictions`` names, row for row. averages: class name -> (volume,
    voxel size in Å). remarks: what the reader has to know beyond the method's own ``notes``.
    surveys: of a run that picks particles. tables, scatters, pictures: what the method left to be
    shown as it is (``extras``).
    """

    folder: Path
    record: dict[str, Any]
    run: dict[str, Any]
    task: str
    metrics: list[dict[str, Any]]
    selection: dict[str, Any] | None
    yardsticks: dict[str, dict[str, Any]]
    notes: list[str]
    remarks: list[str]
    predictions: Predictions | None
    data: Subtomograms | None
    averages: dict[str, tuple[np.ndarray, float]]
    options: list[OptionInfo]
    stored_scores: dict[str, Any] | None
    surveys: tuple[SurveyFacts, ...] = ()
    tables: tuple[Any, ...] = ()
    scatters: tuple[Any, ...] = ()
    pictures: tuple[Any, ...] = ()

    @property
    def method(self) -> str:
        return str(self.record["method"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the clusters or classes that the method assigns."""
        return self.predictions.labels.classes if self.predictions else ()

    @cached_property
    def counts(self) -> np.ndarray:
        """How many volumes each class was given, (k,)."""
        labels = self.predictions.labels.labels if self.predictions else np.zeros(0, np.int64)
        return np.bincount(labels[labels >= 0], minlength=len(self.classes))

    @cached_property
    def true(self) -> np.ndarray | None:
        """True labels (n,) of the predicted volumes, -1 where unknown; None where they are not of
        several classes.
        """
        if self.data is None or not comparable(self.data.labels):
            return None
        return np.asarray(self.data.labels)

    @cached_property
    def scores(self) -> dict[str, Any] | None:
        """The clustering or classification report; from the data's labels, else as the run stored
        it.
        """
        if self.true is None or self.predictions is None or self.data is None:
            return self.stored_scores
        return score(self.task, self.predictions.labels, self.true, self.data.class_names)

    @cached_property
    def counted(self) -> np.ndarray:
        """(n,) bool: the predicted volumes whose true label is known and that count in the
        scores.
        """
        if self.true is None or self.predictions is None:
            return np.zeros(0, dtype=bool)
        known = self.true >= 0
        return (
            np.asarray(known & held_out(self.predictions.labels))
            if self.task == "classification"
            else known
        )

    def right(self) -> np.ndarray | None:
        """Whether each volume's label is right (after matching), (n,) bool; None without true
        labels.
        """
        if (
            self.true is None
            or self.predictions is None
            or self.data is None
            or self.scores is None
        ):
            return None
        if self.task == "classification":
            return np.asarray(
                in_classes(self.predictions.labels, self.data.class_names) == self.true
            )
        index = {name: i for i, name in enumerate(self.data.class_names)}
        matching = self.scores["matching"]
        table = np.array([*(index.get(matching.get(name, ""), -2) for name in self.classes), -2])
        return np.asarray(table[self.predictions.labels.labels] == self.true)

    def average_of(self, name: str) -> tuple[np.ndarray, float] | None:
        return self.averages.get(file_name(name, blanks=True, empty="class"))


def gather(folder: Path) -> Facts:
    """Read a run's folder. UserError when it is none; a damaged part of it is a remark, not an
    error.
    """
    folder = folder.absolute()
    record = runfolder.read(folder)
    remarks: list[str] = []
    run = _json(folder, runfolder.FACTS, remarks, {})
    predictions = _predictions(folder, remarks)
    data = _data(predictions, run, remarks)
    selection = _json(folder, "model_selection.json", remarks, {})
    yardsticks = _json(folder, "yardsticks.json", remarks, {})
    notes = _json(folder, "notes.json", remarks, [])
    metrics = [row for row in journal.read(folder / runfolder.METRICS) if isinstance(row, dict)]
    remarks += _no_better_than_noise(metrics)
    averages = folder / "averages"
    trainer, options = _trainer(record["method"])
    surveys = gather_surveys(folder, record, remarks)
    return Facts(
        folder=folder,
        record=record,
        run=run,
        task=(run.get("facts") or {}).get("task")
        or trainer
        or ("picking" if surveys else _guessed_task(predictions, data)),
        metrics=metrics,
        selection=selection or None,
        yardsticks={name: value for name, value in yardsticks.items() if isinstance(value, dict)},
        notes=[str(note) for note in notes],
        remarks=remarks,
        predictions=predictions,
        data=data,
        averages=read_averages(averages) if averages.is_dir() else {},
        options=options,
        stored_scores=None if surveys else _json(folder, "evaluation.json", remarks, {}) or None,
        surveys=surveys,
        tables=tuple(_json(folder, "tables.json", remarks, [])),
        scatters=tuple(_json(folder, "scatters.json", remarks, [])),
        pictures=tuple(_json(folder, "pictures.json", remarks, [])),
    )


def _no_better_than_noise(metrics: list[dict[str, Any]]) -> list[str]:
    """Of a method that compares its classes with noise alone: a line where these explain the
    particles no better.
    """
    found = [
        row["log_evidence"] for row in metrics if isinstance(row.get("log_evidence"), (int, float))
    ]
    if not found or found[-1] >= LEAST_EVIDENCE:
        return []
    return [
        "The classes explain the particles hardly better than noise does (log evidence "
        f"{found[-1]:.2f} per particle): "
        "too few particles, or too noisy, to be aligned. Neither labels nor averages mean anything "
        "here, however "
        "certain they look."
    ]


def _json(folder: Path, name: str, remarks: list[str], default: Any) -> Any:
    """The content of an optional file if it is of the default's type, else the default."""
    if not (folder / name).exists():
        return default
    try:
        value = files.read_json(folder / name)
    except RunError:
        value = None
    if not isinstance(value, type(default)):
        remarks.append(f"{name} is damaged and was left out.")
        return default
    return value


def _predictions(folder: Path, remarks: list[str]) -> Predictions | None:
    from cryoet_core.runs.predictions import HDF5_NAME, read_predictions

    if not (folder / HDF5_NAME).exists():
        return None
    try:
        return read_predictions(folder)
    except UserError:
        remarks.append(f"{HDF5_NAME} is damaged and was left out.")
        return None


def _data(
    predictions: Predictions | None, run: dict[str, Any], remarks: list[str]
) -> Subtomograms | None:
    """The predicted volumes, in the order of the predictions; None when a file is gone or another
    than it was.
    """
    from cryoet_core.store import open_subtomograms

    if predictions is None or not len(predictions):
        return None
    known = {f["path"]: f for group in run.get("fingerprints", {}).values() for f in group}
    paths = [_whole(name, known) for name in predictions.files]
    for path in paths:
        if not path.exists():
            remarks.append(
                f"{path.name} is no longer where the run found it: no slices of particles, no true "
                "labels."
            )
            return None
        if str(path) in known and provenance.fingerprint(path) != known[str(path)]:
            remarks.append(
                f"{path.name} has changed since the run: no slices of particles, no true labels."
            )
            return None
    try:
        data = open_subtomograms(paths, check_values=False)
    except UserError as error:
        remarks.append(f"The data could not be read: {error}")
        return None
    where = {
        pair: i
        for i, pair in enumerate(
            zip(data.source_file.tolist(), data.source_row.tolist(), strict=True)
        )
    }
    rows = [
        where.get(pair, -1)
        for pair in zip(predictions.file.tolist(), predictions.rows.tolist(), strict=True)
    ]
    if min(rows) < 0:
        remarks.append(
            "The data has fewer volumes than the predictions: no slices of particles, no true "
            "labels."
        )
        return None
    return data if rows == list(range(len(data))) else data.subset(np.array(rows))


def _whole(name: str, known: Mapping[str, Any]) -> Path:
    """A file as the run found it: a relative name was said from the folder that the run was started
    in.
    """
    same = [Path(path) for path in known if Path(path).name == Path(name).name]
    return same[0] if len(same) == 1 and not Path(name).is_absolute() else Path(name)


def _trainer(method: str) -> tuple[str | None, list[OptionInfo]]:
    """The task and the options of the installed method; nothing when it is not installed or
    broken.
    """
    from cryoet_core.plugins.discovery import load_trainer

    try:
        trainer = load_trainer(method)
    except UserError:
        return None, []
    return trainer.task, trainer.Config.described()


def _guessed_task(predictions: Predictions | None, data: Subtomograms | None) -> str:
    """A method that names the data's own classes classifies."""
    if predictions is None or data is None or not data.class_names:
        return "clustering"
    return (
        "classification"
        if set(predictions.labels.classes) <= set(data.class_names)
        else "clustering"
    )

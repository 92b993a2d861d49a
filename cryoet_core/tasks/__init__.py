"""What a run does with what was learnt: label subtomograms or pick particles, by its task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cryoet_core.plugins.interfaces import Task

if TYPE_CHECKING:
    from cryoet_core.plugins.interfaces import Trainer
    from cryoet_core.runs.run import Run
    from cryoet_core.runs.runfolder import DataCard
    from cryoet_core.tasks.options import PickingOptions

Facts = dict[str, Any]


class TaskModule(Protocol):
    """What each module of this package offers; the dictionaries are facts for the closing line."""

    def finish(self, run: Run, fitted: Any, seen: Any, data: Any, /) -> Facts:
        """Label or pick in the run's own data and write the results.

        Parameters
        ----------
        run : Run
            The run.
        fitted : Labeller or Picker
            What the method has learnt.
        seen : Subtomograms or Tomograms
            The data, without what the method must not see.
        data : Subtomograms or Tomograms
            The same data with all that is known of it.

        Returns
        -------
        dict
            Facts for the closing line.
        """

    def predict(
        self,
        run: Run,
        trainer: Trainer,
        paths: Sequence[Path],
        out: Path | None,
        options: PickingOptions,
        support: Sequence[Path],
        /,
    ) -> Facts:
        """Label or pick in other data.

        Parameters
        ----------
        run : Run
            A finished run.
        trainer : Trainer
            Its method.
        paths : sequence of Path
            The data.
        out : Path or None
            Folder of the results; None for a folder in that of the run.
        options : PickingOptions
            How tomograms are read.
        support : sequence of Path
            Files with examples of the classes to name.

        Returns
        -------
        dict
            Facts for the closing line.
        """

    def evaluate(
        self, run: Run, trainer: Trainer, paths: Sequence[Path], options: PickingOptions, /
    ) -> Facts:
        """Compare labels or picks with the known ones.

        Parameters
        ----------
        run : Run
            A finished run.
        trainer : Trainer
            Its method.
        paths : sequence of Path
            The data; empty for the run's own.
        options : PickingOptions
            How tomograms are read and how picks are judged.

        Returns
        -------
        dict
            Scores.
        """

    def card(self, data: Any, /) -> DataCard:
        """What later data is compared with."""


def of(task: Task) -> TaskModule:
    """The module for a task."""
    if task == "picking":
        from cryoet_core.tasks import picking

        return picking
    from cryoet_core.tasks import labelling

    return labelling

"""What a run does with what was learnt, by task: label subtomograms (``labelling``) or pick
particles (``picking``).
"""

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
        """Label or pick in the run's own data and write the results; ``seen`` is the data with
        labels hidden.
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
        """Label or pick in other data; ``support``: files of examples of the classes to name."""

    def evaluate(
        self, run: Run, trainer: Trainer, paths: Sequence[Path], options: PickingOptions, /
    ) -> Facts:
        """Compare with what is known."""

    def card(self, data: Any, /) -> DataCard:
        """What later data is compared with."""


def of(task: Task) -> TaskModule:
    """The module for a task."""
    if task == "picking":
        from cryoet_core.tasks import picking

        return picking
    from cryoet_core.tasks import labelling

    return labelling

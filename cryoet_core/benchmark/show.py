"""What a benchmark says while it runs: what runs, what is left, when it will probably end."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from cryoet_core.benchmark import cell
from cryoet_core.benchmark.engine import CellProcess
from cryoet_core.benchmark.plan import Cell
from cryoet_core.benchmark.results import Results
from cryoet_core.report.drawing.words import duration

HEADLINES = ("accuracy", "matched_accuracy", "f1", "r5.f1")
"""Of the numbers of a cell, the one that its line shows."""


class Show:
    """Lines on the terminal; on a real one, below them what runs just now.

    Parameters
    ----------
    silent : bool
        Whether to say nothing.
    to_stderr : bool
        Whether to write to standard error.
    """

    def __init__(self, *, silent: bool = False, to_stderr: bool = False) -> None:
        self.silent = silent
        self.console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._running: dict[Path, str] = {}
        self._left: list[Path] = []
        self._methods: dict[Path, str] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._total, self._slots = 0, 1

    def say(self, line: str) -> None:
        """Write a line."""
        if not self.silent:
            self.console.print(line, markup=False)

    def planned(self, cells: int, done: int, out: str) -> None:
        """Write the first line.

        Parameters
        ----------
        cells : int
            How many cells there are.
        done : int
            How many are done.
        out : str
            The folder.
        """
        before = f", {done} of them are measured already" if done else ""
        self.say(f"{cells} runs{before}; results in {out}")

    @contextmanager
    def running(
        self, jobs: Sequence[CellProcess], cells: Mapping[Path, Cell], results: Results, slots: int
    ) -> Iterator[None]:
        """Show what runs while the context lasts.

        What earlier runs of a method took tells how long the next will.

        Parameters
        ----------
        jobs : sequence of CellProcess
            What is to run.
        cells : mapping of Path to Cell
            Cells by the folder of the job.
        results : Results
            What the folder holds.
        slots : int
            How many jobs run at once.
        """
        self._total, self._slots = len(jobs), slots
        self._left = [job.folder for job in jobs]
        self._methods = {
            job.folder: cells[job.folder].method if job.folder in cells else "data" for job in jobs
        }
        for line in results.lines.values():
            if line["status"] == "ok":
                self._seconds[line["method"]].append(line["metrics"].get("wall_seconds") or 0.0)
        if not self.silent and self.console.is_terminal:
            self._status = self.console.status("")
            self._status.start()
        try:
            yield
        finally:
            if self._status is not None:
                self._status.stop()

    def started(self, job: CellProcess) -> None:
        """Say that a job was started."""
        self._running[job.folder] = job.label
        self._refresh()

    def ended(self, job: CellProcess, outcome: Mapping[str, Any]) -> None:
        """Say what came out of a job.

        Parameters
        ----------
        job : CellProcess
            The job.
        outcome : mapping
            What came out.
        """
        self._running.pop(job.folder, None)
        self._left.remove(job.folder)
        seconds = sum(step.get("wall_seconds", 0.0) for step in outcome["steps"])
        self._seconds[self._methods[job.folder]].append(seconds)
        result = _result(outcome) if outcome["status"] == "ok" else f"failed: {outcome['reason']}"
        number = self._total - len(self._left)
        self.say(
            f"[{number}/{self._total}] {job.label}: {result}, {duration(seconds)}; {self._rest()}"
        )
        self._refresh()

    def _rest(self) -> str:
        if not self._left:
            return "nothing left"
        seconds = self.expected_seconds()
        if not seconds:
            return f"{len(self._left)} left"
        ends = time.strftime("%H:%M", time.localtime(time.time() + seconds))
        return f"{len(self._left)} left, about {duration(seconds)}, ends at {ends}"

    def expected_seconds(self) -> float:
        """Return the time to the end, if each job takes as long as its method or all did."""
        every = [value for values in self._seconds.values() for value in values]
        usual = sum(every) / len(every) if every else 0.0
        means = {
            name: sum(values) / len(values) for name, values in self._seconds.items() if values
        }
        return sum(means.get(self._methods[folder], usual) for folder in self._left) / self._slots

    def _refresh(self) -> None:
        if self._status is not None:
            line = f"{self._rest()} | {' · '.join(self._running.values())}"
            self._status.update(Text(line[: self.console.width - 3]))


def _result(outcome: Mapping[str, Any]) -> str:
    for facts in (outcome["facts"].get(cell.RUN, {}), *outcome["facts"].values()):
        for name in HEADLINES:
            if isinstance(facts.get(name), (int, float)):
                return f"{name.replace('_', ' ')} {facts[name]:.3f}"
    return "done"

"""Runs jobs, each the folder of a cell, as processes here or as SLURM jobs (``slurm``)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cryoet_core.benchmark import cell
from cryoet_core.support import files
from cryoet_core.support.errors import RunError

_PAUSE = 0.1


@dataclass(frozen=True)
class CellProcess:
    """The folder of a cell, where its ``cell.json`` lies.

    Attributes
    ----------
    folder : Path
        The folder.
    label : str
        What the cell is called on the terminal.
    makes : Path or None
        The file that it makes, where it makes data.
    needs : tuple of Path
        Files that must be there before it starts.
    """

    folder: Path
    label: str
    makes: Path | None = None
    needs: tuple[Path, ...] = ()

    def outcome(self) -> dict[str, Any] | None:
        """Return what came out; None while nothing did."""
        path = self.folder / cell.OUTCOME
        return files.read_json(path) if path.exists() else None


class Running(Protocol):
    """A job that was started."""

    def ended(self) -> bool:
        """Say whether it has ended."""

    def kill(self) -> None:
        """End it."""


class Executor(Protocol):
    """Starts jobs.

    Attributes
    ----------
    slots : int
        How many may run at once.
    """

    slots: int

    def start(self, job: CellProcess, slot: int, /) -> Running:
        """Start a job.

        Parameters
        ----------
        job : CellProcess
            The cell to run.
        slot : int
            The free slot that it takes.

        Returns
        -------
        Running
            The started job.
        """


def work_through(
    jobs: Sequence[CellProcess],
    executor: Executor,
    started: Callable[[CellProcess], None],
    ended: Callable[[CellProcess, dict[str, Any]], None],
) -> None:
    """Run every job, in order as far as its needs allow.

    A job whose needs failed fails with their reason.

    Parameters
    ----------
    jobs : sequence of CellProcess
        The cells to run.
    executor : Executor
        Starts them.
    started : callable
        Called with each job that was started.
    ended : callable
        Called with each job that ended, and its outcome.

    Raises
    ------
    RunError
        A file that a job needs is gone, and nothing makes it again.
    """
    waiting = list(jobs)
    running: dict[int, tuple[CellProcess, Running]] = {}
    broken: dict[Path, str] = {}
    try:
        while waiting or running:
            for slot, (job, process) in list(running.items()):
                if process.ended():
                    del running[slot]
                    _close(job, broken, ended)
            for job in [job for job in waiting if any(path in broken for path in job.needs)]:
                waiting.remove(job)
                reason = next(broken[path] for path in job.needs if path in broken)
                files.write_json(
                    job.folder / cell.OUTCOME, _failed(f"its data could not be made: {reason}")
                )
                _close(job, broken, ended)
            free = [slot for slot in range(executor.slots) if slot not in running]
            busy = {job.makes for job, _ in running.values()}
            for slot in free:
                ready = (
                    job
                    for job in waiting
                    if all(need.exists() and need not in busy for need in job.needs)
                )
                chosen = next(ready, None)
                if chosen is None:
                    break
                waiting.remove(chosen)
                running[slot] = chosen, executor.start(chosen, slot)
                started(chosen)
            if waiting and not running:
                lost = next(need for need in waiting[0].needs if not need.exists())
                raise RunError(
                    f"{lost}: gone, and nothing makes it again; {waiting[0].label} needs it"
                )
            time.sleep(_PAUSE)
    finally:
        for _, process in running.values():
            process.kill()


def _close(
    job: CellProcess, broken: dict[Path, str], ended: Callable[[CellProcess, dict[str, Any]], None]
) -> None:
    outcome = job.outcome()
    if outcome is None:
        outcome = _failed("the process of the cell ended without a word (killed, or out of memory)")
        files.write_json(job.folder / cell.OUTCOME, outcome)
    if job.makes is not None and outcome["status"] != "ok":
        broken[job.makes] = outcome["reason"]
    ended(job, outcome)


def _failed(reason: str) -> dict[str, Any]:
    return {"status": "failed", "reason": reason, "steps": [], "facts": {}}


# ---- here ----------------------------------------------------------------------------------------


class _Process:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its own child too
        self.process.wait()


class Local:
    """Processes on this machine, ``slots`` at once, each with one GPU if there are any.

    Each takes an equal part of the cores, unless the environment says how many threads
    (``OMP_NUM_THREADS``).

    Parameters
    ----------
    slots : int
        How many processes run at once.
    gpus : int
        How many GPUs there are.
    """

    def __init__(self, slots: int, gpus: int = 0) -> None:
        self.slots, self.gpus = slots, gpus
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // slots))
        self._environment = os.environ | dict.fromkeys(_THREADS, threads)

    def start(self, job: CellProcess, slot: int, /) -> Running:
        """Start a job.

        Parameters
        ----------
        job : CellProcess
            The cell to run.
        slot : int
            The free slot that it takes.

        Returns
        -------
        Running
            The started job.
        """
        environment = dict(self._environment)
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = _gpu(slot % self.gpus)
        command = [sys.executable, "-m", "cryoet_core.benchmark.cell", str(job.folder)]
        with (job.folder / "cell.log").open("ab") as log:
            return _Process(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
            )


_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpu(index: int) -> str:
    """GPU ``index`` of those that this process may use."""
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return seen[index % len(seen)] if seen else str(index)

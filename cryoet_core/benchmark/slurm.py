"""Jobs of the benchmark as SLURM jobs, by submitit."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryoet_core.benchmark import cell
from cryoet_core.benchmark.engine import CellProcess, Running
from cryoet_core.support import files
from cryoet_core.support.errors import UserError

KEPT = "slurm.json"
"""In a cell's folder: the number of its job."""
_ASK_EVERY, _FILES_APPEAR_WITHIN = 5.0, 10.0
"""Seconds between questions to SLURM; and after the end of a job until every machine sees its
files.
"""


class Slurm:
    """SLURM jobs, ``slots`` in the queue at once.

    A job in the queue outlives a benchmark that is killed; the next one finds it there and waits
    for it. ``cluster="local"`` is submitit's own executor, for a trial.
    """

    def __init__(
        self,
        folder: Path,
        slots: int,
        gpus: int,
        settings: Mapping[str, str],
        *,
        minutes: float,
        cluster: str = "slurm",
    ) -> None:
        try:
            import submitit
        except ImportError:
            raise UserError(
                "`executor` slurm: needs submitit; pip install 'cryoet[slurm]'"
            ) from None
        if cluster == "slurm" and shutil.which("sbatch") is None:
            raise UserError(
                "`executor` slurm: no sbatch on this machine; call it on a login node of the "
                "cluster"
            )
        self.slots, self._cluster = slots, cluster
        self._refused = submitit.core.utils.FailedJobError
        self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        asked: dict[str, Any] = {"name": "cryoet", "timeout_min": max(1, round(minutes))}
        if gpus:
            asked["gpus_per_node"] = 1
        if cluster == "slurm":
            asked["slurm_additional_parameters"] = dict(settings)
        self._executor.update_parameters(**asked)

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
        kept = job.folder / KEPT
        if (
            self._cluster == "slurm"
            and kept.exists()
            and in_queue(known := str(files.read_json(kept)["job"]))
        ):
            return _Queued(job, known)
        try:
            submitted = self._executor.submit(cell.run_cell, str(job.folder))
        except self._refused as error:
            raise UserError(
                f"`executor` slurm: the job was refused: {' '.join(str(error).split())}"
            ) from error
        files.write_json(kept, {"job": submitted.job_id})
        return _Queued(job, submitted.job_id) if self._cluster == "slurm" else _Trial(submitted)


class _Queued:
    def __init__(self, job: CellProcess, number: str) -> None:
        self.job, self.number = job, number
        self._asked, self._gone = time.monotonic(), 0.0

    def ended(self) -> bool:
        now = time.monotonic()
        if self.job.outcome() is not None:
            return True
        if self._gone:
            return now - self._gone > _FILES_APPEAR_WITHIN
        if now - self._asked > _ASK_EVERY:
            self._asked = now
            self._gone = 0.0 if in_queue(self.number) else now
        return False

    def kill(self) -> None:
        """It stays in the queue, and the next call of the benchmark takes up what it leaves."""


class _Trial:
    def __init__(self, job: Any) -> None:
        self.job = job

    def ended(self) -> bool:
        return bool(self.job.done())

    def kill(self) -> None:
        self.job.cancel()


def in_queue(number: str) -> bool:
    """Say whether SLURM has a job that has not ended.

    It asks squeue, which works on clusters without accounting too. A controller that does not
    answer is no sign of an end.

    Parameters
    ----------
    number : str
        Number of the job.

    Returns
    -------
    bool
        True where it is in the queue.
    """
    asked = subprocess.run(
        ["squeue", "-h", "-j", number, "-o", "%T"], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        return "Invalid job id" not in asked.stderr
    return bool(
        set(asked.stdout.split())
        & {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED"}
    )

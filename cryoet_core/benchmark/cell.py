"""One cell: its commands in processes of their own, with time and peak memory.

    python -m cryoet_core.benchmark.cell FOLDER

reads ``cell.json`` and writes ``outcome.json``. Called again after a kill it skips the steps that
are done and resumes the run that was not.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryoet_core.benchmark.recipes import PREPARE
from cryoet_core.runs.runfolder import FACTS
from cryoet_core.support import files

SPEC, OUTCOME, RUN, TABLES = "cell.json", "outcome.json", "run", "tables.json"
KILOBYTES = 1024 if sys.platform == "linux" else 1
"""Unit of ``ru_maxrss``."""
_PAUSE = 0.05


def run_cell(folder: str) -> dict[str, Any]:
    """Do the steps of a cell that are not done yet.

    Parameters
    ----------
    folder : str
        The folder of the cell.

    Returns
    -------
    dict
        Its outcome, which is in ``outcome.json`` too.
    """
    where = Path(folder)
    spec = files.read_json(where / SPEC)
    (where / OUTCOME).unlink(missing_ok=True)
    outcome: dict[str, Any] = {
        "status": "ok",
        "reason": "",
        "host": platform.node(),
        "steps": [],
        "facts": {},
    }
    for step in spec["steps"]:
        done = _step(where, step, spec["limit"])
        facts = done.pop("facts")
        outcome["steps"].append(done)
        if done["code"]:
            outcome |= {"status": "failed", "reason": f"{step['name']}: {done['reason']}"}
            break
        outcome["facts"][step["name"]] = facts
    if (where / RUN / FACTS).exists():
        outcome["run"] = files.read_json(where / RUN / FACTS)
    if (where / RUN / TABLES).exists():
        outcome["tables"] = files.read_json(where / RUN / TABLES)
    files.write_json(where / OUTCOME, outcome)
    return outcome


def _step(where: Path, step: dict[str, Any], limit: float | None) -> dict[str, Any]:
    kept = where / f"step-{step['name']}.json"
    if kept.exists():
        return dict(files.read_json(kept))
    words, resumed = _words(where, step)
    done = {"name": step["name"], "resumed": resumed} | _measured(
        words, where / step["name"], limit
    )
    if done["code"] and resumed:  # what was left cannot be gone on with
        shutil.rmtree(where / RUN)
        done = {"name": step["name"], "resumed": False} | _measured(
            step["words"], where / step["name"], limit
        )
    if not done["code"]:
        files.write_json(kept, done)
    return done


def _words(where: Path, step: dict[str, Any]) -> tuple[list[str], bool]:
    """The step's command, or for a run that was interrupted the one that resumes it."""
    run = where / RUN
    if step["name"] != RUN or not run.exists():
        return step["words"], False
    status = files.read_json(run / FACTS)["status"] if (run / FACTS).exists() else "failed"
    if status == "failed":
        shutil.rmtree(run)
        return step["words"], False
    return [step["words"][0], "resume", str(run), "--json", "--quiet"], True


def _measured(words: list[str], log: Path, limit: float | None) -> dict[str, Any]:
    """Run a command; its exit code, facts (the JSON it printed), seconds, CPU seconds and peak
    memory.
    """
    module = "cryoet_core.cli.prepare" if words[0] == PREPARE else "cryoet_core.cli.main"
    command = [sys.executable, "-m", module, *words[1:]]
    out, err = log.with_suffix(".out"), log.with_suffix(".err")
    started = time.monotonic()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=die_with_parent,
        )
        late, status, used = _waited(child.pid, started, limit)
        child.returncode = os.waitstatus_to_exitcode(status)
    facts = _facts(out)
    code = 1 if late or (child.returncode == 0 and facts is None) else child.returncode
    return {
        "code": code,
        "reason": "" if not code else _reason(child.returncode, late, err),
        "facts": facts or {},
        "command": " ".join(words),
        "wall_seconds": round(time.monotonic() - started, 3),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
        "peak_memory": used.ru_maxrss * KILOBYTES,
    }


def _waited(pid: int, started: float, limit: float | None) -> tuple[str, int, Any]:
    """Wait for a process, kill it after ``limit`` seconds; why it was, its status and what it has
    used.
    """
    late = ""
    while True:
        ended, status, used = os.wait4(pid, os.WNOHANG)
        if ended:
            return late, status, used
        if limit and not late and time.monotonic() - started > limit:
            late = f"took longer than {limit / 60:g} minutes and was ended (--limit)"
            os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE)


def _facts(out: Path) -> dict[str, Any] | None:
    """The JSON object that a command printed last; None where there is none."""
    lines = out.read_text(errors="replace").strip().splitlines()
    with suppress(ValueError, IndexError):
        found = json.loads(lines[-1])
        if isinstance(found, dict):
            return found
    return None


def _reason(code: int, late: str, err: Path) -> str:
    """In one line, why a command failed."""
    if late:
        return late
    if code < 0:
        return f"ended by signal {-code}" + (" (out of memory?)" if code == -signal.SIGKILL else "")
    lines = [line.strip() for line in err.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [f"exit code {code}, nothing said"])[-1]


def die_with_parent() -> None:
    """End this process when the one that started it ends, however that ends (Linux alone)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> int:
    """Run the cell that the command line names."""
    die_with_parent()
    run_cell(sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())

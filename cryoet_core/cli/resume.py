"""``cryoet resume RUN``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryoet_core.cli.options import JSON, MAX_MEMORY, NO_REPORT, QUIET, THREADS, bytes_of


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of the interrupted run.")],
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda|cuda:N", help="Default: as before.")
    ] = None,
    devices: Annotated[
        int | None, typer.Option(metavar="N", help="Processes. Default: as before.")
    ] = None,
    max_memory: MAX_MEMORY = None,
    threads: THREADS = None,
    as_json: JSON = False,
    quiet: QUIET = False,
    no_report: NO_REPORT = False,
) -> None:
    """Resume an interrupted run from its last checkpoint.

    It ends with the result that it would have had without the interruption.
    """
    from cryoet_core.cli.closing import close
    from cryoet_core.tasks.session import resume_run

    changed = {
        "device": device,
        "devices": devices,
        "max_memory": bytes_of(max_memory),
        "threads": threads,
    }
    close(resume_run(run, report=not no_report, quiet=quiet, json=as_json, **changed), as_json)

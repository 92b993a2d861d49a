"""``cryoet predict RUN --data FILE``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryoet_core.cli.options import DEVICE, JSON, MAX_MEMORY, PRECISION, QUIET, THREADS, bytes_of


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    data: Annotated[list[Path], typer.Option(metavar="FILE", help="Data to label. May be given several times.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="For predictions.h5 and predictions.star. Default: RUN/predictions/NAME."),
    ] = None,
    device: DEVICE = "auto",
    precision: PRECISION = "auto",
    max_memory: MAX_MEMORY = None,
    threads: THREADS = None,
    as_json: JSON = False,
    quiet: QUIET = False,
) -> None:
    """Label new data with what a finished run has learnt; nothing is trained."""
    from cryoet_core.cli.closing import close
    from cryoet_core.session import predict_run

    options = {"device": device, "precision": precision, "max_memory": bytes_of(max_memory), "threads": threads}
    close(predict_run(run, data, out, quiet=quiet, json=as_json, **options), as_json)

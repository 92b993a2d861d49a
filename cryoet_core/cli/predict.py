"""``cryoet predict RUN --data FILE``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryoet_core.cli.options import (
    CONTRAST,
    DEVICE,
    JSON,
    MAX_MEMORY,
    PRECISION,
    QUIET,
    THREADS,
    TILT_RANGE,
    VOXEL_SIZE,
    bytes_of,
)


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    data: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE", help="Data to label, or tomograms to pick in. Several may follow."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="For the predictions or picks. Default: RUN/predictions/NAME."
        ),
    ] = None,
    support: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A few labelled examples of each class, for methods that name from examples.",
        ),
    ] = None,
    contrast: CONTRAST = None,
    voxel_size: VOXEL_SIZE = None,
    tilt_range: TILT_RANGE = None,
    device: DEVICE = "auto",
    precision: PRECISION = "auto",
    max_memory: MAX_MEMORY = None,
    threads: THREADS = None,
    as_json: JSON = False,
    quiet: QUIET = False,
) -> None:
    """Label or pick in new data with what a finished run has learnt; nothing is trained.

    Picks go to one star per tomogram. The same call resumes an interrupted one.
    """
    from cryoet_core.cli.closing import close
    from cryoet_core.tasks.session import predict_run

    options = {
        "device": device,
        "precision": precision,
        "max_memory": bytes_of(max_memory),
        "threads": threads,
    }
    reading = {"contrast": contrast, "voxel_size": voxel_size, "tilt_range": tilt_range}
    close(
        predict_run(
            run,
            data,
            out,
            reading=reading,
            support=support or (),
            quiet=quiet,
            json=as_json,
            **options,
        ),
        as_json,
    )

"""``cryoet explain RUN --data FILE --index N``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cryoet_core.cli.options import DEVICE, JSON, THREADS
from cryoet_core.support.errors import UserError

BOTH = "both"


def command(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="The folder of a finished run that ended as a classifier."
        ),
    ],
    data: Annotated[
        list[Path], typer.Option(metavar="FILE", help="The data set of the subtomogram.")
    ],
    index: Annotated[int, typer.Option(metavar="N", help="Which subtomogram, counted from 0.")],
    class_name: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="NAME",
            help="The class to explain. Default: the one that the run predicts.",
        ),
    ] = None,
    cam: Annotated[
        str,
        typer.Option(
            "--map", metavar="grad-cam|respond-cam|both", help="Which class activation maps."
        ),
    ] = BOTH,
    beside: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Another run, shown below for comparison, such as one from random weights.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Default: in RUN, whose report then shows the picture."
        ),
    ] = None,
    device: DEVICE = "auto",
    threads: THREADS = None,
    as_json: JSON = False,
) -> None:
    """Show where in a subtomogram a classifier sees a class.

    Writes class activation maps as MRC files and as a picture.
    """
    import json

    from cryoet_core.algorithms.gradcam import CAMS
    from cryoet_core.cli.guard import speaks
    from cryoet_core.tasks.explain import explain_run

    if cam != BOTH and cam not in CAMS:
        raise UserError(f"--map {cam}: unknown; expected {', '.join(CAMS)} or {BOTH}")
    cams: Any = CAMS if cam == BOTH else (cam,)
    options: dict[str, Any] = {"device": device, "threads": threads, "json": as_json}
    facts = explain_run(
        run, data, index, out, class_name=class_name, cams=cams, beside=beside, **options
    )
    if not speaks():
        return
    if as_json:
        print(json.dumps(facts))
        return
    true = f", truly {facts['true']}" if "true" in facts else ""
    print(
        f"subtomogram {index}: {facts['predicted']}{true}; maps for {facts['class']} "
        f"({facts['probability']:.2f})"
    )
    print("\n".join(f"{key}: {facts[key]}" for key in ("folder", "report") if key in facts))

"""``cryoet evaluate RUN [--data FILE]``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cryoet_core.cli.options import (
    CONTRAST,
    DEVICE,
    JSON,
    MAX_MEMORY,
    THREADS,
    TILT_RANGE,
    TRUTH,
    VOXEL_SIZE,
    bytes_of,
    option,
)

PICKING = "Pickers"
ONLY_IN_JSON = ("f_beta4", "best_f1", "best_threshold")
"""Of the numbers for each class, those that a narrow terminal has no room for."""


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Labelled data. Default: the run's own data and predictions."
        ),
    ] = None,
    radius: Annotated[
        float | None,
        option(
            "How far a pick may lie from a particle. Default: the particle's radius.",
            panel=PICKING,
            metavar="Å",
        ),
    ] = None,
    rule: Annotated[
        str | None,
        option(
            "How picks and particles are matched: optimal, greedy, r1.5, shrec.",
            panel=PICKING,
            metavar="NAME",
        ),
    ] = None,
    particle: Annotated[
        str | None, option("The known class to compare with.", panel=PICKING, metavar="NAME")
    ] = None,
    picks: TRUTH = None,
    contrast: CONTRAST = None,
    voxel_size: VOXEL_SIZE = None,
    tilt_range: TILT_RANGE = None,
    device: DEVICE = "auto",
    max_memory: MAX_MEMORY = None,
    threads: THREADS = None,
    as_json: JSON = False,
) -> None:
    """Compare a run's labels or picks with the known ones.

    Labels: accuracy after matching, ARI, NMI, a row per class. Picks: precision, recall, F1,
    average precision.
    """
    from cryoet_core.cli.closing import close
    from cryoet_core.tasks.session import evaluate_run

    options = {"device": device, "max_memory": bytes_of(max_memory), "threads": threads}
    reading = {
        "contrast": contrast,
        "voxel_size": voxel_size,
        "tilt_range": tilt_range,
        "picks": tuple(picks or ()),
    }
    reading |= {"radius": radius, "rule": rule, "particle": particle}
    facts = evaluate_run(run, data or (), reading=reading, json=as_json, **options)
    close(facts, as_json)
    if not as_json and facts.get("per_class"):
        _print_classes(facts["per_class"])


def _print_classes(rows: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    rows = (
        [{"class": name, **row} for name, row in rows.items()]
        if isinstance(rows, dict)
        else list(rows)
    )
    rows = [{key: value for key, value in row.items() if key not in ONLY_IN_JSON} for row in rows]
    table = Table(*(key.replace("_", " ") for key in rows[0]))
    for row in rows:
        table.add_row(
            *(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values())
        )
    Console().print(table)

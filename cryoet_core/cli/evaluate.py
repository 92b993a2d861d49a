"""``cryoet evaluate RUN [--data FILE]``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cryoet_core.cli.options import DEVICE, JSON, MAX_MEMORY, THREADS, bytes_of


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Labelled subtomograms. Default: the run's own data and predictions."),
    ] = None,
    device: DEVICE = "auto",
    max_memory: MAX_MEMORY = None,
    threads: THREADS = None,
    as_json: JSON = False,
) -> None:
    """Compare a run's labels with the known ones: accuracy after matching, ARI, NMI, a row per class."""
    from cryoet_core.cli.closing import close
    from cryoet_core.session import evaluate_run

    options = {"device": device, "max_memory": bytes_of(max_memory), "threads": threads}
    facts = evaluate_run(run, data or (), json=as_json, **options)
    close(facts, as_json)
    if not as_json and facts.get("per_class"):
        _print_classes(facts["per_class"])


def _print_classes(rows: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    rows = [{"class": name, **row} for name, row in rows.items()] if isinstance(rows, dict) else list(rows)
    table = Table(*(key.replace("_", " ") for key in rows[0]))
    for row in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)

"""results.jsonl: one line for each cell that was run, with what is needed to believe it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryoet_core.benchmark import cell
from cryoet_core.benchmark.plan import Cell, Place
from cryoet_core.support import files, journal
from cryoet_core.support.errors import UserError

RESULTS = "results.jsonl"
MEASURED = ("wall_seconds", "fit_seconds", "cpu_seconds", "peak_memory", "peak_device_memory")
"""Metrics that every cell has, beside those that the method and the evaluations report."""


def line_of(
    made: Cell, outcome: Mapping[str, Any], folder: Path, out: Path, places: Sequence[Place]
) -> dict[str, Any]:
    """Return what is kept of a cell: its metrics, cost and provenance.

    Parameters
    ----------
    made : Cell
        The cell.
    outcome : mapping
        What came out.
    folder : Path
        The folder of the cell.
    out : Path
        The folder of the benchmark. The path of the run in the line is relative to it.
    places : sequence of Place
        Where in the tables the cell stands.

    Returns
    -------
    dict
        The line. Paths in ``command`` are relative to where the benchmark was called.
    """
    run = outcome.get("run") or {}
    steps = {step["name"]: step for step in outcome["steps"]}
    own = steps.get(cell.RUN, {})
    cost = {name: own.get(name) for name in ("wall_seconds", "cpu_seconds", "peak_memory")}
    cost["fit_seconds"] = (run.get("timings") or {}).get("fit")
    device = {
        name: value
        for name, value in (run.get("peak_memory") or {}).items()
        if name.startswith(("cuda", "gpu"))
    }
    cost["peak_device_memory"] = max(device.values(), default=None)
    provenance = dict(run.get("provenance") or {})
    provenance.pop("command", None)
    return {
        "key": made.key,
        "method": made.method,
        "scale": made.scale,
        "seed": made.seed,
        "places": [_place_of(place) for place in places],
        "status": outcome["status"],
        "reason": outcome["reason"],
        "metrics": metrics_of(outcome["facts"])
        | metrics_of_tables(outcome.get("tables", []))
        | cost,
        "resumed": any(step.get("resumed") for step in outcome["steps"]),
        "command": " ".join(
            os.path.relpath(word) if os.path.isabs(word) else word for word in made.words
        ),
        "run": str(folder.joinpath(cell.RUN).relative_to(out)),
        "config": _config(folder / cell.RUN),
        "data": _data(made, run),
        "host": outcome.get("host"),
        "finished": run.get("finished"),
        "provenance": provenance,
    }


def metrics_of(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return every number among the facts of the steps.

    Parameters
    ----------
    facts : mapping of str to mapping
        Facts by step.

    Returns
    -------
    dict of str to float
        Those of the run under their own names, of other steps after the step's, of dicts after the
        dict's (``r5.f1``, ``stages.3``).
    """
    found: dict[str, float] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, part in value.items():
                walk(f"{prefix}{name}.", part)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[prefix[:-1]] = value

    for step, values in facts.items():
        walk("" if step == cell.RUN else f"{step}.", values)
    return {
        name: value
        for name, value in found.items()
        if not name.startswith(("counts.", "confusion."))
    }


def metrics_of_tables(tables: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return every number in the tables that a method left for its report.

    A row is named by its first cell, or by as many cells as distinguish it from the others, joined
    by commas.

    Parameters
    ----------
    tables : sequence of mapping
        The tables.

    Returns
    -------
    dict of str to float
        By ``title | row | column``.
    """
    found: dict[str, float] = {}
    for table in tables:
        for name, row in _named_rows(table["rows"]):
            for column, value in zip(table["columns"], row, strict=False):
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    found[f"{table['title']} | {name} | {column}"] = value
    return found


def _named_rows(rows: Sequence[Sequence[Any]]) -> Iterator[tuple[str, Sequence[Any]]]:
    width = max((len(row) for row in rows), default=0)
    for count in range(1, width + 1):
        names = [", ".join(map(str, row[:count])) for row in rows]
        if len(set(names)) == len(names):
            yield from zip(names, rows, strict=True)
            return


def _data(made: Cell, run: Mapping[str, Any]) -> dict[str, str]:
    """Name -> hash of each file: of its content where the run has read it, else of what made it."""
    prints = [found for group in (run.get("fingerprints") or {}).values() for found in group]
    read = {
        Path(found["path"]).name: found["sha256_sampled"]
        for found in prints
        if "sha256_sampled" in found
    }
    return {source.path.name: read.get(source.path.name, source.key) for source in made.sources}


def _place_of(place: Place) -> dict[str, Any]:
    return {
        "what": place.label,
        "metrics": [
            place.table.metric_of(place.entry, index) for index in range(len(place.table.metrics))
        ],
    }


def _config(run: Path) -> Any:
    return (
        files.read_json(run / "config.json")["config"] if (run / "config.json").exists() else None
    )


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Read the last line of each cell; a torn line is left out.

    Parameters
    ----------
    path : Path
        results.jsonl, or the folder that holds it.

    Returns
    -------
    dict of str to dict
        Lines by the key of the cell.

    Raises
    ------
    UserError
        There is no such file.
    """
    path = path / RESULTS if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected {RESULTS} of a benchmark, or its folder")
    rows = journal.read(path)
    if any("key" not in row or "metrics" not in row for row in rows):
        raise UserError(f"{path}: not the results of a benchmark; expected a {RESULTS}")
    return {row["key"]: row for row in rows}


class Results:
    """The results of a benchmark's folder, read at the start and added to.

    Parameters
    ----------
    out : Path
        The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS
        self.lines = read_results(self.path) if self.path.exists() else {}
        self._journal = journal.Journal(self.path)

    def add(self, line: dict[str, Any]) -> None:
        """Append a line; a later one of the same cell replaces an earlier one for every reader."""
        self._journal.append(line)
        self.lines[line["key"]] = files.plain(line)

    def is_done(self, key: str) -> bool:
        """Say whether a cell has been measured (failed ones are tried again)."""
        return key in self.lines and self.lines[key]["status"] == "ok"


def report_of(line: Mapping[str, Any], out: Path) -> str | None:
    """Return the report of a cell's run.

    Parameters
    ----------
    line : mapping
        The line of the cell.
    out : Path
        The folder of the benchmark.

    Returns
    -------
    str or None
        The path relative to ``out``, if there is one.
    """
    path = Path(line["run"]) / "report.html"
    return str(path) if (out / path).exists() else None

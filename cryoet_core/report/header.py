"""The top of the page: what was run on what, and the few numbers that matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryoet_core.report import picking
from cryoet_core.report.drawing.templates import fill
from cryoet_core.report.drawing.words import duration, number, plural, size
from cryoet_core.report.facts import Facts
from cryoet_core.report.provenance import card


def header(facts: Facts) -> str:
    """Return the top of the page as HTML."""
    names = [
        Path(path).name for paths in (facts.record.get("inputs") or {}).values() for path in paths
    ]
    data = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    date = str(facts.run.get("finished") or facts.run.get("started") or "")
    n = len(facts.predictions) if facts.predictions else None
    words = [
        f"{facts.task} of {plural(n, 'subtomogram')}".capitalize()
        if n is not None
        else facts.task.capitalize(),
        card(facts),
        f"{date[:10]} {date[11:16]}" if date else None,
        f"preset {facts.record['preset']}" if facts.record.get("preset") else None,
        f"seed {facts.record['seed']}" if facts.record.get("seed") is not None else None,
    ]
    return fill(
        "header.html",
        method=facts.method,
        data=data,
        words=[word for word in words if word],
        banner=_status(facts),
        tiles=_tiles(facts),
    )


def _status(facts: Facts) -> str:
    status = facts.run.get("status")
    if status in (None, "done", "running") and (facts.predictions is not None or facts.surveys):
        return ""
    reason = f": {facts.run['reason']}" if facts.run.get("reason") else ""
    said = {"failed": f"This run failed{reason}.", "done": "This run left no predictions."}
    return said.get(str(status), "This run is not finished.")


def _tiles(facts: Facts) -> list[tuple[str, str, str]]:
    scores: dict[str, Any] = facts.scores or {}
    tiles: list[tuple[str, str, str]] = picking.tiles(facts.surveys) if facts.surveys else []
    if facts.predictions is not None:
        tiles.append(("subtomograms", f"{len(facts.predictions):,}", _unassigned(facts)))
        word = "clusters K" if facts.task == "clustering" else "classes"
        known = (
            plural(scores["classes"], "known class", "es")
            if scores.get("classes")
            else "no known classes"
        )
        tiles.append((word, str(int((facts.counts > 0).sum())), known))
    if scores.get("n") and facts.task == "clustering":
        others = [(name, row) for name, row in facts.yardsticks.items() if name != facts.method]
        baseline, row = others[0] if others else ("", {})
        beside = f"{baseline} {number(row.get('matched_accuracy'))}\n" if row else ""
        tiles.append(
            (
                "matched accuracy",
                number(scores["matched_accuracy"]),
                f"{beside}majority {number(scores['majority'])}",
            )
        )
        beside = f"{baseline} {number(row.get('ari'))}" if row else f"NMI {number(scores['nmi'])}"
        tiles.append(("adjusted Rand index", number(scores["ari"]), beside))
    elif scores.get("n"):
        held = f"of {scores['held_out']:,} held out\n" if scores.get("held_out") else ""
        beside = f"{held}majority {number(scores.get('majority'))}"
        tiles.append(("accuracy", number(scores.get("accuracy")), beside))
        macro = (scores.get("macro") or {}).get("f1")
        tiles.append(
            (
                "macro F1",
                number(macro),
                f"balanced accuracy {number(scores.get('balanced_accuracy'))}",
            )
        )
    if facts.run.get("wall_seconds"):
        peak = [
            n for n in (facts.run.get("peak_memory") or {}).values() if isinstance(n, (int, float))
        ]
        tiles.append(
            (
                "wall time",
                duration(facts.run["wall_seconds"]),
                f"peak memory {size(max(peak))}" if peak else "",
            )
        )
    device = (facts.run.get("provenance") or {}).get("device")
    if device:
        kind, _, model = str(device).partition(" ")
        processes = facts.run.get("processes")
        tiles.append(
            (
                "device",
                kind,
                model + (f", {processes} processes" if processes and processes > 1 else ""),
            )
        )
    return tiles


def _unassigned(facts: Facts) -> str:
    assert facts.predictions is not None
    missed = int((facts.predictions.labels.labels < 0).sum())
    return f"{missed:,} not assigned" if missed else "all assigned"

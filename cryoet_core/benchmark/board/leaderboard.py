"""The leaderboard's files, from what a benchmark's folder holds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryoet_core.benchmark.board import markdown, page, summary
from cryoet_core.benchmark.plan import BenchmarkPlan
from cryoet_core.benchmark.results import Results
from cryoet_core.benchmark.suite import load_suites
from cryoet_core.support import files
from cryoet_core.support.files import shown

MARKDOWN, PAGE = "leaderboard.md", "leaderboard.html"


def write_leaderboard(
    plan: BenchmarkPlan, results: Results, out: Path, *, custom: bool
) -> dict[str, Any]:
    """Write leaderboard.md and leaderboard.html with all that the results hold.

    Parameters
    ----------
    plan : BenchmarkPlan
        What is measured.
    results : Results
        What the folder holds.
    out : Path
        The folder of the benchmark.
    custom : bool
        Whether some suites were asked for; a method without a table in them is then no news.

    Returns
    -------
    dict
        The facts of the closing line.
    """
    whole = _everything(plan, results)
    found = summary.boards(whole, results.lines)
    facts = closing_facts(whole, found, results, custom=custom)
    files.write_bytes(out / MARKDOWN, (markdown.leaderboard(found, facts)).encode())
    files.write_bytes(out / PAGE, page.leaderboard(found, facts, out).encode())
    paths = {"results": results.path, "markdown": out / MARKDOWN, "leaderboard": out / PAGE}
    return facts | {name: shown(path) for name, path in paths.items()}


def closing_facts(
    plan: BenchmarkPlan, found: Sequence[summary.Board], results: Results, *, custom: bool
) -> dict[str, Any]:
    """Return what the heads of the leaderboards and the closing line say.

    Parameters
    ----------
    plan : BenchmarkPlan
        What is measured.
    found : sequence of Board
        The tables.
    results : Results
        What the folder holds.
    custom : bool
        Whether some suites were asked for; a method without a table in them is then no news.

    Returns
    -------
    dict
        The facts.
    """
    lines = [results.lines[key] for key in plan.cells if key in results.lines]
    failures = {line["key"]: line["reason"] for line in lines if line["status"] != "ok"}
    failures |= {name: info.reason for name, info in plan.installed.items() if info.status != "ok"}
    good = [line for line in lines if line["status"] == "ok"]
    origins = [line["provenance"] for line in good if line["provenance"]]
    nothing: dict[str, Any] = {"finished": None}
    latest = max(good, key=lambda line: str(line["finished"]), default=nothing)
    return {
        "scale": plan.scale,
        "seeds": plan.seeds,
        "data": f"maps in {os.path.relpath(plan.stock.structures)}"
        if plan.stock.structures
        else "built-in phantoms",
        "measured": len(good),
        "failed": len(failures),
        "missing": sum(board.counts()["not run"] for board in found),
        "tables": len(found),
        "methods": sorted({line["method"] for line in good}),
        "seconds": round(sum(line["metrics"].get("wall_seconds") or 0.0 for line in good), 1),
        "commit": _some([_short(origin.get("commit")) for origin in origins]) or "unknown",
        "devices": _some([str(origin.get("device")) for origin in origins]) or "no device",
        "date": str(latest["finished"] or "")[:16].replace("T", " "),
        "without_a_table": [] if custom else plan.without_a_table(),
        "failures": failures,
        "origin": _origin(origins),
    }


# ---- the steps -----------------------------------------------------------------------------------


def _everything(plan: BenchmarkPlan, results: Results) -> BenchmarkPlan:
    """The plan without a choice of methods, and with the other suites of the program that have
    results here.
    """
    whole = BenchmarkPlan(
        plan.suites, plan.scale, plan.seeds, plan.stock, plan.installed, (), plan.custom
    )
    names = {suite.name for suite in plan.suites}
    others = [suite for suite in load_suites(()) if suite.name not in names]
    if not others:
        return whole
    rest = BenchmarkPlan(others, plan.scale, plan.seeds, plan.stock, plan.installed)
    measured = {
        place.suite.name
        for place in rest.places
        for made in place.cells
        if made.key in results.lines
    }
    more = [suite for suite in others if suite.name in measured]
    return BenchmarkPlan(
        [*plan.suites, *more], plan.scale, plan.seeds, plan.stock, plan.installed, (), plan.custom
    )


def _origin(origins: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Versions, commits, machines: every value that occurs."""
    found: dict[str, dict[str, None]] = {}
    for origin in origins:
        for name in ("commit", "device", "host", "platform", "python"):
            if origin.get(name):
                found.setdefault(name, {})[str(origin[name])] = None
        for kind in ("packages", "plugins"):
            said = ", ".join(
                f"{name} {version}" for name, version in (origin.get(kind) or {}).items()
            )
            found.setdefault(kind, {})[said] = None
    return {name: "; ".join(values) for name, values in found.items()}


def _some(values: Sequence[str]) -> str:
    """The last different value, and how many others there are."""
    different = list(dict.fromkeys(reversed(values)))
    others = len(different) - 1
    return (
        (different[0] + (f" and {others} other{'s' * (others > 1)}" if others else ""))
        if different
        else ""
    )


def _short(commit: str | None) -> str:
    if not commit:
        return "unknown"
    head, _, rest = commit.partition(",")
    return head[:10] + (f" ({rest.strip()})" if rest else "")

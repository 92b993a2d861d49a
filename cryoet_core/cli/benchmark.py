"""``cryoet benchmark``: measure every method on the same data, beside the published tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cryoet_core.cli.closing import plural
from cryoet_core.cli.options import JSON, QUIET, option
from cryoet_core.support.errors import UserError

if TYPE_CHECKING:
    from cryoet_core.benchmark.board.compare import BenchmarkComparison, Change

WHAT, DATA, WHERE, COMPARE = "What is measured", "Its data", "Where it runs", "Two results"


def command(
    every: Annotated[
        bool, option("Every suite: the tables of the four papers.", "--all", panel=WHAT)
    ] = False,
    suite: Annotated[
        list[str] | None,
        option(
            "A suite by name, or a TOML file. Several may be given.", panel=WHAT, metavar="NAME"
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        option(
            "Only these methods, in every table that they fit. Several may be given.",
            panel=WHAT,
            metavar="NAME",
        ),
    ] = None,
    scale: Annotated[
        str,
        option(
            "smoke: minutes. small: sized for two cores. paper: as published.",
            panel=WHAT,
            metavar="smoke|small|paper",
        ),
    ] = "small",
    seeds: Annotated[
        int | None,
        option(
            "Seeds 0 to N - 1, each with data of its own. Default: 1, 3 or 5.",
            panel=WHAT,
            metavar="N",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        option(
            "Folder of the results. Default: runs/benchmark-SCALE.", panel=WHERE, metavar="FOLDER"
        ),
    ] = None,
    structures: Annotated[
        Path | None,
        option(
            "Density maps to simulate from. Default: the built-in phantoms.",
            panel=DATA,
            metavar="FOLDER",
        ),
    ] = None,
    files: Annotated[
        list[str] | None,
        option(
            "A real data set that a suite asks for, such as noble=noble.h5.",
            panel=DATA,
            metavar="NAME=PATH",
        ),
    ] = None,
    executor: Annotated[
        str, option("Processes on this machine, or SLURM jobs.", panel=WHERE, metavar="local|slurm")
    ] = "local",
    slurm: Annotated[
        list[str] | None,
        option("An option of sbatch, such as partition=gpu.", panel=WHERE, metavar="KEY=VALUE"),
    ] = None,
    jobs: Annotated[
        int | None,
        option(
            "Runs at the same time. Default: one per GPU, or per core (8 at most; paper: 1).",
            panel=WHERE,
            metavar="N",
        ),
    ] = None,
    gpus: Annotated[int, option("GPUs to use, one for each run.", panel=WHERE, metavar="N")] = 0,
    limit: Annotated[
        float | None,
        option(
            "End a command that takes longer.", panel=WHERE, metavar="MINUTES", show_default=False
        ),
    ] = None,
    resume: Annotated[
        bool,
        option(
            "Resume an earlier benchmark; --fresh measures again.", "--resume/--fresh", panel=WHERE
        ),
    ] = True,
    dry_run: Annotated[bool, option("Only list the runs.", "--dry-run", panel=WHERE)] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        option(
            "Results (folder or .jsonl) of two commits or machines: what changed.",
            panel=COMPARE,
            metavar="A B",
        ),
    ] = None,
    as_json: JSON = False,
    quiet: QUIET = False,
) -> int:
    """Measure every method on the same data and write a leaderboard beside the published tables.

    cryoet benchmark --all --scale smoke
    """
    if compare is not None:
        return _compare(compare, as_json)
    if not (every or suite or method):
        raise UserError(
            "say what to measure: --all, --suite NAME or --method NAME (--help shows more)"
        )
    from cryoet_core.benchmark.session import Wish, run_benchmark
    from cryoet_core.benchmark.show import Show

    wish = Wish(
        suites=() if every else suite or (),
        methods=method or (),
        scale=scale,
        seeds=seeds,
        out=out,
        structures=structures,
        files={name: Path(path) for name, path in _pairs("--files", files or ())},
        executor=executor,
        slurm=dict(_pairs("--slurm", slurm or ())),
        jobs=jobs,
        gpus=gpus,
        limit=limit,
        resume=resume,
        dry_run=dry_run,
    )
    show = Show(silent=quiet, to_stderr=as_json)
    try:
        facts = run_benchmark(wish, show)
    except KeyboardInterrupt:
        show.say("the same command resumes the benchmark")
        raise
    print(json.dumps(facts) if as_json else "\n".join(_lines(facts)), flush=True)
    return 1 if facts.get("failed") else 0


def _pairs(flag: str, words: Sequence[str]) -> list[tuple[str, str]]:
    for word in words:
        if "=" not in word:
            raise UserError(f"{flag} {word}: expected NAME=VALUE")
    return [(name, value) for name, _, value in (word.partition("=") for word in words)]


def _lines(facts: dict[str, Any]) -> list[str]:
    if "commands" in facts:
        return [*facts["commands"], f"{plural(facts['runs'], 'run')} at the scale {facts['scale']}"]
    lines = [
        f"{plural(facts['measured'], 'run')} measured, {facts['failed']} failed; "
        f"{plural(facts['missing'], 'figure')} not measured"
    ]
    lines += [f"failed: {key}: {reason}" for key, reason in facts["failures"].items()]
    return lines + [f"{name}: {facts[name]}" for name in ("results", "markdown", "leaderboard")]


def _compare(paths: tuple[Path, Path], as_json: bool) -> int:
    from cryoet_core.benchmark.board.compare import compare

    found = compare(*paths)
    print(json.dumps(found.as_dict()) if as_json else "\n".join(_compared(found)), flush=True)
    return 0


def _compared(found: BenchmarkComparison) -> list[str]:
    lines = [_changed(change) for change in found.changes]
    lines += [f"{_changed(change)}, one seed: no interval" for change in found.single]
    lines += [f"only in {path}: {what}" for path, names in found.only.items() for what in names]
    lines += [f"{what}: {reason}" for what, reason in found.failures.items()]
    closing = (
        f"{plural(found.compared, 'figure')} compared, {len(found.changes)} changed beyond the "
        "interval"
    )
    return [
        *lines,
        closing + (f", {len(found.single)} differ with one seed" if found.single else ""),
    ]


def _changed(change: Change) -> str:
    interval = "" if change.half is None else f" ± {change.half:.4g}"
    means = f"{change.first:.4g} -> {change.second:.4g}"
    return (
        f"{change.what}: {change.metric} {means} ({change.difference:+.4g}{interval}, n = "
        f"{change.n})"
    )

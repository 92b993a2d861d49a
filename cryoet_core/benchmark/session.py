"""What ``cryoet benchmark`` does: plan, run what is missing, write the leaderboard."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryoet_core.benchmark import cell
from cryoet_core.benchmark.board.leaderboard import write_leaderboard
from cryoet_core.benchmark.engine import CellProcess, Executor, Local, cores, work_through
from cryoet_core.benchmark.plan import SEEDS, BenchmarkPlan, Cell, Place, every_source
from cryoet_core.benchmark.recipes import PROGRAM, DataRecipe, Stock
from cryoet_core.benchmark.results import Results, line_of
from cryoet_core.benchmark.show import Show
from cryoet_core.benchmark.slurm import Slurm
from cryoet_core.benchmark.suite import SCALES, Scale, Suite, builtin_names, load_suites
from cryoet_core.runs import runfolder
from cryoet_core.support import files
from cryoet_core.support.errors import UserError
from cryoet_core.support.files import shown
from cryoet_core.support.names import close_names

MARKER = "benchmark.json"
LIMITS: dict[Scale, float] = {"smoke": 5, "small": 60, "paper": 2880}
"""Minutes after which a command of a cell is ended."""
WRITTEN_EVERY = 300.0
"""Seconds after which the leaderboard is written again while cells run."""
MOST_AT_ONCE = 8
"""Cells on the cores of one machine where nothing is said: each takes about a gigabyte."""


@dataclass
class Wish:
    """What is asked for.

    Attributes
    ----------
    suites : sequence of str
        Names or paths; all suites of the program without any.
    methods : sequence of str
        All that fit without any.
    scale : str
        "smoke", "small" or "paper".
    seeds : int or None
        How many seeds; the scale decides without it.
    out : Path or None
        The folder to write.
    structures : Path or None
        A folder of structures.
    files : mapping of str to Path
        Files of the user, by name.
    executor : str
        "local" or "slurm".
    slurm : mapping of str to str
        Parameters of SLURM.
    jobs : int or None
        How many cells run at once.
    gpus : int
        How many GPUs there are.
    limit : float or None
        Minutes after which a command of a cell is ended; the scale decides without it.
    resume : bool
        Whether cells that are done are kept.
    dry_run : bool
        Whether to plan alone.
    """

    suites: Sequence[str] = ()
    methods: Sequence[str] = ()
    scale: str = "small"
    seeds: int | None = None
    out: Path | None = None
    structures: Path | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    executor: str = "local"
    slurm: Mapping[str, str] = field(default_factory=dict)
    jobs: int | None = None
    gpus: int = 0
    limit: float | None = None
    resume: bool = True
    dry_run: bool = False

    def checked(self) -> Scale:
        """Return the scale; a UserError names an argument that is out of its range."""
        if self.scale not in SCALES:
            raise UserError(f"`scale` {self.scale}: expected {', '.join(SCALES)}")
        if self.executor not in ("local", "slurm"):
            raise UserError(f"`executor` {self.executor}: expected local or slurm")
        least = {"seeds": 1, "jobs": 1, "gpus": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise UserError(f"`{name}` {value}: expected {lowest} or more")
        if self.limit is not None and not self.limit > 0:
            raise UserError(f"`limit` {self.limit:g}: expected minutes, more than 0")
        return self.scale


def run_benchmark(wish: Wish, show: Show | None = None) -> dict[str, Any]:
    """Run every cell that is missing and write the leaderboard.

    Parameters
    ----------
    wish : Wish
        What is asked for.
    show : Show, optional
        Tells what happens; silent without it.

    Returns
    -------
    dict
        The facts of the closing line.

    Raises
    ------
    UserError
        What is asked for cannot be done.
    """
    scale = wish.checked()
    out = (wish.out or Path("runs") / f"benchmark-{scale}").absolute()
    plan = make_plan(wish, scale, out)
    show = show or Show(silent=True)
    if wish.dry_run:
        return {
            "scale": scale,
            "runs": len(plan.cells),
            "commands": [" ".join(c.words) for c in plan.cells.values()],
        }
    lock = _opened(out, scale)
    try:
        results = Results(out)
        todo = [
            made for made in plan.cells.values() if not (wish.resume and results.is_done(made.key))
        ]
        show.planned(len(plan.cells), len(plan.cells) - len(todo), shown(out))
        try:
            _run(wish, scale, plan, todo, results, out, show)
        finally:
            facts = write_leaderboard(plan, results, out, custom=bool(wish.suites))
    finally:
        if lock is not None:
            lock.close()
    return facts


def make_plan(wish: Wish, scale: Scale, out: Path) -> BenchmarkPlan:
    """Plan the places and cells of what is asked for.

    Parameters
    ----------
    wish : Wish
        What is asked for.
    scale : str
        "smoke", "small" or "paper".
    out : Path
        The folder of the benchmark.

    Returns
    -------
    BenchmarkPlan
        The plan.

    Raises
    ------
    UserError
        There is no such suite or method, or a method fits no table.
    """
    from cryoet_core.plugins.discovery import inspect_all

    suites = load_suites(wish.suites)
    installed = {info.name: info for info in inspect_all()}
    for name in wish.methods:
        if name not in installed:
            raise UserError(f"`method` {name}: not installed{close_names(name, installed)}")
        if installed[name].status != "ok":
            raise UserError(f"`method` {name}: cannot be used: {installed[name].reason}")
    stock = Stock(out / "data", scale, wish.structures and wish.structures.absolute(), wish.files)
    _check_files(suites, wish.files)
    seeds = wish.seeds or SEEDS[scale]
    custom = [word for word in wish.suites if word not in builtin_names()]
    plan = BenchmarkPlan(suites, scale, seeds, stock, installed, wish.methods, custom)
    for name in wish.methods:
        if all(place.entry.method != name for place in plan.places):
            tasks = sorted({table.task for suite in suites for table in suite.table if table.task})
            raise UserError(
                f"`method` {name}: fits no table of the suites asked for, which take "
                f"{', '.join(tasks)}"
            )
    return plan


# ---- the steps -----------------------------------------------------------------------------------


def _run(
    wish: Wish,
    scale: Scale,
    plan: BenchmarkPlan,
    todo: Sequence[Cell],
    results: Results,
    out: Path,
    show: Show,
) -> None:
    limit = 60 * (wish.limit or LIMITS[scale])
    slots = wish.jobs or wish.gpus or (1 if scale == "paper" else min(cores(), MOST_AT_ONCE))
    places, written = _places(plan), [time.monotonic()]
    jobs: list[CellProcess] = []
    cells: dict[Path, Cell] = {}
    for made in todo:
        for source in every_source([made]):
            if not source.path.exists() and all(job.makes != source.path for job in jobs):
                jobs.append(_source_job(source, out, limit))
        job = _cell_job(
            made,
            out,
            limit,
            f"{places[made.key][0].label}, seed {made.seed}",
            fresh=not wish.resume,
        )
        cells[job.folder] = made
        done = job.outcome()
        if (
            done is not None and done["status"] == "ok"
        ):  # a benchmark that was killed had not noted it yet
            results.add(line_of(made, done, job.folder, out, places[made.key]))
        else:
            jobs.append(job)

    def ended(job: CellProcess, outcome: dict[str, Any]) -> None:
        if job.folder in cells:
            made = cells[job.folder]
            results.add(line_of(made, outcome, job.folder, out, places[made.key]))
        show.ended(job, outcome)
        if time.monotonic() - written[0] > WRITTEN_EVERY:
            write_leaderboard(plan, results, out, custom=bool(wish.suites))
            written[0] = time.monotonic()

    executor: Executor
    if wish.executor == "slurm":
        executor = Slurm(out / "slurm", slots, wish.gpus, wish.slurm, minutes=3 * limit / 60)
    else:
        executor = Local(slots, wish.gpus)
    with show.running(jobs, cells, results, executor.slots):
        work_through(jobs, executor, show.started, ended)


def _source_job(source: DataRecipe, out: Path, limit: float) -> CellProcess:
    folder = out / "cells" / f"data-{source.path.name.rsplit('.', 1)[0]}"
    _write_spec(folder, [{"name": "make", "words": list(source.words)}], limit)
    (out / "data").mkdir(exist_ok=True)
    (folder / "step-make.json").unlink(missing_ok=True)  # the file is gone, or was never made
    return CellProcess(
        folder,
        f"data {source.path.name}",
        source.path,
        tuple(needed.path for needed in source.needs),
    )


def _cell_job(made: Cell, out: Path, limit: float, label: str, *, fresh: bool) -> CellProcess:
    folder = out / "cells" / made.key
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    run = folder / cell.RUN
    steps: list[dict[str, Any]] = [
        {"name": cell.RUN, "words": [*made.words, "--out", str(run), "--json", "--quiet"]},
        *(
            {"name": name, "words": [PROGRAM, "evaluate", str(run), *words, "--json"]}
            for name, words in made.evaluations
        ),
    ]
    _write_spec(folder, steps, limit)
    return CellProcess(folder, label, needs=tuple(source.path for source in made.sources))


def _write_spec(folder: Path, steps: list[dict[str, Any]], limit: float) -> None:
    files.make_folder(folder)
    files.write_json(folder / cell.SPEC, {"steps": steps, "limit": limit})


def _opened(out: Path, scale: Scale) -> Any:
    """Make the folder, or resume in it; hold its lock. UserError when it is something else's."""
    marker = out / MARKER
    if out.exists() and not marker.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"`out` {out}: exists and is no folder of a benchmark; expected a new one, or one to "
            "resume"
        )
    files.make_folder(out)
    if marker.exists() and files.read_json(marker)["scale"] != scale:
        raise UserError(
            f"`out` {out}: holds a benchmark of the scale {files.read_json(marker)['scale']}, not "
            f"{scale}"
        )
    files.write_json(marker, {"scale": scale})
    return runfolder.lock(out)


def _check_files(suites: Sequence[Suite], given: Mapping[str, Path]) -> None:
    known = {recipe.files for suite in suites for recipe in suite.data.values() if recipe.files}
    for name in given:
        if name not in known:
            raise UserError(f"`files` {name}: no suite asks for it{close_names(name, known)}")


def _places(plan: BenchmarkPlan) -> dict[str, list[Place]]:
    """Where in the tables each cell stands."""
    found: dict[str, list[Place]] = defaultdict(list)
    for place in plan.places:
        for made in place.cells:
            found[made.key].append(place)
    return found

"""From a command to a finished run: what ``cryoet run``, ``resume``, ``predict`` and others do.

One data set's way: file -> ``open_inputs`` -> ``Trainer.fit`` -> labels or picks (``tasks``) ->
metrics, report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoet_core import tasks
from cryoet_core.plugins.config import read_config_file, resolve_preset
from cryoet_core.plugins.discovery import load_trainer
from cryoet_core.runs import inputs as opening
from cryoet_core.support.errors import UserError
from cryoet_core.support.files import shown
from cryoet_core.tasks.options import PickingOptions

if TYPE_CHECKING:
    from cryoet_core.plugins.interfaces import Trainer
    from cryoet_core.runs.run import Run

current_run: str | None = None
"""The folder of the run in progress, for the line that an interrupted command ends with."""


def run_method(
    method: str,
    inputs: Mapping[str, Sequence[Path]],
    options: Mapping[str, Any] | None = None,
    *,
    reading: Mapping[str, Any] | None = None,
    config_file: Path | None = None,
    preset: str = "auto",
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    report: bool = True,
    **run_options: Any,
) -> dict[str, Any]:
    """Run a method on data sets.

    Parameters
    ----------
    method : str
        Name of an installed method.
    inputs : mapping of str to sequence of Path
        Files by the name of the input.
    options : mapping, optional
        The method's own options, as on the command line.
    reading : mapping, optional
        What the user says of tomograms (``contrast``, ``voxel_size``, ``tilt_range``).
    config_file : Path, optional
        TOML file with options of the method.
    preset : str
        Set of defaults; "auto" is paper on a GPU, else fast.
    out : Path, optional
        Folder of the run; by default runs/<method>/<time>-<hash>.
    seed : int
        What all random numbers are derived from.
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    report : bool
        Write report.html.
    **run_options
        Those of ``Run.create``.

    Returns
    -------
    dict
        Facts for the closing line.

    Raises
    ------
    UserError
        The input is wrong; nothing is written.
    RunError
        The run failed; its folder says so too.
    """
    from cryoet_core.runs import devices
    from cryoet_core.runs.run import Run

    if seed < 0:
        raise UserError(f"`seed` {seed}: out of range; expected 0 or more")
    trainer = load_trainer(method)
    chosen = resolve_preset(preset, devices.resolve(device).type == "cuda")
    config = trainer.Config.from_layers(chosen, read_config_file(config_file), options)
    given = {name: [Path(path) for path in paths] for name, paths in inputs.items() if paths}
    said = opening.reading_of(reading)
    data = opening.open_inputs(trainer, given, said)
    run = Run.create(
        method,
        config,
        given,
        out,
        seed=seed,
        device=device,
        preset=chosen,
        reading=opening.given_of(said),
        **run_options,
    )
    why = f" (auto on {run.device.type})" if preset == "auto" else ""
    run.say(
        f"{method}: preset {chosen}{why}, device {run.device}, seed {seed}, folder {shown(run.dir)}"
    )
    for line in opening.notes(data.values()):
        run.say(f"note: {line}")
    return _fit_and_close(trainer(config), data, run, report)


def resume_run(folder: Path, *, report: bool = True, **run_options: Any) -> dict[str, Any]:
    """Resume an interrupted run from its last checkpoint.

    Parameters
    ----------
    folder : Path
        The folder of the run.
    report : bool
        Write report.html.
    **run_options
        Those of ``Run.resume``.

    Returns
    -------
    dict
        Facts for the closing line.
    """
    from cryoet_core.runs.run import Run

    run = Run.resume(folder, **run_options)
    trainer = _trainer_of(run)
    data = opening.open_inputs(type(trainer), run.inputs, run.reading)
    run.say(f"{run.method}: resuming {shown(run.dir)}")
    return _fit_and_close(trainer, data, run, report)


def predict_run(
    folder: Path,
    paths: Sequence[Path],
    out: Path | None = None,
    *,
    reading: Mapping[str, Any] | None = None,
    support: Sequence[Path] = (),
    **run_options: Any,
) -> dict[str, Any]:
    """Label or pick in new data with a finished run.

    Parameters
    ----------
    folder : Path
        The folder of the run.
    paths : sequence of Path
        The data.
    out : Path, optional
        Folder of the results; by default predictions/<name of the first file> in the run's folder.
    reading : mapping, optional
        What the user says of tomograms (``contrast``, ``voxel_size``, ``tilt_range``).
    support : sequence of Path
        Labelled examples of the classes to name, for methods that learn to compare
        (``interfaces.FewShotLabeller``).
    **run_options
        Those of ``Run.open``.

    Returns
    -------
    dict
        Facts for the closing line.
    """
    run, trainer = open_finished(folder, run_options)
    facts = {"run": shown(run.dir), "method": run.method}
    said = PickingOptions.of(reading)
    return facts | tasks.of(trainer.task).predict(run, trainer, paths, out, said, support)


def evaluate_run(
    folder: Path,
    paths: Sequence[Path] = (),
    *,
    reading: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Compare a run's labels or picks with the known ones, of its own data or of other data.

    Parameters
    ----------
    folder : Path
        The folder of the run.
    paths : sequence of Path
        The data; empty for the run's own.
    reading : mapping, optional
        What the user says of tomograms; also ``radius``, ``rule`` and ``particle`` for picks
        (``tasks.options.PickingOptions``).
    **options
        Those of ``Run.open``.

    Returns
    -------
    dict
        Scores.
    """
    run, trainer = open_finished(folder, options)
    facts = {"run": shown(run.dir), "method": run.method}
    return facts | tasks.of(trainer.task).evaluate(run, trainer, paths, PickingOptions.of(reading))


def report_run(folder: Path) -> Path:
    """Write the report of a run again and return its path."""
    from cryoet_core.runs.run import Run

    opened = Run.open(folder).dir
    from cryoet_core.report import write_report

    return write_report(opened)


# ---- the steps -----------------------------------------------------------------------------------


def _fit_and_close(
    trainer: Trainer, data: Mapping[str, Any], run: Run, report: bool
) -> dict[str, Any]:
    task = tasks.of(trainer.task)
    with _recorded(run):
        seen = opening.what_it_may_see(type(trainer), data)
        with run.timer("fit"):
            fitted = trainer.fit(seen, run)
        name = opening.subject_name(type(trainer), data)
        facts = task.finish(run, fitted, seen[name], data[name])
        run.barrier()
        scalars = {
            key: value for key, value in facts.items() if not isinstance(value, (list, dict))
        }
        run.finish(data=task.card(data[name]).as_dict(), **scalars)
        if run.rank:
            return dict(facts)
        if report:
            from cryoet_core.report import write_report

            facts["report"] = shown(write_report(run.dir))
        closed = run.facts
        facts |= {"wall_seconds": closed["wall_seconds"], "peak_memory": closed["peak_memory"]}
        return {
            "run": shown(run.dir),
            "method": run.method,
            "preset": run.preset,
            "seed": run.seed,
        } | facts


@contextmanager
def _recorded(run: Run) -> Iterator[None]:
    """Keep the folder for the interruption's hint, and note in the folder when the block fails."""
    global current_run
    current_run = shown(run.dir)
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        with suppress(
            UserError, OSError
        ):  # a full disk: what happened first is what the user must hear
            if stopped:
                run.fail("by the user", "interrupted")
            else:
                run.fail(f"{type(error).__name__}: {error}")
        raise
    current_run = None


def open_finished(folder: Path, run_options: Mapping[str, Any]) -> tuple[Run, Trainer]:
    """A finished run and its method.

    Raises
    ------
    UserError
        The folder is no run folder, or the run is not finished.
    """
    from cryoet_core.runs.run import Run

    run = Run.open(folder, **run_options)
    status = run.facts["status"]
    if status != "done":
        raise UserError(
            f"{shown(run.dir)}: this run is not finished (status {status}); resume it with: cryoet "
            f"resume {folder}"
        )
    return run, _trainer_of(run)


def _trainer_of(run: Run) -> Trainer:
    trainer = load_trainer(run.method)
    return trainer(trainer.Config.from_record(run.record["config"], run.dir / "config.json"))

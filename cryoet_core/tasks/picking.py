"""Pick particles in tomograms with what a method has learnt.

A run leaves one star for each tomogram, and scores where the truth is known.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoet_core.picks.table import Picks
from cryoet_core.plugins.interfaces import MeasuredPicker, Picker
from cryoet_core.runs import inputs as opening
from cryoet_core.runs.runfolder import DataCard
from cryoet_core.support import files, provenance
from cryoet_core.support.errors import RunError, UserError
from cryoet_core.support.files import shown
from cryoet_core.tasks.survey import PICKS, STATUS, Survey, SurveyRow, opened_one_by_one

if TYPE_CHECKING:
    import numpy as np

    from cryoet_core.plugins.interfaces import Trainer
    from cryoet_core.runs.run import Run
    from cryoet_core.tasks.options import PickingOptions
    from cryoet_core.tomograms import Tomogram, TomogramOptions, Tomograms

EVALUATION, TRUTH = "evaluation.json", "truth.h5"


def finish(run: Run, fitted: Any, seen: Tomograms, data: Tomograms) -> dict[str, Any]:
    """Pick in the run's own tomograms and write everything but the report; rank 0 does it.

    Parameters
    ----------
    run : Run
        The run.
    fitted : Picker
        What the method has learnt.
    seen : Tomograms
        The tomograms, without what the method must not see.
    data : Tomograms
        The same tomograms with their picks.

    Returns
    -------
    dict
        Facts for the closing line.

    Raises
    ------
    RunError
        ``fitted`` is no picker, or its picks are not in the tomogram.
    """
    facts: dict[str, Any] = {}
    if run.rank == 0:
        with run.timer("pick"):
            survey = Survey(run.dir, {"run": str(run.dir), "kind": "own data"}, run.dir / "picks")
            picks, rows = survey.pick(_picker(fitted), list(seen), run)
        facts = {"picks": shown(run.dir / "picks")} | _describe(picks, rows)
        # Labels that the method learnt from are not the truth: what it finds beside them may be
        # right.
        if opening.has_labels(data) and not opening.has_labels(seen):
            facts |= _own_scores(run, fitted, picks, data)
    return facts


def predict(
    run: Run,
    trainer: Trainer,
    paths: Sequence[Path],
    out: Path | None,
    options: PickingOptions,
    support: Sequence[Path] = (),
) -> dict[str, Any]:
    """Pick in other tomograms; stars, picks.h5 and status.json go to a folder.

    The same call resumes an interrupted one. A tomogram that cannot be read gets a row that says
    why, and the others finish.

    Parameters
    ----------
    run : Run
        A finished run.
    trainer : Trainer
        Its method.
    paths : sequence of Path
        The tomograms.
    out : Path or None
        The folder; None for predictions/NAME in that of the run.
    options : PickingOptions
        How tomograms are read.
    support : sequence of Path
        Must be empty: examples are for labelling.

    Returns
    -------
    dict
        Facts for the closing line.

    Raises
    ------
    UserError
        The folder is in use, or an option is not for this.
    RunError
        Some tomograms failed.
    """
    if support:
        raise UserError(
            f"`support` {opening.named(support)}: this run picks in tomograms; the option is for "
            "labelling"
        )
    folder = out or run.dir / "predictions" / _stem(paths)
    if folder.is_file() or Survey.is_done(folder):
        raise UserError(
            f"`out` {shown(folder)}: exists already; expected a new folder; choose another name or "
            "remove it"
        )
    for name in options.judging():
        raise UserError(f"`{name}`: an option of `cryoet evaluate`")
    started = time.monotonic()
    picks, rows = _survey(run, trainer, paths, folder, options)
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        raise RunError(
            f"{len(failed)} of {len(rows)} tomograms failed ({failed[0].name}: "
            f"{failed[0].message}); the others are in "
            f"{shown(folder)}, every reason in {shown(folder / STATUS)}"
        )
    facts = {"picks": shown(folder)} | _describe(picks, rows)
    return facts | {"wall_seconds": round(time.monotonic() - started, 3)}


def evaluate(
    run: Run, trainer: Trainer, paths: Sequence[Path], options: PickingOptions
) -> dict[str, Any]:
    """Compare picks with the known centres, in the run's own tomograms or in others.

    In other tomograms it picks now, unless `cryoet predict` picked there before.

    Parameters
    ----------
    run : Run
        A finished run.
    trainer : Trainer
        Its method.
    paths : sequence of Path
        The tomograms; empty for the run's own.
    options : PickingOptions
        How tomograms are read and how picks are judged. The radius is by default half the method's
        diameter.

    Returns
    -------
    dict
        Scores.

    Raises
    ------
    UserError
        No centres are known, or no radius is.
    """
    name = opening.subject_name(type(trainer), run.inputs)
    spec = opening.subject_spec(trainer)
    reading = options.reading
    own = not paths or _same_files(run, name, paths)
    if own:
        taught = {} if paths else {"picks": tuple(run.inputs.get(opening.PICKS, ()))}
        reading = replace(
            opening.reading_of(run.reading), **{**taught, **opening.given_of(reading)}
        )
    sources = [Path(path) for path in (paths or run.inputs[name])]
    truth = opening.open_input(
        "data", spec, sources, labels_required=False, reading=_as_trained(run, reading)
    )
    if not opening.has_labels(truth):
        raise UserError(
            f"{opening.named(sources)}: has no known particle centres to compare with; give `picks`"
        )
    learnt = trainer.load(run)
    radius = options.radius if options.radius is not None else _radius_of(run, learnt)
    if radius is None:
        raise UserError(
            "`radius`: missing; expected how far a pick may lie from the true centre, in Å"
        )
    picks = _own_picks(run) if own else _picked(run, trainer, sources, options)
    folder = run.dir if own else run.dir / "predictions" / _stem(sources)
    measured = _measured(learnt, truth, folder)
    try:
        scores = _scores(picks, truth, options.judging() | {"radius": radius}) | measured
    except UserError as error:
        if not measured or options.judging():
            raise  # what was asked for has to be answered
        run.say(f"note: picks not compared with the known centres ({error})")
        return {"n_picks": len(picks)} | measured
    _keep(scores, truth, folder)
    return _headline(scores) | {key: value for key, value in scores.items() if key != "curve"}


def card(data: Tomograms) -> DataCard:
    """What later data is read and compared with."""
    first = data.tomograms[0]
    return DataCard(len(data), float(first.voxel_size), density_sign=int(first.density_sign))


# ---- the steps -----------------------------------------------------------------------------------


def _own_scores(run: Run, fitted: Any, picks: Picks, data: Tomograms) -> dict[str, Any]:
    """Scores where nothing has to be asked; else a line that says what `cryoet evaluate` needs."""
    radius = _radius_of(run, fitted)
    if radius is None:
        return {}
    measured = _measured(fitted, data, run.dir)
    try:
        scores = _scores(picks, data, {"radius": radius}) | measured
    except UserError as error:
        run.say(
            f"note: not compared with the known centres ({error}); see: cryoet evaluate "
            f"{shown(run.dir)} --help"
        )
        return measured
    _keep(scores, data, run.dir)
    return _headline(scores) | measured


def _measured(picker: Any, truth: Tomograms, folder: Path) -> dict[str, Any]:
    """What the method itself measures against the truth, under ``measured``."""
    found = dict(picker.measure(truth, folder)) if isinstance(picker, MeasuredPicker) else {}
    return {"measured": found} if found else {}


def _keep(scores: Mapping[str, Any], truth: Tomograms, folder: Path) -> None:
    """Leave the scores beside the picks, and what they were compared with, for the report."""
    from cryoet_core.formats.picks.store_file import save_picks

    assert truth.picks is not None
    files.write_json(folder / EVALUATION, scores)
    save_picks(folder / TRUTH, truth.picks)


def _picker(fitted: Any) -> Picker:
    if isinstance(fitted, Picker):
        return fitted
    raise RunError(
        f"the method returned a {type(fitted).__name__}; expected an object with class_names and "
        "pick()"
    )


def _survey(
    run: Run, trainer: Trainer, paths: Sequence[Path], folder: Path, options: PickingOptions
) -> tuple[Picks, list[SurveyRow]]:
    """Pick in the tomograms of some files.

    Their own labels are not needed, so files of known picks are not opened here.
    """
    reading = replace(options.reading, picks=())
    spec = opening.subject_spec(trainer)

    def open_one(path: Path) -> Any:
        opened = opening.open_input(
            "data", spec, [path], labels_required=False, reading=_as_trained(run, reading)
        )
        for line in opening.notes([opened]):
            run.say(f"note: {line}")
        return opened

    tomograms, failed = opened_one_by_one([Path(path) for path in paths], open_one)
    if not tomograms:
        raise UserError(
            f"none of {len(failed)} files can be opened; the first: {failed[0].message}"
        )
    for line in _differences(run.outcome.data, tomograms):
        run.say(f"note: {line}")
    prints = [
        provenance.fingerprint(Path(path).absolute()) for path in paths if Path(path).exists()
    ]
    asked = {"run": str(run.dir), "files": prints, "reading": opening.given_of(reading)}
    survey = Survey(folder, asked)
    return survey.pick(_picker(trainer.load(run)), tomograms, run, failed)


def _as_trained(run: Run, reading: TomogramOptions) -> TomogramOptions:
    """How files are read: where nothing says the contrast, it is that of the training data."""
    card = run.outcome.data
    if card is None or card.density_sign is None:
        return reading
    return replace(reading, default_contrast="bright" if card.density_sign > 0 else "dark")


def _differences(trained_on: DataCard | None, tomograms: Sequence[Tomogram]) -> list[str]:
    found = []
    for tomogram in tomograms:
        if (
            trained_on
            and abs(tomogram.voxel_size / trained_on.voxel_size - 1) > opening.SAME_VOXELS
        ):
            found.append(
                f"{tomogram.name}: voxels of {tomogram.voxel_size:g} Å, resampled to those of "
                "training, "
                f"{trained_on.voxel_size:g} Å"
            )
    return found


def _picked(run: Run, trainer: Trainer, paths: Sequence[Path], options: PickingOptions) -> Picks:
    """The picks in some files: those of an earlier predict of the same files, or picked now."""
    from cryoet_core.formats.picks.store_file import load_picks

    folder = run.dir / "predictions" / _stem(paths)
    if Survey.is_done(folder):
        prints = [provenance.fingerprint(path.absolute()) for path in paths]
        if files.read_json(folder / "request.json")["files"] == files.plain(prints):
            return load_picks(folder / PICKS)
        raise UserError(
            f"{shown(folder)}: holds picks of other files of this name; remove it or rename the "
            "files"
        )
    picks, rows = _survey(run, trainer, paths, folder, options)
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        raise RunError(f"{failed[0].name}: {failed[0].message}")
    return picks


def _own_picks(run: Run) -> Picks:
    from cryoet_core.formats.picks.store_file import load_picks

    return load_picks(run.dir / PICKS)


def _same_files(run: Run, name: str, paths: Sequence[Path]) -> bool:
    return [Path(path).absolute() for path in paths] == list(run.inputs[name])


def _stem(paths: Sequence[Path]) -> str:
    more = f"-and-{len(paths) - 1}-more" if len(paths) > 1 else ""
    return Path(paths[0]).stem + more


def _radius_of(run: Run, picker: Any) -> float | None:
    """The picker's own ``radius`` in Å, or half the diameter that the method was given.

    Of several diameters the largest counts.
    """
    own = getattr(picker, "radius", None)
    given = getattr(run.config, "diameter", None)
    if own is not None or given is None:
        return None if own is None else float(own)
    sizes = [float(word.rsplit("=", 1)[-1]) for word in str(given).split(",") if word.strip()]
    return max(sizes) / 2 if sizes else None


def _scores(picks: Picks, data: Tomograms, asked: Mapping[str, Any]) -> dict[str, Any]:
    from cryoet_core.evaluation.detection import detection_report

    assert data.picks is not None
    known = [tomogram.name for tomogram in data if tomogram.picks is not None]
    more: dict[str, Any] = {"voxel_size": data.tomograms[0].voxel_size, "tomograms": known}
    if asked.get("rule") == "shrec":
        more["masks"] = {tomogram.name: _particles_by_voxel(tomogram) for tomogram in data}
    return detection_report(picks, data.picks, **asked, **more)


def _particles_by_voxel(tomogram: Tomogram) -> np.ndarray:
    """The number of the particle at each voxel (d, h, w), as a simulator stores it; 0 for none."""
    mask = tomogram.masks.get("ids")
    if mask is None:
        raise UserError(
            f"`rule` shrec: {tomogram.where or tomogram.name} has no mask of the particles; "
            "expected a simulated store"
        )
    values: np.ndarray = mask.read((slice(None), slice(None), slice(None)))
    return values


def _headline(scores: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "n_truth",
        "precision",
        "recall",
        "f1",
        "f_beta4",
        "ap",
        "best_f1",
        "best_threshold",
        "radius",
        "rule",
    )
    return {name: scores[name] for name in names if name in scores}


def _describe(picks: Picks, rows: Sequence[SurveyRow]) -> dict[str, Any]:
    counts = {
        name: int((picks.classes == index).sum()) for index, name in enumerate(picks.class_names)
    }
    failed = sum(row.status == "failed" for row in rows)
    return {"n": len(picks), "tomograms": len(rows), "counts": counts} | (
        {"failed": failed} if failed else {}
    )

"""What a run that picks particles left: its picks, and those of evaluated predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.picks.table import Picks
from cryoet_core.support import files
from cryoet_core.support.errors import RunError, UserError

STATUS, PICKS, TRUTH, EVALUATION, REQUEST = (
    "status.json",
    "picks.h5",
    "truth.h5",
    "evaluation.json",
    "request.json",
)
PREDICTIONS = "predictions"


@dataclass(frozen=True)
class SurveyFacts:
    """Picks in some tomograms.

    Attributes
    ----------
    name : str
        Name of the prediction; "" for the run's own data.
    rows : list of dict
        The tomograms as status.json has them.
    picks : Picks or None
        The picks.
    scores : dict or None
        A detection report.
    truth : Picks or None
        The known particles that ``scores`` compares with, where they were kept.
    paths : list of Path
        Files of the tomograms.
    reading : dict
        What was said of the tomograms when they were read.
    diameter : float or None
        Of the particle in Å; None where neither method nor comparison says it.
    """

    name: str
    rows: list[dict[str, Any]]
    picks: Picks | None
    scores: dict[str, Any] | None
    truth: Picks | None
    paths: list[Path]
    reading: dict[str, Any]
    diameter: float | None

    @property
    def failed(self) -> int:
        """How many tomograms failed."""
        return sum(row.get("status") == "failed" for row in self.rows)

    @property
    def seconds(self) -> float:
        """How long the tomograms took, in seconds."""
        return float(sum(row.get("seconds") or 0 for row in self.rows))


def gather_surveys(
    folder: Path, record: Mapping[str, Any], remarks: list[str]
) -> tuple[SurveyFacts, ...]:
    """Read the survey of a run, and those of its predictions that were evaluated.

    Parameters
    ----------
    folder : Path
        The folder of the run.
    record : mapping
        What the run says of itself.
    remarks : list of str
        Remarks for the reader are appended.

    Returns
    -------
    tuple of SurveyFacts
        Empty for runs that pick nothing.
    """
    if not (folder / STATUS).exists():
        return ()
    inputs = record.get("inputs") or {}
    own = [Path(path) for name, paths in inputs.items() if name != "picks" for path in paths]
    reading = {
        **(record.get("reading") or {}),
        "picks": [Path(path) for path in inputs.get("picks", ())],
    }
    found = [_survey(folder, "", own, reading, record, remarks)]
    later = (
        sorted((folder / PREDICTIONS).glob(f"*/{EVALUATION}"))
        if (folder / PREDICTIONS).is_dir()
        else []
    )
    for path in later:
        request = _read(path.parent / REQUEST, dict, remarks) or {}
        files_ = [Path(file["path"]) for file in request.get("files", ()) if "path" in file]
        found.append(
            _survey(
                path.parent, path.parent.name, files_, request.get("reading") or {}, record, remarks
            )
        )
    return tuple(found)


def _survey(
    folder: Path,
    name: str,
    paths: list[Path],
    reading: dict[str, Any],
    record: Mapping[str, Any],
    remarks: list[str],
) -> SurveyFacts:
    scores = _read(folder / EVALUATION, dict, remarks)
    rows = _read(folder / STATUS, list, remarks) or []
    return SurveyFacts(
        name=name,
        rows=[row for row in rows if isinstance(row, dict)],
        picks=_picks(folder / PICKS, remarks),
        scores=scores if scores and "n_truth" in scores else None,
        truth=_picks(folder / TRUTH, remarks),
        paths=paths,
        reading=reading,
        diameter=_diameter(record, scores),
    )


def _diameter(record: Mapping[str, Any], scores: Mapping[str, Any] | None) -> float | None:
    """The method's own, the largest of several species; else twice the radius of the comparison."""
    given = (record.get("config") or {}).get("diameter")
    words = [word.rsplit("=", 1)[-1] for word in str(given).split(",")] if given is not None else []
    sizes = [float(word) for word in words if word.strip().replace(".", "", 1).isdigit()]
    if sizes:
        return max(sizes)
    return 2 * float(scores["radius"]) if scores and scores.get("radius") else None


def _picks(path: Path, remarks: list[str]) -> Picks | None:
    from cryoet_core.formats.picks.store_file import load_picks

    if not path.exists():
        return None
    try:
        return load_picks(path)
    except UserError:
        remarks.append(f"{path.name} is damaged and was left out.")
        return None


def _read(path: Path, kind: type, remarks: list[str]) -> Any:
    if not path.exists():
        return None
    try:
        value = files.read_json(path)
    except RunError:
        value = None
    if not isinstance(value, kind):
        remarks.append(f"{path.name} is damaged and was left out.")
        return None
    return value


def hits_of(
    survey: SurveyFacts, truth: Picks | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Say which picks hit, as the comparison counted them.

    Parameters
    ----------
    survey : SurveyFacts
        Picks with their scores.
    truth : Picks or None
        The known particles.

    Returns
    -------
    tuple of three ndarrays, or None
        Rows of picks that hit, of false picks, and of missed particles. None where the truth is
        not at hand, or is not the one that was compared with.
    """
    from cryoet_core.evaluation.detection import compared

    scores, picks = survey.scores, survey.picks
    if not scores or picks is None or truth is None or scores.get("rule") == "shrec":
        return None
    try:
        found = compared(
            picks,
            truth,
            float(scores["radius"]),
            rule=scores["rule"],
            voxel_size=scores.get("voxel_size"),
            particle=scores.get("particle"),
            tomograms=[row["tomogram"] for row in scores.get("per_tomogram", ())] or None,
        )
    except (UserError, KeyError):
        return None
    if (len(found.hits), len(found.hits) + len(found.missed)) != (
        scores.get("hits"),
        scores.get("n_truth"),
    ):
        return None
    return found.hits, found.false, found.missed

"""What ``cryoet explain`` does: maps of one volume by one or two runs, as MRC files and as a
picture of slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.algorithms.averages import write_averages
from cryoet_core.algorithms.gradcam import CAMS, Cam, Explanation, explain
from cryoet_core.runs import inputs as opening
from cryoet_core.support import files
from cryoet_core.support.errors import UserError
from cryoet_core.support.files import shown
from cryoet_core.support.names import file_name

FOLDER, FACTS, PICTURE, PICTURES = (
    "explanations",
    "explanation.json",
    "overlay.png",
    "pictures.json",
)
TITLE = "Where the network looks"
_SMALLEST = 192
"""Slices are enlarged to at least this many pixels."""
_OPAQUE = 0.65


def explain_run(
    folder: Path,
    paths: Sequence[Path],
    index: int,
    out: Path | None = None,
    *,
    class_name: str | None = None,
    cams: Sequence[Cam] = CAMS,
    beside: Path | None = None,
    **run_options: Any,
) -> dict[str, Any]:
    """Explain volume ``index`` of the files by a finished run, and by the run ``beside`` for
    comparison; the facts.

    Without ``out`` the files go to the run's folder, and its report shows the picture. UserError as
    ``explain`` says.
    """
    from cryoet_core.tasks.session import open_finished

    run, trainer = open_finished(folder, run_options)
    data = opening.open_input("data", opening.subject_spec(trainer), paths, labels_required=False)
    where = out or run.dir / FOLDER / f"{Path(paths[0]).stem}-{index}"
    if where.exists():
        raise UserError(
            f"`out` {shown(where)}: exists already; expected a new folder; choose another name or "
            "remove it"
        )
    first = explain(trainer.load(run), data, index, run, class_name=class_name, cams=cams)
    found = [(shown(run.dir), first)]
    if beside is not None:
        other, other_trainer = open_finished(beside, run_options)
        second = explain(
            other_trainer.load(other), data, index, other, class_name=first.class_name, cams=cams
        )
        found.append((shown(other.dir), second))
    _write(where, found, data.voxel_size)
    facts = {
        "run": shown(run.dir),
        "method": run.method,
        "index": index,
        "class": first.class_name,
        "predicted": first.predicted,
        "probability": first.probability,
        "folder": shown(where),
    }
    true = int(data.labels[index])
    facts |= {"true": data.class_names[true]} if true >= 0 else {}
    files.write_json(where / FACTS, facts | {"rows": _captions(found)})
    if where.absolute().is_relative_to(run.dir.absolute()):
        facts["report"] = _report(run, where, facts, _captions(found))
    return facts


def _write(folder: Path, found: Sequence[tuple[str, Explanation]], voxel_size: float) -> None:
    """volume.mrc, one MRC per map and the picture."""
    explanations = [one for _, one in found]
    names, volumes = ["volume"], [explanations[0].volume]
    for number, one in enumerate(explanations):
        for cam, volume in one.maps.items():
            names.append(
                file_name(cam, blanks=True, empty="class") + ("" if number == 0 else "-beside")
            )
            volumes.append(volume)
    write_averages(folder, np.stack(volumes), names, voxel_size)
    maps = [values for one in explanations for values in one.maps.values()]
    overlay(explanations[0].volume, maps).save(folder / PICTURE)


def overlay(volume: np.ndarray, maps: Sequence[np.ndarray]) -> Any:
    """A picture: the central slices of a volume (d, h, w) across z, y and x, and below it the same
    under each map.

    Slices of the volume are smoothed by a voxel for the eye. Maps (d, h, w) in 0..1 go from clear
    over red to yellow.
    """
    from PIL import Image

    from cryoet_core.report.drawing.images import central_slices, smoothed_slices

    slices = [plane[0] for plane in smoothed_slices(volume[None])]
    low, high = np.percentile(np.concatenate([plane.ravel() for plane in slices]), (1, 99.5))
    grey = [np.clip((plane - low) / max(high - low, 1e-12), 0, 1) for plane in slices]
    rows = [[np.repeat(plane[..., None], 3, axis=-1) for plane in grey]]
    rows += [
        [_heated(plane, heat) for plane, heat in zip(grey, central_slices(m), strict=True)]
        for m in maps
    ]
    factor = max(1, -(-_SMALLEST // max(volume.shape)))
    height = max(plane.shape[0] for plane in grey) * factor
    lines = [
        np.concatenate([_enlarged(plane, factor, height) for plane in row], axis=1) for row in rows
    ]
    return Image.fromarray(np.rint(np.concatenate(lines) * 255).astype(np.uint8))


def _heated(grey: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """(h, w, 3): red that turns yellow, more opaque where the map is larger."""
    strength = np.clip(heat, 0, 1)
    colour = np.stack(
        [np.ones_like(strength), np.clip(2 * strength - 1, 0, 1), np.zeros_like(strength)], axis=-1
    )
    share = _OPAQUE * strength[..., None]
    mixed: np.ndarray = (1 - share) * grey[..., None] + share * colour
    return mixed


def _enlarged(plane: np.ndarray, factor: int, height: int) -> np.ndarray:
    """(height, w, 3) with a white border at the right and below."""
    large = np.repeat(np.repeat(plane, factor, axis=0), factor, axis=1)
    framed = np.ones((height + 4, large.shape[1] + 4, 3))
    framed[: large.shape[0], : large.shape[1]] = large
    return framed


def _captions(found: Sequence[tuple[str, Explanation]]) -> list[str]:
    """What each row of the picture shows, from the top."""
    rows = [
        f"{cam} of {name} ({one.probability:.2f} {one.class_name})"
        for name, one in found
        for cam in one.maps
    ]
    return ["the volume", *rows]


def _report(run: Any, where: Path, facts: dict[str, Any], rows: list[str]) -> str:
    """Add the picture to the run's report and write that again; its path."""
    from cryoet_core.report import write_report

    groups = run.read_json(PICTURES) or []
    group = next((one for one in groups if one["title"] == TITLE), None)
    if group is None:
        note = "Central slices across z, y and x; red to yellow is what speaks for the class."
        group = {"title": TITLE, "note": note, "pictures": []}
        groups.append(group)
    true = f", truly {facts['true']}" if "true" in facts else ""
    caption = f"subtomogram {facts['index']}: {facts['predicted']}{true}; rows: {'; '.join(rows)}"
    group["pictures"].append(
        {"file": (where / PICTURE).relative_to(run.dir).as_posix(), "caption": caption}
    )
    run.write_json(PICTURES, groups)
    return shown(write_report(run.dir))

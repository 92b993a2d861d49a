"""copick: picks in JSON, and projects, which are folders of them.

A file holds one object of one user in one run. Locations are Å from the centre of the first voxel;
``transformation_`` (4, 4) takes (x, y, z) of the object into the tomogram, and its translation is
added to the location.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.formats.picks.angles import orthonormal
from cryoet_core.formats.picks.json_text import json_of, location, matrix, score_of
from cryoet_core.formats.picks.model import PickFile, PickReading, Writing
from cryoet_core.formats.picks.names import natural
from cryoet_core.formats.picks.rows import Rows, finish
from cryoet_core.formats.relion import UNLABELLED
from cryoet_core.picks.table import Picks, join
from cryoet_core.support import files
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import file_name

RUNS, PICKS, CONFIG = "ExperimentRuns", "Picks", "copick_config.json"
USER, SESSION = "cryoet", "0"


def read(path: Path, reading: PickReading) -> PickFile:
    """Read the picks of a JSON file or of a project.

    A project is given by its folder, of which all runs are read, or by its configuration.

    Parameters
    ----------
    path : Path
        The pick file.
    reading : PickReading
        What the user says of it that the file does not.

    Returns
    -------
    PickFile
        The picks in the order of the file, in Å and (z, y, x).

    Raises
    ------
    UserError
        Where a point is damaged, or the project is not on this machine.
    """
    if path.is_dir():
        return _project(path, [path], reading)
    content = json_of(path)
    if isinstance(content, Mapping) and "pickable_objects" in content:
        return _project(path, _roots(path, content), reading)
    return _file(path, content, reading)


def _roots(path: Path, config: Mapping[str, Any]) -> list[Path]:
    """Local folders of a configuration that exist, those that may be written to first."""
    found = []
    for name in ("overlay_root", "static_root"):
        protocol, _, place = str(config.get(name) or "").rpartition("://")
        folder = path.parent / place
        if place and protocol in ("", "local", "file") and (folder / RUNS).is_dir():
            found.append(folder)
    if not found:
        shown = config.get("overlay_root") or "no overlay_root"
        raise UserError(
            f"{path}: a copick project whose picks are not here ({shown}); expected a local folder "
            f"that holds {RUNS}; "
            "copy it to this machine"
        )
    return found


def _project(path: Path, roots: list[Path], reading: PickReading) -> PickFile:
    chosen: dict[tuple[str, str], Path] = {}
    for root in reversed(roots):
        for file in sorted(root.glob(f"{RUNS}/*/{PICKS}/*.json")):
            chosen[file.parent.parent.name, file.name] = file
    parts = [
        _file(chosen[key], json_of(chosen[key]), reading, run=key[0]) for key in sorted(chosen)
    ]
    notes = list(dict.fromkeys(note for part in parts for note in part.notes))
    users: dict[tuple[str, str], set[str]] = {}
    for run, name in chosen:
        words = name.removesuffix(".json").split("_", 2)
        users.setdefault((run, words[-1]), set()).add("_".join(words[:-1]))
    several = next((key for key, who in users.items() if len(who) > 1), None)
    if several:
        notes.append(
            f"run {several[0]} has picks of {several[1]} by {', '.join(sorted(users[several]))}: "
            "all are read"
        )
    picks = join([part.picks for part in parts]) if parts else Picks.empty()
    if not len(picks):
        notes.append("the project holds no picks")
    return PickFile(picks, notes, "copick")


def _file(path: Path, content: Any, reading: PickReading, run: str | None = None) -> PickFile:
    points = content.get("points") if isinstance(content, Mapping) else None
    if not isinstance(points, list):
        raise UserError(f"{path}: JSON without a list of points; expected picks of copick")
    unit = content.get("unit")
    if unit not in ("angstrom", None):
        raise UserError(
            f"{path}: positions in {str(unit)[:20]!r}; expected angstrom, as copick writes them"
        )
    where = [f"point {index}" for index in range(len(points))]
    xyz = [location(path, name, point) for name, point in zip(where, points, strict=True)]
    rows = Rows(path, "copick", np.array(xyz, dtype=np.float64).reshape(-1, 3), in_voxels=False)
    _transformed(rows, where, points, content.get("trust_orientation") is not False)
    rows.scores = np.array([score_of(point.get("score")) for point in points], dtype=np.float64)
    name = content.get("pickable_object_name")
    rows.classes = [str(name)] * len(points) if name else None
    runs = run or content.get("run_name") or _run_of(path)
    rows.tomograms = [str(runs)] * len(points) if runs else None
    return finish(rows, reading)


def _run_of(path: Path) -> str | None:
    """The run by the folders of a project: ExperimentRuns/RUN/Picks/FILE.json."""
    folder = path.absolute().parent
    return (
        folder.parent.name if folder.name == PICKS and folder.parent.parent.name == RUNS else None
    )


def _transformed(rows: Rows, where: list[str], points: list[Any], trusted: bool) -> None:
    """Return rotations and shifts of the transformations.

    There are none where all are the identity, which copick writes for none.
    """
    identity = np.eye(4).tolist()
    given = [point.get("transformation_") or identity for point in points]
    matrices = np.array(
        [matrix(rows.path, name, value, 4) for name, value in zip(where, given, strict=True)]
    )
    matrices = matrices.reshape(-1, 4, 4)
    rows.shift = matrices[:, :3, 3]
    rotations = matrices[:, :3, :3]
    bad = np.flatnonzero(~orthonormal(rotations))
    if len(bad) and trusted:
        raise UserError(
            f"{rows.path}: the transformation of {where[bad[0]]} is no rotation; repair it"
        )
    if trusted and np.any(rotations != np.eye(3)):
        rows.rotations = rotations[:, ::-1, ::-1].copy()
    elif not trusted and np.any(rotations != np.eye(3)):
        rows.notes.append("its orientations are not to be trusted, as it says, and left out")


def targets(path: Path, picks: Picks) -> dict[Path, Picks]:
    """Name the files for picks.

    Parameters
    ----------
    path : Path
        A file that ends in .json, or the folder of a project.
    picks : Picks
        The picks to write.

    Returns
    -------
    dict[Path, Picks]
        The picks of each file.

    Raises
    ------
    UserError
        Where one file would have to hold several tomograms or classes, or two names become one.
    """
    names = [*picks.class_names, UNLABELLED]
    parts: dict[Path, Picks] = {}
    for run in sorted({str(name) for name in picks.tomograms}, key=natural):
        within = picks.within(run)
        for label in sorted({int(label) for label in within.classes}):
            target = (
                path
                / RUNS
                / file_name(run)
                / PICKS
                / f"{USER}_{SESSION}_{object_name(names[label])}.json"
            )
            if target in parts:
                raise UserError(
                    f"{path}: two classes or tomograms would be {target.stem} in copick; rename one"
                )
            parts[target] = within.select(within.classes == label)
    if path.suffix.lower() != ".json":
        return parts
    if len(parts) > 1:
        raise UserError(
            f"{path}: a JSON file of copick holds one class in one tomogram, and there are "
            f"{len(parts)}; expected the "
            "name of a folder, for a project"
        )
    return {path: picks}


def object_name(text: str) -> str:
    """Return a class's name as copick allows it: no underscores, blanks or signs of paths."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1F\x7F\s_]', "-", text).strip("-") or "object"


def write(path: Path, picks: Picks, writing: Writing) -> list[str]:
    """Write a JSON file, or the picks of a project and its configuration where it has none yet.

    Parameters
    ----------
    path : Path
        The file to replace.
    picks : Picks
        The picks, in Å and (z, y, x).
    writing : Writing
        Geometry of the tomograms, voxel size, box size and optics to write with.

    Returns
    -------
    list[str]
        What the format could not hold, in a few words each.

    Raises
    ------
    UserError
        Where one file would have to hold several tomograms or classes, or two names become one.
    """
    lost = []
    for target, part in targets(path, picks).items():
        with files.explained(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        name = [*picks.class_names, UNLABELLED][int(part.classes[0])] if len(part) else "particle"
        if object_name(name) != name:
            lost.append(f"class {name!r} is called {object_name(name)!r} in copick")
        run = (
            target.parent.parent.name
            if target != path
            else str(part.tomograms[0])
            if len(part)
            else None
        )
        files.write_json(target, _content(part, object_name(name), run))
    if path.suffix.lower() != ".json" and not (path / CONFIG).exists():
        with files.explained(path):
            path.mkdir(parents=True, exist_ok=True)
        files.write_json(path / CONFIG, _config(path, picks))
    return lost


def _content(picks: Picks, name: str, run: str | None) -> dict[str, Any]:
    rotated = picks.rotations is not None and bool(
        np.isfinite(picks.rotations).all(axis=(1, 2)).any()
    )
    points = []
    for row, (z, y, x) in enumerate(picks.positions):
        transformation = np.eye(4)
        if picks.rotations is not None and np.isfinite(picks.rotations[row]).all():
            transformation[:3, :3] = picks.rotations[row][::-1, ::-1]
        score = float(picks.scores[row])
        points.append(
            {
                "location": {
                    "x": round(float(x), 6),
                    "y": round(float(y), 6),
                    "z": round(float(z), 6),
                },
                "transformation_": transformation.round(9).tolist(),
                "instance_id": 0,
                "score": score if np.isfinite(score) else None,
            }
        )
    head = {"pickable_object_name": name, "user_id": USER, "session_id": SESSION, "run_name": run}
    return head | {
        "voxel_spacing": None,
        "unit": "angstrom",
        "points": points,
        "trust_orientation": rotated,
    }


def _config(path: Path, picks: Picks) -> dict[str, Any]:
    """A configuration of a local project, from which copick opens it."""
    names = sorted({object_name(name) for name in picks.class_names}, key=natural)
    palette = (
        (0, 117, 220),
        (251, 192, 147),
        (43, 206, 72),
        (255, 204, 153),
        (148, 255, 181),
        (240, 163, 255),
    )
    objects = [
        {
            "name": name,
            "is_particle": True,
            "label": number,
            "color": [*palette[number % len(palette)], 255],
        }
        for number, name in enumerate(names, 1)
    ]
    return {
        "name": path.name,
        "description": "Picks written by cryoet.",
        "version": "0.5.0",
        "pickable_objects": objects,
        "user_id": USER,
        "config_type": "filesystem",
        "overlay_root": f"local://{path.absolute()}",
        "overlay_fs_args": {"auto_mkdir": True},
    }

"""copick projects on this machine: a configuration file, and runs with tomograms and picks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryoet_core.formats.stack import plain_file
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms.reading import Draft, Opener, TomogramOptions
from cryoet_core.tomograms.volume import SAME_VOXELS

RUNS = "ExperimentRuns"
_SPACING = re.compile(r"^VoxelSpacing(\d+(?:\.\d+)?)$")
_LARGEST = 64 << 20


def is_project(path: Path) -> bool:
    """Whether a folder is the root of a project, which holds its runs."""
    return (path / RUNS).is_dir()


def roots(path: Path) -> list[Path]:
    """Return the folders of a project: overlay_root and static_root of a configuration.

    Parameters
    ----------
    path : Path
        A configuration file, or a folder, which is returned itself.

    Returns
    -------
    list of Path
        Folders on this machine.

    Raises
    ------
    UserError
        None of the folders is here.
    """
    if path.is_dir():
        return [path]
    config = _config(path)
    found = []
    for name in ("overlay_root", "static_root"):
        address = str(config.get(name) or "")
        protocol, _, place = address.rpartition("://")
        if place and protocol in ("", "local", "file"):
            folder = (path.parent / place).resolve()
            if is_project(folder) and folder not in found:
                found.append(folder)
    if not found:
        shown = ", ".join(
            str(config[name]) for name in ("overlay_root", "static_root") if config.get(name)
        )
        raise UserError(
            f"{path}: a copick project whose data is not here ({shown or 'no overlay_root'}); "
            "expected a local folder "
            f"that holds {RUNS}; copy it to this machine"
        )
    return found


def drafts(path: Path, reading: TomogramOptions, opener: Opener) -> list[Draft]:
    """Return one tomogram of each run of a project that has any, with its picks.

    Parameters
    ----------
    path : Path
        The configuration file or the folder.
    reading : TomogramOptions
        What the user says; its voxel size chooses among tomograms.
    opener : callable
        Opens one tomogram; see ``Opener``.

    Returns
    -------
    list of Draft
        The tomograms, by the names of their runs.

    Raises
    ------
    UserError
        There is none, or it is not clear which one of a run is meant.
    """
    folders = roots(path)
    names = sorted(
        {entry.name for root in folders for entry in (root / RUNS).iterdir() if entry.is_dir()}
    )
    found = [
        draft
        for name in names
        if (draft := _run(path, [root / RUNS / name for root in folders], reading, opener))
    ]
    if not found:
        raise UserError(
            f"{path}: a copick project without tomograms; expected "
            f"{RUNS}/RUN/VoxelSpacing10.000/TYPE.zarr"
        )
    return found


def _run(path: Path, folders: list[Path], reading: TomogramOptions, opener: Opener) -> Draft | None:
    images = {
        (size, image.name): image for folder in reversed(folders) for size, image in _images(folder)
    }
    if not images:
        return None
    name = folders[0].name
    sizes = sorted({size for size, _ in images})
    if reading.voxel_size is not None:
        near = [size for size in sizes if abs(size / reading.voxel_size - 1) <= SAME_VOXELS]
        sizes = near or sizes
    shown = ", ".join(f"{size:g}" for size in sizes)
    if len(sizes) > 1:
        raise UserError(
            f"{path}: run {name} has tomograms of {shown} Å; expected one size; choose by "
            "`voxel_size`"
        )
    chosen = sorted(
        (image for (size, _), image in images.items() if size == sizes[0]),
        key=lambda image: image.name,
    )
    if len(chosen) > 1:
        kinds = ", ".join(image.stem for image in chosen)
        raise UserError(
            f"{path}: run {name} has {len(chosen)} tomograms of {shown} Å ({kinds}); expected one; "
            "give the .zarr "
            f"folders in its place, such as {chosen[0]}"
        )
    draft = opener(chosen[0], reading)[0]
    if draft.voxel_size is None:
        draft = replace(draft, voxel_size=sizes[0]).noted(
            f"voxel size {sizes[0]:g} Å by the name of its folder"
        )
    files, notes = _picks(folders, name)
    return replace(draft, name=name, pick_files=files).noted(*notes)


def _images(folder: Path) -> Iterator[tuple[float, Path]]:
    for spacing in sorted(folder.glob("VoxelSpacing*")):
        match = _SPACING.match(spacing.name)
        if match:
            yield from (
                (float(match[1]), image)
                for image in sorted(spacing.glob("*.zarr"))
                if image.is_dir()
            )


def _picks(folders: list[Path], run: str) -> tuple[tuple[Path, ...], list[str]]:
    """Return the picks of a run, one file for each object, and notes.

    Where several users picked an object, its picks are left out and a note says so.
    """
    by_object: dict[str, dict[str, Path]] = {}
    for folder in reversed(folders):
        for file in sorted((folder / "Picks").glob("*.json")):
            by_object.setdefault(file.stem.split("_", 2)[-1], {})[file.name] = file
    notes = [
        f"picks of {name} by several users ({', '.join(sorted(files))}) are left out; give "
        "one of them as picks"
        for name, files in by_object.items()
        if len(files) > 1
    ]
    return tuple(
        next(iter(files.values())) for files in by_object.values() if len(files) == 1
    ), notes


def _config(path: Path) -> Mapping[str, Any]:
    try:
        with plain_file(path) as file:
            found = json.loads(file.read(_LARGEST))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: no JSON that can be read ({error}); expected a copick configuration"
        ) from error
    if not isinstance(found, Mapping):
        raise UserError(f"{path}: JSON of another kind; expected a copick configuration")
    return found

"""Opening tomograms of any format: a file gives drafts, and what the user says completes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cryoet_core.formats.mrc import HEADER_BYTES, declared_depth
from cryoet_core.formats.omezarr import Level, is_zarr, open_omezarr
from cryoet_core.formats.sniff import recognise
from cryoet_core.formats.source import SAME_VOXEL_SIZE, VolumeSource
from cryoet_core.formats.stack import VolumeStack, first_bytes
from cryoet_core.formats.volumes import open_volumes
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import copick, manifest
from cryoet_core.tomograms.attaching import with_picks
from cryoet_core.tomograms.names import stem
from cryoet_core.tomograms.reading import Draft, TomogramOptions, finished, with_geometry
from cryoet_core.tomograms.store import open_store
from cryoet_core.tomograms.tomogram import Tomograms
from cryoet_core.tomograms.volume import ArrayVolume

EXPECTED = "an MRC file, an OME-Zarr, a store of tomograms, a copick project or a manifest"
_COPICK = re.compile(r"^VoxelSpacing[\d.]+$")


def open_tomograms(
    paths: Sequence[Path | str] | Path | str, reading: TomogramOptions | None = None
) -> Tomograms:
    """Open tomograms of any kind as one data set; nothing of the volumes is read yet.

    Parameters
    ----------
    paths : Path, str or a sequence of them
        MRC files, OME-Zarr images, stores, copick projects or manifests.
    reading : TomogramOptions, optional
        What the files do not say, and files of picks.

    Returns
    -------
    Tomograms
        The tomograms with their picks, in the order of the files.

    Raises
    ------
    UserError
        A file is no tomogram or damaged, nobody says a voxel size or contrast, two tomograms have
        one name, or picks name other tomograms or lie outside of theirs; one line says which.
    """
    reading = reading or TomogramOptions()
    reading.refuse_nonsense()
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not given:
        raise UserError(f"no tomogram is given; expected {EXPECTED}")
    drafts = [with_geometry(draft) for path in given for draft in drafts_of(Path(path), reading)]
    notes: list[str] = []
    if reading.picks or any(draft.pick_files for draft in drafts):
        drafts, notes = with_picks(drafts, reading.picks)
    tomograms = tuple(finished(draft) for draft in drafts)
    said = {name: value for name, value in vars(reading).items() if value not in (None, ())}
    return Tomograms(
        tomograms,
        (*(note for tomogram in tomograms for note in tomogram.notes), *notes),
        tuple(str(path) for path in given),
        said,
    )


def drafts_of(path: Path, reading: TomogramOptions) -> list[Draft]:
    """Return the tomograms of one file or folder, as they say themselves.

    Parameters
    ----------
    path : Path
        The file or folder.
    reading : TomogramOptions
        What the user says of it.

    Returns
    -------
    list of Draft
        At least one.

    Raises
    ------
    UserError
        It holds none.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected {EXPECTED}")
    if is_zarr(path):
        return [_from_zarr(path, reading)]
    found = recognise(path)
    if found["kind"] in ("tomograms", "store"):
        return _from_store(path, reading)
    if found["kind"] == "volumes":
        return [_from_volume(path, reading)]
    if found["kind"] == "copick":
        return copick.drafts(path, reading, drafts_of)
    if found["kind"] in ("star", "manifest"):
        return manifest.drafts(path, reading, drafts_of)
    if path.is_dir():
        raise UserError(
            f"{path}: {found['what']}; expected {EXPECTED}; give the files in it, one by one"
        )
    hint = "; picks are given by `picks`" if found["kind"] in ("picks", "model") else ""
    raise UserError(f"{path}: {found['what']}; expected {EXPECTED}{hint}")


def _from_volume(path: Path, reading: TomogramOptions) -> Draft:
    stack = open_volumes(path)
    if len(stack) > 1:
        stack = _joined(path, stack)
    size, reason, notes = VolumeSource.of_stacks([stack]), "", stack.notes
    if size.voxel_size is None:
        reason = size.voxel_reason.replace("a subtomogram", "a tomogram")
    return Draft(
        stem(path.name),
        ArrayVolume(stack.array[0]),
        str(path),
        size.voxel_size,
        reason,
        notes=notes,
        reading=reading,
    )


def _joined(path: Path, stack: VolumeStack) -> VolumeStack:
    """Return one volume of a file whose depth is a multiple of its width.

    UserError where its header says that it is a stack.
    """
    depth = declared_depth(first_bytes(path, HEADER_BYTES))
    n, d, h, w = stack.array.shape
    if depth is not None and depth != n * d:
        raise UserError(
            f"{path}: a stack of {n} volumes of {d} x {h} x {w} voxels; expected one tomogram; "
            "split it"
        )
    return replace(stack, array=stack.array.reshape(1, n * d, h, w))


def _from_zarr(path: Path, reading: TomogramOptions) -> Draft:
    level = open_omezarr(path, reading.voxel_size)
    size, reason = _voxel_size(level)
    folder = path.resolve().parent
    name = folder.parent.name if _COPICK.match(folder.name) else stem(path.resolve().name)
    notes = (
        level.notes
        if level.name in ("", "0")
        else (*level.notes, f"level {level.name} of the image")
    )
    return Draft(name, level.volume, str(path), size, reason, notes=notes, reading=reading)


def _voxel_size(level: Level) -> tuple[float | None, str]:
    """Return the voxel size in Å, or None and the reason."""
    if level.cell is None:
        return None, level.reason
    low, high = min(level.cell), max(level.cell)
    if high - low > 0.01 * high:
        shown = ", ".join(f"{size:.4g}" for size in level.cell[::-1])
        return None, f"the file says {shown} Å along x, y, z; expected equal ones"
    if low < 0.3 or abs(low - 1) < SAME_VOXEL_SIZE:
        return None, f"the file says {low:.4g} Å, which is no voxel size of a tomogram"
    return float(f"{level.cell[2]:.6g}"), ""


def _from_store(path: Path, reading: TomogramOptions) -> list[Draft]:
    return [
        Draft(
            found.name,
            found.volume,
            found.where,
            found.voxel_size,
            sign=found.density_sign,
            tilt_range=found.tilt_range,
            picks=found.picks,
            masks=found.masks,
            attributes=found.attributes,
            ours=True,
            reading=reading,
        )
        for found in open_store(path)
    ]

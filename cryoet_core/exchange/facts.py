"""What a file or folder holds, for ``cryoet data info``: its kind and the facts of that kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryoet_core.formats.arrays import open_arrays
from cryoet_core.formats.picks import describe_picks
from cryoet_core.formats.relion import describe_particles, read_particles
from cryoet_core.formats.sniff import recognise
from cryoet_core.formats.source import VolumeSource, cube_problem
from cryoet_core.formats.star import read_star
from cryoet_core.formats.volumes import open_volumes
from cryoet_core.store import describe_store, open_subtomograms
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms.reading import TomogramOptions, describe_drafts
from cryoet_core.tomograms.sources import drafts_of
from cryoet_core.tomograms.store import describe_tomograms, open_store


def identify(path: Path) -> dict[str, Any]:
    """Say what a file or folder is, with the facts of its kind.

    Parameters
    ----------
    path : Path
        A file or folder.

    Returns
    -------
    dict[str, Any]
        ``{"file", "kind", "what", ...}``; a file that is damaged has a "problem".

    Raises
    ------
    UserError
        When there is nothing at ``path``, the file is empty or cannot be read.
    """
    found = recognise(path)
    try:
        return found | (_FACTS_OF[found["kind"]](path) if found["kind"] in _FACTS_OF else {})
    except UserError as error:
        return found | {"problem": str(error).removeprefix(f"{path}: ")}


def _volume_facts(path: Path) -> dict[str, Any]:
    stack = open_volumes(path)
    source = VolumeSource.of_stacks([stack])
    shape, voxel = stack.shape, source.voxel_size
    facts: dict[str, Any] = {
        "format": stack.format,
        "volumes": len(stack),
        "shape_zyx": list(shape),
    }
    facts |= {
        "dtype": str(stack.array.dtype),
        "voxel_size_zyx": stack.voxel_size,
        "voxel_size": voxel,
    }
    facts |= {"contrast": "not stated by this format", "notes": list(stack.notes)}
    if voxel is None:
        facts["voxel_size_reason"] = source.voxel_reason.removeprefix(f"{path} ")
    problem = cube_problem(shape)
    if problem and shape[0] > 1 and not path.name.lower().removesuffix(".gz").endswith(".mrcs"):
        facts["importable"] = "yes, as a tomogram"
    else:
        facts["importable"] = (
            problem or "yes, as subtomograms, or as a tomogram with `kind` tomograms"
        )
    return facts


def _star_facts(path: Path) -> dict[str, Any]:
    tables = read_star(path)
    if any("rlnTomoReconstructedTomogram" in table or "path" in table for table in tables):
        return _tomogram_facts(path)
    blocks: dict[str, Any] = {"blocks": {table.name or "(no name)": len(table) for table in tables}}
    try:
        return blocks | describe_particles(read_particles(path))
    except UserError as error:
        blocks["importable"] = str(error).removeprefix(f"{path}: ")
    try:
        return blocks | _pick_facts(path)
    except UserError:
        return blocks


def _numpy_facts(path: Path) -> dict[str, Any]:
    source = open_arrays(path)
    facts: dict[str, Any] = {
        "volumes": len(source),
        "shape_zyx": list(source.shape),
        "voxel_size": source.voxel_size,
    }
    for name in ("labels", "positions", "rotations", "tomogram"):
        facts[name] = getattr(source, name) is not None
    return facts | {"notes": source.notes}


def _store_facts(path: Path) -> dict[str, Any]:
    return describe_store(open_subtomograms(path, check_values=False))


def _tomogram_facts(path: Path) -> dict[str, Any]:
    return describe_drafts(drafts_of(path, TomogramOptions()))


def _tomogram_store_facts(path: Path) -> dict[str, Any]:
    return describe_tomograms(open_store(path))


def _pick_facts(path: Path) -> dict[str, Any]:
    return describe_picks(path)


_FACTS_OF: dict[str, Callable[[Path], dict[str, Any]]] = {
    "volumes": _volume_facts,
    "star": _star_facts,
    "numpy": _numpy_facts,
    "store": _store_facts,
    "tomograms": _tomogram_store_facts,
    "zarr": _tomogram_facts,
    "copick": _tomogram_facts,
    "manifest": _tomogram_facts,
    "picks": _pick_facts,
    "model": _pick_facts,
}

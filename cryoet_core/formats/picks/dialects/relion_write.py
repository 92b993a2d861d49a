"""Writing picks as stars that RELION 3.0 to 5, Warp and WarpTools read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryoet_core.formats.picks import angles
from cryoet_core.formats.picks.dialects.relion import (
    CENTRED,
    CLASS_NAME,
    NO_SCORE,
    OPTICS,
    PIXELS,
    SIZES,
)
from cryoet_core.formats.picks.model import Geometry, Writing
from cryoet_core.formats.relion import UNLABELLED
from cryoet_core.formats.star import StarTable, rounded, write_star
from cryoet_core.picks.table import Picks
from cryoet_core.support import files

VERSIONS = {
    "relion30": "30000",
    "relion31": "30001",
    "relion4": "40001",
    "relion5": "50001",
    "warp": "30000",
}


def write(path: Path, picks: Picks, writing: Writing) -> list[str]:
    """Replace a file by a star of particles.

    Coordinates count in voxels of the tomograms, in relion5 in Å from their middle.

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
        Where the size of a tomogram is needed and unknown.
    """
    dialect = writing.dialect
    names, which = np.unique(picks.tomograms.astype(str), return_inverse=True)
    if dialect == "relion5":
        known = [writing.geometry_of(path, str(name)) for name in names]
        sizes = np.array([geometry.voxel_size for geometry in known])
    else:
        known = []
        sizes = np.array([writing.size_of(path, str(name)) for name in names])
    columns = _names(dialect, picks)
    columns |= _places(picks, known, sizes, which)
    if picks.rotations is not None:
        rotated = np.nan_to_num(angles.to_relion(picks.rotations))
        columns |= {
            f"rlnAngle{n}": rounded(v)
            for n, v in zip(("Rot", "Tilt", "Psi"), rotated.T, strict=True)
        }
    columns |= _judged(picks)
    optics = {
        OPTICS[name]: f"{value:g}" for name, value in writing.optics.items() if name in OPTICS
    }
    tables = _with_scale(dialect, columns, sizes, which, optics)
    files.write_bytes(
        path, write_star(tables, f"version {VERSIONS[dialect]}, picks written by cryoet").encode()
    )
    return []


def _names(dialect: str, picks: Picks) -> dict[str, list[str]]:
    names = [str(name) for name in picks.tomograms]
    if dialect in ("relion4", "relion5"):
        counts: dict[str, int] = {}
        particles = []
        for name in names:
            counts[name] = counts.get(name, 0) + 1
            particles.append(f"{name}/{counts[name]}")
        return {"rlnTomoName": names, "rlnTomoParticleName": particles}
    return {
        "rlnMicrographName": [f"{name}.tomostar" if dialect == "warp" else name for name in names]
    }


def _places(
    picks: Picks, known: list[Geometry], sizes: np.ndarray, which: np.ndarray
) -> dict[str, list[str]]:
    if not known:
        voxels = (
            picks.positions[:, ::-1] / sizes[which][:, None] if len(picks) else np.zeros((0, 3))
        )
        return {name: rounded(values) for name, values in zip(PIXELS, voxels.T, strict=True)}
    shapes = np.array([geometry.shape for geometry in known])[:, ::-1]
    centred = picks.positions[:, ::-1] - shapes[which] / 2 * sizes[which][:, None]
    columns = {name: rounded(values) for name, values in zip(CENTRED, centred.T, strict=True)}
    return columns | {
        name: [str(size) for size in shapes[which, axis]] for axis, name in enumerate(SIZES)
    }


def _judged(picks: Picks) -> dict[str, list[str]]:
    columns = {}
    if np.isfinite(picks.scores).any():
        scores = np.where(np.isfinite(picks.scores), picks.scores, NO_SCORE)
        columns["rlnAutopickFigureOfMerit"] = [f"{score:.9g}" for score in scores]
    if picks.class_names:
        names = [*picks.class_names, UNLABELLED]
        columns["rlnClassNumber"] = [str(number + 1) for number in picks.classes]
        columns[CLASS_NAME] = [names[number] for number in picks.classes]
    return columns


def _with_scale(
    dialect: str,
    columns: dict[str, list[str]],
    sizes: np.ndarray,
    which: np.ndarray,
    same: dict[str, str],
) -> list[StarTable]:
    """The tables: pixel sizes beside the particles (3.0, Warp), or in an optics group for each."""
    if dialect == "relion30":
        columns["rlnMagnification"] = ["10000"] * len(which)
        columns["rlnDetectorPixelSize"] = [f"{size:.9g}" for size in sizes[which]]
        columns |= {name: [value] * len(which) for name, value in same.items()}
        return [StarTable("", columns)]
    if dialect == "warp":
        columns["rlnPixelSize"] = [f"{size:.9g}" for size in sizes[which]]
        return [StarTable("particles", columns)]
    distinct, group = np.unique(sizes, return_inverse=True)
    numbers = [str(number) for number in range(1, len(distinct) + 1)]
    optics = {
        "rlnOpticsGroup": numbers,
        "rlnOpticsGroupName": [f"opticsGroup{number}" for number in numbers],
    }
    optics |= {name: [value] * len(distinct) for name, value in same.items()}
    optics["rlnImagePixelSize"] = [f"{size:.9g}" for size in distinct]
    if dialect in ("relion4", "relion5"):
        optics["rlnTomoTiltSeriesPixelSize"] = optics["rlnImagePixelSize"]
        optics["rlnTomoSubtomogramBinning"] = ["1"] * len(distinct)
    columns["rlnOpticsGroup"] = [str(number + 1) for number in group[which]] if len(which) else []
    return [StarTable("optics", optics), StarTable("particles", columns)]

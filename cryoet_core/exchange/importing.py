"""Import subtomograms into a store, in bounded memory: every row arrives or the command stops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.formats.source import VolumeSource, cube_problem
from cryoet_core.store import NotRepresentable, SubtomogramWriter
from cryoet_core.store.statistics import volume_statistics
from cryoet_core.store.subtomograms import describe_rows
from cryoet_core.support.errors import UserError

CHUNK_BYTES = 64 << 20


Watch = Callable[[list[np.ndarray]], Iterable[np.ndarray]]
"""Iterates over the parts of the work, and may draw a bar meanwhile."""


@dataclass(frozen=True)
class ImportSettings:
    """What the user adds to the files, and the form of the store; None leaves it to the files.

    Attributes
    ----------
    voxel_size : float | None
        Å.
    contrast : str | None
        "dark" or "bright".
    tilt_range : tuple[float, float] | None
        Lowest and highest tilt in degrees.
    dtype : str
        "float16", "float32" or "auto".
    drop_bad : bool
        Whether volumes that hold NaN or are constant are left out.
    """

    voxel_size: float | None = None
    contrast: str | None = None
    tilt_range: tuple[float, float] | None = None
    dtype: str = "auto"
    drop_bad: bool = False


def import_source(
    source: VolumeSource, out: Path, settings: ImportSettings, watch: Watch = iter
) -> dict[str, Any]:
    """Write the subtomograms of a source into a store.

    Parameters
    ----------
    source : VolumeSource
        The volumes and what is known of them.
    out : Path
        The store to write.
    settings : ImportSettings
        What the user adds, and the form of the store.
    watch : Watch, optional
        Iterates over the parts of the work, and may draw a bar.

    Returns
    -------
    dict[str, Any]
        Facts of the store: counts, classes, voxel size, contrast and notes.

    Raises
    ------
    UserError
        For volumes with unequal sides, an unknown voxel size or contrast, volumes that hold NaN or
        are constant (unless ``drop_bad``), and whatever a file has wrong; then there is no store.
    """
    source = settle(source, settings)
    dtype = "float16" if settings.dtype == "auto" else settings.dtype
    try:
        return _write(source, out, dtype, settings, watch)
    except NotRepresentable as error:
        if settings.dtype != "auto":
            raise
        reason = str(error).removeprefix(f"{out}: ").split(";")[0]
        source = replace(source, notes=[*source.notes, f"stored as float32: {reason}"])
    return _write(source, out, "float32", settings, watch)


def settle(source: VolumeSource, settings: ImportSettings) -> VolumeSource:
    """Give a source the user's voxel size, contrast and tilt range.

    Parameters
    ----------
    source : VolumeSource
        The volumes and what is known of them.
    settings : ImportSettings
        What the user adds.

    Returns
    -------
    VolumeSource
        The source with both settled.

    Raises
    ------
    UserError
        When neither the user nor the files say the voxel size or the contrast.
    """
    first = source.files[0]
    problem = cube_problem(source.shape)
    if problem:
        raise UserError(f"{first}: {problem}")
    voxel_size = settings.voxel_size or source.voxel_size
    if voxel_size is None:
        raise UserError(
            f"{first}: voxel size unknown "
            f"({source.voxel_reason.replace(str(first), 'the file', 1)}); give `voxel_size`"
        )
    if not (np.isfinite(voxel_size) and voxel_size > 0):
        raise UserError(f"`voxel_size` {voxel_size}: expected a number of Å above 0")
    signs = {"dark": -1, "bright": 1, None: source.sign}
    if settings.contrast not in signs:
        raise UserError(
            f"`contrast` {settings.contrast}: expected dark or bright (how protein looks)"
        )
    sign = signs[settings.contrast]
    if sign is None:
        raise UserError(
            f"{first}: contrast unknown (the file does not say it); give `contrast` dark or "
            "`contrast` bright"
        )
    notes = list(source.notes)
    if source.voxel_size and abs(voxel_size - source.voxel_size) > 1e-3 * voxel_size:
        notes.append(
            f"voxel size {voxel_size:g} Å as given; {first.name} says {source.voxel_size:g} Å"
        )
    tilt_range = settings.tilt_range or source.tilt_range
    if tilt_range is None:
        notes.append(
            "tilt range unknown: class averages will not be corrected for the missing wedge "
            "(`tilt_range`)"
        )
    return replace(source, voxel_size=voxel_size, sign=sign, tilt_range=tilt_range, notes=notes)


def _write(
    source: VolumeSource, out: Path, dtype: str, settings: ImportSettings, watch: Watch
) -> dict[str, Any]:
    names, labels = source.classes()
    count = None if settings.drop_bad else len(source)
    extras = dict(source.extras)
    if "shifts_angstrom" in extras:
        extras["shifts"] = (extras.pop("shifts_angstrom") / source.voxel_size).astype(np.float32)
    bad: dict[str, list[int]] = {"NaN or infinite values": [], "constant": []}
    if source.voxel_size is None or source.sign is None:
        raise ValueError("a source must pass settle() first")
    with SubtomogramWriter(
        out,
        source.shape[0],
        source.voxel_size,
        source.sign,
        dtype,
        names,
        source.tilt_range,
        source.optics,
        source.snr,
        provenance=_provenance(source),
        n=count,
    ) as writer:
        for rows in watch(_chunks(source)):
            volumes = source.read(rows)
            good = _judge(volumes, rows, bad)
            if good.any() and (settings.drop_bad or not any(bad.values())):
                kept = rows[good]
                given = {name: values[kept] for name, values in _rows(source).items()}
                more = {name: values[kept] for name, values in extras.items()}
                writer.append(volumes[good], labels[kept], **given, **more)
        _refuse_bad(source, bad, settings)
    notes = list(source.notes)
    dropped = sorted(row for rows in bad.values() for row in rows)
    if dropped:
        notes.append(
            f"left out as asked: {describe_rows(np.array(dropped))} (from 0; not finite or "
            "constant)"
        )
    return {
        "out": str(out),
        "n": writer.count,
        "dropped": len(dropped),
        "box": source.shape[0],
        "voxel_size": source.voxel_size,
        "contrast": "bright" if source.sign > 0 else "dark",
        "dtype": dtype,
        "tilt_range": source.tilt_range,
        "classes": {name: int((labels == index).sum()) for index, name in enumerate(names)},
        "unlabelled": int((labels < 0).sum()),
        "positions": source.positions is not None,
        "rotations": source.rotations is not None,
        "notes": notes,
    }


def _rows(source: VolumeSource) -> dict[str, np.ndarray]:
    names = ("positions", "rotations", "tomogram", "split")
    return {name: values for name in names if (values := getattr(source, name)) is not None}


def _chunks(source: VolumeSource) -> list[np.ndarray]:
    step = max(1, CHUNK_BYTES // (4 * int(np.prod(source.shape))))
    return [
        np.arange(first, min(first + step, len(source))) for first in range(0, len(source), step)
    ]


def _judge(volumes: np.ndarray, rows: np.ndarray, bad: dict[str, list[int]]) -> np.ndarray:
    """Note the rows of volumes that no method can use; a mask of the others."""
    mean, std = volume_statistics(volumes)
    infinite = ~np.isfinite(mean + std)
    bad["NaN or infinite values"] += rows[infinite].tolist()
    bad["constant"] += rows[std == 0].tolist()
    good: np.ndarray = ~infinite & (std != 0)
    return good


def _refuse_bad(source: VolumeSource, bad: dict[str, list[int]], settings: ImportSettings) -> None:
    if not any(bad.values()):
        return
    if settings.drop_bad:
        if sum(len(rows) for rows in bad.values()) == len(source):
            raise UserError(
                f"{source.files[0]}: every volume holds NaN or is constant; expected volumes that "
                "vary"
            )
        return
    what = "; ".join(
        f"{name}: {describe_rows(np.array(rows))}" for name, rows in bad.items() if rows
    )
    where = source.files[int(source.file[next(rows for rows in bad.values() if rows)[0]])]
    raise UserError(
        f"{where}: unusable volumes among {len(source)} ({what}, from 0); expected finite volumes "
        "that vary; repair them or leave them out with `drop_bad`"
    )


def _provenance(source: VolumeSource) -> dict[str, Any]:
    from cryoet_core import __version__

    files = [str(path) for path in source.files[:20]]
    more = len(source.files) - len(files)
    return {
        "made_by": f"cryoet {__version__} data import",
        "files": files + ([f"and {more} more"] if more else []),
        "notes": source.notes,
    }

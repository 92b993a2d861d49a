"""Import tomograms into a store, and export them as MRC files and stars of picks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from cryoet_core.store import NotRepresentable
from cryoet_core.support import files
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import counted, file_name
from cryoet_core.tomograms.reading import TomogramOptions
from cryoet_core.tomograms.sources import open_tomograms
from cryoet_core.tomograms.statistics import slabs
from cryoet_core.tomograms.tomogram import Tomogram, Tomograms
from cryoet_core.tomograms.writer import TomogramWriter

Watch = Callable[[list[Tomogram]], Iterable[Tomogram]]
"""Iterates over the tomograms, and may draw a bar meanwhile."""


def import_tomograms(
    paths: Sequence[Path],
    out: Path,
    reading: TomogramOptions,
    dtype: str = "auto",
    watch: Watch = iter,
) -> dict[str, Any]:
    """Write tomograms of any kind, with their picks, into a store.

    The volumes stay as they stand.

    Parameters
    ----------
    paths : Sequence[Path]
        Files or folders of tomograms.
    out : Path
        The store to write.
    reading : TomogramOptions
        What the user adds to the files.
    dtype : str, optional
        "float16", "float32", or "auto": float16 unless it loses too much of one of them.
    watch : Watch, optional
        Iterates over the tomograms, and may draw a bar.

    Returns
    -------
    dict[str, Any]
        Facts of the store.

    Raises
    ------
    UserError
        For what cannot be opened, holds NaN or is constant; then there is no store.
    """
    data = open_tomograms(paths, reading)
    notes = list(data.notes)
    try:
        stored = "float16" if dtype == "auto" else dtype
        _write(data, out, stored, watch, notes)
    except NotRepresentable as error:
        if dtype != "auto":
            raise
        notes.append(f"stored as float32: {str(error).split(';')[0]}")
        stored = "float32"
        _write(data, out, stored, watch, notes)
    return {
        "out": str(out),
        "n": len(data),
        "dtype": stored,
        "tomograms": {tomogram.name: _summary(tomogram) for tomogram in data},
        "notes": notes,
    }


def _write(data: Tomograms, out: Path, dtype: str, watch: Watch, notes: Sequence[str]) -> None:
    from cryoet_core import __version__

    names = list(dict.fromkeys(tomogram.where for tomogram in data))
    provenance = {
        "made_by": f"cryoet {__version__} data import",
        "files": names[:20],
        "notes": list(notes),
    }
    with TomogramWriter(out, overwrite=True, provenance=provenance) as writer:
        for tomogram in watch(list(data)):
            try:
                writer.add(
                    tomogram.name,
                    tomogram.volume,
                    voxel_size=tomogram.voxel_size,
                    density_sign=tomogram.density_sign,
                    tilt_range=tomogram.tilt_range,
                    picks=tomogram.picks,
                    masks={
                        name: mask.read((slice(None),) * 3) for name, mask in tomogram.masks.items()
                    },
                    attributes=tomogram.attributes,
                    dtype=dtype,
                )
            # what is wrong is wrong with the file that is read, not with the one written
            except UserError as error:
                text = str(error).replace(
                    f"{out}: tomogram {tomogram.name!r}", tomogram.where or tomogram.name
                )
                raise type(error)(text) from error


def _summary(tomogram: Tomogram) -> str:
    size = " x ".join(str(edge) for edge in tomogram.shape)
    word = "bright" if tomogram.density_sign > 0 else "dark"
    picks = "" if tomogram.picks is None else f", {counted(len(tomogram.picks), 'pick')}"
    return f"{size} (z, y, x) voxels of {tomogram.voxel_size:g} Å, protein {word}{picks}"


def export_tomograms(
    tomograms: Sequence[Tomogram], out: Path, half: bool, dialect: str, watch: Watch = iter
) -> dict[str, Any]:
    """Write each tomogram as an MRC file, and its picks as a star beside it.

    The volumes keep their stored contrast.

    Parameters
    ----------
    tomograms : Sequence[Tomogram]
        The tomograms; a star is written for those whose picks are known.
    out : Path
        A name that ends in .mrc for one tomogram, or a folder, in which files are named after the
        tomograms.
    half : bool
        Whether to write float16 (mode 12) instead of float32 (mode 2).
    dialect : str
        The dialect of the stars.
    watch : Watch, optional
        Iterates over the tomograms, and may draw a bar.

    Returns
    -------
    dict[str, Any]
        Facts of what was written.

    Raises
    ------
    UserError
        Where several tomograms would go to one file.
    """
    from cryoet_core.formats.picks import Geometry, write_picks

    targets = dict(
        zip((tomogram.name for tomogram in tomograms), targets_of(tomograms, out), strict=True)
    )
    notes: list[str] = []
    written: list[str] = []
    for tomogram in watch(list(tomograms)):
        target = targets[tomogram.name]
        write_mrc(tomogram, target, half)
        written.append(str(target))
        if tomogram.picks is not None and len(tomogram.picks):
            star = target.with_suffix(".star")
            named = replace(
                tomogram.picks, tomograms=np.full(len(tomogram.picks), target.stem, dtype=object)
            )
            geometry = {target.stem: Geometry(tomogram.shape, tomogram.voxel_size)}
            notes += [
                f"{star.name}: {lost}" for lost in write_picks(star, named, dialect, geometry)
            ]
            written.append(str(star))
    words = {"bright" if tomogram.density_sign > 0 else "dark" for tomogram in tomograms}
    return {
        "out": str(out),
        "n": len(targets),
        "files": written,
        "contrast": " and ".join(sorted(words)),
        "notes": notes,
    }


def targets_of(tomograms: Sequence[Tomogram], out: Path) -> list[Path]:
    """Name the MRC file of each tomogram.

    Parameters
    ----------
    tomograms : Sequence[Tomogram]
        The tomograms.
    out : Path
        A name that ends in .mrc for one tomogram, or a folder.

    Returns
    -------
    list[Path]
        One path for each tomogram.

    Raises
    ------
    UserError
        Where several tomograms would go to one file.
    """
    if out.suffix in (".mrc", ".rec", ".map"):
        if len(tomograms) != 1:
            raise UserError(
                f"`out` {out}: one file for {len(tomograms)} tomograms; expected the name of a "
                "folder"
            )
        return [out]
    if out.suffix and not out.is_dir():
        raise UserError(f"`out` {out}: expected a name that ends in .mrc, or a folder")
    files.make_folder(out)
    return [out / f"{file_name(tomogram.name)}.mrc" for tomogram in tomograms]


def write_mrc(tomogram: Tomogram, path: Path, half: bool = False) -> None:
    """Write a tomogram as it is stored into an MRC file, slab by slab, whole or not at all.

    It is written with plain writes: a memory map, as mrcfile makes, ends the process when the disk
    fills up.

    Parameters
    ----------
    tomogram : Tomogram
        The tomogram.
    path : Path
        The file to replace.
    half : bool, optional
        Whether to write float16 (mode 12) instead of float32 (mode 2).

    Raises
    ------
    UserError
        When the disk refuses.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path}: no folder {path.parent}; expected an existing one; make it first")
    total, squares, low, high, count = 0.0, 0.0, np.inf, -np.inf, int(np.prod(tomogram.shape))
    with files.replacing(path) as beside, beside.open("wb") as file:
        file.write(bytes(1024))
        for part in slabs(tomogram.shape):
            wide = tomogram.volume.read((part, slice(None), slice(None)))
            with np.errstate(over="ignore"):
                stored = wide.astype("<f2" if half else "<f4")
            if not np.isfinite(stored).all():
                raise UserError(
                    f"{tomogram.where}: values that float16 cannot hold; leave `float16` out"
                )
            file.write(np.ascontiguousarray(stored).data.cast("B"))
            low, high = min(low, float(stored.min())), max(high, float(stored.max()))
            total += float(wide.sum(dtype=np.float64))
            squares += float(np.square(wide, dtype=np.float64).sum())
        mean = total / count
        spread = float(np.sqrt(max(squares / count - mean**2, 0.0)))
        file.seek(0)
        file.write(_header(tomogram, 12 if half else 2, (low, high, mean, spread)))


def _header(tomogram: Tomogram, mode: int, statistics: tuple[float, float, float, float]) -> bytes:
    """Make the 1024 bytes of an MRC2014 file of one volume.

    Statistics are minimum, maximum, mean and standard deviation.
    """
    header = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
    for axis, (letter, size) in enumerate(zip("xyz", tomogram.shape[::-1], strict=True), 1):
        header[f"n{letter}"] = header[f"m{letter}"] = size
        header["cella"][letter] = size * tomogram.voxel_size
        header["map" + "crs"[axis - 1]] = axis
    header["mode"], header["ispg"], header["nversion"] = mode, 1, 20141
    header["cellb"]["alpha"] = header["cellb"]["beta"] = header["cellb"]["gamma"] = 90
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = statistics
    header["map"], header["machst"], header["nlabl"] = b"MAP ", (0x44, 0x44, 0, 0), 1
    header["label"][0] = "tomogram, written by cryoet"
    return header.tobytes()

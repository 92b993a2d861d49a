"""Find the volumes that the user names: a stack, a star, a folder, an array or a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryoet_core.exchange.tiltstacks import from_tilt_stacks
from cryoet_core.formats import sniff
from cryoet_core.formats.arrays import open_arrays
from cryoet_core.formats.relion import LABEL_COLUMNS, Particles, read_particles
from cryoet_core.formats.source import SAME_VOXEL_SIZE, VolumeSource
from cryoet_core.formats.stack import has_volume_name
from cryoet_core.formats.volumes import open_volumes
from cryoet_core.store.subtomograms import describe_rows
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import counted


@dataclass(frozen=True)
class ImportOptions:
    """How to read the files that are imported; None leaves it to the files.

    Attributes
    ----------
    star : Path | None
        The star beside a stack.
    label_column : str | None
        The column of the star with the class names.
    key : str | None
        The array of an .npz that holds the volumes.
    voxel_size : float | None
        Å, where the file does not say it.
    coordinate_pixel_size : float | None
        Å that the star's coordinates count in, also where the file says another.
    tomograms : Path | None
        A RELION tomogram set.
    """

    star: Path | None = None
    label_column: str | None = None
    key: str | None = None
    voxel_size: float | None = None
    coordinate_pixel_size: float | None = None
    tomograms: Path | None = None


def collect(paths: Sequence[Path], reading: ImportOptions) -> VolumeSource:
    """Find the volumes and what is known of them.

    Parameters
    ----------
    paths : Sequence[Path]
        A stack, a star, a folder, an array, or several stacks or stores.
    reading : ImportOptions
        How to read them.

    Returns
    -------
    VolumeSource
        The volumes and their columns.

    Raises
    ------
    UserError
        With one line for what is no set of subtomograms.
    """
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; expected volumes to import")
    if len(paths) == 1:
        return _collect_one(paths[0], reading)
    if all(sniff.kind_of(path) == "store" for path in paths):
        return from_stores(paths)
    refuse_others(paths)
    return _with_star(VolumeSource.of_stacks([open_volumes(path) for path in paths]), reading)


def _collect_one(path: Path, reading: ImportOptions) -> VolumeSource:
    kind = sniff.kind_of(path)
    if kind == "folder":
        return from_folder(path, reading)
    if kind == "store":
        return from_stores([path])
    if kind == "star":
        if reading.star is not None:
            raise UserError(
                f"`star` {reading.star}: {path} is a star itself; give the stack, or one star alone"
            )
        return from_star(path, reading)
    if kind == "numpy":
        return _with_star(open_arrays(path, reading.key), reading)
    refuse_others([path])
    return _with_star(VolumeSource.of_stacks([open_volumes(path)]), reading)


def refuse_others(paths: Sequence[Path]) -> None:
    """Refuse files that hold no volumes.

    Parameters
    ----------
    paths : Sequence[Path]
        The files.

    Raises
    ------
    UserError
        For the first file that holds no volumes.
    """
    for path in paths:
        if sniff.kind_of(path) != "volumes":
            raise UserError(
                f"{path}: {sniff.describe(path)}; expected MRC or EM volumes, a RELION star, .npy, "
                ".npz, a folder "
                "of volumes or a store"
            )


# ---- a star --------------------------------------------------------------------------------------


def from_star(path: Path, reading: ImportOptions) -> VolumeSource:
    """Collect the volumes that the rows of a star name (``000012@stack.mrcs`` or a file each).

    Parameters
    ----------
    path : Path
        The star.
    reading : ImportOptions
        How to read it.

    Returns
    -------
    VolumeSource
        One volume for each row, in the order of the star.

    Raises
    ------
    UserError
        When the star names no volumes, or volumes that are not there.
    """
    particles = _particles(path, reading)
    if particles.image is None:
        raise UserError(
            f"{path}: no rlnImageName; expected the volume of each particle; give the stack and "
            "`star`"
        )
    numbers, names = _split_names(particles)
    found = {name: _find(name, path) for name in dict.fromkeys(names)}
    missing = np.flatnonzero([found[name] is None for name in names])
    if len(missing):
        raise UserError(
            f"{path}: the volumes of {describe_rows(missing)} are not there ({names[missing[0]]}); "
            "looked in "
            f"{path.resolve().parent}, the folders above it and here; start from the project's "
            "folder or copy them"
        )
    if particles.dimensions == 2:
        there = {name: file for name, file in found.items() if file is not None}
        return _describe(
            from_tilt_stacks(particles, names, there, reading.tomograms), particles, reading
        )
    files = [file for file in dict.fromkeys(found.values()) if file is not None]
    stacks = [open_volumes(file) for file in files]
    where = {name: files.index(file) for name, file in found.items() if file is not None}
    source = VolumeSource.of_stacks(stacks)
    source.file = np.array([where[name] for name in names])
    source.index = numbers
    counts = np.array([len(stack) for stack in stacks])[source.file]
    _refuse_rows(path, (numbers < 0) | (numbers >= counts), "beyond the end of its stack")
    return _describe(source, particles, reading)


def _with_star(source: VolumeSource, reading: ImportOptions) -> VolumeSource:
    """A stack and the star beside it: by the numbers in rlnImageName, else row by row."""
    if reading.star is None:
        if reading.label_column is not None:
            raise UserError(
                f"`label_column` {reading.label_column}: {source.files[0]} has no columns; give "
                "`star` too"
            )
        return source
    particles = _particles(reading.star, reading)
    _refuse_2d(particles)
    if particles.image is not None and all("@" in name for name in particles.image):
        if len(source.files) > 1:
            raise UserError(
                f"`star` {reading.star}: its rows name stacks themselves; give the star alone"
            )
        rows, names = _split_names(particles)
        others = sorted({Path(name).name for name in names} - {source.files[0].name})
        if others:
            raise UserError(
                f"`star` {reading.star}: names {others[0]}, not {source.files[0].name}; give the "
                "right one"
            )
        _refuse_rows(
            reading.star,
            (rows < 0) | (rows >= len(source)),
            f"beyond the {counted(len(source), 'volume')} of the stack",
        )
        if len(rows) != len(source):
            source.notes.append(
                f"{counted(len(source), 'volume')} in the stack, {counted(len(rows), 'row')} in "
                "the star: the star's are "
                "taken"
            )
        source = source.select(rows)
    elif len(particles) != len(source):
        raise UserError(
            f"`star` {reading.star}: {counted(len(particles), 'row')}, but {source.files[0]} has "
            f"{counted(len(source), 'volume')}; expected "
            "as many, or rlnImageName with numbers (000001@stack.mrcs)"
        )
    return _describe(source, particles, reading)


def _particles(path: Path, reading: ImportOptions) -> Particles:
    return read_particles(
        path, reading.coordinate_pixel_size, reading.tomograms, reading.voxel_size
    )


def _split_names(particles: Particles) -> tuple[np.ndarray, list[str]]:
    """Numbers from 0 and file names of rlnImageName."""
    numbers, names, bad = [], [], []
    for row, text in enumerate(particles.image or []):
        number, at, name = text.rpartition("@")
        numbers.append(int(number) - 1 if number.isdecimal() else 0)
        names.append(name.removesuffix(":mrc").removesuffix(":mrcs"))
        if at and not number.isdecimal():
            bad.append(row)
    if bad:
        raise UserError(
            f"{particles.path}: rlnImageName of {describe_rows(np.array(bad))}; expected "
            "NUMBER@FILE or FILE"
        )
    return np.array(numbers, dtype=np.int64), names


def _find(name: str, star: Path) -> Path | None:
    """Find a file that a star names: from here, from the star's folder or from one above it.

    RELION names files from the project's folder, which is above the star's.
    """
    path = Path(name)
    places = [Path(), star.parent, *star.resolve().parents] if not path.is_absolute() else [Path()]
    return next((place / path for place in places if (place / path).is_file()), None)


def _refuse_2d(particles: Particles) -> None:
    if particles.dimensions == 2:
        raise UserError(
            f"{particles.path}: particles are stacks of 2-D images; expected 3-D subtomograms; "
            "give this star alone, "
            "with `tomograms`"
        )


def _refuse_rows(path: Path, bad: np.ndarray, what: str) -> None:
    if bad.any():
        raise UserError(
            f"{path}: the image of {describe_rows(np.flatnonzero(bad))} is {what}; expected one "
            "that exists"
        )


def _describe(source: VolumeSource, particles: Particles, reading: ImportOptions) -> VolumeSource:
    """Add what the star says of each volume."""
    if particles.pixel_size is not None:
        if source.voxel_size is None:
            source.voxel_size = particles.pixel_size
        elif abs(source.voxel_size - particles.pixel_size) > SAME_VOXEL_SIZE * source.voxel_size:
            source.voxel_reason = (
                f"{source.files[0]} says {source.voxel_size:g} Å, but "
                f"{particles.path} {particles.pixel_size:g} Å"
            )
            source.voxel_size = None
    source.tomogram, source.rotations = particles.tomogram, particles.rotations
    source.positions, source.optics = particles.positions, dict(particles.optics)
    source.extras |= particles.extras
    if particles.origin is not None:
        source.extras["shifts_angstrom"] = -particles.origin
    if reading.label_column is not None:
        source.labels = particles.labels(reading.label_column)
    else:
        columns = [column for column in LABEL_COLUMNS if column in particles.table]
        if columns and source.labels is None:
            source.notes.append(
                f"no labels taken; `label_column` names them (such as {', '.join(columns)})"
            )
    source.notes += [f"{particles.path.name}: {note}" for note in particles.notes]
    return source


# ---- a folder, stores ----------------------------------------------------------------------------


def from_folder(path: Path, reading: ImportOptions) -> VolumeSource:
    """Collect the volumes of a folder.

    Volumes in the folder itself have no labels; volumes in its sub-folders have the folder's name
    as their class.

    Parameters
    ----------
    path : Path
        The folder.
    reading : ImportOptions
        How to read it.

    Returns
    -------
    VolumeSource
        The volumes, sorted by name.

    Raises
    ------
    UserError
        When there are no volumes, or volumes beside folders of volumes.
    """
    direct, folders, others = _entries(path)
    classes = {folder.name: _entries(folder)[0] for folder in folders}
    classes = {name: files for name, files in classes.items() if files}
    if direct and classes:
        raise UserError(
            f"{path}: volumes beside folders of volumes ({', '.join(list(classes)[:3])}); expected "
            "either; move one"
        )
    if not direct and not classes:
        raise UserError(
            f"{path}: no MRC or EM volumes in this folder or its sub-folders; expected .mrc, .map "
            "or .em files"
        )
    files = direct or [file for members in classes.values() for file in members]
    refuse_others(files)
    stacks = [open_volumes(file) for file in files]
    source = VolumeSource.of_stacks(stacks)
    if classes:
        names = [name for name, members in classes.items() for _ in members]
        source.labels = np.repeat(np.array(names, dtype=object), [len(stack) for stack in stacks])
    if others:
        source.notes.append(
            f"{len(others)} other files are left out "
            f"({', '.join(file.name for file in others[:3])})"
        )
    return _with_star(source, reading)


def _entries(path: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Volumes, folders and other files of a folder, by name, without hidden ones."""
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if entry.is_file()]
    volumes = [file for file in files if has_volume_name(file)]
    return (
        volumes,
        [entry for entry in entries if entry.is_dir()],
        [file for file in files if file not in set(volumes)],
    )


def from_stores(paths: Sequence[Path]) -> VolumeSource:
    """Collect the volumes of stores, to merge or to clean them.

    Parameters
    ----------
    paths : Sequence[Path]
        The stores.

    Returns
    -------
    VolumeSource
        All volumes with their columns.

    Raises
    ------
    UserError
        When the stores differ in their contrast.
    """
    from cryoet_core.formats.stack import VolumeStack
    from cryoet_core.store import open_subtomograms
    from cryoet_core.store.layout import open_shard

    data = open_subtomograms(list(paths), check_values=False)
    if data.density_sign == 0:
        raise UserError(
            f"{paths[0]}: these stores differ in their contrast; expected equal ones; import each "
            "by itself"
        )
    source = VolumeSource.of_stacks(
        [VolumeStack(path, "numpy", open_shard(path).volumes.array) for path in paths]
    )
    source.voxel_size, source.sign = data.voxel_size, data.density_sign
    if data.class_names:
        source.labels = np.array([*data.class_names, ""], dtype=object)[data.labels]
    source.positions, source.rotations, source.split = data.positions, data.rotations, data.split
    source.tomogram = None if data.tomogram is None else data.tomogram.astype(object)
    source.tilt_range, source.snr, source.optics = data.tilt_range, data.snr, data.optics
    source.extras = dict(data.extras)
    left = sorted(set(data.extra_names) - set(data.extras))
    if len(paths) == 1:  # those of several files would have to be held in memory together
        source.extras |= {name: opened.array for name, opened in open_shard(paths[0]).large.items()}
    elif left:
        source.notes.append(f"not taken over: {', '.join(left)}")
    return source

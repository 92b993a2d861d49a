"""Write picks into one file, or one for each tomogram, and say what a format cannot hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cryoet_core.formats.picks.formats import Format, format_for, format_of
from cryoet_core.formats.picks.model import Geometry, Writing
from cryoet_core.formats.picks.names import natural, stem_of, tomogram_name
from cryoet_core.picks.table import Picks
from cryoet_core.support import files
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import counted, file_name


def write_picks(
    path: Path | str,
    picks: Picks,
    dialect: str | None = None,
    geometry: Mapping[str, Geometry] | None = None,
    *,
    voxel_size: float | None = None,
    box: int | None = None,
    optics: Mapping[str, float] | None = None,
) -> list[str]:
    """Write every pick; each file is written beside its target and renamed when it is whole.

    See `picks_files` for which files are written.

    Parameters
    ----------
    path : Path | str
        The file or folder to write.
    picks : Picks
        The picks.
    dialect : str | None, optional
        The format; by the ending of ``path`` where None.
    geometry : Mapping[str, Geometry] | None, optional
        The tomograms, by name.
    voxel_size : float | None, optional
        Å, for tomograms that ``geometry`` lacks.
    box : int | None, optional
        Box size in voxels, for formats of boxes.
    optics : Mapping[str, float] | None, optional
        "voltage", "cs" and "amplitude_contrast", for stars.

    Returns
    -------
    list[str]
        What the format could not hold, in a few words each.

    Raises
    ------
    UserError
        Where a format needs what is not known, cannot be written, or the disk refuses.
    """
    path = Path(path)
    form = format_of(dialect) if dialect else format_for(path)
    _refuse_bad(path, picks)
    lost = _lost(form, picks)
    writing = Writing(form.dialect, geometry or {}, voxel_size, box, optics or {})
    for target, part in _parts(path, picks, form).items():
        with files.explained(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        lost += form.write(target, part, writing)
        lost += _lost_names(form, target, part)
    return list(dict.fromkeys(lost))


def picks_files(path: Path | str, picks: Picks, dialect: str | None = None) -> list[Path]:
    """Name the files that `write_picks` writes.

    This is ``path``; or, for several tomograms in a format that holds one, and where ``path`` is a
    folder, one file named after each tomogram in the folder ``path`` without its ending.

    Parameters
    ----------
    path : Path | str
        The file or folder to write.
    picks : Picks
        The picks.
    dialect : str | None, optional
        The format; by the ending of ``path`` where None.

    Returns
    -------
    list[Path]
        The files.

    Raises
    ------
    UserError
        When the format is unknown, or two tomograms would have one file.
    """
    path = Path(path)
    form = format_of(dialect) if dialect else format_for(path)
    if form.dialect == "copick":
        from cryoet_core.formats.picks.dialects.copick import targets

        return list(targets(path, picks))
    parts = _parts(path, picks, form)
    return [*parts, *(part.with_suffix(ending) for part in parts for ending in form.beside)]


def _parts(path: Path, picks: Picks, form: Format) -> dict[Path, Picks]:
    if "tomograms" in form.holds:
        if path.is_dir() and form.dialect != "copick":
            raise UserError(f"{path}: a folder; expected the name of a file ({form.endings[0]})")
        return {path: picks}
    names = sorted({str(name) for name in picks.tomograms}, key=natural)
    ending = next((ending for ending in form.endings if path.name.lower().endswith(ending)), None)
    if len(names) <= 1 and ending is not None and not path.is_dir():
        return {path: picks}
    folder = path.with_name(path.name[: -len(ending)]) if ending and not path.is_dir() else path
    parts = {
        folder / f"{file_name(name)}{ending or form.endings[0]}": picks.within(name)
        for name in names
    }
    if len(parts) < len(names):
        raise UserError(
            f"{folder}: two tomograms ({', '.join(names[:4])}) would have one file; rename one"
        )
    return parts


def _refuse_bad(path: Path, picks: Picks) -> None:
    bad = np.flatnonzero(~np.isfinite(picks.positions).all(axis=1))
    if len(bad):
        raise UserError(f"{path}: pick {bad[0]} has no finite position; expected one; leave it out")
    empty = [name for name in picks.tomograms if not str(name).strip()]
    if empty:
        raise UserError(
            f"{path}: picks of a tomogram without a name; expected a name; give `tomogram`"
        )


def _lost(form: Format, picks: Picks) -> list[str]:
    """What the picks have and the format has no place for."""
    lost = []
    known = None if picks.rotations is None else np.isfinite(picks.rotations).all(axis=(1, 2))
    if np.isfinite(picks.scores).any() and "scores" not in form.holds:
        lost.append("scores")
    several = len(set(picks.classes.tolist())) > 1 or bool((picks.classes < 0).any())
    named = len(picks) > 0 and picks.class_names != ("particle",)
    if "classes" not in form.holds:
        lost += ["classes"] if several else ["the name of the class"] if named else []
    elif "class names" not in form.holds and named:
        lost.append("the names of the classes (numbers stand for them)")
    if known is not None and known.any():
        if "rotations" not in form.holds:
            lost.append("rotations")
        elif not known.all() and "unknown" not in form.holds:
            rotations = counted(int((~known).sum()), "rotation")
            verb = "is" if rotations.startswith("1 ") else "are"
            lost.append(f"that {rotations} {verb} unknown (none is written as 0)")
    if picks.extra and "extra" not in form.holds:
        lost.append(f"further columns ({', '.join(picks.extra)})")
    if len(picks) and "depth" not in form.holds:
        lost.append("z")
    return [
        f"{form.dialect} holds no place for {each}" if each != "z" else f"{form.dialect}: no z"
        for each in lost
    ]


def _lost_names(form: Format, target: Path, picks: Picks) -> list[str]:
    """Tomogram names that will be read as others."""
    if form.dialect == "cryoet":
        return []
    names = sorted({str(name) for name in picks.tomograms})
    if "tomograms" in form.holds:
        return [
            f"tomogram {name!r} will be read as {tomogram_name(name)!r}"
            for name in names
            if tomogram_name(name) != name
        ]
    ending = next((ending for ending in form.endings if target.name.lower().endswith(ending)), "")
    read = stem_of(
        target.with_name(target.name.removesuffix(ending)) if ending == "_info.json" else target
    )
    return [
        f"tomogram {name!r} will be read as {read!r}, by the file's name"
        for name in names
        if name != read
    ]

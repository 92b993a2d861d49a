"""Which picks are in which tomogram: by names in a pick file, checked against the extent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryoet_core.formats.picks import Geometry, PickReading, read_picks
from cryoet_core.picks.hypotheses import likeliest_cause
from cryoet_core.picks.table import Picks, join
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms.names import stem
from cryoet_core.tomograms.reading import Draft

_SHOWN = 5


def with_picks(drafts: Sequence[Draft], files: Sequence[Path]) -> tuple[list[Draft], list[str]]:
    """Give drafts their picks.

    Picks given by the user replace those of a store or a manifest: these may be the whole truth, of
    which the user wants a part to be known.

    Parameters
    ----------
    drafts : sequence of Draft
        The tomograms.
    files : sequence of Path
        Files of picks. Without any, the files named beside each draft are read.

    Returns
    -------
    drafts : list of Draft
        The same tomograms with picks.
    notes : list of str
        What was assumed or left out.

    Raises
    ------
    UserError
        As ``open_tomograms`` says.
    """
    notes: list[str] = []
    if files:
        return _given(drafts, files, notes), notes
    found = []
    for draft in drafts:
        parts = [_of_one(read(file, [draft], notes), file, draft) for file in draft.pick_files]
        found.append(_with(draft, parts) if parts else draft)
    return found, notes


def _given(drafts: Sequence[Draft], files: Sequence[Path], notes: list[str]) -> list[Draft]:
    parts: dict[str, list[Picks]] = {draft.name: [] for draft in drafts}
    for file in files:
        for name, picks in assigned(read(file, drafts, notes), file, drafts, notes).items():
            parts[name].append(picks)
    known = [draft.name for draft in drafts if draft.picks is not None or draft.pick_files]
    if known:
        notes.append(f"picks in the files of {_listed(known)} are set aside for those given")
    return [_with(replace(draft, picks=None), parts[draft.name]) for draft in drafts]


def read(file: Path, drafts: Sequence[Draft], notes: list[str]) -> Picks:
    """Read the picks of a file.

    Parameters
    ----------
    file : Path
        The file.
    drafts : sequence of Draft
        The tomograms; their geometry serves formats that count in voxels, or from the middle.
    notes : list of str
        Receives what was assumed.

    Returns
    -------
    Picks
        The tomogram of a pick is "" where the file does not say it.
    """
    geometry = {
        draft.name: Geometry(draft.volume.shape, float(draft.voxel_size or 1)) for draft in drafts
    }
    found = read_picks(Path(file), PickReading(geometry=geometry))
    notes += [f"{Path(file).name}: {note}" for note in found.notes]
    if found.named or len(drafts) == 1:
        return found.picks
    return replace(found.picks, tomograms=np.full(len(found.picks), "", dtype=object))


def assigned(
    picks: Picks, file: Path, drafts: Sequence[Draft], notes: list[str]
) -> dict[str, Picks]:
    """Assign picks to tomograms by name.

    Names match as they are, without folders and endings, or as a part of one another.

    Parameters
    ----------
    picks : Picks
        Picks of one file.
    file : Path
        The file, for messages; its name counts where picks name no tomogram.
    drafts : sequence of Draft
        The tomograms.
    notes : list of str
        Receives what was assumed or left out.

    Returns
    -------
    dict of str to Picks
        Tomogram name -> its picks.

    Raises
    ------
    UserError
        A name matches none and a tomogram is left without picks, or it is not clear which is meant.
    """
    found: dict[str, list[str]] = {}
    unknown = []
    for name in dict.fromkeys(str(each) for each in picks.tomograms):
        target = _target(name, file, drafts)
        if target is None:
            unknown.append(name)
        else:
            found.setdefault(target, []).append(name)
    for target, names in found.items():
        loose = [name for name in names if name and stem(name) != stem(target)]
        if loose and len(names) > 1:
            raise UserError(
                f"{file}: {_listed(names)} could each be tomogram {target}; expected one; rename "
                "it or its picks"
            )
        if loose:
            notes.append(f"{Path(file).name}: picks in {loose[0]} are taken for tomogram {target}")
    _refuse_unknown(picks, file, drafts, unknown, set(found), notes)
    return {
        target: replace(part, tomograms=np.full(len(part), target, dtype=object))
        for target, names in found.items()
        for part in [picks.select(np.isin(picks.tomograms.astype(str), names))]
    }


def _refuse_unknown(
    picks: Picks,
    file: Path,
    drafts: Sequence[Draft],
    unknown: list[str],
    found: set[str],
    notes: list[str],
) -> None:
    if not unknown:
        return
    rows = int(np.isin(picks.tomograms.astype(str), unknown).sum())
    left = [draft.name for draft in drafts if draft.name not in found]
    if "" in unknown:
        raise UserError(
            f"{file}: picks that do not say in which tomogram they are ({rows}); expected one of "
            f"{_listed(left)}; name the "
            "file like the tomogram, or name it in a manifest"
        )
    if left:
        raise UserError(
            f"{file}: picks in {_listed(unknown)}, which matches no tomogram; expected "
            f"{_listed(left)}; rename one or "
            "the other, or leave out the tomograms without picks"
        )
    notes.append(
        f"{Path(file).name}: picks in {_listed(unknown)} are left out ({rows}): not among the "
        "tomograms given"
    )


def _target(name: str, file: Path, drafts: Sequence[Draft]) -> str | None:
    """Return the tomogram that a name in a pick file means, None where it is not exactly one."""
    names = [draft.name for draft in drafts]
    if not name:
        if len(names) == 1:
            return names[0]
        name = stem(Path(file).name)
    if name in names:
        return name
    for same in (_equal, _part):
        matching = [each for each in names if same(stem(name), stem(each))]
        if len(matching) == 1:
            return matching[0]
    return None


def _equal(one: str, other: str) -> bool:
    return one == other


def _part(one: str, other: str) -> bool:
    """Return whether the shorter name is a word or several of the longer one.

    TS_1 is a part of rec_TS_1, not of TS_10.
    """
    short, long = sorted((one, other), key=len)
    return (
        bool(short)
        and re.search(rf"(?<![A-Za-z0-9]){re.escape(short)}(?![A-Za-z0-9])", long) is not None
    )


def _of_one(picks: Picks, file: Path, draft: Draft) -> Picks:
    """Return the picks of a file that a manifest names beside a tomogram.

    They are those of the tomogram's name, or all where the file has one name.
    """
    names = list(dict.fromkeys(str(each) for each in picks.tomograms))
    own = [name for name in names if _target(name, file, [draft])]
    if not own and len(names) > 1:
        raise UserError(
            f"{file}: picks in {_listed(names)}; expected some of tomogram {draft.name}; rename it"
        )
    part = picks.select(np.isin(picks.tomograms.astype(str), own or names))
    return replace(part, tomograms=np.full(len(part), draft.name, dtype=object))


def _with(draft: Draft, parts: Sequence[Picks]) -> Draft:
    if not parts:
        return draft
    picks = join(parts)
    refuse_outside(draft, picks)
    return replace(draft, picks=picks)


# ---- where they are ------------------------------------------------------------------------------


def refuse_outside(draft: Draft, picks: Picks) -> None:
    """Refuse picks that lie more than a voxel outside of their tomogram.

    Parameters
    ----------
    draft : Draft
        The tomogram.
    picks : Picks
        Its picks.

    Raises
    ------
    UserError
        Some lie outside; the message says what would explain it.
    """
    size = float(draft.voxel_size or 1)
    extent = (np.array(draft.volume.shape) - 1) * size
    outside = ~_inside(picks.positions, extent, size)
    count = int(outside.sum())
    if not count:
        return
    cause = likeliest_cause(picks.positions, draft.volume.shape, size)
    because = f"the likeliest cause: {cause}; " if cause else ""
    furthest = picks.positions[outside][
        np.argmax(np.abs(picks.positions[outside] - extent / 2).max(axis=1))
    ]
    verb = "lies" if count == 1 else "lie"
    raise UserError(
        f"{draft.where}: {count} of {len(picks)} picks {verb} outside of it (z, y, x "
        f"{_vector(furthest)} Å; expected 0 to "
        f"{_vector(extent)}); {because}check their tomogram, "
        "`voxel_size`, the "
        "order of the axes and the binning"
    )


def _inside(positions: np.ndarray, extent: np.ndarray, slack: float) -> np.ndarray:
    inside: np.ndarray = np.all((positions >= -slack) & (positions <= extent + slack), axis=1)
    return inside


def _vector(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name or repr(name) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")

"""Reading pick files of any format, and saying what one is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryoet_core.errors import UserError
from cryoet_core.io.picks.detecting import detect_dialect
from cryoet_core.io.picks.formats import format_of
from cryoet_core.io.picks.model import PickFile, PickReading


def read_picks(path: Path | str, reading: PickReading | None = None) -> PickFile:
    """Every pick of a file, in its order, in Å and (z, y, x). The dialect is told by the content unless given.

    UserError with one line where it holds no picks, is damaged, or needs what neither it nor ``reading`` says.
    """
    path, reading = Path(path), reading or PickReading()
    reading.refuse_nonsense()
    return format_of(reading.dialect or detect_dialect(path)).read(path, reading)


def describe_picks(path: Path | str) -> dict[str, Any]:
    """Facts for ``cryoet data info``: dialect, and, where the file says enough, how many picks of what in what.

    UserError where it holds no picks.
    """
    dialect = detect_dialect(path)
    facts: dict[str, Any] = {"dialect": dialect, "format": format_of(dialect).what}
    found, problem = _readable(Path(path))
    if found is None:
        return facts | {"needs": problem}
    picks = found.picks
    names = dict.fromkeys(str(name) for name in picks.tomograms)
    per_class = {name: int((picks.classes == index).sum()) for index, name in enumerate(picks.class_names)}
    low, high = (picks.positions.min(0), picks.positions.max(0)) if len(picks) else (None, None)
    facts |= {"dialect": found.dialect, "picks": len(picks), "tomograms": list(names)[:20] if found.named else None}
    facts |= {"classes": per_class, "scores": bool((picks.scores == picks.scores).any())}
    facts |= {
        "angles": picks.rotations is not None,
        "voxel_size": None if problem else found.voxel_size,
        "needs": problem or None,
    }
    if not problem and low is not None and high is not None:
        facts["from_zyx"], facts["to_zyx"] = low.round(1).tolist(), high.round(1).tolist()
    return facts | {"notes": found.notes}


def _readable(path: Path) -> tuple[PickFile | None, str]:
    """The picks as far as the file alone tells, and what else it needs to be read."""
    try:
        return read_picks(path), ""
    except UserError as error:
        problem = str(error).removeprefix(f"{path}: ")
    try:
        return read_picks(path, PickReading(voxel_size=1.0, slice=0.0)), problem
    except UserError:
        return None, problem

"""``cryoet data inspect``: do picks and tomograms fit together?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cryoet_core.cli.closing import plural
from cryoet_core.cli.data_commands.extract import AXES, DATA, PICKS, opened
from cryoet_core.cli.options import CONTRAST, JSON, OUTPUT, TOMOGRAMS, VOXEL_SIZE, option
from cryoet_core.support.errors import as_options


def command(
    data: DATA,
    picks: PICKS = None,
    out: Annotated[
        Path, option("The page to write; an old one is replaced.", "--out", panel=OUTPUT)
    ] = Path("inspect.html"),
    diameter: Annotated[
        float | None,
        option(
            "Diameter of the particle. Default: the one with the most contrast.",
            panel=TOMOGRAMS,
            metavar="Å",
        ),
    ] = None,
    contrast: CONTRAST = None,
    voxel_size: VOXEL_SIZE = None,
    axes: AXES = None,
    as_json: JSON = False,
) -> None:
    """Show what lies at picks, and which reading of their coordinates fits best, on an HTML page.

    cryoet data inspect --picks picks.star --data tomo.mrc --out inspect.html
    """
    from cryoet_core.inspection.page import inspect
    from cryoet_core.support.files import plain

    said = {
        "contrast": contrast,
        "voxel_size": voxel_size,
        "axes": axes,
        "default_contrast": "dark",
    }
    tomograms, found, notes = opened(data, picks or (), said, anywhere=True)
    files = [path.name for path in picks or ()] or ["own picks"]
    named = f"{_few(files)} on {_few([path.name for path in data])}"
    facts = inspect(tomograms, found, out, diameter=diameter, named=named, notes=notes)
    if as_json:
        print(json.dumps(plain(facts), ensure_ascii=False))
        return
    print(f"{out}: {plural(facts['n'], 'pick')} in {plural(facts['tomograms'], 'tomogram')}")
    print(f"  {facts['verdict']}")
    if facts["outside"]:
        print(f"  outside of their tomogram: {facts['outside']:,}")
    for note in notes:
        print(f"  note: {as_options(note)}")


def _few(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

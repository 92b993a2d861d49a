"""``cryoet data extract``: subtomograms around picks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cryoet_core.cli.closing import plural
from cryoet_core.cli.options import CONTRAST, JSON, OUTPUT, QUIET, TILT_RANGE, TOMOGRAMS, option
from cryoet_core.support.errors import UserError, as_options

FILES, BOXES, CHOICE = "The files", "The boxes", "Which picks"

DATA = Annotated[
    list[Path],
    option("Tomograms: MRC, OME-Zarr, a store, a manifest.", "--data", panel=FILES, metavar="FILE"),
]
PICKS = Annotated[
    list[Path] | None,
    option(
        "Picks, in any format that is read. Default: those in the data.",
        panel=FILES,
        metavar="FILE",
    ),
]

AXES = Annotated[
    str | None,
    option(
        "The tomograms' axes as they lie in the file, e.g. yzx.", panel=TOMOGRAMS, metavar="ZYX"
    ),
]


def command(
    data: DATA,
    out: Annotated[
        Path, option("The store to write (.h5).", "--out", panel=OUTPUT, metavar="FILE.h5")
    ],
    box: Annotated[
        int, option("Box size of the subtomograms, in voxels.", "--box", panel=BOXES, metavar="N")
    ],
    picks: PICKS = None,
    voxel_size: Annotated[
        float | None,
        option("Voxel size of the boxes. Default: the tomograms'.", panel=BOXES, metavar="Å"),
    ] = None,
    normalise: Annotated[
        str,
        option(
            "What is brought to mean 0 and standard deviation 1.",
            panel=BOXES,
            metavar="tomogram|volume|none",
        ),
    ] = "tomogram",
    edge: Annotated[
        str,
        option(
            "What to do with boxes that reach beyond the tomogram.",
            panel=BOXES,
            metavar="drop|pad|refuse",
        ),
    ] = "drop",
    min_score: Annotated[
        float | None, option("Leave out picks that score lower.", panel=CHOICE, metavar="S")
    ] = None,
    limit: Annotated[
        int | None,
        option(
            "Take only so many picks: the best, or the first ones without scores.", panel=CHOICE
        ),
    ] = None,
    drop_outside: Annotated[
        bool,
        option(
            "Leave out picks outside their tomogram, which are refused otherwise.",
            "--drop-outside",
            panel=CHOICE,
        ),
    ] = False,
    contrast: CONTRAST = None,
    tomogram_voxel_size: Annotated[
        float | None,
        option(
            "Voxel size, where the tomograms lack it or are wrong.", panel=TOMOGRAMS, metavar="Å"
        ),
    ] = None,
    tilt_range: TILT_RANGE = None,
    axes: AXES = None,
    overwrite: Annotated[
        bool, option("Replace an existing store.", "--overwrite", panel=OUTPUT)
    ] = False,
    as_json: JSON = False,
    quiet: QUIET = False,
) -> None:
    """Cut subtomograms around picks into a store that `cryoet run` takes.

    cryoet data extract --picks picks.star --data tomo.mrc --box 32 --voxel-size 12 --out
    particles.h5
    """
    from cryoet_core.particles.extraction import Cut, extract
    from cryoet_core.support.progress import Terminal

    if out.exists() and not overwrite:
        raise UserError(f"--out {out}: exists already; choose another name or give --overwrite")
    cut = Cut(box, voxel_size, normalise, edge, drop_outside, min_score, limit)  # type: ignore[arg-type]
    said = {
        "contrast": contrast,
        "voxel_size": tomogram_voxel_size,
        "tilt_range": tilt_range,
        "axes": axes,
    }
    tomograms, found, notes = opened(data, picks or (), said, anywhere=drop_outside)
    terminal = Terminal(silent=quiet, to_stderr=as_json)
    facts = extract(
        tomograms,
        found,
        out,
        cut,
        provenance=_provenance(data, picks or (), cut),
        watch=lambda names: terminal.progress(names, "cutting"),
    )
    facts["notes"] = [*notes, *facts["notes"]]
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    print(f"{out}: {plural(facts['n'], 'subtomogram')} of {plural(facts['picks'], 'pick')}")
    shown = {
        "box": f"{box} voxels of {facts['voxel_size']:g} Å",
        "classes": _counts(facts["classes"]),
    }
    if facts["not_chosen"]:
        shown["not chosen by score"] = f"{facts['not_chosen']:,}"
    for name, value in shown.items():
        print(f"  {name}: {value}")
    for note in facts["notes"]:
        print(f"  note: {as_options(note)}")


def opened(
    data: Any, picks: Any, said: dict[str, Any], *, anywhere: bool
) -> tuple[Any, Any, list[str]]:
    """The tomograms, the picks in them, and what was assumed.

    Parameters
    ----------
    data : sequence of Path
        The tomograms.
    picks : sequence of Path
        Files of picks; without any, those in the data.
    said : dict
        What the user says of the tomograms, by name; None is not given.
    anywhere : bool
        Accept picks outside their tomogram.

    Returns
    -------
    tomograms : Tomograms
        The data.
    picks : Picks
        The picks.
    notes : list of str
        What was assumed.

    Raises
    ------
    UserError
        There are no picks.
    """
    from cryoet_core.particles.placement import read_into
    from cryoet_core.picks.table import Picks
    from cryoet_core.tomograms import TomogramOptions, open_tomograms

    reading = {name: value for name, value in said.items() if value is not None}
    tomograms = open_tomograms(
        data, TomogramOptions(**reading, picks=() if anywhere else tuple(picks))
    )
    notes = list(tomograms.notes)
    found = tomograms.picks or Picks.empty()
    if anywhere and picks:
        found, more = read_into(picks, tomograms)
        notes += more
    if not len(found) and not picks:
        raise UserError("--picks: missing, and the data holds no picks; expected a file of picks")
    return tomograms, found, notes


def _counts(classes: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in classes.items()) or "none"


def _provenance(data: list[Path], picks: Any, cut: Any) -> dict[str, Any]:
    from dataclasses import asdict

    from cryoet_core import __version__

    files = [str(path) for path in [*picks, *data]]
    more = [f"and {len(files) - 20} more"] if len(files) > 20 else []
    return {
        "made_by": f"cryoet {__version__} data extract",
        "files": files[:20] + more,
        "cut": asdict(cut),
    }

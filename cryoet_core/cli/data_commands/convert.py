"""``cryoet data convert``: picks from one format into another."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoet_core.cli.closing import plural
from cryoet_core.cli.options import JSON, option
from cryoet_core.support.errors import UserError, as_options

if TYPE_CHECKING:
    from cryoet_core.formats.picks import Geometry, PickFile
    from cryoet_core.picks.table import Picks

INPUT, OUTPUT, TOMOGRAMS = "What the files mean", "What is written", "The tomograms"
READ = "csv, star, cbox, box, tbl, mod, coords, em, json, ndjson, h5 or a copick project"


def command(
    paths: Annotated[list[Path], typer.Argument(help=f"Picks: {READ}.", metavar="FILE...")],
    out: Annotated[
        Path,
        option("The file to write, or a folder (copick).", "--out", panel=OUTPUT, metavar="PATH"),
    ],
    dialect: Annotated[
        str | None,
        option(
            "Its format: csv, relion30, relion31, relion4, relion5, warp, dynamo, imod, coords, "
            "cbox, box, eman, "
            "copick, portal or cryoet. Default: by the name of --out.",
            panel=OUTPUT,
            metavar="NAME",
        ),
    ] = None,
    box: Annotated[
        int | None, option("Box size in voxels, for cbox and box.", panel=OUTPUT)
    ] = None,
    out_voxel_size: Annotated[
        float | None,
        option(
            "Voxel size of what is written. Default: as in the input.", panel=OUTPUT, metavar="Å"
        ),
    ] = None,
    optics: Annotated[
        tuple[float, float, float] | None,
        option(
            "Voltage (kV), Cs (mm) and amplitude contrast, for RELION's programs.",
            panel=OUTPUT,
            metavar="KV CS Q",
        ),
    ] = None,
    voxel_size: Annotated[
        float | None,
        option("Voxel size, where a file counts in voxels and lacks it.", panel=INPUT, metavar="Å"),
    ] = None,
    coordinate_pixel_size: Annotated[
        float | None,
        option("Pixel size of the coordinates, whatever the file says.", panel=INPUT, metavar="Å"),
    ] = None,
    unit: Annotated[
        str | None,
        option("Unit of a table that does not say it.", panel=INPUT, metavar="angstrom|nm|voxel"),
    ] = None,
    from_: Annotated[
        str | None,
        option(
            "The input's format, where its content does not tell.",
            "--from",
            panel=INPUT,
            metavar="NAME",
        ),
    ] = None,
    class_column: Annotated[
        str | None, option("The column with the class.", panel=INPUT, metavar="NAME")
    ] = None,
    slice_: Annotated[
        float | None,
        option(
            "The slice of picks that have only x and y, from 0.",
            "--slice",
            panel=INPUT,
            metavar="N",
        ),
    ] = None,
    tomogram: Annotated[
        str | None,
        option("The tomogram of a file that names none.", panel=TOMOGRAMS, metavar="NAME"),
    ] = None,
    names: Annotated[
        Path | None,
        option("Numbers and names of tomograms (Dynamo's .doc).", panel=TOMOGRAMS, metavar="FILE"),
    ] = None,
    tomograms: Annotated[
        Path | None,
        option("RELION tomogram set: sizes, and the tilt series' pixel size.", panel=TOMOGRAMS),
    ] = None,
    data: Annotated[
        list[Path] | None,
        option("The tomograms themselves, for their sizes.", panel=TOMOGRAMS, metavar="FILE"),
    ] = None,
    overwrite: Annotated[
        bool, option("Replace existing files.", "--overwrite", panel=OUTPUT)
    ] = False,
    as_json: JSON = False,
) -> None:
    """Convert picks from one format into another.

    As many come out as go in; notes say what the format cannot hold.

    cryoet data convert picks.star --dialect dynamo --out picks.tbl
    """
    from cryoet_core.formats.picks import PickReading, picks_files, read_picks, write_picks
    from cryoet_core.formats.picks.formats import format_for, format_of
    from cryoet_core.picks.table import join

    _refuse_nonsense(box, out_voxel_size, data)
    geometry = _geometry(data)
    said = PickReading(
        voxel_size=voxel_size,
        coordinate_pixel_size=coordinate_pixel_size,
        geometry=geometry,
        tomograms_star=tomograms,
        tomogram=tomogram,
        names=names,
        slice=slice_,
        unit=unit,
        class_column=class_column,
        dialect=from_,
    )
    found = [read_picks(path, said) for path in paths]
    picks = join([each.picks for each in found])
    targets = picks_files(out, picks, dialect)
    _refuse_existing(out, targets, overwrite, paths)
    notes = [
        f"{path.name}: {note}"
        for path, each in zip(paths, found, strict=True)
        for note in each.notes
    ]
    size, note = _written_size(out_voxel_size, voxel_size, found)
    known = _targets_geometry(geometry, tomograms, dialect)
    lost = write_picks(
        out, picks, dialect, known, voxel_size=size, box=box, optics=_optics(optics, found)
    )
    if note and not known and format_of(dialect or format_for(out).dialect).in_voxels:
        notes.append(note)
    facts = _facts(found, picks, targets, notes, lost)
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    _print(out, facts)


def _refuse_nonsense(box: int | None, size: float | None, data: list[Path] | None) -> None:
    if box is not None and box < 1:
        raise UserError(f"--box {box}: expected a whole number of voxels above 0")
    if size is not None and not 0 < size < float("inf"):
        raise UserError(f"--out-voxel-size {size}: expected a number of Å above 0")
    if size is not None and data:
        raise UserError(
            f"--out-voxel-size {size:g}: the tomograms (--data) say their voxel size; give one of "
            "both"
        )


def _geometry(data: list[Path] | None) -> dict[str, Geometry] | None:
    """Shapes and voxel sizes of tomograms; how protein looks in them does not matter here."""
    if not data:
        return None
    from cryoet_core.formats.picks import Geometry
    from cryoet_core.tomograms import TomogramOptions, open_tomograms

    opened = open_tomograms(data, TomogramOptions(default_contrast="dark"))
    return {tomogram.name: Geometry(tomogram.shape, tomogram.voxel_size) for tomogram in opened}


def _targets_geometry(
    geometry: dict[str, Geometry] | None, tomograms: Path | None, dialect: str | None
) -> dict[str, Geometry]:
    """RELION 4 and 5 count in pixels of the tilt series, where a tomogram set says them."""
    if tomograms is not None and dialect in ("relion4", "relion5"):
        from cryoet_core.formats.picks.rows import tomogram_set

        return tomogram_set(tomograms)
    return geometry or {}


def _written_size(
    given: float | None, read: float | None, found: Iterable[PickFile]
) -> tuple[float | None, str]:
    """Å of a voxel in what is written, and a note where it is that of the input."""
    sizes = {each.voxel_size for each in found if each.voxel_size is not None}
    if given or read or len(sizes) != 1:
        return given or read, ""
    size = sizes.pop()
    return size, f"voxels are written as in the input: {size:g} Å (--out-voxel-size sets another)"


def _optics(given: tuple[float, float, float] | None, found: list[PickFile]) -> dict[str, float]:
    """As given, else those of the input where all its files have the same."""
    if given is not None:
        return dict(zip(("voltage", "cs", "amplitude_contrast"), given, strict=True))
    first = dict(found[0].optics)
    return first if all(dict(each.optics) == first for each in found) else {}


def _refuse_existing(out: Path, targets: list[Path], overwrite: bool, paths: list[Path]) -> None:
    for target in targets:
        if target.exists() and any(path.exists() and target.samefile(path) for path in paths):
            raise UserError(f"--out {out}: {target} is an input too; choose another name")
        if target.exists() and not overwrite:
            raise UserError(
                f"--out {out}: {target} exists already; choose another name or give --overwrite"
            )


def _facts(
    found: list[PickFile], picks: Picks, targets: list[Path], notes: list[str], lost: list[str]
) -> dict[str, Any]:
    tomograms = list(dict.fromkeys(str(name) for name in picks.tomograms))
    return {
        "n": len(picks),
        "from": list(dict.fromkeys(each.dialect for each in found)),
        "tomograms": tomograms,
        "classes": {
            name: int((picks.classes == i).sum()) for i, name in enumerate(picks.class_names)
        },
        "files": [str(path) for path in targets],
        "notes": notes,
        "lost": lost,
    }


def _print(out: Path, facts: dict[str, Any]) -> None:
    where = plural(len(facts["tomograms"]), "tomogram")
    print(f"{out}: {plural(facts['n'], 'pick')} in {where}, from {', '.join(facts['from'])}")
    if len(facts["files"]) > 1:
        print(f"  files: {len(facts['files'])}, such as {facts['files'][0]}")
    for word in ("notes", "lost"):
        for line in facts[word]:
            print(f"  {word.removesuffix('s')}: {as_options(line)}")

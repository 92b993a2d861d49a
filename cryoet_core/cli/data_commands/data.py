"""``cryoet data import | export | info | check``: data sets in, out, described and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoet_core.cli.closing import plural
from cryoet_core.cli.data_commands import convert, extract, inspect
from cryoet_core.cli.options import JSON, QUIET, option
from cryoet_core.support.errors import UserError, as_options

if TYPE_CHECKING:
    from cryoet_core.support.progress import Terminal

app = typer.Typer(
    help="Import, export, describe and check data sets.", no_args_is_help=True, add_completion=False
)

app.command("convert")(convert.command)
app.command("extract")(extract.command)
app.command("inspect")(inspect.command)

FILES, MEANING, STORE, ROWS = "The files", "What they mean", "The store", "The star"
TOMOGRAM_KINDS = ("tomograms", "zarr", "copick", "manifest")


@app.command("import")
def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="A stack, a star, an .npz or .npy, a folder of volumes, stores to merge; or "
            "tomograms.",
            metavar="PATH...",
        ),
    ],
    out: Annotated[
        Path, option("The store to write (.h5).", "--out", panel=STORE, metavar="FILE.h5")
    ],
    kind: Annotated[
        str,
        option(
            "What the volumes are; auto: boxes of equal sides are subtomograms.",
            panel=FILES,
            metavar="auto|subtomograms|tomograms",
        ),
    ] = "auto",
    star: Annotated[
        Path | None,
        option("A star that describes the stack's volumes.", panel=FILES, metavar="FILE"),
    ] = None,
    picks: Annotated[
        list[Path] | None,
        option(
            "Known particle centres in tomograms: a star or any other pick file.",
            panel=FILES,
            metavar="FILE",
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        option("The star's column with the class of each particle.", panel=FILES, metavar="NAME"),
    ] = None,
    key: Annotated[
        str | None,
        option("The array of an .npz that holds the volumes.", panel=FILES, metavar="NAME"),
    ] = None,
    tomograms: Annotated[
        Path | None,
        option("RELION tomogram set, for centred coordinates.", panel=FILES, metavar="FILE.star"),
    ] = None,
    voxel_size: Annotated[
        float | None,
        option("Voxel size, where the file lacks it or is wrong.", panel=MEANING, metavar="Å"),
    ] = None,
    contrast: Annotated[
        str | None,
        option("How protein looks in the volumes.", panel=MEANING, metavar="dark|bright"),
    ] = None,
    tilt_range: Annotated[
        tuple[float, float] | None,
        option("Lowest and highest tilt, in degrees.", panel=MEANING, metavar="LOW HIGH"),
    ] = None,
    axes: Annotated[
        str | None,
        option(
            "A tomogram's axes as they lie in the file, e.g. yzx.", panel=MEANING, metavar="ZYX"
        ),
    ] = None,
    coordinate_pixel_size: Annotated[
        float | None, option("Pixel size of the star's coordinates.", panel=MEANING, metavar="Å")
    ] = None,
    dtype: Annotated[
        str,
        option(
            "Stored type; auto: float16 unless it loses too much.",
            panel=STORE,
            metavar="auto|float16|float32",
        ),
    ] = "auto",
    drop_bad: Annotated[
        bool, option("Leave out volumes that hold NaN or are constant.", "--drop-bad", panel=STORE)
    ] = False,
    split: Annotated[
        tuple[float, float, float] | None,
        option(
            "Fractions of train, val and test, equal in each class.", panel=STORE, metavar="A B C"
        ),
    ] = None,
    seed: Annotated[int, option("Seed of the split.", panel=STORE)] = 0,
    overwrite: Annotated[
        bool, option("Replace an existing store.", "--overwrite", panel=STORE)
    ] = False,
    as_json: JSON = False,
    quiet: QUIET = False,
) -> None:
    """Import subtomograms, or tomograms with their picks, of other programs into a store.

    cryoet data import particles.mrcs --star particles.star --label-column rlnGroupName --contrast
    dark --out set.h5
    """
    from cryoet_core.support.progress import Terminal

    _refuse_existing(out, overwrite, paths)
    if dtype not in ("auto", "float16", "float32"):
        raise UserError(f"--dtype {dtype}: expected auto, float16 or float32")
    terminal = Terminal(silent=quiet, to_stderr=as_json)
    if _are_tomograms(kind, paths, star):
        others: dict[str, Any] = {
            "--star": star,
            "--label-column": label_column,
            "--key": key,
            "--tomograms": tomograms,
        }
        others |= {
            "--coordinate-pixel-size": coordinate_pixel_size,
            "--split": split,
            "--drop-bad": drop_bad or None,
        }
        _refuse_options(
            others, "an option for subtomograms, but these are tomograms (--kind says otherwise)"
        )
        said = {
            "picks": tuple(picks or ()),
            "voxel_size": voxel_size,
            "contrast": contrast,
            "axes": axes,
        }
        _import_tomograms(paths, out, said | {"tilt_range": tilt_range}, dtype, terminal, as_json)
        return
    _refuse_options(
        {"--picks": picks, "--axes": axes}, "an option for tomograms (--kind tomograms)"
    )
    from cryoet_core.exchange.collect import ImportOptions, collect
    from cryoet_core.exchange.importing import ImportSettings, import_source

    source = collect(
        paths,
        ImportOptions(star, label_column, key, voxel_size, coordinate_pixel_size, tomograms),
    )
    settings = ImportSettings(voxel_size, contrast, tilt_range, dtype, drop_bad)
    if split is not None:
        from cryoet_core.store.split import stratified

        source.split = stratified(source.classes()[1], split, seed)
    facts = import_source(
        source, out, settings, lambda parts: terminal.progress(parts, "importing")
    )
    _print(facts, as_json, f"{out}: {plural(facts['n'], 'subtomogram')} imported")


def _import_tomograms(
    paths: list[Path],
    out: Path,
    said: Mapping[str, Any],
    dtype: str,
    terminal: Terminal,
    as_json: bool,
) -> None:
    from cryoet_core.exchange.convert import import_tomograms
    from cryoet_core.tomograms import TomogramOptions

    facts = import_tomograms(
        paths,
        out,
        TomogramOptions(**said),
        dtype,
        lambda parts: terminal.progress(parts, "importing"),
    )
    _print(facts, as_json, f"{out}: {plural(facts['n'], 'tomogram')} imported")


def _are_tomograms(kind: str, paths: list[Path], star: Path | None) -> bool:
    """Whether tomograms are to be imported: as said, else as the first file looks."""
    from cryoet_core.exchange.facts import identify

    if kind not in ("auto", "subtomograms", "tomograms"):
        raise UserError(f"--kind {kind}: expected auto, subtomograms or tomograms")
    if kind != "auto" or star is not None:
        return kind == "tomograms"
    return str(identify(paths[0]).get("importable", "")).startswith(
        "yes, as a tomogram"
    ) or _is_tomogram_kind(paths[0])


def _is_tomogram_kind(path: Path) -> bool:
    from cryoet_core.formats.sniff import kind_of

    return kind_of(path) in TOMOGRAM_KINDS


def _refuse_options(given: Mapping[str, Any], reason: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise UserError(f"{name}: {reason}; leave it out")


@app.command("export")
def export(
    paths: Annotated[
        list[Path], typer.Argument(help="Stores to export as one set.", metavar="FILE.h5...")
    ],
    out: Annotated[
        Path,
        option(
            "The star to write, the stack lies beside it; of tomograms FILE.mrc or a folder.",
            "--out",
            panel=ROWS,
        ),
    ],
    dialect: Annotated[
        str, option("The star's dialect.", panel=ROWS, metavar="relion30|relion31|relion4|relion5")
    ] = "relion31",
    tomograms: Annotated[
        Path | None,
        option("Tomogram set, for relion5's centred coordinates.", panel=ROWS, metavar="FILE.star"),
    ] = None,
    half: Annotated[
        bool, option("float16 volumes (MRC mode 12, RELION 4 and later).", "--float16", panel=ROWS)
    ] = False,
    overwrite: Annotated[
        bool, option("Replace existing files.", "--overwrite", panel=ROWS)
    ] = False,
    as_json: JSON = False,
    quiet: QUIET = False,
) -> None:
    """Export a store of subtomograms as a RELION star and one .mrcs stack.

    Tomograms are exported as .mrc files and stars of their picks.
    """
    from cryoet_core.exchange.exporting import export_store
    from cryoet_core.store import open_subtomograms
    from cryoet_core.support.progress import Terminal

    if paths[0].exists() and _is_tomogram_kind(paths[0]):
        _refuse_options({"--tomograms": tomograms}, "an option for subtomograms")
        _export_tomograms(
            paths, out, dialect, half, overwrite, Terminal(silent=quiet, to_stderr=as_json), as_json
        )
        return
    if out.suffix != ".star":
        raise UserError(f"--out {out}: expected a name that ends in .star")
    for path in (out, out.with_suffix(".mrcs")):
        _refuse_existing(path, overwrite, paths)
    data = open_subtomograms(paths, check_values=False)
    terminal = Terminal(silent=quiet, to_stderr=as_json)
    facts = export_store(
        data,
        out,
        dialect,
        half,
        tomograms,
        watch=lambda parts: terminal.progress(parts, "exporting"),
    )
    _print(facts, as_json, f"{out}: {plural(facts['n'], 'subtomogram')} exported")


def _export_tomograms(
    paths: list[Path],
    out: Path,
    dialect: str,
    half: bool,
    overwrite: bool,
    terminal: Terminal,
    as_json: bool,
) -> None:
    from cryoet_core.exchange.convert import export_tomograms, targets_of
    from cryoet_core.tomograms.store import open_store

    found = [tomogram for path in paths for tomogram in open_store(path)]
    for target in targets_of(found, out):
        for path in (target, target.with_suffix(".star")):
            _refuse_existing(path, overwrite, paths)
    facts = export_tomograms(
        found, out, half, dialect, lambda parts: terminal.progress(parts, "exporting")
    )
    _print(facts, as_json, f"{out}: {plural(facts['n'], 'tomogram')} exported")


@app.command("info")
def info(
    paths: Annotated[list[Path], typer.Argument(help="Any file or folder.", metavar="PATH...")],
    as_json: JSON = False,
) -> None:
    """Say what a file is: a store, a map, a star, or anything else that could be given."""
    from cryoet_core.exchange.facts import identify

    found = [identify(path) for path in paths]
    if as_json:
        _dump(found[0] if len(found) == 1 else found)
        return
    for number, facts in enumerate(found):
        print("\n" * bool(number) + f"{facts.pop('file')}: {facts.pop('what')}")
        _lines({name: value for name, value in facts.items() if name != "kind"})


@app.command("check")
def check(
    paths: Annotated[
        list[Path], typer.Argument(help="Stores, or files of other programs.", metavar="PATH...")
    ],
    as_json: JSON = False,
) -> None:
    """Report everything that is wrong with a store, or with a file to import.

    The exit code is 2 if anything is.
    """
    found = {str(path): _problems(path) for path in paths}
    if as_json:
        results = [
            {"file": path, "ok": not lines, "deviations": lines} for path, lines in found.items()
        ]
        _dump(results[0] if len(results) == 1 else results)
    else:
        for path, lines in found.items():
            for line in lines or ["no problems found"]:
                print(f"{path}: {as_options(line)}")
    if any(found.values()):
        raise typer.Exit(2)


def _problems(path: Path) -> list[str]:
    """What is wrong with a store; of another file, what an import would stumble on."""
    from cryoet_core.exchange.facts import identify
    from cryoet_core.store import check_store

    try:
        facts = identify(path)
    except UserError as error:
        return [str(error).removeprefix(f"{path}: ")]
    if facts["kind"] == "store":
        return check_store(path)
    if facts["kind"] == "tomograms":
        from cryoet_core.tomograms.check import check_tomograms

        return check_tomograms(path)
    importable = str(facts.get("importable", ""))
    if importable.startswith("yes, as a tomogram") or importable == "yes, as tomograms":
        from cryoet_core.tomograms.check import check_sources

        return check_sources(path)
    if facts["kind"] in ("volumes", "star", "numpy", *TOMOGRAM_KINDS):
        problems = [facts.get("problem"), None if importable.startswith("yes") else importable]
        return [str(problem) for problem in problems if problem]
    return [f"{facts['what']}; expected a store or a file that `cryoet data import` takes"]


def _refuse_existing(out: Path, overwrite: bool, inputs: Iterable[Path]) -> None:
    if not out.exists():
        return
    if any(path.exists() and out.samefile(path) for path in inputs):
        raise UserError(f"--out {out}: is an input too; choose another name")
    if not overwrite:
        raise UserError(f"--out {out}: exists already; choose another name or give --overwrite")


def _print(facts: Mapping[str, Any], as_json: bool, headline: str) -> None:
    if as_json:
        _dump(facts)
        return
    print(headline)
    _lines({name: value for name, value in facts.items() if name not in ("out", "n")})


def _dump(value: Any) -> None:
    from cryoet_core.support.files import plain

    print(as_options(json.dumps(plain(value), ensure_ascii=False)))


def _lines(facts: Mapping[str, Any]) -> None:
    """Facts one to a line; what is empty or unknown is left out."""
    for name, value in facts.items():
        words = name.replace("_", " ")
        if name == "notes":
            for note in value:
                print(f"  note: {as_options(note)}")
        elif isinstance(value, Mapping) and any(
            isinstance(item, Mapping) for item in value.values()
        ):
            for key, item in list(value.items())[:20]:
                print(f"  {key}: {_phrase(item)}")
            if len(value) > 20:
                print(f"  ... and {len(value) - 20} more")
        elif isinstance(value, Mapping):
            shown = [f"{key} {item}" for key, item in list(value.items())[:20]]
            more = [f"... {len(value) - 20} more"] if len(value) > 20 else []
            if value:
                print(f"  {words}: {', '.join(shown + more)}")
        elif isinstance(value, (list, tuple)):
            if value:
                print(f"  {words}: {as_options(', '.join(str(item) for item in value))}")
        elif isinstance(value, bool):
            print(f"  {words}: {'yes' if value else 'no'}")
        elif value is not None:
            print(f"  {words}: {as_options(str(value))}")


def _phrase(facts: Mapping[str, Any]) -> str:
    """Facts of one tomogram on one line."""
    parts = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            value = " ".join(f"{count} {key}" for key, count in value.items()) or "none"
        elif isinstance(value, (list, tuple)):
            value = " ".join(str(item) for item in value)
        if value not in (None, "", False):
            parts.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(parts)

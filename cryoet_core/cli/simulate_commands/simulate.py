"""``cryoet simulate subtomograms``: a labelled data set of known structures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoet_core.cli.closing import plural
from cryoet_core.cli.options import DEVICE, JSON, QUIET, THREADS, option
from cryoet_core.cli.simulate_commands.simulate_options import (
    CommandLine,
    check_out,
    load,
    set_threads,
)
from cryoet_core.cli.simulate_commands.simulate_tomogram import tomogram
from cryoet_core.simulate.settings import SimulationSettings

if TYPE_CHECKING:
    from cryoet_core.simulate.shapes.structures import Structure

app = typer.Typer(
    help="Make data sets with known truth.", no_args_is_help=True, add_completion=False
)

WHAT, POSES, OPTICS, NOISE, OUT = (
    "What is in the subtomograms",
    "Poses",
    "The microscope",
    "Noise",
    "The store",
)


@app.callback()
def simulate() -> None:
    """Make data sets with known truth."""


@app.command(cls=CommandLine)
def subtomograms(
    out: Annotated[
        Path, option("The store to write (.h5).", "--out", panel=OUT, metavar="FILE.h5")
    ],
    structures: Annotated[
        list[Path] | None,
        option(
            "Maps (.mrc, .map), models (.pdb, .cif), each also .gz, or folders.",
            panel=WHAT,
            metavar="PATH...",
        ),
    ] = None,
    phantoms: Annotated[
        list[str] | None,
        option(
            "Built-in complexes: how many (8 if not said), or their names.",
            panel=WHAT,
            metavar="[N|NAME...]",
        ),
    ] = None,
    per_class: Annotated[
        int, option("Subtomograms of each structure.", panel=WHAT, metavar="N")
    ] = SimulationSettings.per_class,
    box: Annotated[
        int, option("Box size, in voxels.", panel=WHAT, metavar="N")
    ] = SimulationSettings.box,
    voxel_size: Annotated[
        float, option("Voxel size.", panel=WHAT, metavar="Å")
    ] = SimulationSettings.voxel_size,
    resolution: Annotated[
        float | None,
        option("Resolution of models and phantoms. Default: two voxels.", panel=WHAT, metavar="Å"),
    ] = None,
    assembly: Annotated[
        str,
        option(
            "Assembly of models; auto: the first that a file lists; none: atoms as deposited.",
            panel=WHAT,
        ),
    ] = "auto",
    crowding: Annotated[
        int, option("Random neighbours around each target.", panel=WHAT, metavar="K")
    ] = 0,
    empty_fraction: Annotated[
        float,
        option(
            "Add this fraction of subtomograms without a target, of class 'empty'.",
            panel=WHAT,
            metavar="0..1",
        ),
    ] = 0.0,
    orientation: Annotated[
        str,
        option(
            "aitom: the few orientations of AITom's generator.",
            panel=POSES,
            metavar="uniform|aitom",
        ),
    ] = "uniform",
    max_shift: Annotated[
        float,
        option(
            "How far targets may lie off the centre, on each axis.",
            panel=POSES,
            metavar="VOXELS",
        ),
    ] = 0.0,
    seed: Annotated[
        int, option("Seed; the same one gives the same poses, with any optics or SNR.", panel=POSES)
    ] = 0,
    tilt_range: Annotated[
        tuple[float, float],
        option("Lowest and highest tilt, in degrees.", panel=OPTICS, metavar="LOW HIGH"),
    ] = SimulationSettings.tilt_range,
    tilt_step: Annotated[
        float, option("Angle between tilts.", panel=OPTICS, metavar="DEGREES")
    ] = 3.0,
    defocus: Annotated[
        list[float] | None,
        option(
            "Underfocus, or a range from which each subtomogram draws. Default: 4.",
            panel=OPTICS,
            metavar="UM [UM]",
        ),
    ] = None,
    cs: Annotated[
        float, option("Spherical aberration.", panel=OPTICS, metavar="MM")
    ] = SimulationSettings.cs,
    voltage: Annotated[
        float, option("Acceleration voltage.", panel=OPTICS, metavar="KV")
    ] = SimulationSettings.voltage,
    amplitude_contrast: Annotated[
        float, option("Fraction of amplitude contrast.", panel=OPTICS, metavar="0..1")
    ] = SimulationSettings.amplitude_contrast,
    bfactor: Annotated[
        float, option("Envelope exp(-B k^2 / 4).", panel=OPTICS, metavar="Å^2")
    ] = SimulationSettings.bfactor,
    phase_shift: Annotated[
        float, option("Phase shift of a phase plate.", panel=OPTICS, metavar="DEGREES")
    ] = 0.0,
    mtf: Annotated[
        str, option("The detector's transfer.", panel=OPTICS, metavar="none|sinc")
    ] = "none",
    ctf: Annotated[
        bool, option("Apply the contrast transfer function.", "--ctf/--no-ctf", panel=OPTICS)
    ] = True,
    contrast: Annotated[
        str,
        option(
            "How protein looks in the file; methods make it bright.",
            panel=OPTICS,
            metavar="bright|dark",
        ),
    ] = "bright",
    snr: Annotated[
        float,
        option(
            "var(signal) / var(noise) in each final subtomogram; inf: no noise.",
            panel=NOISE,
            metavar="X",
        ),
    ] = SimulationSettings.snr,
    snr_mode: Annotated[
        str,
        option(
            "aitom: noise as AITom adds it; the true SNR differs.",
            panel=NOISE,
            metavar="variance|aitom",
        ),
    ] = "variance",
    clean: Annotated[
        bool, option("Store each subtomogram without noise too.", "--clean", panel=OUT)
    ] = False,
    overwrite: Annotated[
        bool, option("Replace --out where it exists.", "--overwrite", panel=OUT)
    ] = False,
    device: DEVICE = "auto",
    threads: THREADS = None,
    as_json: JSON = False,
    quiet: QUIET = False,
) -> None:
    """Simulate labelled subtomograms of known structures into a store.

    Example: cryoet simulate subtomograms --phantoms 5 --snr 0.1 --out sim_snr01.h5
    """
    given = {
        name: value
        for name, value in locals().items()
        if name in SimulationSettings.__dataclass_fields__
    }
    settings = SimulationSettings(
        **given | {"defocus": tuple(defocus or SimulationSettings.defocus)}
    )
    check_out(out, overwrite)
    facts = _run(
        out,
        structures or [],
        phantoms or [],
        settings,
        resolution,
        assembly,
        device,
        threads,
        as_json,
        quiet,
    )
    print(json.dumps(facts) if as_json else _closing(facts), flush=True)


app.command(cls=CommandLine)(tomogram)


def _run(
    out: Path,
    paths: list[Path],
    phantoms: list[str],
    settings: SimulationSettings,
    resolution: float | None,
    assembly: str,
    device: str,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> dict[str, Any]:
    import time

    from cryoet_core.runs import devices
    from cryoet_core.simulate.generation import class_names, write_subtomograms
    from cryoet_core.support import provenance
    from cryoet_core.support.progress import Terminal

    where = devices.resolve(device)
    set_threads(threads)
    terminal = Terminal(silent=quiet, to_stderr=True)
    structures = load(paths, phantoms, settings.voxel_size, resolution, assembly)
    for line in _cut_off(structures, settings):
        terminal.say(line)
    origin = provenance.collect(where)
    origin["structures"] = [provenance.fingerprint(path) for path in paths]
    start = time.perf_counter()
    count = write_subtomograms(
        out,
        structures,
        settings,
        device=where,
        provenance=origin,
        progress=lambda batches: terminal.progress(batches, "simulating"),
    )
    seconds = time.perf_counter() - start
    return {
        "out": str(out),
        "n": count,
        "classes": list(class_names(structures, settings)),
        "diameters_nm": {s.name: round(s.diameter / 10, 1) for s in structures},
        "settings": settings.as_dict(),
        "seconds": round(seconds, 2),
        "per_second": round(count / seconds, 1),
    }


def _cut_off(structures: list[Structure], settings: SimulationSettings) -> list[str]:
    side = settings.box * settings.voxel_size
    return [
        f"note: {s.name} ({s.diameter / 10:.1f} nm) is larger than the box ({side / 10:.1f} nm) "
        "and is cut off"
        for s in structures
        if s.diameter > side
    ]


def _closing(facts: dict[str, Any]) -> str:
    names = facts["classes"]
    return (
        f"{facts['out']}: {plural(facts['n'], 'subtomogram')} of "
        f"{plural(len(names), 'class', 'es')} ({', '.join(names)}) "
        f"in {facts['seconds']:.1f} s, {facts['per_second']:.0f} per second"
    )

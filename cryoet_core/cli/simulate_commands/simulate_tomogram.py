"""``cryoet simulate tomogram``: whole tomograms with known truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cryoet_core.cli.closing import plural
from cryoet_core.cli.options import DEVICE, JSON, QUIET, THREADS, option
from cryoet_core.cli.simulate_commands.simulate_options import check_out, load, set_threads
from cryoet_core.simulate.tomogram_settings import TomogramSettings
from cryoet_core.support.errors import UserError

WHAT, AMONG, OPTICS, NOISE, OUT = (
    "Particles",
    "What else is there",
    "The microscope",
    "Noise",
    "The files",
)


def tomogram(
    out: Annotated[
        Path,
        option(
            "A store; or .mrc, with the truth beside it in .star and .json.",
            "--out",
            panel=OUT,
            metavar="FILE.h5|.mrc",
        ),
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
    shape: Annotated[
        tuple[int, int, int], option("Voxels of a tomogram.", panel=WHAT, metavar="Z Y X")
    ] = TomogramSettings.shape,
    voxel_size: Annotated[
        float, option("Voxel size.", panel=WHAT, metavar="Å")
    ] = TomogramSettings.voxel_size,
    copies: Annotated[
        list[int] | None,
        option(
            "Copies of each structure: one number for all or one for each. Default: 200.",
            panel=WHAT,
            metavar="N...",
        ),
    ] = None,
    volume_fraction: Annotated[
        float | None,
        option(
            "In place of --copies: fraction of the volume that particles fill.",
            panel=WHAT,
            metavar="0..1",
        ),
    ] = None,
    margin: Annotated[
        float,
        option("Distance between particles and the faces of the volume.", panel=WHAT, metavar="Å"),
    ] = TomogramSettings.margin,
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
    seed: Annotated[
        int,
        option(
            "Seed; the same one gives the same scene and white noise, with any optics.", panel=WHAT
        ),
    ] = 0,
    membranes: Annotated[
        int, option("Vesicles and pieces of larger ones.", panel=AMONG, metavar="N")
    ] = 0,
    filaments: Annotated[
        int, option("Microtubules and actin filaments, alternately.", panel=AMONG, metavar="N")
    ] = 0,
    beads: Annotated[int, option("Gold beads of 10 nm.", panel=AMONG, metavar="N")] = 0,
    route: Annotated[
        str,
        option(
            "filter: one filter in 3-D; tilts: projections and back-projection.",
            panel=OPTICS,
            metavar="filter|tilts",
        ),
    ] = TomogramSettings.route,
    tilt_range: Annotated[
        tuple[float, float],
        option("Lowest and highest tilt, in degrees.", panel=OPTICS, metavar="LOW HIGH"),
    ] = TomogramSettings.tilt_range,
    tilt_step: Annotated[
        float, option("Angle between tilts (route tilts).", panel=OPTICS, metavar="DEGREES")
    ] = TomogramSettings.tilt_step,
    dose: Annotated[
        float, option("Dose of the whole series (route tilts).", panel=OPTICS, metavar="e/Å^2")
    ] = TomogramSettings.dose,
    defocus: Annotated[
        list[float] | None,
        option(
            "Underfocus, or a range from which each tomogram draws. Default: 4.",
            panel=OPTICS,
            metavar="UM [UM]",
        ),
    ] = None,
    cs: Annotated[
        float, option("Spherical aberration.", panel=OPTICS, metavar="MM")
    ] = TomogramSettings.cs,
    voltage: Annotated[
        float, option("Acceleration voltage.", panel=OPTICS, metavar="KV")
    ] = TomogramSettings.voltage,
    amplitude_contrast: Annotated[
        float, option("Fraction of amplitude contrast.", panel=OPTICS, metavar="0..1")
    ] = TomogramSettings.amplitude_contrast,
    bfactor: Annotated[
        float, option("Envelope exp(-B k^2 / 4).", panel=OPTICS, metavar="Å^2")
    ] = TomogramSettings.bfactor,
    phase_shift: Annotated[
        float, option("Phase shift of a phase plate.", panel=OPTICS, metavar="DEGREES")
    ] = 0.0,
    ctf: Annotated[
        bool, option("Apply the contrast transfer function.", "--ctf/--no-ctf", panel=OPTICS)
    ] = True,
    snr: Annotated[
        float,
        option(
            "var(a particle's image in its subtomogram) / var(noise), on average; inf: none.",
            panel=NOISE,
            metavar="X",
        ),
    ] = TomogramSettings.snr,
    ice_gradient: Annotated[
        float,
        option(
            "How much the noise rises across the field, as under thicker ice.",
            panel=NOISE,
            metavar="0..1",
        ),
    ] = 0.0,
    count: Annotated[
        int, option("Number of tomograms, each with a scene of its own.", panel=OUT, metavar="N")
    ] = 1,
    contrast: Annotated[
        str | None,
        option(
            "How protein looks. Default: bright in .h5 (the sign is stored), dark in .mrc.",
            panel=OUT,
        ),
    ] = None,
    masks: Annotated[
        bool, option("Write masks of particles and classes.", "--masks/--no-masks", panel=OUT)
    ] = True,
    overwrite: Annotated[
        bool, option("Replace --out where it exists.", "--overwrite", panel=OUT)
    ] = False,
    device: DEVICE = "auto",
    threads: THREADS = None,
    as_json: JSON = False,
    quiet: QUIET = False,
) -> None:
    """Simulate tomograms of known structures.

    The position, class and rotation of every particle are known.

    Example: cryoet simulate tomogram --phantoms 6 --copies 60 --membranes 4 --beads 10 --out
    tomo.h5
    """
    given = {
        name: value
        for name, value in locals().items()
        if name in TomogramSettings.__dataclass_fields__
    }
    if copies and volume_fraction is not None:
        raise UserError(
            f"--copies and --volume-fraction {volume_fraction:g}: both say how many; expected one "
            "of them"
        )
    several = {
        "copies": tuple(copies or TomogramSettings.copies),
        "defocus": tuple(defocus or (4.0,)),
    }
    settings = TomogramSettings(**given | several)
    check_out(out, overwrite)
    files = {"count": count, "contrast": contrast, "masks": masks, "overwrite": overwrite}
    sources = (structures or [], phantoms or [], resolution, assembly)
    facts = _run(out, sources, settings, files, device, threads, as_json or quiet)
    print(json.dumps(facts) if as_json else _closing(facts), flush=True)


def _run(
    out: Path,
    sources: tuple[list[Path], list[str], float | None, str],
    settings: TomogramSettings,
    files: dict[str, Any],
    device: str,
    threads: int | None,
    silent: bool,
) -> dict[str, Any]:
    import time

    from cryoet_core.runs import devices
    from cryoet_core.simulate.tomogram_files import write_tomograms
    from cryoet_core.support import provenance
    from cryoet_core.support.progress import Terminal

    where = devices.resolve(device)
    set_threads(threads)
    terminal = Terminal(silent=silent, to_stderr=True)
    paths, phantoms, resolution, assembly = sources
    loaded = load(paths, phantoms, settings.voxel_size, resolution, assembly)
    origin = provenance.collect(where)
    origin["structures"] = [provenance.fingerprint(path) for path in paths]
    start = time.perf_counter()
    written = write_tomograms(
        out,
        loaded,
        settings,
        **files,
        device=where,
        provenance=origin,
        progress=lambda indices: terminal.progress(indices, "simulating"),
    )
    return {
        "out": str(out),
        "files": [str(path) for path in written.files],
        "tomograms": written.facts,
        "notes": written.notes,
        "settings": settings.as_dict(),
        "seconds": round(time.perf_counter() - start, 2),
    }


def _closing(facts: dict[str, Any]) -> str:
    lines = []
    for name, tomogram_facts in facts["tomograms"].items():
        copies = tomogram_facts["copies"]
        counts = ", ".join(f"{n} {structure}" for structure, n in copies.items())
        filled = f"{tomogram_facts['volume_fraction']:.1%} of the volume"
        lines.append(f"{name}: {plural(sum(copies.values()), 'particle')} ({counts}), {filled}")
    lines += [f"note: {note}" for note in facts["notes"]]
    return "\n".join([*lines, f"{', '.join(facts['files'])} in {facts['seconds']:.1f} s"])

"""Simulated tomograms as files: a store, or MRC with the truth beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoet_core.picks.table import Picks, join
from cryoet_core.simulate.shapes.structures import Structure
from cryoet_core.simulate.specimen import SimulatedTomogram, simulate_tomogram
from cryoet_core.simulate.tomogram_settings import TomogramSettings
from cryoet_core.support import files
from cryoet_core.support.errors import UserError

STORES, MRC = (".h5", ".hdf5"), (".mrc", ".rec", ".map")
Progress = Callable[[Sequence[int]], Iterable[int]]


@dataclass
class Written:
    """What was written.

    Attributes
    ----------
    files : list of Path
        The files.
    facts : dict
        Facts of each tomogram, by its name.
    notes : list of str
        What a format could not hold.
    """

    files: list[Path] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def write_tomograms(
    out: Path | str,
    structures: Sequence[Structure],
    settings: TomogramSettings,
    *,
    count: int = 1,
    contrast: str | None = None,
    masks: bool = True,
    overwrite: bool = False,
    device: torch.device | str = "cpu",
    provenance: dict[str, Any] | None = None,
    progress: Progress = iter,
) -> Written:
    """Simulate tomograms into a store, or into MRC files with the truth in a star file beside them.

    Parameters
    ----------
    out : str or Path
        The file to write: a store (.h5) or MRC.
    structures : sequence of Structure
        The classes, in the order of their labels.
    settings : TomogramSettings
        What is simulated.
    count : int
        How many tomograms.
    contrast : str, optional
        "bright" or "dark" protein. Without it, bright in a store, which says so, and dark in MRC
        files, as reconstructions are.
    masks : bool
        Whether to write the masks "ids" (row of a particle in the picks + 1) and "classes" (1 +
        index; distractors follow the structures).
    overwrite : bool
        Replace files that exist.
    device : torch.device or str
        Where to compute.
    provenance : dict, optional
        What the file says about its origin.
    progress : callable
        Wraps the loop over the tomograms.

    Returns
    -------
    Written
        The files, facts and notes.

    Raises
    ------
    UserError
        The file is of another kind or exists, or ``simulate_tomogram`` refuses.
    """
    out = Path(out)
    if out.suffix.lower() not in STORES + MRC:
        raise UserError(
            f"`out` {out}: unknown kind of file; expected a name that ends in .h5 or .mrc"
        )
    if count < 1:
        raise UserError(f"`count`: {count}; expected at least 1")
    store = out.suffix.lower() in STORES
    contrast = contrast or ("bright" if store else "dark")
    if contrast not in ("bright", "dark"):
        raise UserError(f"`contrast`: {contrast}; expected bright or dark")
    settings.check(structures)
    write = _write_store if store else _write_mrc
    names = [
        out.stem if count == 1 else f"{out.stem}_{i + 1:0{len(str(count))}d}" for i in range(count)
    ]
    origin = {"simulated": settings.as_dict()} | (provenance or {})

    def simulated() -> Iterator[SimulatedTomogram]:
        for index in progress(range(count)):
            yield simulate_tomogram(structures, settings, index, names[index], device)

    sign = 1 if contrast == "bright" else -1
    return write(out, simulated(), names, settings, sign, masks, overwrite, origin)


def _write_store(
    out: Path,
    tomograms: Iterable[SimulatedTomogram],
    names: Sequence[str],
    settings: TomogramSettings,
    sign: int,
    masks: bool,
    overwrite: bool,
    origin: dict[str, Any],
) -> Written:
    from cryoet_core.tomograms.writer import TomogramWriter

    written = Written([out])
    with TomogramWriter(out, overwrite=overwrite, provenance=origin) as writer:
        for tomogram in tomograms:
            written.facts[tomogram.name] = tomogram.facts
            writer.add(
                tomogram.name,
                np.multiply(tomogram.volume, np.float32(sign), out=tomogram.volume),
                voxel_size=settings.voxel_size,
                density_sign=sign,
                tilt_range=settings.tilt_range,
                picks=tomogram.picks,
                masks={"ids": tomogram.ids, "classes": tomogram.labels} if masks else None,
                attributes=tomogram.facts
                | {"mask_classes": tomogram.label_names, "optics": settings.optics()},
            )
    return written


def _write_mrc(
    out: Path,
    tomograms: Iterable[SimulatedTomogram],
    names: Sequence[str],
    settings: TomogramSettings,
    sign: int,
    masks: bool,
    overwrite: bool,
    origin: dict[str, Any],
) -> Written:
    from cryoet_core.formats.picks import Geometry, write_picks

    truth, facts = out.with_suffix(".star"), out.with_suffix(".json")
    kinds = ("", "_ids", "_classes") if masks else ("",)
    targets = {
        name: [out.with_name(f"{name}{kind}{out.suffix}") for kind in kinds] for name in names
    }
    for path in [truth, facts, *(path for paths in targets.values() for path in paths)]:
        if path.exists() and not overwrite:
            raise UserError(
                f"{path}: exists and would be written too; choose another `out`; `overwrite` "
                "replaces it"
            )
    written = Written()
    picks: list[Picks] = []
    for tomogram in tomograms:
        volumes = [
            np.multiply(tomogram.volume, np.float32(sign), out=tomogram.volume),
            tomogram.ids,
            tomogram.labels,
        ]
        for path, volume in zip(targets[tomogram.name], volumes, strict=False):
            _write_volume(path, volume, settings.voxel_size)
            written.files.append(path)
        written.facts[tomogram.name] = tomogram.facts | {"mask_classes": tomogram.label_names}
        picks.append(tomogram.picks)
    geometry = {name: Geometry(settings.shape, settings.voxel_size) for name in names}
    written.notes = write_picks(truth, join(picks), dialect="relion", geometry=geometry)
    files.write_json(
        facts, {"tomograms": written.facts, "density_sign": sign, "provenance": origin}
    )
    written.files += [truth, facts]
    return written


def _write_volume(path: Path, volume: np.ndarray, voxel_size: float) -> None:
    """An MRC file of float32, or of the smallest whole numbers that MRC has for a mask."""
    import mrcfile

    if volume.dtype.kind != "f":
        highest = int(volume.max(initial=0))
        volume = volume.astype(
            np.int8 if highest < 128 else np.int16 if highest < 32768 else np.uint16
        )
    with files.replacing(path) as beside, mrcfile.new(beside, overwrite=True) as file:
        file.set_data(volume)
        file.set_volume()
        file.voxel_size = voxel_size

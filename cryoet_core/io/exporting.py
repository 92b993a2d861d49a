"""``cryoet data export``: a store as one .mrcs stack and a star of any RELION dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryoet_core import files
from cryoet_core.errors import UserError
from cryoet_core.io.relion import UNLABELLED, tomogram_centres
from cryoet_core.io.star import Table, columns_of, rounded, write_star
from cryoet_core.orientation import matrix_to_euler

if TYPE_CHECKING:
    from cryoet_core.store import Subtomograms

DIALECTS = ("relion30", "relion31", "relion4", "relion5")
CHUNK_BYTES = 64 << 20
OPTICS = {"voltage": "rlnVoltage", "cs": "rlnSphericalAberration", "amplitude_contrast": "rlnAmplitudeContrast"}


def export_store(
    data: Subtomograms,
    star: Path,
    dialect: str = "relion31",
    half: bool = False,
    tomograms: Path | None = None,
    watch: Callable[[list[np.ndarray]], Iterable[np.ndarray]] = iter,
) -> dict[str, Any]:
    """Write ``star`` and beside it the stack of the same name (.mrcs), each whole or not at all; facts of both.

    The volumes keep their stored contrast, as float32 (mode 2) or, with ``half``, float16 (mode 12, for RELION 4 and
    later). Coordinates are in voxels of the volumes; see ``tables`` for ``tomograms``. ``watch`` may draw a bar.
    UserError for an unknown dialect or a disk that refuses.
    """
    if dialect not in DIALECTS:
        raise UserError(f"--dialect {dialect}: unknown; expected one of {', '.join(DIALECTS)}")
    if not star.parent.is_dir():
        raise UserError(f"{star}: no folder {star.parent}; expected an existing one; make it first")
    stack = star.with_suffix(".mrcs")
    write_stack(data, stack, half, watch)
    text = write_star(tables(data, dialect, stack.name, tomograms), f"version {_VERSIONS[dialect]}, written by cryoet")
    files.write_bytes(star, text.encode())
    sign = {1: "bright", -1: "dark", 0: "mixed"}[data.density_sign]
    return {"star": str(star), "stack": str(stack), "n": len(data), "dialect": dialect, "contrast": sign}


_VERSIONS = {"relion30": "30000", "relion31": "30001", "relion4": "40001", "relion5": "50001"}


def write_stack(
    data: Subtomograms, path: Path, half: bool, watch: Callable[[list[np.ndarray]], Iterable[np.ndarray]] = iter
) -> None:
    """All volumes as an MRC volume stack (space group 401), with voxel size and statistics in the header."""
    import mrcfile

    if data.density_sign == 0:
        raise UserError(
            f"{data.paths[0]}: these stores differ in their contrast; expected equal ones; export one by one"
        )
    step = max(1, CHUNK_BYTES // (4 * data.box**3))
    shape = (len(data), data.box, data.box, data.box)
    mode = 12 if half else 2
    with files.replacing(path) as beside:  # noqa: SIM117 (the file must be closed before it is renamed)
        with mrcfile.new_mmap(beside, shape=shape, mrc_mode=mode, overwrite=True) as mrc:
            mrc.voxel_size = data.voxel_size
            mean, low, high, squares = 0.0, np.inf, -np.inf, 0.0
            for rows in watch([np.arange(i, min(i + step, len(data))) for i in range(0, len(data), step)]):
                volumes = data.read_stored(rows).astype(np.float32)
                mrc.data[rows[0] : rows[-1] + 1] = volumes
                low, high = min(low, float(volumes.min())), max(high, float(volumes.max()))
                mean += float(volumes.sum(dtype=np.float64)) / (len(data) * data.box**3)
                squares += float(np.square(volumes, dtype=np.float64).sum()) / (len(data) * data.box**3)
            mrc.header.dmin, mrc.header.dmax, mrc.header.dmean = low, high, mean
            mrc.header.rms = np.sqrt(max(squares - mean**2, 0.0))


def tables(data: Subtomograms, dialect: str, stack: str, tomograms: Path | None = None) -> list[Table]:
    """The blocks of the star: particles, and since 3.1 their optics group.

    ``tomograms``: a RELION tomogram set; with it, dialect relion5 counts coordinates in Å from the tomogram's centre.
    """
    modern = dialect != "relion30"
    columns: dict[str, list[str]] = {}
    if data.tomogram is not None:
        name = "rlnTomoName" if dialect in ("relion4", "relion5") else "rlnMicrographName"
        columns[name] = [str(value) for value in data.tomogram]
    columns["rlnImageName"] = [f"{row + 1:06d}@{stack}" for row in range(len(data))]
    shifts = np.asarray(data.extras.get("shifts", np.zeros((len(data), 3)))).reshape(len(data), 3)
    if data.positions is not None and tomograms is not None and dialect == "relion5":
        corner = data.positions - shifts * data.voxel_size
        centred = corner - tomogram_centres(tomograms, columns.get("rlnTomoName", []))
        columns |= columns_of("rlnCenteredCoordinate", "XYZ", centred, suffix="Angst")
    elif data.positions is not None:
        columns |= columns_of("rlnCoordinate", "XYZ", data.positions / data.voxel_size - shifts)
    if "shifts" in data.extras:
        scale, suffix = (data.voxel_size, "Angst") if modern else (1.0, "")
        columns |= columns_of("rlnOrigin", "XYZ", -shifts * scale, suffix=suffix)
    if data.rotations is not None:
        for label, values in zip(("Rot", "Tilt", "Psi"), matrix_to_euler(data.rotations).T, strict=True):
            columns[f"rlnAngle{label}"] = rounded(values)
    if data.class_names:
        names = [*data.class_names, UNLABELLED]
        columns["rlnGroupName"] = [names[label] for label in data.labels]
        columns["rlnClassNumber"] = [str(label + 1) for label in data.labels]
    if "defocus" in data.extras:
        for axis in "UV":
            columns[f"rlnDefocus{axis}"] = rounded(data.extras["defocus"] * 1e4, 1)
    if "random_subset" in data.extras:
        columns["rlnRandomSubset"] = [str(int(value)) for value in data.extras["random_subset"]]
    optics = {label: f"{data.optics[name]:g}" for name, label in OPTICS.items() if data.optics.get(name) is not None}
    if not modern:
        columns["rlnMagnification"] = ["10000"] * len(data)
        columns["rlnDetectorPixelSize"] = [f"{data.voxel_size:.6f}"] * len(data)
        columns |= {label: [value] * len(data) for label, value in optics.items()}
        return [Table("", columns)]
    columns["rlnOpticsGroup"] = ["1"] * len(data)
    return [*_optics(data, dialect, optics), Table("particles", columns)]


def _optics(data: Subtomograms, dialect: str, optics: dict[str, str]) -> list[Table]:
    group = {"rlnOpticsGroup": "1", "rlnOpticsGroupName": "opticsGroup1"} | optics
    group |= {
        "rlnImagePixelSize": f"{data.voxel_size:.6f}",
        "rlnImageSize": str(data.box),
        "rlnImageDimensionality": "3",
    }
    if dialect in ("relion4", "relion5"):
        # coordinates count in pixels of the tilt series there; calling the voxels that keeps them in one unit
        group |= {"rlnTomoTiltSeriesPixelSize": f"{data.voxel_size:.6f}", "rlnTomoSubtomogramBinning": "1.000000"}
    block = Table("optics", {label: [value] for label, value in group.items()})
    general = Table("general", {"rlnTomoSubTomosAre2DStacks": ["0"]})
    return [general, block] if dialect == "relion5" else [block]

"""``cryoet data export``: a store as one .mrcs stack and a star of any RELION dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from cryoet_core.algorithms.orientation import matrix_to_euler
from cryoet_core.formats.relion import UNLABELLED, tomogram_centres
from cryoet_core.formats.star import StarTable, columns_of, rounded, write_star
from cryoet_core.support import files
from cryoet_core.support.errors import UserError

if TYPE_CHECKING:
    from cryoet_core.store import Subtomograms

DIALECTS = ("relion30", "relion31", "relion4", "relion5")
CHUNK_BYTES = 64 << 20
Watch = Callable[[list[np.ndarray]], Iterable[np.ndarray]]
OPTICS = {
    "voltage": "rlnVoltage",
    "cs": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
}


def export_store(
    data: Subtomograms,
    star: Path,
    dialect: str = "relion31",
    half: bool = False,
    tomograms: Path | None = None,
    watch: Watch = iter,
) -> dict[str, Any]:
    """Write a star and beside it the stack of the same name (.mrcs), each whole or not at all.

    The volumes keep their stored contrast. Coordinates are in voxels of the volumes.

    Parameters
    ----------
    data : Subtomograms
        The subtomograms.
    star : Path
        The star to write, in a folder that exists.
    dialect : str, optional
        The dialect of the star.
    half : bool, optional
        Whether to write float16 (mode 12, for RELION 4 and later) instead of float32 (mode 2).
    tomograms : Path | None, optional
        A RELION tomogram set; see `tables`.
    watch : Watch, optional
        Iterates over the batches, and may draw a bar.

    Returns
    -------
    dict[str, Any]
        Facts of the star and the stack.

    Raises
    ------
    UserError
        For an unknown dialect or a disk that refuses.
    """
    if dialect not in DIALECTS:
        raise UserError(f"`dialect` {dialect}: unknown; expected one of {', '.join(DIALECTS)}")
    if not star.parent.is_dir():
        raise UserError(f"{star}: no folder {star.parent}; expected an existing one; make it first")
    stack = star.with_suffix(".mrcs")
    write_stack(data, stack, half, watch)
    text = write_star(
        tables(data, dialect, stack.name, tomograms),
        f"version {_VERSIONS[dialect]}, written by cryoet",
    )
    files.write_bytes(star, text.encode())
    sign = {1: "bright", -1: "dark", 0: "mixed"}[data.density_sign]
    return {
        "star": str(star),
        "stack": str(stack),
        "n": len(data),
        "dialect": dialect,
        "contrast": sign,
    }


_VERSIONS = {"relion30": "30000", "relion31": "30001", "relion4": "40001", "relion5": "50001"}


def write_stack(data: Subtomograms, path: Path, half: bool, watch: Watch = iter) -> None:
    """Write all volumes as an MRC volume stack (space group 401).

    Voxel size and statistics stand in the header. It is written with plain writes: a memory map, as
    mrcfile makes, ends the process when the disk fills up.

    Parameters
    ----------
    data : Subtomograms
        The subtomograms.
    path : Path
        The file to replace.
    half : bool
        Whether to write float16 (mode 12) instead of float32 (mode 2).
    watch : Watch, optional
        Iterates over the batches, and may draw a bar.

    Raises
    ------
    UserError
        When the disk refuses.
    """
    if data.density_sign == 0:
        raise UserError(
            f"{data.paths[0]}: these stores differ in their contrast; expected equal ones; export "
            "one by one"
        )
    count, box = len(data), data.box
    step = max(1, CHUNK_BYTES // (4 * box**3))
    total, squares, low, high = 0.0, 0.0, np.inf, -np.inf
    with files.replacing(path) as beside, beside.open("wb") as file:
        file.write(bytes(1024))
        for rows in watch([np.arange(i, min(i + step, count)) for i in range(0, count, step)]):
            volumes = data.read_stored(rows).astype("<f2" if half else "<f4")
            file.write(volumes.data.cast("B"))
            wide = volumes.astype(np.float32)
            low, high = min(low, float(wide.min())), max(high, float(wide.max()))
            total += float(wide.sum(dtype=np.float64))
            squares += float(np.square(wide, dtype=np.float64).sum())
        mean = total / (count * box**3)
        spread = np.sqrt(max(squares / (count * box**3) - mean**2, 0.0))
        file.seek(0)
        file.write(
            stack_header(count, box, data.voxel_size, 12 if half else 2, (low, high, mean, spread))
        )


def stack_header(
    count: int,
    box: int,
    voxel_size: float,
    mode: int,
    statistics: tuple[float, float, float, float],
) -> bytes:
    """Make the 1024 bytes before a stack of subtomograms (MRC2014).

    Parameters
    ----------
    count : int
        Number of subtomograms.
    box : int
        Box size in voxels.
    voxel_size : float
        Voxel size in Å.
    mode : int
        MRC mode: 2 for float32, 12 for float16.
    statistics : tuple[float, float, float, float]
        Minimum, maximum, mean and standard deviation of all values.

    Returns
    -------
    bytes
        The header.
    """
    header = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
    header["nx"] = header["ny"] = header["mx"] = header["my"] = header["mz"] = box
    header["nz"], header["mode"], header["ispg"], header["nversion"] = count * box, mode, 401, 20141
    for axis, letter in enumerate("xyz", 1):
        header["cella"][letter] = box * voxel_size
        header["map" + "crs"[axis - 1]] = axis
    header["cellb"]["alpha"] = header["cellb"]["beta"] = header["cellb"]["gamma"] = 90
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = statistics
    header["map"], header["machst"], header["nlabl"] = b"MAP ", (0x44, 0x44, 0, 0), 1
    header["label"][0] = "subtomograms, written by cryoet"
    return header.tobytes()


def tables(
    data: Subtomograms, dialect: str, stack: str, tomograms: Path | None = None
) -> list[StarTable]:
    """Make the blocks of the star: particles, and since RELION 3.1 their optics group.

    Parameters
    ----------
    data : Subtomograms
        The subtomograms.
    dialect : str
        The dialect of the star.
    stack : str
        Name of the stack, as it stands in the star.
    tomograms : Path | None, optional
        A RELION tomogram set; with it, dialect relion5 counts coordinates in Å from the tomogram's
        centre.

    Returns
    -------
    list[StarTable]
        The blocks, in order.
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
        for label, values in zip(
            ("Rot", "Tilt", "Psi"), matrix_to_euler(data.rotations).T, strict=True
        ):
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
    optics = {
        label: f"{data.optics[name]:g}"
        for name, label in OPTICS.items()
        if data.optics.get(name) is not None
    }
    if not modern:
        columns["rlnMagnification"] = ["10000"] * len(data)
        columns["rlnDetectorPixelSize"] = [f"{data.voxel_size:.6f}"] * len(data)
        columns |= {label: [value] * len(data) for label, value in optics.items()}
        return [StarTable("", columns)]
    columns["rlnOpticsGroup"] = ["1"] * len(data)
    return [*_optics(data, dialect, optics), StarTable("particles", columns)]


def _optics(data: Subtomograms, dialect: str, optics: dict[str, str]) -> list[StarTable]:
    group = {"rlnOpticsGroup": "1", "rlnOpticsGroupName": "opticsGroup1"} | optics
    group |= {
        "rlnImagePixelSize": f"{data.voxel_size:.6f}",
        "rlnImageSize": str(data.box),
        "rlnImageDimensionality": "3",
    }
    if dialect in ("relion4", "relion5"):
        # coordinates count in pixels of the tilt series there; calling the voxels that keeps them
        # in one unit
        group |= {
            "rlnTomoTiltSeriesPixelSize": f"{data.voxel_size:.6f}",
            "rlnTomoSubtomogramBinning": "1.000000",
        }
    block = StarTable("optics", {label: [value] for label, value in group.items()})
    general = StarTable("general", {"rlnTomoSubTomosAre2DStacks": ["0"]})
    return [general, block] if dialect == "relion5" else [block]

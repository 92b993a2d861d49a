"""Read numpy's own files: .npy with volumes, .npz with their columns too; never a pickle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.algorithms.orientation import euler_to_matrix
from cryoet_core.formats.source import VolumeSource
from cryoet_core.formats.stack import VolumeStack
from cryoet_core.support.errors import UserError

VOLUME_NAMES = ("volumes", "subtomograms", "particles", "data", "images", "x", "arr_0")
LABEL_NAMES = ("labels", "classes", "class", "y")
_COORDINATES = re.compile(
    r"(?:coords?|coordinates)_(xyz|zyx)(?:_([\d.]+)A)?(?:_(voxels|angstrom|A))?", re.IGNORECASE
)


def open_arrays(path: Path, key: str | None = None) -> VolumeSource:
    """Read volumes of a .npy or .npz, and what an .npz says of each volume.

    An .npz may hold ``voxel_size`` (Å); ``density_sign`` (1 or -1) or ``contrast`` ("dark",
    "bright"); ``labels`` (numbers or names) with ``class_names``; ``positions`` (n, 3) Å (z, y, x)
    or ``coords_xyz_12A_voxels`` (voxels of 12 Å) or ``coords_xyz_voxels`` or
    ``coords_xyz_angstrom``; ``rotations`` (n, 3, 3) or ``angles_rot_tilt_psi`` (n, 3) RELION
    degrees; ``tomogram`` (n,). Other numbers with n rows become extras.

    Parameters
    ----------
    path : Path
        The file.
    key : str | None, optional
        The array of the volumes, where that is not clear.

    Returns
    -------
    VolumeSource
        The volumes, shape (n, d, h, w), and their columns.

    Raises
    ------
    UserError
        When the file is damaged, holds Python objects, or holds no volumes.
    """
    members = _load(path, key)
    name = _volumes_name(path, members, key)
    volumes = members.pop(name)
    if volumes.ndim == 3:
        volumes = volumes[None]
    if volumes.ndim == 5 and volumes.shape[1] == 1:
        volumes = volumes[:, 0]
    if volumes.ndim != 4 or volumes.dtype.kind not in "fiub" or 0 in volumes.shape:
        raise UserError(
            f"{path}: {name} is {volumes.dtype} of shape {volumes.shape}; expected real numbers "
            "(n, d, h, w)"
        )
    stack = VolumeStack(path, "numpy", volumes)
    source = VolumeSource.of_stacks([stack])
    if members:
        _describe(path, source, members)
    return source


def _load(path: Path, key: str | None) -> dict[str, np.ndarray]:
    """All arrays of the file; those as large as the volumes stay out."""
    try:
        with path.open("rb") as file:
            is_npy = file.read(6) == b"\x93NUMPY"
        if is_npy:
            return {path.name: np.load(path, mmap_mode="r", allow_pickle=False)}
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # numpy raises a dozen kinds of error for damaged files
        if "pickle" in str(error) or "Object arrays" in str(error):
            raise UserError(
                f"{path}: holds Python objects (a pickle), which can run code; expected plain "
                "arrays; "
                "save them again with numpy.save(..., allow_pickle=False)"
            ) from error
        raise UserError(
            f"{path}: damaged or no numpy file ({error}); expected .npy or .npz; copy it again"
        ) from error


def _volumes_name(path: Path, members: dict[str, np.ndarray], key: str | None) -> str:
    if key is not None and len(members) > 1:
        if key not in members:
            raise UserError(f"`key` {key}: {path} has no such array; it has {', '.join(members)}")
        return key
    large = [
        name for name, array in members.items() if array.ndim >= 3 and array.shape[1:] != (3, 3)
    ]
    named = [name for name in VOLUME_NAMES if name in large]
    several = [name for name in large if members[name].ndim in (4, 5)]
    found = named or several or large
    if named or len(found) == 1:
        return found[0]
    if len(members) == 1:
        return next(iter(members))
    shapes = ", ".join(f"{name} {array.shape}" for name, array in members.items())
    raise UserError(
        f"{path}: cannot tell which array holds the volumes ({shapes}); name it with `key`"
    )


def _describe(path: Path, source: VolumeSource, members: dict[str, np.ndarray]) -> None:
    """Move what is known by name from ``members`` to ``source``, and note what is left."""
    if "voxel_size" in members:
        source.voxel_size = float(members.pop("voxel_size").reshape(-1)[0])
    source.sign = _sign(path, members)
    count, voxel = len(source), source.voxel_size
    class_names = [str(name) for name in members.pop("class_names", np.array([])).reshape(-1)]
    for name in LABEL_NAMES:
        if name in members and members[name].shape == (count,):
            source.labels = _names_of(path, members.pop(name), class_names)
            break
    for name in list(members):
        array = members[name]
        if name == "rotations" and array.shape == (count, 3, 3):
            source.rotations = members.pop(name)
        elif name in ("angles_rot_tilt_psi", "angles") and array.shape == (count, 3):
            source.rotations = euler_to_matrix(members.pop(name))
        elif name == "positions" and array.shape == (count, 3):
            source.positions = members.pop(name)
        elif name == "tomogram" and array.shape == (count,):
            source.tomogram = np.array([str(value) for value in members.pop(name)], dtype=object)
        elif (match := _COORDINATES.fullmatch(name)) and array.shape == (count, 3):
            source.positions = _positions(path, name, match, members.pop(name), voxel)
        elif array.ndim and len(array) == count and array.dtype.kind in "fiub":
            source.extras[name] = members.pop(name)
    left = [f"{name} {array.shape}" for name, array in members.items()]
    if left:
        source.notes.append(f"not taken over: {', '.join(left)}")


def _sign(path: Path, members: dict[str, np.ndarray]) -> int | None:
    if "density_sign" in members:
        return int(np.sign(members.pop("density_sign").reshape(-1)[0])) or None
    if "contrast" in members:
        word = str(members.pop("contrast").reshape(-1)[0])
        if word not in ("dark", "bright"):
            raise UserError(f"{path}: contrast is {word!r}; expected dark or bright")
        return 1 if word == "bright" else -1
    return None


def _names_of(path: Path, labels: np.ndarray, class_names: list[str]) -> np.ndarray:
    """Name the class of each volume, "" for none.

    Numbers index ``class_names`` or name themselves; -1 is none.
    """
    if labels.dtype.kind not in "iu":
        return np.array([str(label) for label in labels], dtype=object)
    if class_names and labels.max(initial=0) >= len(class_names):
        raise UserError(
            f"{path}: label {labels.max()}; expected at most {len(class_names) - 1}, as "
            "class_names has it"
        )
    return np.array(
        ["" if i < 0 else class_names[i] if class_names else str(i) for i in labels.tolist()],
        dtype=object,
    )


def _positions(
    path: Path, name: str, match: re.Match[str], values: np.ndarray, voxel: float | None
) -> np.ndarray:
    order, pixel, unit = match[1].lower(), match[2], (match[3] or "voxels").lower()
    scale: Any = 1.0
    if unit == "voxels":
        scale = float(pixel) if pixel else voxel
        if scale is None:
            raise UserError(
                f"{path}: {name} is in voxels of unknown size; name it coords_xyz_12A_voxels (12 Å)"
            )
    result: np.ndarray = (values[:, ::-1] if order == "xyz" else values).astype(np.float64) * scale
    return result

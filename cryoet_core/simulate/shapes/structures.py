"""Structures from files: density maps (MRC, CCP4) and atomic models (PDB, mmCIF), also gzipped."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoet_core.simulate.shapes.density import (
    Array,
    atoms_to_density,
    gaussian_width,
    resample,
    trim,
)
from cryoet_core.support.errors import UserError

MAPS = (".mrc", ".map", ".ccp4", ".rec")
MODELS = (".pdb", ".ent", ".pdb1", ".cif", ".mmcif")
SUPPORT = 0.05
"""Density above this fraction of the maximum belongs to the structure: for its centre, its size and
its neighbours.
"""


@dataclass(frozen=True)
class Structure:
    """A class of particle, ready to be placed.

    Attributes
    ----------
    name : str
        Name of the class.
    density : ndarray of float32, shape (n, n, n)
        Protein positive, centre of mass at n // 2. Its mean weighted by itself is 1: protein is
        then equally dense in every structure, whatever the units of a map.
    voxel_size : float
        Å per voxel of ``density``.
    hull : ndarray, shape (m, 3)
        Corners (z, y, x) of the convex hull of its support, in Å.
    """

    name: str
    density: NDArray[np.float32]
    voxel_size: float
    hull: Array

    @property
    def diameter(self) -> float:
        """The largest distance between two points of the structure, in Å."""
        difference = self.hull[:, None] - self.hull[None]
        return float(np.sqrt((difference**2).sum(-1).max()))

    @property
    def radius(self) -> float:
        """The largest distance from the centre, in Å."""
        return float(np.sqrt((self.hull**2).sum(-1).max()))


def as_structure(name: str, density: Array, voxel_size: float) -> Structure:
    """Make a structure of its density.

    Parameters
    ----------
    name : str
        Name of the class.
    density : ndarray, shape (n, n, n)
        About voxel n // 2.
    voxel_size : float
        Å per voxel.

    Returns
    -------
    Structure
        The structure.

    Raises
    ------
    UserError
        There is no density.
    """
    from scipy.spatial import ConvexHull, QhullError

    peak = float(density.max(initial=0.0))
    if not np.isfinite(density).all() or peak <= 0:
        raise UserError(
            f"{name}: no positive density; expected protein positive on a background of 0"
        )
    support = np.argwhere(density > SUPPORT * peak)
    points = (support - density.shape[0] // 2) * voxel_size
    corners = (
        points[:, None] + (np.indices((2, 2, 2)).reshape(3, 8).T - 0.5) * voxel_size
    ).reshape(-1, 3)
    try:
        hull = corners[ConvexHull(corners).vertices]
    except QhullError as error:
        raise UserError(
            f"{name}: its density has no extent ({error}); expected a structure"
        ) from error
    positive = np.clip(density, 0, None)
    level = float((positive**2).sum() / positive.sum())
    return Structure(name, (density / level).astype(np.float32), voxel_size, hull)


def load_structure(
    path: Path | str, voxel_size: float, resolution: float | None = None, **options: Any
) -> Structure:
    """Read a structure, named after its file.

    Parameters
    ----------
    path : str or Path
        A map or a model.
    voxel_size : float
        Å per voxel of the density.
    resolution : float, optional
        Of a model, in Å; two voxels without it.
    **options
        ``convention`` and ``assembly`` of ``load_density``.

    Returns
    -------
    Structure
        The structure.

    Raises
    ------
    UserError
        The file is missing, unreadable, empty or of another kind.
    """
    path = Path(path)
    return as_structure(
        structure_name(path), load_density(path, voxel_size, resolution, **options), voxel_size
    )


def load_density(
    path: Path | str,
    voxel_size: float,
    resolution: float | None = None,
    convention: str = "fourier",
    assembly: str = "auto",
) -> Array:
    """Read the density of a map or a model.

    A map is resampled without aliasing. A model gives sum Z_a G(r - r_a) with a Gaussian for each
    atom.

    Parameters
    ----------
    path : str or Path
        A map or a model.
    voxel_size : float
        Å per voxel of the density.
    resolution : float, optional
        Of a model, in Å; two voxels without it. A map has its own.
    convention : str
        What the resolution of a model means, see ``density.gaussian_width``.
    assembly : str
        Of a model: "auto" builds the first biological assembly that the file lists, "none" takes
        the atoms as deposited; anything else is the name of an assembly.

    Returns
    -------
    ndarray, shape (n, n, n)
        Its centre of mass is at voxel n // 2.

    Raises
    ------
    UserError
        The file is missing, unreadable, empty or of another kind.
    """
    path = Path(path)
    if not voxel_size > 0:
        raise UserError(f"`voxel_size`: {voxel_size}; expected more than 0 Å")
    kind = _suffix(path)
    if kind not in MAPS + MODELS:
        known = ", ".join(MAPS + MODELS)
        raise UserError(
            f"{path}: unknown kind of structure file {kind or '(no suffix)'}; expected {known}, or "
            ".gz of one"
        )
    if not path.exists():
        raise UserError(f"{path}: no such file; expected a structure")
    if path.is_dir() or path.stat().st_size == 0:
        what = "a directory" if path.is_dir() else "an empty file"
        raise UserError(f"{path}: {what}; expected one structure")
    if kind in MAPS:
        raw, spacing = _read_map(path)
    else:
        raw, spacing = _model_density(path, voxel_size, resolution, convention, assembly)
    peak = float(raw.max())
    weights = np.where(raw > SUPPORT * peak, raw, 0)
    centre = np.array(
        [
            (weights.sum(tuple({0, 1, 2} - {a})) * np.arange(n)).sum()
            for a, n in enumerate(raw.shape)
        ]
    )
    density = resample(raw, spacing, voxel_size, centre / weights.sum())
    return trim(density, 0.01 * float(density.max()))


def find_structures(paths: Iterable[Path | str]) -> list[Path]:
    """Find the structure files in a list of files and folders, folders sorted by name.

    Parameters
    ----------
    paths : iterable of str or Path
        Files and folders.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    UserError
        There is none, or two files (1abc.mrc and 1abc.pdb) would make two classes of one name.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if _suffix(p) in MAPS + MODELS)
            if not inside:
                raise UserError(
                    f"{path}: no structures in this folder; expected {', '.join(MAPS + MODELS)} "
                    "files"
                )
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path}: no such file; expected a structure file or a folder of them")
    seen: dict[str, Path] = {}
    for path in found:
        name = structure_name(path)
        if name in seen:
            raise UserError(
                f"{path}: a second structure named {name}, beside {seen[name]}; expected different "
                "names"
            )
        seen[name] = path
    return found


def structure_name(path: Path) -> str:
    """Return the name of a file without .gz and its suffix."""
    return path.name.removesuffix(".gz").removesuffix(".GZ").rsplit(".", 1)[0]


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _read_map(path: Path) -> tuple[NDArray[np.floating[Any]], float]:
    import mrcfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with mrcfile.open(path, mode="r", permissive=False) as file:
                data = np.array(file.data, dtype=np.float32)
                voxel = np.array(
                    [file.voxel_size.z, file.voxel_size.y, file.voxel_size.x], dtype=float
                )
    except (ValueError, OSError, EOFError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be read as an MRC map ({error}); expected a whole one"
        ) from error
    if data.ndim != 3 or min(data.shape) < 4:
        raise UserError(
            f"{path}: shape {data.shape}; expected a map (z, y, x) of at least 4 voxels a side"
        )
    if not (voxel > 0).all() or voxel.max() > 1.01 * voxel.min():
        shown = " x ".join(f"{v:g}" for v in voxel)
        raise UserError(
            f"{path}: voxel size {shown} Å in its header; expected equal ones above 0; correct the "
            "header"
        )
    if not np.isfinite(data).all():
        raise UserError(f"{path}: holds NaN or infinity; expected numbers")
    if data.max() <= 0 or -data.min() > data.max():
        raise UserError(
            f"{path}: values {data.min():g} to {data.max():g}; expected protein positive; invert "
            "the map"
        )
    return data, float(voxel.mean())


def _model_density(
    path: Path, voxel_size: float, resolution: float | None, convention: str, assembly: str
) -> tuple[Array, float]:
    """On a grid of half the wanted voxels (finer for a finer resolution), so that binning does not
    alias.
    """
    positions, numbers = read_atoms(path, assembly)
    centre = (positions * numbers[:, None]).sum(0) / numbers.sum()
    try:
        width = gaussian_width(2 * voxel_size if resolution is None else resolution, convention)
    except ValueError as error:
        raise UserError(str(error)) from error
    spacing = min(voxel_size / 2, width)
    return atoms_to_density(positions - centre, numbers, spacing, width), spacing


def read_atoms(path: Path, assembly: str = "auto") -> tuple[Array, Array]:
    """Read the atoms of a model, without water.

    Parameters
    ----------
    path : Path
        A model.
    assembly : str
        See ``load_density``.

    Returns
    -------
    positions : ndarray, shape (n, 3)
        (z, y, x) in Å.
    weights : ndarray, shape (n,)
        Atomic numbers times occupancy.

    Raises
    ------
    UserError
        The file cannot be read, has no atoms or lacks the assembly that is asked for.
    """
    import gemmi

    try:
        model = gemmi.read_structure(
            str(path), merge_chain_parts=False, format=gemmi.CoorFormat.Detect
        )
    except (RuntimeError, ValueError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: cannot be read as an atomic model ({reason}); expected PDB or mmCIF"
        ) from error
    if len(model) == 0:
        raise UserError(f"{path}: no atoms; expected an atomic model (PDB or mmCIF)")
    model.setup_entities()
    copies = [model[0]]
    names = [a.name for a in model.assemblies]
    if assembly not in ("auto", "none") and assembly not in names:
        raise UserError(
            f"{path}: no assembly {assembly}; expected one of "
            f"{', '.join(names) or 'none (it lists none)'}"
        )
    if assembly != "none" and names:
        chosen = model.assemblies[0 if assembly == "auto" else names.index(assembly)]
        copies = [gemmi.make_assembly(chosen, model[0], gemmi.HowToNameCopiedChain.Dup)]
    elif _suffix(path) == ".pdb1":  # a biological unit file: its models are the copies
        copies = list(model)
    atoms = [
        (atom.pos.z, atom.pos.y, atom.pos.x, atom.element.atomic_number * atom.occ)
        for copy in copies
        for chain in copy
        for residue in chain
        if not residue.is_water()
        for atom in residue
    ]
    table = np.array(atoms, dtype=float).reshape(-1, 4)
    table = table[(table[:, 3] > 0) & np.isfinite(table).all(axis=1)]
    if len(table) == 0:
        raise UserError(f"{path}: no atoms; expected an atomic model (PDB or mmCIF)")
    return table[:, :3], table[:, 3]

"""``cryoet.simulate.subtomograms`` and ``cryoet.simulate.tomogram``."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

from cryoet_core.runs import devices
from cryoet_core.simulate.generation import write_subtomograms
from cryoet_core.simulate.settings import SimulationSettings
from cryoet_core.simulate.shapes.phantoms import choose_phantoms, load_phantom
from cryoet_core.simulate.shapes.structures import Structure, find_structures, load_structure
from cryoet_core.simulate.tomogram_files import write_tomograms
from cryoet_core.simulate.tomogram_settings import TomogramSettings
from cryoet_core.store import Subtomograms, open_subtomograms
from cryoet_core.support import provenance
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import close_names
from cryoet_core.tomograms import Tomograms, open_tomograms

PathLike: TypeAlias = str | os.PathLike[str]


def subtomograms(
    out: PathLike | None = None,
    *,
    phantoms: int | str | Sequence[str] | None = None,
    structures: PathLike | Sequence[PathLike] = (),
    resolution: float | None = None,
    assembly: str = "auto",
    overwrite: bool = False,
    device: str = "auto",
    **settings: Any,
) -> Subtomograms:
    """Simulate labelled subtomograms of known structures.

    Parameters
    ----------
    out : str or os.PathLike, optional
        The store to write (.h5); a temporary one without it.
    phantoms : int or sequence of str, optional
        Built-in complexes: how many, or their names. 5 where no structure is given either.
    structures : path or paths
        Maps (.mrc), models (.pdb, .cif) or folders of them.
    resolution : float, optional
        Of models and phantoms, in Å; two voxels without it.
    assembly : str
        Of models: ``"auto"`` is the first that the file lists, ``"none"`` the atoms as deposited.
    overwrite : bool
        Replace ``out`` where it exists.
    device : str
        Where to compute.
    **settings
        ``per_class``, ``box``, ``voxel_size``, ``snr``, ``tilt_range``, ``defocus``, ``seed`` and
        the other options of ``cryoet simulate subtomograms``.

    Returns
    -------
    Subtomograms
        The opened store, with labels, positions and rotations.

    Raises
    ------
    UserError
        A setting or a file is wrong.

    Examples
    --------
    >>> import cryoet_core as cryoet
    >>> cryoet.simulate.subtomograms(phantoms=2, per_class=3, box=16, snr=1.0, seed=0)
    Subtomograms(n=6, box=16, voxel_size=12 Å, contrast=bright, classes=...)
    """
    chosen = SimulationSettings(**_known(SimulationSettings, settings))
    target = _target(out, "subtomograms.h5", overwrite)
    given = load_structures(structures, phantoms, chosen.voxel_size, resolution, assembly)
    where = devices.resolve(device)
    write_subtomograms(target, given, chosen, device=where, provenance=provenance.collect(where))
    return open_subtomograms([target])


def tomogram(
    out: PathLike | None = None,
    *,
    phantoms: int | str | Sequence[str] | None = None,
    structures: PathLike | Sequence[PathLike] = (),
    resolution: float | None = None,
    assembly: str = "auto",
    count: int = 1,
    overwrite: bool = False,
    device: str = "auto",
    **settings: Any,
) -> Tomograms:
    """Simulate tomograms with the position, class and rotation of every particle.

    Parameters
    ----------
    out : str or os.PathLike, optional
        The store to write (.h5); a temporary one without it.
    phantoms : int or sequence of str, optional
        Built-in complexes: how many, or their names. 5 where no structure is given either.
    structures : path or paths
        Maps (.mrc), models (.pdb, .cif) or folders of them.
    resolution : float, optional
        Of models and phantoms, in Å; two voxels without it.
    assembly : str
        Of models: ``"auto"`` is the first that the file lists, ``"none"`` the atoms as deposited.
    count : int
        How many tomograms.
    overwrite : bool
        Replace ``out`` where it exists.
    device : str
        Where to compute.
    **settings
        ``shape``, ``voxel_size``, ``copies``, ``membranes``, ``beads``, ``snr``, ``seed`` and the
        other options of ``cryoet simulate tomogram``.

    Returns
    -------
    Tomograms
        The opened store; ``picks`` are the true particle centres.

    Raises
    ------
    UserError
        A setting or a file is wrong.
    """
    if isinstance(settings.get("copies"), int):
        settings["copies"] = (settings["copies"],)
    chosen = TomogramSettings(**_known(TomogramSettings, settings))
    target = _target(out, "tomogram.h5", overwrite)
    given = load_structures(structures, phantoms, chosen.voxel_size, resolution, assembly)
    where = devices.resolve(device)
    origin = provenance.collect(where)
    write_tomograms(
        target, given, chosen, count=count, overwrite=overwrite, device=where, provenance=origin
    )
    return open_tomograms(target)


def load_structures(
    structures: PathLike | Sequence[PathLike],
    phantoms: int | str | Sequence[str] | None,
    voxel_size: float,
    resolution: float | None = None,
    assembly: str = "auto",
) -> list[Structure]:
    """Load structures on half the voxels of what is simulated.

    Parameters
    ----------
    structures : path or paths
        Maps, models or folders of them.
    phantoms : int or sequence of str, optional
        Built-in complexes: how many, or their names.
    voxel_size : float
        Å per voxel of what is simulated.
    resolution : float, optional
        Of models and phantoms, in Å; two voxels without it.
    assembly : str
        Which assembly of a model.

    Returns
    -------
    list of Structure
        Those of files first, then phantoms.

    Raises
    ------
    UserError
        There is none, or one cannot be read.
    """
    fine = 2 * voxel_size if resolution is None else resolution
    if not fine > 0:
        raise UserError(f"`resolution` {resolution}: expected more than 0 Å")
    paths = [structures] if isinstance(structures, (str, os.PathLike)) else list(structures)
    wanted = 5 if phantoms is None and not paths else phantoms
    words = [str(wanted)] if isinstance(wanted, (int, str)) else list(wanted or ())
    names = choose_phantoms(words)
    found = find_structures([Path(path) for path in paths])
    loaded = [load_structure(path, voxel_size / 2, fine, assembly=assembly) for path in found]
    return loaded + [load_phantom(name, voxel_size / 2, fine) for name in names]


def _known(kind: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, lists as tuples. UserError for one that does not exist."""
    names = [each.name for each in fields(kind)]
    unknown = next((name for name in settings if name not in names), None)
    if unknown is not None:
        raise UserError(f"`{unknown}`: no such setting{close_names(unknown, names)}")
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    defocus = plain.get("defocus")
    if isinstance(defocus, (int, float)):
        plain["defocus"] = (float(defocus),)
    return plain


def _target(out: PathLike | None, name: str, overwrite: bool) -> Path:
    if out is None:
        folder = Path(tempfile.mkdtemp(prefix="cryoet-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder / name
    target = Path(out)
    if target.is_dir():
        raise UserError(f"`out` {target}: a folder; expected the name of a file to write")
    if target.exists() and not overwrite:
        raise UserError(f"`out` {target}: exists; expected a new name; `overwrite` replaces it")
    return target

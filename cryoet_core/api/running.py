"""Running methods from Python: ``cryoet.run`` and what is known of the installed methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryoet_core.api.opening import PathLike, as_paths, files_of, temporary_folder
from cryoet_core.api.result import Result
from cryoet_core.plugins.config import OptionInfo
from cryoet_core.plugins.discovery import discover, load_trainer
from cryoet_core.runs.inputs import PICKS, takes_tomograms
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import close_names
from cryoet_core.support.units import parse_size
from cryoet_core.tasks.session import run_method

SAID = ("contrast", "voxel_size", "tilt_range")
"""What a user may say of tomograms that their files do not."""


def run(
    method: str,
    *,
    out: PathLike | None = None,
    preset: str = "auto",
    seed: int = 0,
    device: str = "auto",
    devices: int = 1,
    precision: str = "auto",
    max_memory: int | str | None = None,
    threads: int | None = None,
    config: PathLike | None = None,
    report: bool = True,
    quiet: bool = False,
    **given: Any,
) -> Result:
    """Run a method on a data set.

    Parameters
    ----------
    method : str
        The name of an installed method; ``cryoet.methods()`` lists them.
    out : str or os.PathLike, optional
        The folder of the run, new. Without it the run lies in a temporary folder, which
        ``result.save(path)`` keeps.
    preset : {"auto", "fast", "paper"}
        The set of defaults.
    seed : int
        Seed of every random number.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    devices : int
        Number of processes, one for each GPU.
    precision : {"auto", "32", "bf16"}
        Numbers of the forward passes.
    max_memory : int or str, optional
        Memory for volumes, in bytes or such as ``"4GB"``.
    threads : int, optional
        Threads of the CPU.
    config : str or os.PathLike, optional
        A TOML file with options of the method.
    report : bool
        Write ``report.html``.
    quiet : bool
        Print nothing.
    **given
        The inputs of the method (``data=``, ``source=``, ``picks=``, ...): a path, a list of paths,
        an opened data set or an array (n, z, y, x); what the files do not say (``contrast=``,
        ``voxel_size=``, ``tilt_range=``); and the method's own options (``cryoet.options``).

    Returns
    -------
    Result
        Labels or picks, averages, metrics and the folder of the run.

    Raises
    ------
    UserError
        An argument or a file is wrong; nothing is written.
    RunError
        The run failed on the way.

    Examples
    --------
    >>> import cryoet_core as cryoet
    >>> result = cryoet.run("invariants", data="particles.h5", seed=0)  # doctest: +SKIP
    >>> result.labels  # doctest: +SKIP
    """
    trainer = load_trainer(method)
    folder = temporary_folder() / method if out is None else Path(out)
    picking = takes_tomograms(trainer)
    names = [*trainer.inputs, *([PICKS] if picking else [])]
    said = {
        name: given.pop(name) for name in SAID if name in given and not _is_option(trainer, name)
    }
    values = {name: given.pop(name) for name in names if given.get(name) is not None}
    _refuse_unknown(method, given, [*names, *trainer.Config.model_fields])
    inputs = {
        name: as_paths(value) if name == PICKS else files_of(name, value, _beside(folder), said)
        for name, value in values.items()
    }
    if picking and said.get(PICKS) is not None:
        inputs.setdefault(PICKS, as_paths(said.pop(PICKS)))
    said = {name: value for name, value in said.items() if value is not None}
    if said and not picking:
        raise UserError(f"`{next(iter(said))}`: the stores of subtomograms say it; leave it out")
    facts = run_method(
        method,
        inputs,
        given,
        reading=said,
        config_file=None if config is None else Path(config),
        preset=preset,
        out=folder,
        seed=seed,
        device=device,
        devices=devices,
        precision=precision,
        max_memory=None if max_memory is None else parse_size(max_memory),
        threads=threads,
        report=report,
        quiet=quiet,
    )
    return Result(folder, folder, facts)


def open_run(folder: PathLike) -> Result:
    """Open the folder of a finished run.

    Parameters
    ----------
    folder : str or os.PathLike
        The folder that ``cryoet run`` or ``cryoet.run`` made.

    Returns
    -------
    Result
        The result, as ``cryoet.run`` returned it.

    Raises
    ------
    UserError
        The folder is no run, or the run is not finished.
    """
    return Result.of_run(Path(folder))


def methods() -> Mapping[str, str]:
    """Return name and summary of every installed method, without importing any."""
    return {info.name: info.summary for info in discover()}


def options(method: str) -> Mapping[str, OptionInfo]:
    """Return the options of a method by name: default, range, help and the paper's value.

    Parameters
    ----------
    method : str
        The name of an installed method.

    Returns
    -------
    mapping of str to OptionInfo
        In the order in which the help shows them.
    """
    return {info.name: info for info in load_trainer(method).Config.described()}


def _is_option(trainer: Any, name: str) -> bool:
    return name in trainer.Config.model_fields


def _beside(folder: Path) -> Path:
    """Where arrays given to a run are kept: beside its folder, which the run makes itself."""
    return folder.with_name(folder.name + ".inputs")


def _refuse_unknown(method: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise UserError(f"`{unknown}`: {method} has no such option{close_names(unknown, known)}")

"""What the commands under ``cryoet simulate`` have in common.

These are options of several words, structures, and the file to write.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from cryoet_core.support.errors import UserError

if TYPE_CHECKING:
    from cryoet_core.simulate.shapes.structures import Structure

SEVERAL = {"--structures": None, "--phantoms": "8", "--defocus": None, "--copies": None}
"""Options that take several words, and what stands for none."""


class CommandLine(TyperCommand):
    """Lets options take several words, as in ``--structures a.mrc b.mrc``, unlike click."""

    def parse_args(
        self, ctx: Any, args: list[str]
    ) -> list[str]:  # Any: newer releases of Typer carry a click of theirs
        """Parse the words after the name of the command."""
        return super().parse_args(ctx, spread(args))


def spread(words: list[str]) -> list[str]:
    """Repeat an option before each of its words, which end at the next option.

    Examples
    --------
    >>> spread(["--structures", "a", "b", "--phantoms"])
    ['--structures', 'a', '--structures', 'b', '--phantoms', '8']
    """
    out: list[str] = []
    current: str | None = None
    taken = 0
    for word in [*words, ""]:
        if current and word and not word.startswith("-"):
            out += [current, word]
            taken += 1
            continue
        if current and not taken:
            default = SEVERAL[current]
            if default is None:
                raise UserError(f"{current}: nothing after it; expected one or more values")
            out += [current, default]
        current, taken = (word, 0) if word in SEVERAL else (None, 0)
        if word and current is None:
            out.append(word)
    return out


def check_out(out: Path, overwrite: bool) -> None:
    """UserError when ``--out`` is a folder, or exists and may not be replaced."""
    if out.is_dir():
        raise UserError(f"--out {out}: a folder; expected the name of a file to write")
    if out.exists() and not overwrite:
        raise UserError(f"--out {out}: exists; expected a new name; --overwrite replaces it")


def load(
    paths: list[Path],
    phantoms: list[str],
    voxel_size: float,
    resolution: float | None = None,
    assembly: str = "auto",
) -> list[Structure]:
    """The structures that a command line names, on half the voxel size of the simulation.

    Parameters
    ----------
    paths : list of Path
        Maps, models or folders.
    phantoms : list of str
        How many, or their names.
    voxel_size : float
        That of the simulation, in Å.
    resolution : float, optional
        Of models and phantoms, in Å; by default two voxels.
    assembly : str
        The assembly of models.

    Returns
    -------
    list of Structure
        The structures.

    Raises
    ------
    UserError
        There is none, or ``resolution`` is not above 0.
    """
    from cryoet_core.simulate.shapes.phantoms import choose_phantoms, load_phantom
    from cryoet_core.simulate.shapes.structures import find_structures, load_structure

    fine = 2 * voxel_size if resolution is None else resolution
    if not fine > 0:
        raise UserError(f"--resolution: {resolution}; expected more than 0 Å")
    names = choose_phantoms(phantoms)
    found = [
        load_structure(path, voxel_size / 2, fine, assembly=assembly)
        for path in find_structures(paths)
    ]
    return found + [load_phantom(name, voxel_size / 2, fine) for name in names]


def set_threads(threads: int | None) -> None:
    """Use so many threads; None for as many as torch takes. UserError for less than 1."""
    import torch

    if threads is not None:
        if threads < 1:
            raise UserError(f"--threads: {threads}; expected at least 1")
        torch.set_num_threads(threads)

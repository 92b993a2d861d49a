"""From a recipe to a file: the command that makes it, or why it cannot be had."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryoet_core.benchmark.suite import Options, Recipe, Scale, Suite, filled
from cryoet_core.support import provenance
from cryoet_core.support.errors import UserError

PROGRAM, PREPARE = "cryoet", "prepare"
"""The first word of a step: a command of the program, or of ``cli.prepare``."""


@dataclass(frozen=True)
class DataRecipe:
    """A file that cells read.

    Attributes
    ----------
    name : str
        Name of the recipe.
    key : str
        Depends on how the file is made, or on its content.
    path : Path
        The file.
    words : tuple of str
        The command that makes it; empty for a file of the user.
    needs : tuple of DataRecipe
        What it is made of.
    missing : str
        Why there is none.
    """

    name: str
    key: str
    path: Path
    words: tuple[str, ...] = ()
    needs: tuple[DataRecipe, ...] = ()
    missing: str = ""


@dataclass
class Stock:
    """Where the files of a benchmark come from: simulated, or given by the user.

    A file is named after how it is made, so that equal recipes use the same file.

    Attributes
    ----------
    folder : Path
        Where files are simulated into.
    scale : str
        "smoke", "small" or "paper".
    structures : Path or None
        A folder of structures.
    files : mapping of str to Path
        Files of the user, by name.
    """

    folder: Path
    scale: Scale
    structures: Path | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    _known: dict[tuple[Any, ...], DataRecipe] = field(default_factory=dict)

    def source(self, suite: Suite, name: str, variables: Mapping[str, str]) -> DataRecipe:
        """Return the file of a recipe.

        Parameters
        ----------
        suite : Suite
            The suite.
        name : str
            Name of the recipe; it may hold variables.
        variables : mapping of str to str
            Values by the names of the variables.

        Returns
        -------
        DataRecipe
            The file.

        Raises
        ------
        UserError
            There is no such recipe or variable.
        """
        name = filled(name, variables)
        key = (suite.name, name, *sorted(variables.items()))
        if key not in self._known:
            self._known[key] = self._source(suite, name, suite.recipe(name), variables)
        return self._known[key]

    def _source(
        self, suite: Suite, name: str, recipe: Recipe, variables: Mapping[str, str]
    ) -> DataRecipe:
        if recipe.files is not None:
            return self._given(name, recipe)
        if recipe.simulate is not None:
            return self._simulated(name, recipe, variables)
        if recipe.labels is not None:
            return self._labels(suite, name, recipe, variables)
        return self._template(name, filled(recipe.template, variables))

    # ---- the kinds of recipes --------------------------------------------------------------------

    def _given(self, name: str, recipe: Recipe) -> DataRecipe:
        assert recipe.files is not None
        path = self.files.get(recipe.files)
        if path is None:
            return DataRecipe(
                name, "", Path(), missing=f"needs --files {recipe.files}=PATH ({recipe.about})"
            )
        try:
            check_file(path, recipe)
        except UserError as error:
            return DataRecipe(name, "", path, missing=str(error))
        return DataRecipe(name, _digest(_print_of(path)), path.absolute())

    def _simulated(self, name: str, recipe: Recipe, variables: Mapping[str, str]) -> DataRecipe:
        options = filled_options(recipe.options_at(self.scale), variables)
        what, missing = self._what(recipe, options)
        if missing:
            return DataRecipe(name, "", Path(), missing=missing)
        words = words_of_options(options, several=True)
        prints = [_print_of(Path(path)) for path in what[1:]] if what[0] == "--structures" else what
        key = _digest([recipe.simulate, prints, words])
        path = self.folder / f"{recipe.simulate}-{key}.h5"
        command = (
            PROGRAM,
            "simulate",
            str(recipe.simulate),
            *what,
            *words,
            "--out",
            str(path),
            "--json",
            "--quiet",
        )
        return DataRecipe(name, key, path, command)

    def _what(self, recipe: Recipe, options: Options) -> tuple[list[str], str]:
        """``--structures FILE...`` or ``--phantoms N``; and why there is neither."""
        wanted = options.pop("structures", recipe.structures)
        phantoms = options.pop("phantoms", recipe.phantoms)
        if self.structures is None:
            names = [str(phantoms)] if isinstance(phantoms, int) else phantoms
            return [
                "--phantoms",
                *names,
            ], "" if phantoms else "needs --structures FOLDER with the density maps"
        found = maps_in(self.structures)
        if isinstance(wanted, int):
            chosen = list(found)[: wanted or None]
        else:
            lacks = [structure for structure in wanted if structure not in found]
            if lacks:
                return [], f"--structures {self.structures}: has no {', '.join(lacks)}"
            chosen = wanted
        return ["--structures", *(str(found[structure]) for structure in chosen)], ""

    def _labels(
        self, suite: Suite, name: str, recipe: Recipe, variables: Mapping[str, str]
    ) -> DataRecipe:
        of = self.source(suite, str(recipe.labels), variables)
        options = filled_options(recipe.options_at(self.scale), variables)
        return self._prepared(name, ["labels", str(of.path), *words_of_options(options)], "csv", of)

    def _template(self, name: str, particle: str) -> DataRecipe:
        if self.structures is not None:
            path = maps_in(self.structures).get(particle)
            if path is None:
                return DataRecipe(
                    name, "", Path(), missing=f"--structures {self.structures}: has no {particle}"
                )
            return DataRecipe(name, _digest(_print_of(path)), path)
        return self._prepared(name, ["template", particle], "mrc")

    def _prepared(
        self, name: str, words: list[str], suffix: str, of: DataRecipe | None = None
    ) -> DataRecipe:
        if of is not None and of.missing:
            return DataRecipe(name, "", Path(), missing=of.missing)
        key = _digest(
            [of.key if of else "", *(word for word in words if of is None or word != str(of.path))]
        )
        path = self.folder / f"{words[0]}-{key}.{suffix}"
        return DataRecipe(
            name, key, path, (PREPARE, *words, "--out", str(path)), (of,) if of else ()
        )


def maps_in(folder: Path) -> dict[str, Path]:
    """Return the structures of a folder by name; a UserError where there is none."""
    from cryoet_core.simulate.shapes.structures import find_structures, structure_name

    return {structure_name(path): path.absolute() for path in find_structures([folder])}


def check_file(path: Path, recipe: Recipe) -> None:
    """Check that a file of the user is what the recipe says.

    Parameters
    ----------
    path : Path
        The file.
    recipe : Recipe
        The recipe.

    Raises
    ------
    UserError
        The file is of another kind, has no labels or too few classes.
    """
    from cryoet_core.plugins.interfaces import InputSpec
    from cryoet_core.runs.inputs import open_input

    if not path.exists():
        raise UserError(f"`files` {recipe.files}={path}: no such file")
    data = open_input(
        str(recipe.files), InputSpec(recipe.about, kind=recipe.kind, labels="required"), [path]
    )
    found = len(getattr(data, "class_names", ()))
    if recipe.classes is not None and recipe.kind == "subtomograms" and found != recipe.classes:
        raise UserError(
            f"`files` {recipe.files}={path}: {found} classes; expected {recipe.classes} "
            f"({recipe.about})"
        )


def filled_options(options: Options, variables: Mapping[str, str]) -> Options:
    """Replace variables in options; an option that becomes empty text is left out.

    Parameters
    ----------
    options : dict
        Options of a command.
    variables : mapping of str to str
        Values by the names of the variables.

    Returns
    -------
    dict
        The options.
    """
    done = {name: filled(value, variables) for name, value in options.items()}
    return {name: value for name, value in done.items() if value != ""}


def words_of_options(options: Options, *, several: bool = False) -> list[str]:
    """Return options as they are typed on the command line.

    Parameters
    ----------
    options : dict
        Options of a command.
    several : bool
        Whether a list becomes several words; otherwise it is joined by commas.

    Returns
    -------
    list of str
        The words.

    Examples
    --------
    >>> words_of_options({"per-class": 8, "ctf": False})
    ['--per-class', '8', '--no-ctf']
    """
    words: list[str] = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, (list, tuple)):
            words += [f"--{flag}", *(map(str, value) if several else [",".join(map(str, value))])]
        else:
            words += [f"--{flag}", "none" if value is None else str(value)]
    return words


def _print_of(path: Path) -> Any:
    known = provenance.fingerprint(path)
    return known.get("sha256_sampled", known["path"])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:10]

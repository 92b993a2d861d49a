"""What a benchmark measures: suites in TOML, with data, methods, metrics and published figures.

The suites of this program are package data, so that ``cryoet benchmark --all`` works from anywhere
and after any kind of installation. A suite of one's own is a file of the same form: ``cryoet
benchmark --suite mine.toml``.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from math import isnan
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pydantic

from cryoet_core.support.errors import UserError
from cryoet_core.support.names import close_names

if sys.version_info >= (3, 11):
    from importlib.resources.abc import Traversable

    import tomllib
else:
    from importlib.abc import Traversable

    import tomli as tomllib

Scale: TypeAlias = Literal["smoke", "small", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "small", "paper")
Options: TypeAlias = dict[str, Any]
Condition: TypeAlias = tuple[tuple[str, str], ...]
"""One value for each axis of a table: (("snr", "0.1"),)."""
VARIABLE = re.compile(r"\{(\w+)\}")


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class ByScale(_Part):
    """Anything that may have other options at a scale.

    Attributes
    ----------
    options : dict
        At every scale.
    smoke, small, paper : dict
        At this scale, over ``options``.
    """

    options: Options = {}
    smoke: Options = {}
    small: Options = {}
    paper: Options = {}

    def options_at(self, scale: Scale) -> Options:
        """Return the options of every scale with those of this one over them."""
        more: Options = getattr(self, scale)
        return self.options | more


class Recipe(ByScale):
    """How a file is made: simulated, given by the user, or derived from another recipe.

    Attributes
    ----------
    simulate : str or None
        "subtomograms" or "tomogram".
    structures : int or list of str
        Names of maps, or how many of the folder that the user gives; without that folder the
        built-in ``phantoms`` are taken.
    phantoms : int or list of str
        Built-in complexes; with none the recipe needs the folder.
    files : str or None
        Name of a file of the user.
    kind : str
        "subtomograms" or "tomograms".
    classes : int or None
        Least number of classes of a file of the user.
    about : str
        What the file of the user is.
    labels : str or None
        A recipe; a fraction of its particle centres becomes picks.
    template : str or None
        A particle, whose density is made.
    """

    simulate: Literal["subtomograms", "tomogram"] | None = None
    structures: int | list[str] = 0
    phantoms: int | list[str] = 0
    files: str | None = None
    kind: Literal["subtomograms", "tomograms"] = "subtomograms"
    classes: int | None = None
    about: str = ""
    labels: str | None = None
    template: str | None = None

    @pydantic.model_validator(mode="after")
    def _is_one_thing(self) -> Recipe:
        given = [
            name
            for name in ("simulate", "files", "labels", "template")
            if getattr(self, name) is not None
        ]
        if len(given) != 1:
            raise ValueError(
                "a recipe says one of simulate, files, labels, template; this says "
                f"{given or 'none'}"
            )
        return self


class Evaluation(ByScale):
    """A ``cryoet evaluate`` after the run; its scores are metrics under its own name (``r5.f1``).

    Attributes
    ----------
    data : str
        Name of the recipe.
    """

    data: str


class Entry(ByScale):
    """A row: a method with options.

    Attributes
    ----------
    label : str
        Name of the row.
    method : str
        The method.
    inputs, values : dict of str to str
        Over those of the table.
    metrics : list of str
        Where the method leaves the metrics of the table, if elsewhere than others.
    scales : list of str
        At which it is measured.
    published : dict
        Figures as printed, by metric, nested in the order of the axes; nan where none is printed.
    spread : dict
        What is printed after their ±.
    """

    label: str
    method: str
    inputs: dict[str, str] = {}
    values: dict[str, str] = {}
    metrics: list[str] = []
    scales: list[Scale] = list(SCALES)
    published: dict[str, Any] = {}
    spread: dict[str, Any] = {}


class SuiteTable(ByScale):
    """A table: entries by conditions. See ``docs/benchmark.md`` for every key.

    Attributes
    ----------
    id, title, source, note : str
        What is written above the table.
    task : str or None
        An installed method of this task that no entry names gets an entry, if it takes the inputs
        of the table and has the options in ``needs``. Without a task there are only the entries.
    needs : list of str
        Options that such a method must have.
    inputs : dict of str to str
        Recipes by the name of the input.
    values : dict of str to str
        Values of variables.
    axes : dict of str to list of str
        Values by axis; the last axis makes the columns.
    at : dict
        Values of the axes at a scale.
    metrics, names : list of str
        The metrics, and how they are called.
    main : str
        Metric of tests, of the best and of accuracy against cost; the first without it.
    percent : bool
        Whether figures are in percent.
    lower_is_better : bool
        Whether the lowest value is the best.
    evaluate : list of str
        Evaluations after the run.
    entry : list of Entry
        The rows.
    """

    id: str
    title: str
    source: str = ""
    task: Literal["clustering", "classification", "picking"] | None = None
    needs: list[str] = []
    inputs: dict[str, str]
    values: dict[str, str] = {}
    axes: dict[str, list[str]] = {}
    at: dict[Scale, dict[str, list[str]]] = {}
    metrics: list[str]
    names: list[str] = []
    main: str = ""
    percent: bool = False
    lower_is_better: bool = False
    evaluate: list[str] = []
    note: str = ""
    entry: list[Entry] = []

    def conditions(self, scale: Scale | None = None) -> list[Condition]:
        """Return every condition, or those measured at a scale, in the order of the axes."""
        chosen = {**self.axes, **(self.at.get(scale, {}) if scale else {})}
        return [
            tuple(zip(chosen, values, strict=True))
            for values in itertools.product(*chosen.values())
        ]

    @property
    def main_index(self) -> int:
        """Number of the main metric."""
        return self.metrics.index(self.main) if self.main else 0

    def metric_of(self, entry: Entry, index: int) -> str:
        """Say where an entry leaves a metric of the table.

        Parameters
        ----------
        entry : Entry
            The row.
        index : int
            Number of the metric.

        Returns
        -------
        str
            Name of the metric.
        """
        return entry.metrics[index] if entry.metrics else self.metrics[index]

    def printed(
        self, entry: Entry, condition: Condition, index: int
    ) -> tuple[float, float | None] | None:
        """Return the published figure and what is printed after its ±.

        Parameters
        ----------
        entry : Entry
            The row.
        condition : tuple of (str, str)
            Names and values of the axes.
        index : int
            Number of the metric.

        Returns
        -------
        (float, float or None) or None
            None where no figure is printed.
        """
        value = self._at(entry.published.get(self.metrics[index]), condition)
        if value is None or isnan(value):
            return None
        return value, self._at(entry.spread.get(self.metrics[index]), condition)

    def _at(self, nested: Any, condition: Condition) -> float | None:
        for axis, value in condition:
            if nested is None:
                return None
            nested = nested[self.axes[axis].index(value)]
        return None if nested is None else float(nested)

    @pydantic.model_validator(mode="after")
    def _is_whole(self) -> SuiteTable:
        for scale, axes in self.at.items():
            for axis, values in axes.items():
                if not set(values) <= set(self.axes.get(axis, [])):
                    raise ValueError(
                        f"table {self.id}, at.{scale}.{axis}: {values} are not among "
                        f"{self.axes.get(axis)}"
                    )
        if self.main and self.main not in self.metrics:
            raise ValueError(f"table {self.id}: main {self.main!r} is none of {self.metrics}")
        if self.names and len(self.names) != len(self.metrics):
            raise ValueError(
                f"table {self.id}: {len(self.names)} names for {len(self.metrics)} metrics"
            )
        shape = [len(values) for values in self.axes.values()]
        for entry in self.entry:
            for metric, nested in (*entry.published.items(), *entry.spread.items()):
                if metric not in self.metrics:
                    raise ValueError(
                        f"table {self.id}, {entry.label}: published {metric} is none of "
                        f"{self.metrics}"
                    )
                if not _has_shape(nested, shape):
                    raise ValueError(
                        f"table {self.id}, {entry.label}: published {metric} is not of the shape "
                        f"{shape}"
                    )
        return self


class Suite(_Part):
    """The tables of one paper, or of one's own.

    Attributes
    ----------
    name, title, note : str
        What is written above the tables.
    values : dict
        Values of variables, by the value of an axis.
    data : dict of str to Recipe
        How files are made.
    evaluate : dict of str to Evaluation
        Evaluations by name.
    table : list of SuiteTable
        The tables.
    """

    name: str = pydantic.Field(pattern=r"^[a-z0-9_-]+$")
    title: str
    note: str = ""
    values: dict[str, dict[str, str | list[str]]] = {}
    """Variables that an axis value brings with it ("": everywhere); two texts: with phantoms, with
    structures.
    """
    data: dict[str, Recipe] = {}
    evaluate: dict[str, Evaluation] = {}
    table: list[SuiteTable]

    @pydantic.model_validator(mode="after")
    def _refers_to_what_it_has(self) -> Suite:
        for table in self.table:
            unknown = [name for name in table.evaluate if name not in self.evaluate]
            if unknown:
                raise ValueError(f"table {table.id}: no [evaluate.{unknown[0]}] in the suite")
        return self

    def recipe(self, name: str) -> Recipe:
        """Return a recipe by its name; a UserError where there is none."""
        if name not in self.data:
            raise UserError(f"suite {self.name}: no recipe {name!r}{close_names(name, self.data)}")
        return self.data[name]


def _has_shape(nested: Any, shape: Sequence[int]) -> bool:
    if not shape:
        return isinstance(nested, (int, float))
    return (
        isinstance(nested, list)
        and len(nested) == shape[0]
        and all(_has_shape(part, shape[1:]) for part in nested)
    )


def filled(text: Any, variables: Mapping[str, str]) -> Any:
    """Replace ``{name}`` in a text, or in the texts of a list.

    Parameters
    ----------
    text : str or list of str
        What holds variables.
    variables : mapping of str to str
        Values by the names of the variables.

    Returns
    -------
    str or list of str
        The same with values.

    Raises
    ------
    UserError
        There is no such variable.

    Examples
    --------
    >>> filled("seed {seed}", {"seed": "3"})
    'seed 3'
    """
    if isinstance(text, list):
        return [filled(part, variables) for part in text]
    if not isinstance(text, str):
        return text
    missing = [name for name in VARIABLE.findall(text) if name not in variables]
    if missing:
        raise UserError(
            f"{text!r} in a suite: no variable {missing[0]!r}; there are "
            f"{', '.join(sorted(variables))}"
        )
    return VARIABLE.sub(lambda found: variables[found[1]], text)


def builtin_names() -> list[str]:
    """Return the names of the suites that come with the program, those of papers first."""
    names = [
        item.name.removesuffix(".toml")
        for item in _folder().iterdir()
        if item.name.endswith(".toml")
    ]
    return sorted(names, key=lambda name: (not name.startswith("paper"), name))


def _folder() -> Traversable:
    return resources.files("cryoet_core.benchmark").joinpath("suites")


def load_suites(words: Sequence[str]) -> list[Suite]:
    """Load suites by name or by path.

    Parameters
    ----------
    words : sequence of str
        Names or paths; all suites of the program without any.

    Returns
    -------
    list of Suite
        The suites.

    Raises
    ------
    UserError
        There is no such suite, or a file is wrong.
    """
    return [load_suite(word) for word in (words or builtin_names())]


def load_suite(word: str) -> Suite:
    """Load a suite of the program by its name, or one of a TOML file."""
    if word in builtin_names():
        return _parse(_folder().joinpath(f"{word}.toml").read_text(encoding="utf-8"), word)
    path = Path(word)
    if path.suffix != ".toml" or not path.is_file():
        names = builtin_names()
        raise UserError(
            f"`suite` {word}: no such suite{close_names(word, names)}; expected one of them, or a "
            ".toml file"
        )
    return _parse(path.read_text(encoding="utf-8"), word)


def _parse(text: str, where: str) -> Suite:
    try:
        return Suite.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"`suite` {where}: not a TOML file: {error}") from error
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        at = ".".join(map(str, problem["loc"])) or "the suite"
        said = (
            "no such key"
            if problem["type"] == "extra_forbidden"
            else problem["msg"].removeprefix("Value error, ")
        )
        raise UserError(f"`suite` {where}: {at}: {said}") from error

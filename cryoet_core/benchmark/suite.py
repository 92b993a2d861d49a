"""What a benchmark measures: suites in TOML, with recipes for data, methods, metrics and the
published figures.

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
    """Anything that may have other options at a scale."""

    options: Options = {}
    smoke: Options = {}
    small: Options = {}
    paper: Options = {}

    def options_at(self, scale: Scale) -> Options:
        """The options of every scale with those of this one over them."""
        more: Options = getattr(self, scale)
        return self.options | more


class Recipe(ByScale):
    """How a file comes about: simulated, given by the user (``files``), or made of another
    recipe's.

    structures: names of maps, or how many of the folder given with ``--structures``; without that
    folder the built-in ``phantoms`` are taken (none: the recipe needs the folder). labels: of the
    recipe of this name, a share of the particles' centres, as picks. template: the density of this
    particle.
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
    """A ``cryoet evaluate`` after the run; its scores are metrics under its own name
    (``r5.f1``).
    """

    data: str


class Entry(ByScale):
    """A row: a method with options. ``metrics``: where it leaves the table's metrics, if elsewhere
    than others.

    scales: at which it is measured. published: metric -> figures as printed, nested in the order of
    the table's axes; nan where none is printed. spread: what is printed after their ±.
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

    task: an installed method of this task that no entry names gets one of its own, if it takes the
    table's inputs and has the options in ``needs``; no task: only the entries. options: for every
    method that has them. main: the metric of tests, of the best and of accuracy against cost
    (default: the first). axes: name -> values; the last one makes the columns. at: the values of
    the axes at a scale.
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
        """Every condition, or those measured at a scale, in the order of the axes."""
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
        """Where an entry leaves the table's metric number ``index``."""
        return entry.metrics[index] if entry.metrics else self.metrics[index]

    def printed(
        self, entry: Entry, condition: Condition, index: int
    ) -> tuple[float, float | None] | None:
        """The published figure and what stands after its ±; None where none is printed."""
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
    """The tables of one paper, or of one's own."""

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
        """A recipe by its name, variables replaced. UserError: there is none."""
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
    """``{name}`` in a text, or in the texts of a list, replaced. UserError: no such variable."""
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
    """The suites that come with the program, the papers' first."""
    names = [
        item.name.removesuffix(".toml")
        for item in _folder().iterdir()
        if item.name.endswith(".toml")
    ]
    return sorted(names, key=lambda name: (not name.startswith("paper"), name))


def _folder() -> Traversable:
    return resources.files("cryoet_core.benchmark").joinpath("suites")


def load_suites(words: Sequence[str]) -> list[Suite]:
    """Suites by name or by path, all of the program's for none. UserError: no such suite, or a file
    that is wrong.
    """
    return [load_suite(word) for word in (words or builtin_names())]


def load_suite(word: str) -> Suite:
    """A suite of the program by its name, or of a TOML file."""
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

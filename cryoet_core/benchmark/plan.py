"""From suites to cells: every figure of every table, the runs behind it, or why there are none."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cryoet_core.benchmark.recipes import (
    PROGRAM,
    DataRecipe,
    Stock,
    filled_options,
    words_of_options,
)
from cryoet_core.benchmark.suite import Condition, Entry, Options, Scale, Suite, SuiteTable, filled
from cryoet_core.plugins.discovery import PluginInfo
from cryoet_core.runs.inputs import PICKS, takes_tomograms

PRESETS: dict[Scale, str] = {"smoke": "fast", "small": "fast", "paper": "paper"}
SEEDS: dict[Scale, int] = {"smoke": 1, "small": 3, "paper": 5}
OTHER_SEED = 1000
"""Added to the seed for a second set that shares no pose with the first: ``{other_seed}``."""


@dataclass(frozen=True)
class Cell:
    """One run of a method on one data set with one seed, and the evaluations after it.

    Attributes
    ----------
    key : str
        Depends on the method, its options, the content of its data and the seed. Tables that ask
        for the same run use the same cell.
    method : str
        The method.
    seed : int
        The seed.
    scale : str
        "smoke", "small" or "paper".
    words : tuple of str
        The command of the run.
    evaluations : tuple of (str, tuple of str)
        Names and commands of the evaluations.
    sources : tuple of DataRecipe
        The files that it reads.
    """

    key: str
    method: str
    seed: int
    scale: Scale
    words: tuple[str, ...]
    evaluations: tuple[tuple[str, tuple[str, ...]], ...]
    sources: tuple[DataRecipe, ...]


@dataclass(frozen=True)
class Place:
    """An entry of a table under a condition.

    Attributes
    ----------
    suite : Suite
        The suite.
    table : SuiteTable
        The table.
    entry : Entry
        The row.
    condition : tuple of (str, str)
        Names and values of the axes.
    cells : tuple of Cell
        The cells behind it.
    reason : str
        Why there are none.
    command : str
        What would measure it.
    """

    suite: Suite
    table: SuiteTable
    entry: Entry
    condition: Condition
    cells: tuple[Cell, ...] = ()
    reason: str = ""
    command: str = ""

    @property
    def label(self) -> str:
        """``paper001 T1 fsft, source 1000, target 0.1``"""
        values = "".join(f", {axis} {value}" for axis, value in self.condition)
        return f"{self.suite.name} {self.table.id} {self.entry.label}{values}"


@dataclass
class BenchmarkPlan:
    """Every place of some suites at a scale.

    Attributes
    ----------
    suites : sequence of Suite
        The suites.
    scale : str
        "smoke", "small" or "paper".
    seeds : int
        How many seeds.
    stock : Stock
        Where the data come from.
    installed : mapping of str to PluginInfo
        The installed methods.
    methods : sequence of str
        The methods that are asked for; all without any.
    custom : sequence of str
        Suites that were named by their path.
    """

    suites: Sequence[Suite]
    scale: Scale
    seeds: int
    stock: Stock
    installed: Mapping[str, PluginInfo]
    methods: Sequence[str] = ()
    custom: Sequence[str] = ()
    """Words of ``--suite`` that are paths, by which a command must name them."""

    @cached_property
    def places(self) -> list[Place]:
        """Every place, in the order of the tables."""
        return [
            self._place(suite, table, entry, condition)
            for suite in self.suites
            for table in suite.table
            for entry in self.entries(table)
            for condition in table.conditions()
        ]

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Every cell once, by its key."""
        return {cell.key: cell for place in self.places for cell in place.cells}

    def entries(self, table: SuiteTable) -> list[Entry]:
        """Return the entries of a table, and one for each other installed method that fits it."""
        named = {entry.method for entry in table.entry}
        more = [
            name for name, info in self.installed.items() if name not in named and fits(info, table)
        ]
        return [*table.entry, *(Entry(label=name, method=name) for name in more)]

    def without_a_table(self) -> list[str]:
        """Installed methods that no table of these suites takes."""
        taken = {place.entry.method for place in self.places}
        return [
            name
            for name, info in self.installed.items()
            if name not in taken and info.trainer is not None
        ]

    # ---- one place -------------------------------------------------------------------------------

    def _place(self, suite: Suite, table: SuiteTable, entry: Entry, condition: Condition) -> Place:
        here = Place(
            suite, table, entry, condition, command=self._command(suite, entry, condition, table)
        )
        info = self.installed.get(entry.method)
        if info is None:
            return _absent(here, f"the method {entry.method} is not installed")
        if info.trainer is None:
            return _absent(here, info.reason or f"{entry.method} has no method to run")
        if self.methods and entry.method not in self.methods:
            return _absent(here, "not asked for (--method)")
        if self.scale not in entry.scales or condition not in table.conditions(self.scale):
            return _absent(here, f"not part of the scale {self.scale}")
        cells = []
        for seed in range(self.seeds):
            sources = self._sources(suite, table, entry, condition, seed, info.trainer)
            missing = next((source.missing for source in sources.values() if source.missing), "")
            if missing:
                return _absent(here, missing)
            cells.append(self._cell(suite, table, entry, condition, seed, info.trainer, sources))
        return Place(suite, table, entry, condition, tuple(cells), command=here.command)

    def _command(self, suite: Suite, entry: Entry, condition: Condition, table: SuiteTable) -> str:
        """What would measure this place."""
        name = next((word for word in self.custom if Path(word).stem == suite.name), suite.name)
        part = self.scale in entry.scales and condition in table.conditions(self.scale)
        scale = self.scale if part else "paper"
        files = sorted(set(self._files_of(suite, table, entry, condition)))
        given = "".join(f" --files {name}=PATH" for name in files)
        if self.stock.structures is not None:
            given += f" --structures {os.path.relpath(self.stock.structures)}"
        return f"cryoet benchmark --suite {name} --method {entry.method} --scale {scale}{given}"

    def _files_of(
        self, suite: Suite, table: SuiteTable, entry: Entry, condition: Condition
    ) -> Iterator[str]:
        variables = variables_of(suite, table, entry, condition, 0, structures=True)
        names = [
            *{**table.inputs, **entry.inputs}.values(),
            *(suite.evaluate[name].data for name in table.evaluate),
        ]
        for name in names:
            recipe = suite.recipe(filled(name, variables))
            if recipe.labels is not None:
                recipe = suite.recipe(filled(recipe.labels, variables))
            if recipe.files is not None:
                yield recipe.files

    def _sources(
        self,
        suite: Suite,
        table: SuiteTable,
        entry: Entry,
        condition: Condition,
        seed: int,
        trainer: Any,
    ) -> dict[str, DataRecipe]:
        """The files of a cell by the name of the input, or of the evaluation (``evaluate r5``)."""
        variables = variables_of(
            suite, table, entry, condition, seed, structures=self.stock.structures is not None
        )
        inputs = {**table.inputs, **entry.inputs}
        names = [name for name in inputs if name in trainer.inputs or _wants_picks(name, trainer)]
        names += [name for name in inputs if name in trainer.Config.model_fields]
        wanted = {name: inputs[name] for name in names}
        wanted |= {f"evaluate {name}": suite.evaluate[name].data for name in table.evaluate}
        return {
            name: self.stock.source(suite, recipe, variables) for name, recipe in wanted.items()
        }

    def _cell(
        self,
        suite: Suite,
        table: SuiteTable,
        entry: Entry,
        condition: Condition,
        seed: int,
        trainer: Any,
        sources: Mapping[str, DataRecipe],
    ) -> Cell:
        variables = variables_of(
            suite, table, entry, condition, seed, structures=self.stock.structures is not None
        )
        options = self._options(table, entry, trainer, variables)
        options = {name: value for name, value in options.items() if name not in sources}
        preset = options.pop("preset", PRESETS[self.scale])
        own = ["--preset", str(preset), "--seed", str(seed), *words_of_options(options)]
        data = [
            word
            for name, source in sources.items()
            if " " not in name
            for word in (f"--{name}", str(source.path))
        ]
        evaluations = []
        for name in table.evaluate:
            said = filled_options(suite.evaluate[name].options_at(self.scale), variables)
            after = ("--data", str(sources[f"evaluate {name}"].path), *words_of_options(said))
            evaluations.append((name, after))
        keys = [[name, source.key] for name, source in sources.items()]
        asked = [
            entry.method,
            own,
            keys,
            self.scale,
            [[name, *words[2:]] for name, words in evaluations],
        ]
        key = f"{entry.method}-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:10]}"
        words = (PROGRAM, "run", entry.method, *data, *own)
        return Cell(
            key, entry.method, seed, self.scale, words, tuple(evaluations), tuple(sources.values())
        )

    def _options(
        self, table: SuiteTable, entry: Entry, trainer: Any, variables: Mapping[str, str]
    ) -> Options:
        """Later ones win: the trainer's tiny ones (smoke), the table's where the method has them,
        the entry's.
        """
        fields = trainer.Config.model_fields
        shared = {
            name: value
            for name, value in table.options_at(self.scale).items()
            if name.replace("-", "_") in fields
        }
        tiny = dict(trainer.tiny) if self.scale == "smoke" else {}
        layers = (
            {_plain(name): value for name, value in layer.items()}
            for layer in (tiny, shared, entry.options_at(self.scale))
        )
        merged: Options = {}
        for layer in layers:
            merged |= layer
        return filled_options(merged, variables)


def variables_of(
    suite: Suite,
    table: SuiteTable,
    entry: Entry,
    condition: Condition,
    seed: int,
    *,
    structures: bool,
) -> dict[str, str]:
    """Return what ``{name}`` stands for.

    Parameters
    ----------
    suite : Suite
        The suite.
    table : SuiteTable
        The table.
    entry : Entry
        The row.
    condition : tuple of (str, str)
        Names and values of the axes.
    seed : int
        The seed.
    structures : bool
        Whether a folder of structures is given.

    Returns
    -------
    dict of str to str
        The values of the axes, what these bring with them, those of the entry, and the seed.
    """
    found: dict[str, Any] = dict(suite.values.get("", {}))
    for _, value in condition:
        found |= suite.values.get(value, {})
    texts = {
        name: text if isinstance(text, str) else text[structures] for name, text in found.items()
    }
    seeds = {"seed": str(seed), "other_seed": str(OTHER_SEED + seed)}
    return texts | table.values | dict(condition) | entry.values | seeds


def fits(info: PluginInfo, table: SuiteTable) -> bool:
    """Say whether a method that no entry names belongs into a table.

    Parameters
    ----------
    info : PluginInfo
        The method.
    table : SuiteTable
        The table.

    Returns
    -------
    bool
        True where task, inputs and options fit.
    """
    trainer = info.trainer
    if trainer is None or trainer.task != table.task:
        return False
    required = {name for name, spec in trainer.inputs.items() if spec.required}
    return required <= set(table.inputs) and all(
        _plain(name) in trainer.Config.model_fields for name in table.needs
    )


def _wants_picks(name: str, trainer: Any) -> bool:
    """Known centres go to a picker that learns from them."""
    learns = any(spec.labels != "never" for spec in trainer.inputs.values())
    return name == PICKS and learns and takes_tomograms(trainer)


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _absent(place: Place, reason: str) -> Place:
    return Place(
        place.suite, place.table, place.entry, place.condition, reason=reason, command=place.command
    )


def every_source(cells: Sequence[Cell]) -> list[DataRecipe]:
    """Return what has to be made for some cells.

    Parameters
    ----------
    cells : sequence of Cell
        The cells.

    Returns
    -------
    list of DataRecipe
        Each file once, and after what it is made of.
    """
    found: dict[Path, DataRecipe] = {}

    def add(source: DataRecipe) -> None:
        for needed in source.needs:
            add(needed)
        if source.words:
            found.setdefault(source.path, source)

    for cell in cells:
        for source in cell.sources:
            add(source)
    return list(found.values())

"""``cryoet methods`` and ``cryoet methods show NAME``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from cryoet_core.plugins.interfaces import Task

if TYPE_CHECKING:
    from rich.console import Console

    from cryoet_core.plugins.config import OptionInfo
    from cryoet_core.plugins.discovery import PluginInfo
    from cryoet_core.plugins.interfaces import Trainer

app = typer.Typer(invoke_without_command=True)

TABLE_WIDTH = 120
"""Columns of a terminal from which on the options stand in a table."""

ENCODERS, BROKEN = "encoders", "cannot be used"
"""Headings besides the tasks."""

JSON = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]


@app.callback()
def methods(context: typer.Context, as_json: JSON = False) -> None:
    """List the installed methods; a broken one is shown with the reason."""
    if context.invoked_subcommand is not None:
        return
    from cryoet_core.plugins.discovery import inspect_all

    rows = inspect_all()
    if as_json:
        print(json.dumps([_facts(info) for info in rows], indent=1))
    else:
        _print_list(rows)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A method.")], as_json: JSON = False) -> None:
    """Show every input and option of a method.

    An option has a default, a range, a meaning, and the values of the presets and of the paper.
    """
    from cryoet_core.plugins.discovery import load_trainer

    trainer = load_trainer(name)
    if as_json:
        print(json.dumps(_trainer_facts(trainer), indent=1, default=str))
    else:
        _print_trainer(trainer)


def _facts(info: PluginInfo) -> dict[str, Any]:
    keys = ("name", "status", "reason", "distribution", "version", "module", "summary", "encoders")
    facts: dict[str, Any] = {key: getattr(info, key) for key in keys}
    if info.trainer is not None:
        facts |= {
            "summary": info.trainer.summary,
            "task": info.trainer.task,
            "inputs": list(info.trainer.inputs),
        }
    return facts


def _trainer_facts(trainer: type[Trainer]) -> dict[str, Any]:
    return {
        "name": trainer.name,
        "summary": trainer.summary,
        "task": trainer.task,
        "inputs": {name: vars(spec) for name, spec in trainer.inputs.items()},
        "options": [vars(option) for option in trainer.Config.described()],
    }


def _print_list(rows: list[PluginInfo]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        print("no method is installed; install one, for example: pip install cryoet-disca")
        return
    console = Console()
    wide = console.width >= TABLE_WIDTH
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    for number, (heading, some) in enumerate(_by_task(rows).items()):
        if number:
            table.add_row()
        table.add_row(Text(heading, style="red" if heading == BROKEN else "bold"))
        for info in some:
            words = Text(info.reason or _facts(info)["summary"])
            table.add_row(
                f"  {info.name}", words, *([f"{info.distribution} {info.version}"] if wide else [])
            )
    console.print(table)


def _by_task(rows: list[PluginInfo]) -> dict[str, list[PluginInfo]]:
    """The methods under their tasks, then plugins of encoders alone, then what cannot be used."""
    found: dict[str, list[PluginInfo]] = {
        heading: [] for heading in (*get_args(Task), ENCODERS, BROKEN)
    }
    for info in rows:
        heading = info.trainer.task if info.trainer else ENCODERS
        found[heading if info.status == "ok" else BROKEN].append(info)
    return {heading: some for heading, some in found.items() if some}


def _print_trainer(trainer: type[Trainer]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cryoet_core.plugins.config import words_of

    console = Console(highlight=False)
    console.print(Text(f"{trainer.name}: {trainer.summary} ({trainer.task})"))
    for name, spec in trainer.inputs.items():
        needs = "" if spec.required else ", optional"
        console.print(Text(f"  --{name}: {spec.help} ({spec.kind}, labels {spec.labels}{needs})"))
    options = trainer.Config.described()
    if console.width < TABLE_WIDTH:
        _print_narrow(console, options)
        return
    presets = sorted({preset for option in options for preset in option.presets})
    table = Table(
        "option",
        "type",
        "default",
        *presets,
        "allowed",
        "in the paper",
        "meaning",
        box=None,
        pad_edge=False,
    )
    for option in options:
        values = [words_of(option.presets[p]) if p in option.presets else "" for p in presets]
        cells = [
            option.flag,
            option.type,
            words_of(option.default),
            *values,
            option.range,
            option.paper or "",
        ]
        table.add_row(*map(Text, [*cells, option.help]))
    console.print(table)


def _print_narrow(console: Console, options: list[OptionInfo]) -> None:
    """An option per paragraph: in a narrow terminal a table of eight columns breaks every word."""
    from rich.padding import Padding
    from rich.text import Text

    from cryoet_core.plugins.config import words_of

    for option in options:
        facts = [f"default {words_of(option.default)}"]
        facts += [
            f"{n} preset {words_of(value)}"
            for n, value in option.presets.items()
            if value != option.default
        ]
        facts += [f"allowed {option.range}"] if option.range and "|" not in option.type else []
        facts += [f"in the paper {option.paper}"] if option.paper else []
        console.print(Text.assemble((option.flag, "bold"), f"  {option.type}"))
        console.print(Padding(Text(option.help), (0, 0, 0, 4)))
        console.print(Padding(Text("; ".join(facts), style="dim"), (0, 0, 0, 4)))

"""``cryoet run METHOD``: one sub-command per installed method.

Its options are made from the inputs and the Config of the method.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoet_core.cli.options import (
    DEVICE,
    DEVICES,
    JSON,
    MAX_MEMORY,
    NO_REPORT,
    PRECISION,
    QUIET,
    RUN,
    THREADS,
    bytes_of,
    option,
    parameters_of,
    reading,
)
from cryoet_core.plugins.config import flag_of, words_of
from cryoet_core.plugins.discovery import discover, load_trainer
from cryoet_core.runs.inputs import PICKS, takes_tomograms

if TYPE_CHECKING:
    from cryoet_core.plugins.config import OptionInfo
    from cryoet_core.plugins.interfaces import InputSpec, Trainer


HELP_ALL = "--help-all"


def _show_everything(context: typer.Context, value: bool) -> None:
    """Print the help with all options, as ``--help`` prints the common ones."""
    if value:
        print(context.get_help())
        raise typer.Exit


_HELP_ALL_OPTION = typer.Option(
    HELP_ALL,
    help="Show every option, rarely used ones too.",
    is_eager=True,
    callback=_show_everything,
)


def build(arguments: Sequence[str]) -> typer.Typer:
    """The group ``cryoet run``: the method asked for with its options, others by name."""
    app = typer.Typer(callback=_group)
    name = next((word for word in arguments if not word.startswith("-")), None)
    if name is not None:
        trainer = load_trainer(name)
        everything = HELP_ALL in arguments
        app.command(name, help=trainer.summary, epilog=_epilog(trainer, everything))(
            command_of(trainer, everything)
        )
    for info in discover():
        if info.name != name:
            text = (
                info.reason or f"{info.summary or info.module} ({info.distribution} {info.version})"
            )
            app.command(info.name, help=text)(_group)
    return app


def _epilog(trainer: type[Trainer], everything: bool) -> str | None:
    hidden = sum(info.advanced for info in trainer.Config.described())
    if everything or not hidden:
        return None
    return f"{hidden} more options are rarely needed; {HELP_ALL} shows them."


def command_of(trainer: type[Trainer], everything: bool = False) -> Callable[..., None]:
    """A function for Typer: it has the trainer's inputs, and options of run and Config.

    Parameters
    ----------
    trainer : type of Trainer
        The method.
    everything : bool
        Show advanced options in the help too.

    Returns
    -------
    callable
        The command.
    """
    own = trainer.Config.described()

    def command(**given: Any) -> None:
        given.pop("help_all")
        options = {info.name: given.pop(info.name) for info in own}
        paths = {name: given.pop(name) or [] for name in trainer.inputs}
        said = {parameter.name: given.pop(parameter.name) for parameter in how}
        if said.get(PICKS):
            paths[PICKS] = said.pop(PICKS)
        chosen = {name: value for name, value in options.items() if value is not None}
        _start(trainer.name, paths, chosen, reading=said, **given)

    how = parameters_of(reading) if takes_tomograms(trainer) else []
    parameters = [_input_parameter(name, spec) for name, spec in trainer.inputs.items()] + how
    parameters += parameters_of(_run_options)
    parameters += [_option_parameter(info, trainer.name, everything) for info in own]
    parameters.append(_parameter("help_all", Annotated[bool, _HELP_ALL_OPTION], False))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _start(
    method: str,
    paths: dict[str, list[Path]],
    options: dict[str, Any],
    *,
    reading: dict[str, Any],
    as_json: bool,
    no_report: bool,
    config: Path | None,
    max_memory: str | None,
    **run_options: Any,
) -> None:
    from cryoet_core.cli.closing import close
    from cryoet_core.tasks.session import run_method

    run_options |= {"max_memory": bytes_of(max_memory), "json": as_json}
    run_options |= {"reading": reading, "config_file": config, "report": not no_report}
    close(run_method(method, paths, options, **run_options), as_json)


def _run_options(
    out: Annotated[
        Path | None,
        option(
            "Folder of the run, new. Default: runs/METHOD/TIME-HASH.", panel=RUN, metavar="FOLDER"
        ),
    ] = None,
    preset: Annotated[
        str,
        option(
            "Set of defaults; auto: paper on a GPU, else fast.",
            panel=RUN,
            metavar="auto|fast|paper",
        ),
    ] = "auto",
    config: Annotated[
        Path | None, option("TOML file with options of the method.", panel=RUN, metavar="FILE.toml")
    ] = None,
    seed: Annotated[int, option("Seed of every random number.", panel=RUN, metavar="N")] = 0,
    device: DEVICE = "auto",
    devices: DEVICES = 1,
    precision: PRECISION = "auto",
    max_memory: MAX_MEMORY = None,
    threads: THREADS = None,
    as_json: JSON = False,
    quiet: QUIET = False,
    no_report: NO_REPORT = False,
) -> None:
    """The options that every method has."""


def _group() -> None:
    """Run a method on a data set. The options of one: cryoet run METHOD --help"""


def _input_parameter(name: str, spec: InputSpec) -> inspect.Parameter:
    text = f"{spec.help}{'' if spec.help.endswith('.') else '.'} May be given several times."
    shown = option(text, flag_of(name), panel="Input", metavar="FILE", show_default=False)
    if spec.required:
        return _parameter(name, Annotated[list[Path], shown], inspect.Parameter.empty)
    return _parameter(name, Annotated[list[Path] | None, shown], None)


def _option_parameter(info: OptionInfo, method: str, everything: bool) -> inspect.Parameter:
    """An option of the Config: text that pydantic reads later, so that one place decides.

    Switches stand under a heading of their own and choices in the text: in a narrow terminal the
    columns that these take would cut the names of the other options short.
    """
    hidden = info.advanced and not everything
    if info.type == "bool":
        names = f"{info.flag}/--no-{info.flag[2:]}"
        switch = option(
            _help(info), names, panel=f"Switches of {method}", show_default=False, hidden=hidden
        )
        return _parameter(info.name, Annotated[bool | None, switch], None)
    metavar = "NAME" if "|" in info.type else info.type
    text = option(
        _help(info),
        info.flag,
        panel=f"Options of {method}",
        metavar=metavar,
        show_default=False,
        hidden=hidden,
    )
    return _parameter(info.name, Annotated[str | None, text], None)


def _help(info: OptionInfo) -> str:
    facts = [f"default {words_of(info.default)}"]
    facts += [
        f"{name} preset {words_of(value)}"
        for name, value in info.presets.items()
        if value != info.default
    ]
    facts += [f"one of {info.range}" if "|" in info.type else info.range] if info.range else []
    facts += [f"in the paper {info.paper}"] if info.paper else []
    return f"{info.help} ({'; '.join(facts)})"


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )

"""``cryoet``: find the command that is asked for, import that one, run it.

Every command is one file of this package. Only the one named on the command line is imported; the
others appear in the help from the table below, which keeps ``cryoet --help`` fast.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import typer

from cryoet_core import __version__
from cryoet_core.cli.guard import explain, guarded, interrupted
from cryoet_core.support.errors import UserError, arguments_as_options

# Huge pages make large tensor operations on the CPU several times faster; torch reads this at its
# first allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
from cryoet_core.support.names import close_names

DEBUG = "CRYOET_DEBUG"
SEVERAL = ("--data", "--source", "--target", "--picks")
"""Options that take files, which a shell may have listed."""


class Command(NamedTuple):
    """A command of the program.

    The module has either ``command`` (a function), ``app`` (a Typer group) or ``build(arguments)``
    (returns a group).

    Attributes
    ----------
    name : str
        Its name.
    module : str
        Its module in this package.
    help : str
        One line of help.
    panel : str
        The heading it stands under.
    """

    name: str
    module: str
    help: str
    panel: str


RUNS, DATA, METHODS = "Runs", "Data", "Methods and this machine"
COMMANDS = (
    Command("run", "run", "Run a method on a data set.", RUNS),
    Command("resume", "resume", "Resume an interrupted run.", RUNS),
    Command("predict", "predict", "Label new data with a finished run.", RUNS),
    Command("evaluate", "evaluate", "Compare a run's labels with the known ones.", RUNS),
    Command("explain", "explain", "Show where in a subtomogram a classifier sees a class.", RUNS),
    Command("report", "report", "Write a run's report.html again.", RUNS),
    Command(
        "benchmark",
        "benchmark",
        "Measure every method on the same data, beside the published tables.",
        RUNS,
    ),
    Command("simulate", "simulate_commands.simulate", "Make data sets with known truth.", DATA),
    Command("data", "data_commands.data", "Import, export, describe and check data sets.", DATA),
    Command("methods", "methods", "List the installed methods, or every option of one.", METHODS),
    Command("check", "check", "Run the conformance checks on an installed method.", METHODS),
    Command(
        "new-plugin", "new_plugin", "Write a folder with a working plugin to start from.", METHODS
    ),
    Command("doctor", "doctor", "Say what is wrong with this machine and installation.", METHODS),
)

EPILOG = "Exit codes: 0 done, 1 failed while running, 2 the input is wrong, 130 interrupted."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after ``cryoet``; by default those of this process.

    Returns
    -------
    int
        The exit code. A bad end prints one line, or a traceback under --debug.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    debug = "--debug" in given[:end] or os.environ.get(DEBUG) == "1"
    words = spread([word for word in given[:end] if word != "--debug"]) + given[end:]
    with arguments_as_options():
        return guarded(lambda: _dispatch(words), debug=debug, hint=_resume_hint)


def spread(words: Sequence[str]) -> list[str]:
    """Repeat an option before each of its files: ``--data a b`` is ``--data a --data b``.

    A shell makes the former of ``--data folder/*.mrc``. This is done only where the command's own
    arguments stand before the option, so that none of them is taken for a file.

    Examples
    --------
    >>> spread(["run", "disca", "--data", "a.h5", "b.h5"])
    ['run', 'disca', '--data', 'a.h5', '--data', 'b.h5']
    """
    out: list[str] = []
    flag, positional = "", 0
    for word in words:
        if word.startswith("-"):
            flag = word if word in SEVERAL and positional >= 2 else ""
        elif flag and out[-1] != flag:
            out.append(flag)
        elif not flag and not (out and out[-1].startswith("-")):
            positional += 1
        out.append(word)
    return out


def _dispatch(words: list[str]) -> int:
    app = typer.Typer(add_completion=False, help=_HELP, epilog=EPILOG, callback=_root)
    name = next((word for word in words if not word.startswith("-")), None)
    rest = words[words.index(name) + 1 :] if name else []
    names = [command.name for command in COMMANDS]
    if name and name not in names:
        raise UserError(f"no command {name!r}{close_names(name, names)} (--help lists them)")
    for command in COMMANDS:
        if command.name != name:
            app.command(command.name, help=command.help, rich_help_panel=command.panel)(
                _placeholder
            )
        elif _mount(app, command, rest) and not rest:
            words = [*words, "--help"]
    return _call(app, words or ["--help"])


def _mount(app: typer.Typer, command: Command, rest: list[str]) -> bool:
    """Import a command and add it to the program. ``rest`` are the arguments after its name.

    Returns whether it is a group that does nothing by itself, so that its help is due when there
    are no arguments.
    """
    module = importlib.import_module(f"cryoet_core.cli.{command.module}")
    if hasattr(module, "command"):
        app.command(command.name, rich_help_panel=command.panel)(module.command)
        return False
    group = module.build(rest) if hasattr(module, "build") else module.app
    app.add_typer(group, name=command.name, help=command.help, rich_help_panel=command.panel)
    return group.info.invoke_without_command is not True


def _call(app: typer.Typer, words: list[str]) -> int:
    """Let Typer parse and call, without its own way of printing errors."""
    try:
        result: Any = app(words, prog_name="cryoet", standalone_mode=False)
    except typer.Exit as leaving:
        return leaving.exit_code
    except typer.Abort:
        return interrupted(_resume_hint())
    except Exception as error:
        if type(error).__name__ != "NoArgsIsHelpError":
            raise
        print(explain(error)[0], file=sys.stderr)
        return 2
    if result == 130:  # how Typer tells of a KeyboardInterrupt
        return interrupted(_resume_hint())
    return result if isinstance(result, int) else 0


def _resume_hint() -> str:
    session = sys.modules.get("cryoet_core.tasks.session")
    folder = getattr(session, "current_run", None)
    return f"resume it with: cryoet resume {folder}" if folder else ""


def _placeholder() -> None:
    """A command that was not asked for; only its name and help are shown."""


def _version(wanted: bool) -> None:
    if wanted:
        print(f"cryoet {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
    debug: bool = typer.Option(
        False, "--debug", help="Show the traceback of an error (with any command, anywhere)."
    ),
) -> None:
    """Options of the program itself; ``--debug`` is taken off before this is called."""


_HELP = """Which macromolecules are in cryo-electron tomograms?

Every method is a plugin: cryoet methods lists them, cryoet run METHOD --help shows its options.
"""

if __name__ == "__main__":
    sys.exit(main())

"""Options that several commands have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cryoet_core.support.errors import UserError

RUN, MACHINE, OUTPUT, TOMOGRAMS = (
    "The run",
    "This machine",
    "Output",
    "What the tomograms do not say",
)


def option(help: str, *names: str, panel: str, metavar: str | None = None, **more: Any) -> Any:
    """A Typer option under a heading of the help.

    Parameters
    ----------
    help : str
        What it means.
    *names : str
        Its names, such as ``--out``; by default that of the parameter.
    panel : str
        The heading.
    metavar : str, optional
        What stands for its value.
    **more
        Further arguments of ``typer.Option``.

    Returns
    -------
    typer.models.OptionInfo
        The option.
    """
    return typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar, **more)


DEVICE_NAMES = "auto|cpu|cuda|cuda:N"
DEVICE = Annotated[
    str,
    option("Where to compute; auto: a GPU if there is one.", panel=MACHINE, metavar=DEVICE_NAMES),
]
DEVICES = Annotated[
    int, option("Processes: GPUs, or parts of the CPU.", panel=MACHINE, metavar="N")
]
PRECISION = Annotated[
    str,
    option("Arithmetic; auto: bf16 on a GPU that has it.", panel=MACHINE, metavar="auto|32|bf16"),
]
MAX_MEMORY = Annotated[
    str | None,
    option(
        "Memory for volumes, e.g. 4GB; the rest is streamed. Default: half of what is free.",
        panel=MACHINE,
        metavar="SIZE",
    ),
]
THREADS = Annotated[
    int | None, option("CPU threads. Default: every core.", panel=MACHINE, metavar="N")
]
JSON = Annotated[
    bool, option("Print the facts as one JSON object on standard output.", "--json", panel=OUTPUT)
]
QUIET = Annotated[bool, option("Print the closing lines only.", "--quiet", panel=OUTPUT)]
NO_REPORT = Annotated[bool, option("Write no report.html.", "--no-report", panel=OUTPUT)]


TRUTH = Annotated[
    list[Path] | None,
    option(
        "Known particle centres: a star or any other pick file. May be given several times.",
        panel=TOMOGRAMS,
        metavar="FILE",
        show_default=False,
    ),
]
CONTRAST = Annotated[
    str | None,
    option(
        "How protein looks in the files.",
        panel=TOMOGRAMS,
        metavar="dark|bright",
        show_default=False,
    ),
]
VOXEL_SIZE = Annotated[
    float | None,
    option(
        "Voxel size, where the files lack it or are wrong.",
        panel=TOMOGRAMS,
        metavar="Å",
        show_default=False,
    ),
]
TILT_RANGE = Annotated[
    tuple[float, float] | None,
    option(
        "Lowest and highest tilt, in degrees.",
        panel=TOMOGRAMS,
        metavar="LOW HIGH",
        show_default=False,
    ),
]


def reading(
    picks: TRUTH = None,
    contrast: CONTRAST = None,
    voxel_size: VOXEL_SIZE = None,
    tilt_range: TILT_RANGE = None,
) -> None:
    """The options of every command that opens tomograms."""


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """A function's parameters, keyword-only and with evaluated annotations."""
    signature = inspect.signature(function, eval_str=True)
    return [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]


def bytes_of(size: str | None) -> int | None:
    """A size such as ``4GB`` in bytes; UserError where it is none.

    Examples
    --------
    >>> bytes_of("4GB")
    4000000000
    """
    if size is None:
        return None
    from cryoet_core.support.units import parse_size

    try:
        return parse_size(size)
    except (UserError, ValueError) as error:
        raise UserError(f"--max-memory {size}: {error}") from error

"""The two ways in which a command or a function of the library ends badly.

A message is one line: what was given, what was found, what was expected and what to do. It names an
argument in backticks, as ``give `voxel_size` ``; the command line shows the same argument as its
option, ``--voxel-size`` (`as_options`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)`")


class UserError(Exception):
    """The user's input is wrong; a command prints the message and exits with code 2.

    Examples
    --------
    >>> error = UserError("`voxel_size` -1: expected a number of \u00c5 above 0")
    >>> error.argument
    'voxel_size'
    """

    @property
    def argument(self) -> str | None:
        """The argument that the message names first, None where it names none."""
        found = _ARGUMENT.search(str(self))
        return found[1] if found else None


class RunError(Exception):
    """A run failed although its input was right; a command prints it and exits with code 1."""


def as_options(message: str) -> str:
    """A message with its arguments as options of the command line.

    Parameters
    ----------
    message : str
        A message of the library, with arguments in backticks.

    Returns
    -------
    str
        The message with ``--voxel-size`` in the place of ```voxel_size```.

    Examples
    --------
    >>> as_options("voxel size unknown; give `voxel_size`")
    'voxel size unknown; give --voxel-size'
    """
    return _ARGUMENT.sub(lambda found: "--" + found[1].replace("_", "-"), message)


_WORDED = {"options": False}


@contextmanager
def arguments_as_options() -> Iterator[None]:
    """Print the arguments in what a run says as options, while a command line runs."""
    before = _WORDED["options"]
    _WORDED["options"] = True
    try:
        yield
    finally:
        _WORDED["options"] = before


def worded(message: str) -> str:
    """Return a message as its reader calls things: options on the command line, else arguments."""
    return as_options(message) if _WORDED["options"] else message

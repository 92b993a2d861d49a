"""The two ways in which a command ends badly.

A message names the file or field, what was found, what was expected and what to do, on one line.
"""

from __future__ import annotations


class UserError(Exception):
    """The user's input is wrong: the command prints the message and exits with code 2."""


class RunError(Exception):
    """A run failed although its input was right: the command prints the message and exits with code
    1.
    """

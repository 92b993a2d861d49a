"""How every command ends: with an exit code and at most one line.

The code is 0, 1 (failed while running), 2 (wrong input) or 130 (interrupted).
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable

from cryoet_core.support.errors import RunError, UserError, as_options

RED, PLAIN = "\x1b[31m", "\x1b[0m"

# an OSError that only the user can mend, and how
REMEDIES = {
    errno.ENOENT: "no such file or folder",
    errno.EISDIR: "this is a folder; expected a file",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only; choose another place with --out",
    errno.EEXIST: "exists already; choose another name",
    errno.ENOSPC: "the disk is full; free some space or choose another place with --out",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another place with --out",
    errno.EFBIG: "the file system allows no file of this size; choose another place with --out",
}


def guarded(
    command: Callable[[], int], *, debug: bool = False, hint: Callable[[], str] = lambda: ""
) -> int:
    """Call a command and make one line on standard error and an exit code of what it raises.

    Parameters
    ----------
    command : callable
        Returns an exit code.
    debug : bool
        Print the traceback too.
    hint : callable
        Gives the last words after an interruption.

    Returns
    -------
    int
        The exit code.
    """
    try:
        return command()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        return interrupted(hint())
    except BrokenPipeError:
        # the reader (head, less) left: not our failure; devnull keeps the interpreter's last flush
        # quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BaseException as error:
        if debug:
            traceback.print_exc()
        message, code = explain(error)
        if code != 2 or speaks():
            complain(message)
        return code


def speaks() -> bool:
    """Whether this process is the one of its run that prints.

    Every process finds what is wrong with the input, but one of them says it.
    """
    from cryoet_core.runs.devices import is_main_process

    try:
        return is_main_process()
    except UserError:  # the launcher itself is set up wrongly
        return True


def explain(error: BaseException) -> tuple[str, int]:
    """The line to print for an exception and the exit code."""
    if isinstance(error, UserError):
        return as_options(str(error)), 2
    if isinstance(error, RunError):
        return as_options(str(error)), 1
    if hasattr(error, "format_message"):  # a usage error of the command line
        return f"{error.format_message()} (--help shows what is possible)", int(
            getattr(error, "exit_code", 2)
        )
    if isinstance(error, OSError) and error.errno in REMEDIES:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{REMEDIES[error.errno]}", 2
    if "CUDA out of memory" in str(error):
        return (
            "the GPU ran out of memory; give a smaller --max-memory or batch size, or --device cpu",
            1,
        )
    if isinstance(error, MemoryError):
        return "the machine ran out of memory; give a smaller --max-memory", 1
    return f"unexpected {type(error).__name__}: {error}; run with --debug for the traceback", 1


def interrupted(hint: str) -> int:
    """Say that the user stopped the command; the exit code of an interruption."""
    complain("interrupted" + (f"; {hint}" if hint else ""))
    return 130


def complain(message: str) -> None:
    """One line on standard error, red on a terminal."""
    line = "error: " + " ".join(message.split())
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    print(f"{RED}{line}{PLAIN}" if colour else line, file=sys.stderr, flush=True)

"""Close names for a misspelt one, names of files, and counts of things."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable


def close_names(name: str, known: Iterable[str], show: Callable[[str], str] = str) -> str:
    """Suggest known names for a misspelt one, as the end of a message.

    Parameters
    ----------
    name : str
        The misspelt name.
    known : Iterable[str]
        The names that exist.
    show : Callable[[str], str], optional
        How a name is shown.

    Returns
    -------
    str
        ``"; did you mean a, b?"``, or the list of known names when none is close, or nothing when
        none is known.

    Examples
    --------
    >>> close_names("dicsa", ["disca", "fsft"])
    '; did you mean disca?'
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {', '.join(map(show, close))}?"
    return f"; known: {', '.join(map(show, names))}" if names else ""


def file_name(name: str, *, blanks: bool = False, empty: str = "tomogram") -> str:
    """Turn the name of a tomogram or class into the name of a file, without an ending.

    Letters, digits, ``_``, ``.``, ``+`` and ``-`` stay; every other character becomes ``_``.

    Parameters
    ----------
    name : str
        Name of a tomogram or class.
    blanks : bool, optional
        Whether blanks inside the name stay; then dots and blanks at its ends are removed.
    empty : str, optional
        What stands for a name of which nothing remains.

    Returns
    -------
    str
        A name without a folder. Two names can become the same.

    Examples
    --------
    >>> file_name("session 1/TS_01.5")
    'session_1_TS_01.5'
    >>> file_name("class 2?", blanks=True, empty="class")
    'class 2_'
    """
    safe = re.sub(r"[^\w.+ -]" if blanks else r"[^\w.+-]", "_", name)
    if blanks:
        safe = safe.strip(". ")
    return safe if safe.strip(".") else empty  # "." and ".." are folders


def counted(count: int, noun: str) -> str:
    """Write a number with its noun, in the plural where it is not one.

    Parameters
    ----------
    count : int
        How many there are.
    noun : str
        The noun in the singular, whose plural ends in s, es or ies.

    Returns
    -------
    str
        The number and the noun.

    Examples
    --------
    >>> counted(1, "box"), counted(2, "entry"), counted(0, "pick")
    ('1 box', '2 entries', '0 picks')
    """
    if count == 1:
        return f"{count} {noun}"
    if noun.endswith("y"):
        return f"{count} {noun[:-1]}ies"
    return f"{count} {noun}{'es' if noun.endswith(('s', 'x')) else 's'}"

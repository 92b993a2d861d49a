"""Close names for a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable


def close_names(name: str, known: Iterable[str], show: Callable[[str], str] = str) -> str:
    """``"; did you mean a, b?"``, or the list of known names when none is close, or nothing when
    none is known.
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {', '.join(map(show, close))}?"
    return f"; known: {', '.join(map(show, names))}" if names else ""

"""Numbers and tables as HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


class Markup(str):
    """Text that is HTML already and is not escaped again."""

    def __html__(self) -> str:
        """Tell Jinja2 that there is nothing to escape."""
        return self


def shown(value: Any) -> Any:
    """Return a value as it is shown: None as a dash, a float with three decimals."""
    return "–" if value is None else number(value) if isinstance(value, float) else value


def text(value: Any) -> str:
    """Return any value as escaped HTML; None is a dash."""
    return value if isinstance(value, Markup) else escape(str(shown(value)))


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as ``0.914``, ``12.3`` or ``1.2e-05``.

    Parameters
    ----------
    value : float or None
        None and what is not finite become a dash.
    digits : int
        Decimals.

    Returns
    -------
    str
        The number.

    Examples
    --------
    >>> number(0.91449), number(12345.0), number(None)
    ('0.914', '12,345', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) >= 1e3:
        return f"{int(value):,}"
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.{max(digits - 1, 0)}e}"
    return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:,.1f}"


def percent(fraction: float) -> str:
    """Return a fraction as ``12.5 %``."""
    return f"{100 * fraction:.1f} %"


def plural(count: int, noun: str, ending: str = "s") -> str:
    """Return a count with its noun.

    Parameters
    ----------
    count : int
        How many.
    noun : str
        The noun in the singular.
    ending : str
        What the plural appends.

    Returns
    -------
    str
        The words.

    Examples
    --------
    >>> plural(1, "class", "es"), plural(1200, "particle")
    ('1 class', '1,200 particles')
    """
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def duration(seconds: float) -> str:
    """Return a time as ``0.4 s``, ``38 s``, ``4 min 05 s`` or ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Return bytes as ``3.1 MB`` or ``1.24 GB``."""
    for unit, scale, digits in (("GB", 2**30, 2), ("MB", 2**20, 1), ("kB", 2**10, 1)):
        if count >= scale:
            return f"{count / scale:.{digits}f} {unit}"
    return f"{count:.0f} B"


def table(
    headers: Sequence[Any],
    rows: Iterable[Sequence[Any]],
    kind: str = "",
    numeric: Sequence[int] | None = None,
) -> Markup:
    """Return an HTML table.

    Parameters
    ----------
    headers : sequence
        Heads of the columns; no head row where all are empty.
    rows : iterable of sequence
        Cells, escaped unless they are Markup.
    kind : str
        Class of the style sheet.
    numeric : sequence of int, optional
        Columns that are aligned to the right; all but the first without it.

    Returns
    -------
    Markup
        HTML.
    """
    right = set(range(1, len(headers)) if numeric is None else numeric)

    def cells(values: Sequence[Any], tag: str) -> str:
        parts = (
            f"<{tag}{' class=num' if i in right else ''}>{text(v)}</{tag}>"
            for i, v in enumerate(values)
        )
        return f"<tr>{''.join(parts)}</tr>"

    head = f"<thead>{cells(headers, 'th')}</thead>" if any(headers) else ""
    body = "".join(cells(row, "td") for row in rows)
    return Markup(f'<table class="{kind}">{head}<tbody>{body}</tbody></table>')

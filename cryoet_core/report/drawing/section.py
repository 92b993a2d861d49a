"""A part of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryoet_core.report.drawing.words import Markup, text


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes
    ----------
    title : str
        Its title.
    html : str
        Its content, with ``slot(name)`` where the figure ``plots[name]`` goes.
    plots : dict of str to bokeh Figure
        Its figures.
    """

    title: str
    html: str
    plots: dict[str, Any] = field(default_factory=dict)


def slot(name: str) -> Markup:
    """Return the place where a figure goes."""
    return Markup(f"<!--plot:{name}-->")


def paragraph(*parts: Any, kind: str = "") -> Markup:
    """Return a paragraph.

    Parameters
    ----------
    *parts
        Escaped unless they are Markup.
    kind : str
        Class of the style sheet.

    Returns
    -------
    Markup
        HTML.
    """
    return Markup(f'<p class="{kind}">{"".join(text(part) for part in parts)}</p>')


def figures(titled: Sequence[tuple[str, str]]) -> Markup:
    """Return small plots side by side.

    Parameters
    ----------
    titled : sequence of (str, str)
        Caption and name of each plot.

    Returns
    -------
    Markup
        HTML.
    """
    cells = (
        f"<figure>{slot(name)}<figcaption>{text(caption)}</figcaption></figure>"
        for caption, name in titled
    )
    return Markup(f'<div class="plots">{"".join(cells)}</div>')

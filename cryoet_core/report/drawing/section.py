"""A part of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryoet_core.report.drawing.words import Markup, text


@dataclass(frozen=True)
class Section:
    """``html`` holds ``slot(name)`` where the figure ``plots[name]`` goes."""

    title: str
    html: str
    plots: dict[str, Any] = field(default_factory=dict)


def slot(name: str) -> Markup:
    """Where a figure goes."""
    return Markup(f"<!--plot:{name}-->")


def paragraph(*parts: Any, kind: str = "") -> Markup:
    """A paragraph; parts are escaped unless they are Markup."""
    return Markup(f'<p class="{kind}">{"".join(text(part) for part in parts)}</p>')


def figures(titled: Sequence[tuple[str, str]]) -> Markup:
    """Small plots side by side: (caption, name of the plot) each."""
    cells = (
        f"<figure>{slot(name)}<figcaption>{text(caption)}</figcaption></figure>"
        for caption, name in titled
    )
    return Markup(f'<div class="plots">{"".join(cells)}</div>')

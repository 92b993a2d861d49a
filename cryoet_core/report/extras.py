"""What a method leaves in its folder to be shown as it is: tables, scatter plots, pictures.

Each is a list. ``tables.json`` of ``{"title", "columns", "rows", "note"}``; ``scatters.json`` of
``{"title", "note", "panels"}``, panels of ``{"title", "groups"}``, groups of ``{"name", "x",
"y"}``; ``pictures.json`` of ``{"title", "note", "pictures"}``, pictures of ``{"file", "caption"}``,
PNG files by their path in the run's folder.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryoet_core.report.drawing import palette, plots
from cryoet_core.report.drawing.section import Section, paragraph, slot
from cryoet_core.report.drawing.words import Markup, table, text
from cryoet_core.report.facts import Facts

_PANEL = 430
"""Width of a scatter plot in pixels."""
_WIDE = 600
"""Pixels from which on a picture is wide."""
_DAMAGED = paragraph("This part is damaged and was left out.", kind="caption")


def tables(facts: Facts) -> list[Section]:
    """Return the tables that the method left."""
    return [Section(_title(each, "Table"), _table(each)) for each in facts.tables]


def scatters(facts: Facts) -> list[Section]:
    """Return the scatter plots that the method left."""
    return [_scatters(each, number) for number, each in enumerate(facts.scatters)]


def pictures(facts: Facts) -> list[Section]:
    """Return the pictures that the method left."""
    return [
        Section(_title(each, "Pictures"), _pictures(each, facts.folder)) for each in facts.pictures
    ]


def _title(part: Any, otherwise: str) -> str:
    return str(part.get("title") or otherwise) if isinstance(part, Mapping) else otherwise


def _note(part: Mapping[str, Any]) -> str:
    return paragraph(str(part["note"]), kind="caption") if part.get("note") else ""


def _table(part: Any) -> str:
    try:
        columns = [str(name) for name in part["columns"]]
        rows = [list(row) for row in part["rows"]]
        words = [i for i in range(len(columns)) if any(isinstance(row[i], str) for row in rows)]
    except (KeyError, TypeError, IndexError):
        return _DAMAGED
    numeric = [i for i in range(len(columns)) if i not in words]
    return f'<div class="scroll">{table(columns, rows, "", numeric)}</div>{_note(part)}'


def _pictures(part: Any, folder: Path) -> str:
    try:
        cells = [
            _picture(folder, str(each["file"]), str(each.get("caption", "")))
            for each in part["pictures"]
        ]
    except (KeyError, TypeError, AttributeError):
        return _DAMAGED
    return f'<div class="cards">{"".join(cells)}</div>{_note(part)}'


def _picture(folder: Path, name: str, caption: str) -> str:
    """A PNG inside the page; a file that is gone, or lies outside of the folder, is named
    instead.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or path.suffix != ".png" or not path.is_file():
        return f'<div class="card"><div class="absent">{text(name)} is missing</div></div>'
    content = path.read_bytes()
    address = "data:image/png;base64," + base64.b64encode(content).decode()
    shown = f'<img src="{address}" alt="{text(caption)}" class="picture">'
    # a wide picture, a slice of a tomogram for one, gets a row of its own; the width is the
    # header's first number
    whole = ' style="grid-column:1/-1"' if int.from_bytes(content[16:20], "big") > _WIDE else ""
    return f'<div class="card"{whole}>{shown}<div class="matched">{text(caption)}</div></div>'


def _scatters(part: Any, number: int) -> Section:
    try:
        drawn = [_panel(panel) for panel in part["panels"]]
        titles = [str(panel.get("title", "")) for panel in part["panels"]]
        legends = [_legend(panel) for panel in part["panels"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        return Section(_title(part, "Scatter plot"), _DAMAGED)
    names = [f"scatter {number}.{i}" for i in range(len(drawn))]
    cells = (
        f"<figure><figcaption><b>{text(title)}</b></figcaption>{slot(name)}{legend}</figure>"
        for title, name, legend in zip(titles, names, legends, strict=True)
    )
    html = f'<div class="plots">{"".join(cells)}</div>{_note(part)}'
    return Section(_title(part, "Scatter plot"), html, dict(zip(names, drawn, strict=True)))


def _panel(panel: Mapping[str, Any]) -> Any:
    plot = plots.figure("", "", _PANEL, 340)
    for index, group in enumerate(panel["groups"]):
        if len(group["x"]) != len(group["y"]):
            raise ValueError("a group with more x than y")
        look = palette.mark(index)
        plot.scatter(
            list(group["x"]),
            list(group["y"]),
            size=5,
            color=look.colour,
            marker=look.marker,
            alpha=0.55,
            line_width=0,
        )
    plot.axis.visible = plot.grid.visible = (
        False  # principal components have no units worth reading
    )
    return plot


def _legend(panel: Mapping[str, Any]) -> Markup:
    items = (
        f"<span>{palette.mark(i).swatch()}{text(str(g.get('name', '')))}</span>"
        for i, g in enumerate(panel["groups"])
    )
    return Markup(f'<p class="key">{"".join(items)}</p>')

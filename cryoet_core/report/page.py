"""The page: sections in order, one style sheet, one script, the plotting library inline; nothing is
loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

from cryoet_core.report import confusion, extras, picking, provenance, sections
from cryoet_core.report.drawing.section import Section, slot
from cryoet_core.report.drawing.words import text
from cryoet_core.report.embedding import embedding_map
from cryoet_core.report.facts import Facts
from cryoet_core.report.header import header

_POLICY = (
    "default-src 'none'; img-src data: blob:; font-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'"
)
"""Even a fault of ours could not make the reader's browser fetch anything."""


def render(facts: Facts) -> str:
    """The whole report as HTML."""
    found = embedding_map(facts)
    parts = [
        sections.notes(facts),
        *picking.sections(facts.surveys),
        sections.comparison(facts),
        *extras.tables(facts),
        sections.class_averages(facts),
        *extras.pictures(facts),
        sections.embedding(facts, found),
        *extras.scatters(facts),
        _side_by_side([sections.choice_of_k(facts), sections.certainty(facts)]),
        sections.iterations(facts),
        confusion.errors(facts),
        confusion.cluster_table(facts),
        provenance.configuration(facts),
        provenance.origin(facts),
    ]
    return document(
        f"{facts.method}: report", header(facts), [part for part in parts if part is not None]
    )


def document(title: str, head: str, parts: Sequence[Section]) -> str:
    """A page of sections under a head (HTML), complete in itself."""
    plots = {name: plot for part in parts for name, plot in part.plots.items()}
    body = "".join(f"<section><h2>{text(part.title)}</h2>{part.html}</section>" for part in parts)
    library, script, body = _with_plots(body, plots)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_file('page.css')}</style>{library}</head>\n"
        f"<body><main>{head}\n{body}</main>\n{script}<script>{_file('page.js')}</script></body></html>\n"
    )


def _file(name: str) -> str:
    return resources.files("cryoet_core.report").joinpath(name).read_text(encoding="utf-8")


def _with_plots(body: str, plots: dict[str, Any]) -> tuple[str, str, str]:
    """The library (only what these plots need), the script with the plots' data, and the body with
    its slots filled.
    """
    if not plots:
        return "", "", body
    from bokeh.embed import components
    from bokeh.resources import Resources

    library = Resources(mode="inline", components=["bokeh"]).render_js()
    script, places = components(plots)
    for name, place in places.items():
        body = body.replace(slot(name), place)
    return library, script, body


def _side_by_side(pair: list[Section | None]) -> Section | None:
    """Two short sections in one row; one alone stays as it is."""
    present = [part for part in pair if part is not None]
    if len(present) < 2:
        return present[0] if present else None
    html = "".join(
        f"<div>{'' if i == 0 else f'<h2>{text(part.title)}</h2>'}{part.html}</div>"
        for i, part in enumerate(present)
    )
    plots = {name: plot for part in present for name, plot in part.plots.items()}
    return Section(present[0].title, f'<div class="pair">{html}</div>', plots)

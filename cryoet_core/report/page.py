"""The page: sections in order, with style sheet, script and plotting library inline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cryoet_core.report import confusion, extras, picking, provenance, sections
from cryoet_core.report.drawing.section import Section, slot
from cryoet_core.report.drawing.templates import fill, read
from cryoet_core.report.drawing.words import text
from cryoet_core.report.embedding import embedding_map
from cryoet_core.report.facts import Facts
from cryoet_core.report.header import header


def render(facts: Facts) -> str:
    """Return the whole report as HTML."""
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
    """Return a page that is complete in itself.

    Parameters
    ----------
    title : str
        Title of the page.
    head : str
        What stands above the sections, as HTML.
    parts : sequence of Section
        The sections in order.

    Returns
    -------
    str
        The page as HTML; it loads nothing.
    """
    library, plots, places = _embedded({k: v for part in parts for k, v in part.plots.items()})
    return fill(
        "page.html",
        title=title,
        head=head,
        parts=[replace(part, html=_with_plots(part.html, places)) for part in parts],
        style=read("page.css"),
        script=read("page.js"),
        library=library,
        plots=plots,
    )


def _embedded(plots: dict[str, Any]) -> tuple[str, str, dict[str, str]]:
    """The library (only what these plots need), the script with their data, and the HTML of each
    plot.
    """
    if not plots:
        return "", "", {}
    from bokeh.embed import components
    from bokeh.resources import Resources

    library = Resources(mode="inline", components=["bokeh"]).render_js()
    script, places = components(plots)
    return library, script, dict(places)


def _with_plots(html: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        html = html.replace(slot(name), place)
    return html


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

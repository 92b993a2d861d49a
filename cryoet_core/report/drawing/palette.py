"""A colour and a marker for each class, told apart by readers with any colour vision."""

from __future__ import annotations

from dataclasses import dataclass

from cryoet_core.report.drawing.words import Markup

# Okabe and Ito's set without yellow, which is lost on white.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#4D4D4D")
_MARKERS = ("circle", "triangle", "square", "diamond", "inverted_triangle", "hex", "star", "plus")
_SHAPES = {
    "circle": '<circle cx="6" cy="6" r="5"/>',
    "triangle": '<path d="M6 1 11 11H1Z"/>',
    "square": '<path d="M1 1H11V11H1Z"/>',
    "diamond": '<path d="M6 0 11 6 6 12 1 6Z"/>',
    "inverted_triangle": '<path d="M6 11 11 1H1Z"/>',
    "hex": '<path d="M3 1H9L12 6 9 11H3L0 6Z"/>',
    "star": '<path d="M6 0 7.4 4.2H12L8.3 6.9 9.7 11.5 6 8.7 2.3 11.5 3.7 6.9 0 4.2H4.6Z"/>',
    "plus": '<path d="M4.5 0H7.5V4.5H12V7.5H7.5V12H4.5V7.5H0V4.5H4.5Z"/>',
}

ACCENT, SECOND, WRONG, QUIET = _COLOURS[0], _COLOURS[2], _COLOURS[3], "#8A8F98"


@dataclass(frozen=True)
class Mark:
    """How a class looks in plots.

    Attributes
    ----------
    colour : str
        As ``#rrggbb``.
    marker : str
        Name of a bokeh marker.
    """

    colour: str
    marker: str

    def swatch(self) -> Markup:
        """Return a 12-pixel drawing for tables and legends."""
        return Markup(
            '<svg class="swatch" viewBox="0 0 12 12" '
            f'fill="{self.colour}">{_SHAPES[self.marker]}</svg>'
        )


NONE = Mark("#B9BDC4", "circle")
"""Not assigned, or not labelled."""


def mark(index: int) -> Mark:
    """Return the mark of class 0, 1, ...; -1 is none.

    The first seven are circles, the next seven triangles, and so on.

    Parameters
    ----------
    index : int
        Number of the class.

    Returns
    -------
    Mark
        Colour and marker.
    """
    if index < 0:
        return NONE
    return Mark(_COLOURS[index % len(_COLOURS)], _MARKERS[index // len(_COLOURS) % len(_MARKERS)])

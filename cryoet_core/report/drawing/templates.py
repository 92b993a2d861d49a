"""HTML from the Jinja2 templates beside the report's modules; every value is escaped."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from cryoet_core.report.drawing.words import Markup, shown

if TYPE_CHECKING:
    from jinja2 import Environment


def fill(name: str, **values: Any) -> Markup:
    """Fill in a template.

    Parameters
    ----------
    name : str
        File name of the template in ``cryoet_core/report``.
    **values
        What the template uses. Values are escaped unless they are Markup; None is a dash.

    Returns
    -------
    Markup
        The HTML.
    """
    return Markup(_environment().get_template(name).render(values))


def read(name: str) -> str:
    """Return the text of a file that lies beside the report's modules."""
    return resources.files("cryoet_core.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(read),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name is an error, not an empty place
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )

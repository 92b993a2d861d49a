"""The look of every plot, and the plain curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cryoet_core.report.drawing import palette

FONT = "Inter, 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
INK, GRID = "#2B2F36", "#E4E6EA"

Figure = Any


def figure(
    x: str, y: str, width: int = 380, height: int = 260, tools: str = "", **options: Any
) -> Figure:
    """Return an empty figure in the style of the report.

    Parameters
    ----------
    x, y : str
        Labels of the axes.
    width, height : int
        Pixels.
    tools : str
        Tools of bokeh, separated by commas.
    **options
        What bokeh's ``figure`` takes besides.

    Returns
    -------
    bokeh Figure
        The plot.
    """
    from bokeh.plotting import figure as make

    plot = make(
        width=width,
        height=height,
        tools=tools,
        toolbar_location="right" if tools else None,
        x_axis_label=x,
        y_axis_label=y,
        output_backend="canvas",
        **options,
    )
    plot.outline_line_color = None
    plot.background_fill_color = plot.border_fill_color = "#FFFFFF"
    plot.min_border_left, plot.min_border_right, plot.min_border_top = 62, 14, 10
    plot.toolbar.logo = None
    for axis in plot.axis:
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size, axis.major_label_text_font_size = "13px", "12px"
        axis.axis_label_text_color = axis.major_label_text_color = INK
        axis.axis_line_color = axis.major_tick_line_color = "#9AA0A9"
        axis.minor_tick_line_color = None
        axis.axis_label_standoff = 8
    plot.xgrid.grid_line_color, plot.ygrid.grid_line_color = None, GRID
    return plot


def hover(plot: Figure, tips: Sequence[tuple[str, str]], renderers: Sequence[Any]) -> None:
    """Show values under the pointer.

    Parameters
    ----------
    plot : bokeh Figure
        Changed in place.
    tips : sequence of (str, str)
        Names, and values as bokeh writes them.
    renderers : sequence
        What reacts to the pointer.
    """
    from bokeh.models import HoverTool

    plot.add_tools(
        HoverTool(tooltips=list(tips), renderers=list(renderers), mode="mouse", visible=False)
    )


def integers(plot: Figure) -> None:
    """Put ticks of the x axis at whole numbers only."""
    from bokeh.models import BasicTicker

    plot.xaxis.ticker = BasicTicker(min_interval=1, num_minor_ticks=0)


def selection_curve(selection: Mapping[str, Any], width: int = 380) -> Figure | None:
    """Plot BIC over K with the chosen K marked.

    Parameters
    ----------
    selection : mapping
        The model selection that a method left.
    width : int
        Pixels.

    Returns
    -------
    bokeh Figure or None
        None when there is nothing to draw.
    """
    pairs = [
        (k, b)
        for k, b in zip(selection.get("k") or [], selection.get("bic") or [], strict=False)
        if b is not None
    ]
    if not pairs:
        return None
    pairs.sort()
    ks, bics = (np.array(values, dtype=float) for values in zip(*pairs, strict=True))
    plot = figure("number of clusters K", "BIC (lower is better)", width)
    plot.line(ks, bics, line_width=2, color=palette.ACCENT)
    dots = plot.scatter(ks, bics, size=7, color=palette.ACCENT)
    chosen = selection.get("chosen")
    if chosen is not None and chosen in ks:
        at = float(bics[ks == chosen][0])
        plot.scatter(
            [chosen], [at], size=15, line_width=2.5, line_color=palette.WRONG, fill_color=None
        )
    plot.yaxis.formatter = _compact()
    integers(plot)
    hover(plot, [("K", "@x"), ("BIC", "@y{0,0.0}")], [dots])
    return plot


def _compact() -> Any:
    from bokeh.models import NumeralTickFormatter

    return NumeralTickFormatter(format="0.[00]a")


_NAMES = {
    "ddbi": "DDBI (lower is better)",
    "agreement": "fraction of labels kept",
    "k": "number of clusters K",
    "loss": "training loss",
    "accuracy": "accuracy",
    "learning_rate": "learning rate",
    "log_evidence": "log evidence per particle",
}
WORDS = {"log_evidence": "Compare values at one resolution only; a higher one raises all of them."}
"""What has to be known to read a curve."""
_NO_CURVE = {"step", "phase", "time", "seconds", "wall", "wall_seconds", "seed", "rank", "chosen"}
_MOST_CURVES = 9


def metric_curves(rows: Sequence[Mapping[str, Any]], word: str) -> dict[str, Figure]:
    """Plot each number that was logged with a ``step``; several phases are in one plot.

    Their width is such that a page 1280 pixels wide takes whole rows of them.

    Parameters
    ----------
    rows : sequence of mapping
        The logged rows.
    word : str
        What a step is called.

    Returns
    -------
    dict of str to bokeh Figure
        By the name of the number, those of ``_NAMES`` first.
    """
    numbers = {
        key
        for row in rows
        for key, value in row.items()
        if key not in _NO_CURVE and isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    order = [key for key in _NAMES if key in numbers] + sorted(numbers - set(_NAMES))
    order = [
        key
        for key in order
        if any(row.get(key) is not None and row.get("step") is not None for row in rows)
    ]
    order = order[:_MOST_CURVES]
    width = 560 if len(order) <= 2 else 278 if len(order) in (4, 7, 8) else 370
    return {key: _curve(rows, key, word, width) for key in order}


def _curve(rows: Sequence[Mapping[str, Any]], key: str, word: str, width: int) -> Figure:
    phases: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.get(key) is not None and row.get("step") is not None:
            phases.setdefault(str(row.get("phase") or ""), []).append(
                (float(row["step"]), float(row[key]))
            )
    plot = figure(word, _NAMES.get(key, key.replace("_", " ")), width)
    dots = []
    for index, (phase, points) in enumerate(phases.items()):
        colour = palette.mark(index).colour
        xs, ys = zip(*points, strict=True)
        named = {"legend_label": phase or ("clustering" if word == "iteration" else "training")}
        named = named if len(phases) > 1 else {}
        plot.line(xs, ys, line_width=2, color=colour, **named)
        dots.append(plot.scatter(xs, ys, size=6 if len(xs) <= 60 else 3, color=colour))
    values = [y for points in phases.values() for _, y in points]
    _range(plot, key, min(values), max(values))
    if len(phases) > 1:
        _legend_above(plot)
    integers(plot)
    hover(plot, [(word, "@x"), (key, "@y{0,0.[0000]}")], dots)
    return plot


def _legend_above(plot: Figure) -> None:
    """Out of the way of the data."""
    plot.add_layout(plot.legend[0], "above")
    plot.legend.orientation = "horizontal"
    plot.legend.label_text_font, plot.legend.label_text_font_size, plot.legend.label_text_color = (
        FONT,
        "12px",
        INK,
    )
    plot.legend.border_line_color, plot.legend.padding, plot.legend.margin = None, 0, 4
    plot.legend.spacing = 14


def _range(plot: Figure, key: str, low: float, high: float) -> None:
    from bokeh.models import BasicTicker, Range1d

    if key in ("agreement", "accuracy"):
        plot.y_range = Range1d(start=0, end=1.03)
    elif key == "k":
        plot.y_range = Range1d(start=max(0, low - 1.5), end=high + 1.5)
        plot.yaxis.ticker = BasicTicker(min_interval=1, num_minor_ticks=0)
    elif low == high:
        plot.y_range = Range1d(start=low - abs(low or 1) / 2, end=high + abs(high or 1) / 2)


def posterior_histogram(best: np.ndarray, right: np.ndarray | None, width: int = 380) -> Figure:
    """Plot the highest posterior probability of each volume.

    Parameters
    ----------
    best : ndarray, shape (n,)
        Highest probabilities.
    right : ndarray of bool, shape (n,), or None
        Whether each label is right; the wrong ones are stacked on top.
    width : int
        Pixels.

    Returns
    -------
    bokeh Figure
        The plot.
    """
    edges = np.linspace(0, 1, 21)
    named = [("", np.ones(len(best), bool), palette.ACCENT)]
    if right is not None:
        named = [("label right", right, palette.ACCENT), ("label wrong", ~right, palette.WRONG)]
    groups = [
        (name, np.histogram(np.clip(best[some], 0, 1), edges)[0], colour)
        for name, some, colour in named
    ]
    return stacked(edges, groups, "highest posterior probability", "subtomograms", width)


def counts(values: np.ndarray, x: str, y: str, width: int = 380) -> Figure:
    """Plot a histogram of finite values.

    Parameters
    ----------
    values : ndarray
        Values; those that are not finite are left out.
    x, y : str
        Labels of the axes.
    width : int
        Pixels.

    Returns
    -------
    bokeh Figure
        The plot.
    """
    heights, edges = np.histogram(values.astype(np.float64), 40)
    return stacked(edges, [("", heights, palette.ACCENT)], x, y, width)


def stacked(
    edges: np.ndarray,
    groups: Sequence[tuple[str, np.ndarray, str]],
    x: str,
    y: str,
    width: int = 380,
) -> Figure:
    """Plot counts of several groups on top of each other.

    Parameters
    ----------
    edges : ndarray, shape (n + 1,)
        Edges of the bins.
    groups : sequence of (str, ndarray, str)
        Name, counts (n,) and colour; there is a legend where they have names.
    x, y : str
        Labels of the axes.
    width : int
        Pixels.

    Returns
    -------
    bokeh Figure
        The plot.
    """
    plot = figure(x, y, width)
    bottom, bars = np.zeros(len(edges) - 1), []
    for name, heights, colour in groups:
        named = {"legend_label": name} if name else {}
        bars.append(
            plot.quad(
                left=edges[:-1],
                right=edges[1:],
                bottom=bottom,
                top=bottom + heights,
                fill_color=colour,
                line_color="#FFFFFF",
                **named,
            )
        )
        bars[-1].data_source.data["n"] = heights
        bottom = bottom + heights
    plot.y_range.start = 0
    plot.yaxis.formatter.use_scientific = False
    if any(name for name, _, _ in groups):
        _legend_above(plot)
    hover(plot, [(x, "@left{0.000} to @right{0.000}"), (y, "@n")], bars)
    return plot


def precision_recall(scores: Mapping[str, Any], width: int = 380) -> Figure:
    """Plot the precision-recall curve of a detection report.

    It marks the point of all picks and that of the best F1.

    Parameters
    ----------
    scores : mapping
        A detection report.
    width : int
        Pixels.

    Returns
    -------
    bokeh Figure
        The plot.
    """
    from bokeh.models import Range1d

    points = scores["curve"]
    recall, precision, f1 = (
        np.array(points[name], dtype=float) for name in ("recall", "precision", "f1")
    )
    threshold = ["none" if value is None else f"{value:.4g}" for value in points["threshold"]]
    plot = figure("recall", "precision", width)
    plot.x_range, plot.y_range = Range1d(start=0, end=1.03), Range1d(start=0, end=1.03)
    # precision is what it is at each threshold: steps, not slopes
    steps = np.append(0.0, recall), np.append(precision[:1], precision)
    plot.step(*steps, mode="before", line_width=2, color=palette.ACCENT)
    source = {"x": recall, "y": precision, "threshold": threshold, "f1": f1}
    dots = plot.scatter("x", "y", source=source, size=8, alpha=0, color=palette.ACCENT)
    best = int(f1.argmax())
    plot.scatter([recall[best]], [precision[best]], size=10, color=palette.SECOND)
    plot.scatter(
        [scores["recall"]],
        [scores["precision"]],
        size=14,
        line_width=2.5,
        line_color=palette.WRONG,
        fill_color=None,
    )
    tips = [
        ("score at least", "@threshold"),
        ("recall", "@x{0.000}"),
        ("precision", "@y{0.000}"),
        ("F1", "@f1{0.000}"),
    ]
    hover(plot, tips, [dots])
    return plot
